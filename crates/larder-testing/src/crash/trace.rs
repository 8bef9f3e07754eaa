//! What happened on a machine, for people who look for the reason of a violation.

use std::fmt::Write;

use super::history::{History, Moment};
use super::log::{Effect, Event, Recording};
use super::names::NameChange;

/// The requests and the calls from one position to another, a line each: calls that changed something or failed.
pub fn trace(recording: &Recording, history: &History, (from, to): (usize, usize)) -> String {
    let origins = (0..recording.start.files.len()).map(|number| format!("file {number}"));
    let mut names: Vec<String> = origins.collect();
    let mut moments = history.moments().iter().peekable();
    let mut text = String::new();
    for (position, event) in recording.events.iter().enumerate() {
        while let Some((at, version, moment)) = moments.next_if(|moment| moment.0 <= position) {
            if (from..=to).contains(at) {
                let _ = writeln!(text, "    {at}: request {version}: {}", what(moment));
            }
        }
        if let Event::Began(_, Effect::Name(NameChange::Create(name, _))) = event {
            names.push(name.clone());
        }
        if (from..=to).contains(&position)
            && let Some(line) = line(event, &names)
        {
            let _ = writeln!(text, "{position}: {line}");
        }
    }
    text
}

fn what(moment: &Moment) -> String {
    match moment {
        Moment::Found(_) => "all is read".to_owned(),
        other => format!("{other:?}"),
    }
}

fn line(event: &Event, names: &[String]) -> Option<String> {
    let name = |file: &usize| names.get(*file).cloned().unwrap_or_default();
    Some(match event {
        Event::Began(call, Effect::Write(file, offset, data)) => {
            format!("#{call} writes {} at {offset} + {}", name(file), data.len())
        }
        Event::Began(call, Effect::Sync(file)) => format!("#{call} syncs {}", name(file)),
        Event::Began(call, effect) => format!("#{call} {effect:?}"),
        Event::Ended(call, false) => format!("#{call} fails"),
        Event::Ended(call, true) => format!("#{call} ends"),
    })
}
