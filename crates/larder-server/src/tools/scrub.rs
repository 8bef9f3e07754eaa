//! `larder scrub`: whether what a cache directory holds is as it was written.

use indicatif::BinaryBytes;
use larder::inspect::{DirectoryState, Scrub, scrub as check};

use super::bar::with_bar;
use super::inspect::counted;
use super::json::{ScrubJson, to_text};
use super::options::ScrubOptions;
use super::place::Place;
use super::{misused, print};
use crate::cli::Wrong;
use crate::settings::value;

/// Does it. False if something is damaged that only the cache had.
pub(crate) fn scrub(options: &ScrubOptions) -> Result<bool, Wrong> {
    let is_json = value::flag("json", &options.json).map_err(misused)?;
    let place = Place::open(&options.directory, "scrub")?;
    let found = with_bar("checking", |tell| {
        check(&place.medium, &mut |at| tell(at.done_bytes, at.total_bytes))
    });
    let found = found.map_err(|error| place.refused(&error))?;
    let text = match is_json {
        true => to_text(&ScrubJson::new(&place.path, &found)).map_err(Wrong::refusal)?,
        false => report(&found),
    };
    print(&text);
    Ok(found.bad_dirty.is_empty() && found.bad_queues.is_empty())
}

fn report(found: &Scrub) -> String {
    let mut lines = vec![format!(
        "checked {} ({})",
        counted(found.checked_sectors, "sector", "sectors"),
        BinaryBytes(found.checked_bytes)
    )];
    if found.queue_frames > 0 {
        lines.push(format!(
            "checked {} ({}) of what is queued for origins",
            counted(found.queue_frames, "frame", "frames"),
            BinaryBytes(found.queue_bytes)
        ));
    }
    if found.bad_clean_sectors > 0 {
        lines.push(format!(
            "{} ({}) of what the origin has too: {}",
            counted(found.bad_clean_sectors, "bad sector", "bad sectors"),
            BinaryBytes(found.bad_clean_bytes),
            of_clean(found.state)
        ));
    }
    for bad in &found.bad_dirty {
        lines.push(format!(
            "DAMAGED, and the origin does not have it: \"{}\", {} bytes at {}",
            bad.volume.escape_debug(),
            bad.length,
            bad.start
        ));
    }
    for bad in &found.bad_queues {
        let of = match &bad.volume {
            Some(name) => format!("what is queued of \"{}\"", name.escape_debug()),
            None => "what is queued of no export that it knows".to_owned(),
        };
        lines.push(format!("DAMAGED, and no origin has it: {of}: {}", bad.why));
    }
    if found.unreadable_sectors > 0 {
        let sectors = counted(found.unreadable_sectors, "bad sector", "bad sectors");
        lines.push(format!("{sectors} among these cannot be read at all"));
    }
    if found.busy_blocks > 0 {
        lines.push(format!(
            "{} changed each time and could not be checked",
            counted(found.busy_blocks, "block", "blocks")
        ));
    }
    let is_whole = found.bad_dirty.is_empty() && found.bad_queues.is_empty();
    if found.bad_clean_sectors == 0 && is_whole {
        lines.push("what was checked is as it was written".to_owned());
    }
    lines.join("\n") + "\n"
}

/// What may have happened to what the origin has too. What is in use was compared when it was first used, and not since.
fn of_clean(state: DirectoryState) -> &'static str {
    match state {
        DirectoryState::Clean => "damaged; it is read from the origin again",
        DirectoryState::InUse => {
            "written since by whoever has the directory open, or damaged, which cannot be told apart; \
             after the next start, what is damaged is read from the origin again"
        }
        DirectoryState::AfterCrash => {
            "written shortly before the end, or damaged, which cannot be told apart; \
             it is read from the origin again"
        }
    }
}
