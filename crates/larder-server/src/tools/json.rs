//! What `larder inspect --json` and `larder scrub --json` print, and what `larder drain --output` writes beside its file. The manual page has the keys; programs rely on them.

use larder::drain::{Exported, Holding, Left};
use larder::inspect::{
    DirectoryState, DirtyRange, InspectedVersion, InspectedVolume, Inspection, Scrub,
};
use serde::Serialize;

/// What a directory holds.
#[derive(Debug, Serialize)]
pub(super) struct InspectionJson<'i> {
    directory: &'i str,
    format: String,
    uuid: &'i str,
    state: &'static str,
    user: Option<&'i str>,
    changed_while_read: bool,
    generation: u64,
    session: u64,
    superblock_copies: u32,
    block_bytes: u64,
    slots_numbered: u32,
    slots_used: u32,
    journal: JournalJson,
    files: Vec<FileJson<'i>>,
    volumes: Vec<VolumeJson<'i>>,
}

#[derive(Debug, Serialize)]
struct JournalJson {
    size_bytes: u64,
    used_bytes: u64,
    frames: u64,
}

#[derive(Debug, Serialize)]
struct FileJson<'i> {
    name: &'i str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct VolumeJson<'i> {
    number: u32,
    name: &'i str,
    cache_id: &'i str,
    version: Option<VersionJson<'i>>,
    changed_since_version: bool,
    size_bytes: u64,
    sector_bytes: u64,
    blocks: u64,
    cached_bytes: u64,
    dirty_bytes: u64,
    zero_bytes: u64,
    queued_bytes: u64,
    queued_flushes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_ranges: Option<Vec<RangeJson>>,
}

#[derive(Debug, Serialize)]
struct VersionJson<'i> {
    stable: &'i str,
    changing: &'i str,
}

#[derive(Debug, Serialize)]
struct RangeJson {
    start: u64,
    length: u64,
    zero: bool,
}

/// What a scrub has found.
#[derive(Debug, Serialize)]
pub(super) struct ScrubJson<'s> {
    directory: &'s str,
    state: &'static str,
    user: Option<&'s str>,
    checked_sectors: u64,
    checked_bytes: u64,
    bad_clean_sectors: u64,
    bad_clean_bytes: u64,
    unreadable_sectors: u64,
    bad_dirty: Vec<BadJson<'s>>,
    busy_blocks: u64,
    queue_frames: u64,
    queue_bytes: u64,
    bad_queues: Vec<BadQueueJson<'s>>,
}

#[derive(Debug, Serialize)]
struct BadQueueJson<'s> {
    number: u32,
    volume: Option<&'s str>,
    why: &'s str,
}

#[derive(Debug, Serialize)]
struct BadJson<'s> {
    number: u32,
    volume: &'s str,
    start: u64,
    length: u64,
}

/// What is in a file that was exported to.
#[derive(Debug, Serialize)]
pub(super) struct ExportJson<'e> {
    directory: &'e str,
    number: u32,
    name: &'e str,
    size_bytes: u64,
    ranges: Vec<RangeJson>,
    missing: Vec<MissingJson>,
}

#[derive(Debug, Serialize)]
struct MissingJson {
    start: u64,
    length: u64,
    why: String,
}

impl<'e> ExportJson<'e> {
    pub(super) fn new(directory: &'e str, holding: &'e Holding, exported: &Exported) -> Self {
        let missing = |left: &Left| MissingJson {
            start: left.start,
            length: left.length,
            why: left.why.to_string(),
        };
        Self {
            directory,
            number: holding.number,
            name: &holding.name,
            size_bytes: holding.size_bytes,
            ranges: exported.ranges.iter().map(RangeJson::new).collect(),
            missing: exported.left.iter().map(missing).collect(),
        }
    }
}

impl RangeJson {
    fn new(range: &DirtyRange) -> Self {
        Self {
            start: range.start,
            length: range.length,
            zero: range.is_zero,
        }
    }
}

impl<'i> InspectionJson<'i> {
    pub(super) fn new(directory: &'i str, found: &'i Inspection) -> Self {
        let (major, minor) = found.format;
        let files = found.files.iter();
        Self {
            directory,
            format: format!("{major}.{minor}"),
            uuid: &found.uuid,
            state: state(found.state),
            user: user(found.state, &found.user),
            changed_while_read: found.has_changed,
            generation: found.generation,
            session: found.session,
            superblock_copies: found.superblock_copies,
            block_bytes: found.block_bytes,
            slots_numbered: found.slots_numbered,
            slots_used: found.slots_used,
            journal: JournalJson {
                size_bytes: found.journal.size_bytes,
                used_bytes: found.journal.used_bytes,
                frames: found.journal.frames,
            },
            files: files
                .map(|(name, bytes)| FileJson {
                    name,
                    bytes: *bytes,
                })
                .collect(),
            volumes: found.volumes.iter().map(VolumeJson::new).collect(),
        }
    }
}

impl<'i> VolumeJson<'i> {
    fn new(volume: &'i InspectedVolume) -> Self {
        let ranges = volume.dirty_ranges.as_ref().map(|ranges| {
            let range = ranges.iter().map(RangeJson::new);
            range.collect()
        });
        Self {
            number: volume.number,
            name: &volume.name,
            cache_id: &volume.cache_id,
            version: volume.version.as_ref().map(VersionJson::new),
            changed_since_version: volume.changed_since_version,
            size_bytes: volume.size_bytes,
            sector_bytes: volume.sector_bytes,
            blocks: volume.blocks,
            cached_bytes: volume.cached_bytes,
            dirty_bytes: volume.dirty_bytes,
            zero_bytes: volume.zero_bytes,
            queued_bytes: volume.queued_bytes,
            queued_flushes: volume.queued_flushes,
            dirty_ranges: ranges,
        }
    }
}

impl<'i> VersionJson<'i> {
    fn new(version: &'i InspectedVersion) -> Self {
        Self {
            stable: &version.stable,
            changing: &version.changing,
        }
    }
}

impl<'s> ScrubJson<'s> {
    pub(super) fn new(directory: &'s str, found: &'s Scrub) -> Self {
        let bad = found.bad_dirty.iter().map(|bad| BadJson {
            number: bad.number,
            volume: &bad.volume,
            start: bad.start,
            length: bad.length,
        });
        let bad_queues = found.bad_queues.iter().map(|bad| BadQueueJson {
            number: bad.number,
            volume: bad.volume.as_deref(),
            why: &bad.why,
        });
        Self {
            directory,
            state: state(found.state),
            user: user(found.state, &found.user),
            checked_sectors: found.checked_sectors,
            checked_bytes: found.checked_bytes,
            bad_clean_sectors: found.bad_clean_sectors,
            bad_clean_bytes: found.bad_clean_bytes,
            unreadable_sectors: found.unreadable_sectors,
            bad_dirty: bad.collect(),
            busy_blocks: found.busy_blocks,
            queue_frames: found.queue_frames,
            queue_bytes: found.queue_bytes,
            bad_queues: bad_queues.collect(),
        }
    }
}

fn state(state: DirectoryState) -> &'static str {
    match state {
        DirectoryState::Clean => "clean",
        DirectoryState::InUse => "in-use",
        DirectoryState::AfterCrash => "after-crash",
    }
}

/// Who has it open. Who had it is nobody's business.
fn user(state: DirectoryState, user: &str) -> Option<&str> {
    (state == DirectoryState::InUse && !user.is_empty()).then_some(user)
}

/// The text that is printed.
pub(super) fn to_text(json: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(json).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}
