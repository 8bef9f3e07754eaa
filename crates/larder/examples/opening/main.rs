//! How long a cache directory with 100 GiB of blocks takes to be found again, and to be ended.
//!
//! ```text
//! cargo run --release -p larder --example opening -- [--json] [--directory /tmp]
//! ```
//!
//! | figure | from where to where |
//! |---|---|
//! | `open` | `Cache::open` of a directory that was ended properly: the locks, the files, each entry checked, the index and the policy |
//! | `first_connection` | joining the volume, which judges whether its blocks are still those of the origin |
//! | `close` | `Cache::close` of a cache in which nothing was written |
//! | `drop` | letting go of it after that |
//! | `open_after_kill` | `Cache::open` of one that was in use and said nothing since: its journal is empty |
//! | `open_after_writes` | the same with the frames of 1000 writes in the journal |
//!
//! The index is made by the engine itself: each block of 64 KiB is fetched and listed with its checksums. Only the file of slots is one that
//! keeps nothing, so that 100 GiB of it need no place. All other files are real, and are synced as ever; what is in them is in the system's
//! memory when they are opened. Times are the clock's: run it alone.

mod doubles;
mod making;
mod rounds;

use std::error::Error;
use std::path::PathBuf;

use making::Place;
use rounds::Times;

const USAGE: &str =
    "usage: opening [--json] [--directory DIRECTORY, of the system's temporary files]";

/// What `open` is to stay below, in seconds.
const BOUND_SECONDS: f64 = 1.0;

fn main() -> Result<(), Box<dyn Error>> {
    let mut is_json = false;
    let mut directory = std::env::temp_dir();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => is_json = true,
            "--directory" => directory = PathBuf::from(arguments.next().ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    let place = Place::make(&directory)?;
    let blocks = place.fill()?;
    let mut times = rounds::ended(&place, blocks)?;
    times.extend(rounds::killed(&place, blocks)?);
    tell(&times, blocks, is_json);
    for times in times.iter().filter(|times| times.name.starts_with("open")) {
        let (name, median) = (times.name, times.median());
        if median >= BOUND_SECONDS {
            return Err(format!("{name}: {median:.2} s are not below {BOUND_SECONDS} s").into());
        }
    }
    Ok(())
}

/// The median, and the lowest and the highest of the rounds.
fn tell(times: &[Times], blocks: u64, is_json: bool) {
    if is_json {
        let figure = |times: &Times| format!("  \"{}_s\": {:.3}", times.name, times.median());
        let figures: Vec<String> = times.iter().map(figure).collect();
        println!(
            "{{\"blocks\": {blocks}, \"bound_s\": {BOUND_SECONDS},\n{}\n}}",
            figures.join(",\n")
        );
        return;
    }
    println!("{blocks} blocks of 64 KiB; seconds: median, lowest and highest");
    for times in times {
        let (low, high) = times.extremes();
        println!(
            "{:20} {:8.3} {low:8.3} {high:8.3}",
            times.name,
            times.median()
        );
    }
}
