//! `larder inspect`: what a cache directory holds, and for whom.

use std::fmt::Write;

use indicatif::{BinaryBytes, HumanCount};
use larder::inspect::{
    Detail, DirectoryState, InspectedVersion, InspectedVolume, Inspection, inspect as look,
};

use super::json::{InspectionJson, to_text};
use super::options::InspectOptions;
use super::place::Place;
use super::{misused, print};
use crate::cli::Wrong;
use crate::settings::value;

/// Does it.
pub(crate) fn inspect(options: &InspectOptions) -> Result<(), Wrong> {
    let is_json = value::flag("json", &options.json).map_err(misused)?;
    let detail = match value::flag("ranges", &options.ranges).map_err(misused)? {
        true => Detail::DirtyRanges,
        false => Detail::Figures,
    };
    let place = Place::open(&options.directory, "inspect")?;
    let found = look(&place.medium, detail).map_err(|error| place.refused(&error))?;
    let text = match is_json {
        true => to_text(&InspectionJson::new(&place.path, &found)).map_err(Wrong::refusal)?,
        false => report(&found),
    };
    print(&text);
    Ok(())
}

fn report(found: &Inspection) -> String {
    let mut text = heading(found);
    if !found.volumes.is_empty() {
        text.push('\n');
        text.push_str(&table(&found.volumes));
    }
    for volume in &found.volumes {
        text.push_str(&queued(volume));
    }
    for volume in &found.volumes {
        text.push_str(&ranges(volume));
    }
    text
}

fn heading(found: &Inspection) -> String {
    let (major, minor) = found.format;
    let journal = &found.journal;
    let lines = [
        ("state", state(found)),
        ("format", format!("{major}.{minor}, cache {}", found.uuid)),
        (
            "slots",
            format!(
                "{} used of {}, {} each",
                HumanCount(found.slots_used.into()),
                HumanCount(found.slots_numbered.into()),
                BinaryBytes(found.block_bytes)
            ),
        ),
        (
            "journal",
            format!(
                "{} used of {}, in {}",
                BinaryBytes(journal.used_bytes),
                BinaryBytes(journal.size_bytes),
                counted(journal.frames, "frame", "frames")
            ),
        ),
        (
            "session",
            format!("{}, generation {}", found.session, found.generation),
        ),
        ("files", files(found)),
    ];
    let mut text = String::new();
    for (what, told) in lines {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{what:<8} {told}");
    }
    // Beside a user one of them may just be written.
    if found.superblock_copies < 2 && found.state != DirectoryState::InUse {
        text.push_str("warning  one of the superblock's two copies is damaged: the next start writes it again\n");
    }
    if found.has_changed {
        text.push_str("warning  it changed each time that it was read: the figures may be of several moments\n");
    }
    text
}

fn state(found: &Inspection) -> String {
    match found.state {
        DirectoryState::Clean => "closed".to_owned(),
        DirectoryState::InUse => {
            let user = match &*found.user {
                "" => String::new(),
                user => format!(" ({user})"),
            };
            format!("in use{user}; this is what a start would find after a kill")
        }
        DirectoryState::AfterCrash => "not closed: the next start recovers it".to_owned(),
    }
}

fn files(found: &Inspection) -> String {
    let file = |(name, bytes): &(String, u64)| format!("{name} {}", BinaryBytes(*bytes));
    let files: Vec<String> = found.files.iter().map(file).collect();
    files.join(", ")
}

/// One line for each volume. What is as long as anybody likes comes last.
fn table(volumes: &[InspectedVolume]) -> String {
    let mut text = format!(
        "{:>11} {:>11} {:>9} {:>11} {:>11} {:>11}  volume\n",
        "size", "sector", "blocks", "cached", "dirty", "zeros"
    );
    for volume in volumes {
        let bytes = |bytes| BinaryBytes(bytes).to_string();
        let _ = writeln!(
            text,
            "{:>11} {:>11} {:>9} {:>11} {:>11} {:>11}  {}",
            bytes(volume.size_bytes),
            bytes(volume.sector_bytes),
            volume.blocks,
            bytes(volume.cached_bytes),
            bytes(volume.dirty_bytes),
            bytes(volume.zero_bytes),
            identity(volume),
        );
    }
    text
}

/// What a volume is called, and what is known of its origin.
fn identity(volume: &InspectedVolume) -> String {
    let mut text = format!("\"{}\"", volume.name.escape_debug());
    if !volume.cache_id.is_empty() {
        let _ = write!(text, ", cache-id \"{}\"", volume.cache_id.escape_debug());
    }
    if let Some(InspectedVersion { stable, changing }) = &volume.version {
        let (stable, changing) = (stable.escape_debug(), changing.escape_debug());
        let _ = write!(text, ", version {stable}; {changing}");
    }
    if volume.changed_since_version {
        text.push_str(" (written to since)");
    }
    text
}

/// What waits for the origin in order, if anything does.
fn queued(volume: &InspectedVolume) -> String {
    let (bytes, flushes) = (volume.queued_bytes, volume.queued_flushes);
    if bytes == 0 && flushes == 0 {
        return String::new();
    }
    format!(
        "\n\"{}\" has {} queued for its origin, in {}\n",
        volume.name.escape_debug(),
        BinaryBytes(bytes),
        counted(flushes, "flush", "flushes")
    )
}

fn ranges(volume: &InspectedVolume) -> String {
    let Some(ranges) = volume
        .dirty_ranges
        .as_ref()
        .filter(|ranges| !ranges.is_empty())
    else {
        return String::new();
    };
    let mut text = format!(
        "\n\"{}\" has what the origin does not have:\n",
        volume.name.escape_debug()
    );
    for range in ranges {
        let zero = if range.is_zero { ", zeros" } else { "" };
        let _ = writeln!(text, "  {} bytes at {}{zero}", range.length, range.start);
    }
    text
}

/// A number of things.
pub(super) fn counted(count: u64, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {several}", HumanCount(count)),
    }
}
