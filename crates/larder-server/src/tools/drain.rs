//! `larder drain`: what becomes of what only a cache directory has.
//!
//! | file | decides |
//! |---|---|
//! | `way` | which of the three ways it goes, and of which exports |
//! | `write_back` | origins, and what they got |
//! | `copy` | the file that is copied to, and the list beside it |

mod copy;
mod way;
mod write_back;

use std::sync::Arc;

use indicatif::BinaryBytes;
use larder::drain::{Drain, DrainError, DrainErrorKind, Holding, Left};
use larder_frontend::lock_text::lock_text;
use larder_frontend::report::plain;

use super::options::DrainOptions;
use super::place::{Place, at};
use super::print;
use crate::cli::Wrong;
use crate::console::Console;

use way::Way;

/// Does it. False if something is left of what was asked for.
pub(crate) fn drain(options: &DrainOptions) -> Result<bool, Wrong> {
    let way = Way::new(options)?;
    let example = "larder drain /var/cache/larder nbd://storage/disk";
    let place = Place::open_to_write(&options.directory, example)?;
    let path = place.path.clone();
    let medium = Arc::new(place.medium);
    let drain = match way {
        Way::Discard { .. } => Drain::open_to_discard(medium, &lock_text()),
        _ => Drain::open(medium, &lock_text()),
    };
    let drain = drain.map_err(|error| refused(&path, &error))?;
    let mut emptying = Emptying {
        path,
        drain,
        console: Console::new(false),
    };
    let result = emptying.go(&way);
    let Emptying { path, drain, .. } = emptying;
    let closed = drain.close();
    let is_done = result?;
    closed.map_err(|error| {
        let left = "what has been written back is still recorded as written; run it again";
        Wrong::refusal(at(&path, &format!("{}: {left}", plain(&error))))
    })?;
    Ok(is_done)
}

fn refused(path: &str, error: &DrainError) -> Wrong {
    let advice = match error.kind() {
        DrainErrorKind::OtherOrigin => {
            ": give the right one; with --force it is written to this one, whatever is there, and the export is forgotten"
        }
        DrainErrorKind::UnnamedOrigin => ": if it is this one, say so with --cache-id",
        DrainErrorKind::InUse => "; end it first",
        DrainErrorKind::Queue => {
            "; put its file back, or give up what it held of that export, and the export with it: --discard"
        }
        _ => "",
    };
    Wrong::refusal(at(path, &format!("{}{advice}", plain(error))))
}

/// A directory that is being emptied.
struct Emptying {
    path: String,
    drain: Drain,
    console: Console,
}

impl Emptying {
    fn go(&mut self, way: &Way) -> Result<bool, Wrong> {
        match way {
            Way::WriteBack(asked) => self.write_back(asked),
            Way::Copy { to, name } => self.copy(to, name.as_deref()),
            Way::Discard { names } => self.discard(names),
        }
    }

    fn discard(&mut self, names: &[String]) -> Result<bool, Wrong> {
        let mut chosen = Vec::new();
        for name in names {
            chosen.push(self.named(name)?);
        }
        if names.is_empty() {
            if self.discard_strays()? {
                return Ok(true);
            }
            chosen.extend(self.only_one("--discard")?);
        }
        for holding in chosen {
            if holding.is_empty() {
                print(&nothing(&holding));
                continue;
            }
            let discarded = self.drain.discard(holding.number);
            discarded.map_err(|error| refused(&self.path, &error))?;
            print(&given_up(&holding));
        }
        Ok(true)
    }

    /// Queues of no export, which nobody can name, once they are all that there is. True if there were any.
    fn discard_strays(&mut self) -> Result<bool, Wrong> {
        let is_alone = self.drain.holdings().iter().all(Holding::is_empty);
        let strays = self.drain.strays();
        if !is_alone || strays.is_empty() {
            return Ok(false);
        }
        for stray in strays {
            let discarded = self.drain.discard_stray(stray.number);
            discarded.map_err(|error| refused(&self.path, &error))?;
            let why = plain_text(&stray.why);
            print(&format!(
                "discarded a queue, and what it held for some origin: {why}\n"
            ));
        }
        Ok(true)
    }

    /// What the directory has of the export of that name.
    fn named(&self, name: &str) -> Result<Holding, Wrong> {
        let holdings = self.drain.holdings();
        let found = holdings.iter().find(|holding| holding.name == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<String> = holdings.iter().map(|it| shown(&it.name)).collect();
            let there = match &names[..] {
                [] => "it has none at all".to_owned(),
                names => format!("it has {}", names.join(", ")),
            };
            let what = format!("it has no export {}: {there}", shown(name));
            Wrong::refusal(at(&self.path, &what))
        })
    }

    /// The only export of which the directory has something that its origin has not. It says if there is none.
    fn only_one(&self, option: &str) -> Result<Option<Holding>, Wrong> {
        let mut holdings = self.drain.holdings();
        holdings.retain(|holding| !holding.is_empty());
        if holdings.len() > 1 {
            let names: Vec<String> = holdings.iter().map(|it| shown(&it.name)).collect();
            let what = format!(
                "several exports were written to, {}: name one with --export, for {option}",
                names.join(", ")
            );
            return Err(Wrong::refusal(at(&self.path, &what)));
        }
        if holdings.is_empty() {
            print("the origins have everything that was written\n");
        }
        Ok(holdings.pop())
    }

    /// Names what is still only in the directory.
    fn name_left(&self, name: &str, left: &[Left], is: &str) {
        for Left { start, length, why } in left {
            let what = format!("{}: {length} bytes at {start} {is}: {why}", shown(name));
            self.console.say(&at(&self.path, &plain_text(&what)));
        }
    }
}

/// A name as it is told.
fn shown(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}

/// Without the numbers that Rust adds to what the system says.
fn plain_text(text: &str) -> String {
    plain(&std::io::Error::other(text.to_owned()))
}

fn nothing(holding: &Holding) -> String {
    let name = shown(&holding.name);
    format!("{name}: its origin has everything that was written\n")
}

/// What was discarded of an export.
fn given_up(holding: &Holding) -> String {
    let name = shown(&holding.name);
    let held = amount(holding.dirty_bytes, holding.zero_bytes);
    match &holding.lost_queue {
        None => format!("{name}: discarded {held}\n"),
        Some(why) => format!(
            "{name}: discarded with all that was queued for its origin, whatever that was: {}\n",
            plain_text(why)
        ),
    }
}

/// Data and zeros.
fn amount(dirty_bytes: u64, zero_bytes: u64) -> String {
    let dirty = format!("{} of written data", BinaryBytes(dirty_bytes));
    match zero_bytes {
        0 => dirty,
        bytes => format!("{dirty} and {} of zeros", BinaryBytes(bytes)),
    }
}
