//! What is queued for the origins of a directory's volumes, as a start would find it.

use super::BadQueue;
use crate::medium::Medium;
use crate::ordered::Held;
use crate::persist::look::Look;
use crate::persist::op::VolumeId;
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::{BadQueues, FoundQueue, JudgedQueues};

/// All queues.
pub(super) struct SeenQueues {
    /// What each holds.
    pub held: Vec<(VolumeId, Held)>,
    /// Frames that are whole.
    pub frames: u64,
    /// The same in bytes.
    pub bytes: u64,
    pub bad: Vec<BadQueue>,
}

/// Reads them, beside whoever has the directory open. What a crash tore off their ends is no damage.
///
/// # Errors
/// A start would refuse one, and that is not to be told otherwise; or they cannot be read.
pub(super) fn read(
    medium: &dyn Medium,
    look: &Look,
    bad_queues: BadQueues,
) -> Result<SeenQueues, OpenError> {
    let mut judged = JudgedQueues::read(medium, look.superblock())?.unless(bad_queues)?;
    judged.compare(look.volumes());
    let JudgedQueues { found, bad } = judged.unless(bad_queues)?;
    let bad = bad.into_iter().map(|bad| BadQueue {
        number: bad.volume.0,
        volume: name_of(look, bad.volume.0),
        why: bad.error.to_string(),
    });
    Ok(SeenQueues {
        frames: found.iter().map(FoundQueue::frames).sum(),
        bytes: found.iter().map(FoundQueue::used_bytes).sum(),
        bad: bad.collect(),
        held: found
            .iter()
            .map(|queue| (queue.id, Held::of(&queue.found)))
            .collect(),
    })
}

fn name_of(look: &Look, number: u32) -> Option<String> {
    let mut volumes = look.volumes().volumes().map(|volume| &volume.record);
    let known = volumes.find(|record| record.id.volume.0 == number);
    known.map(|record| record.name.clone())
}
