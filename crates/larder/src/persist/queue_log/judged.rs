//! All queues of a directory, each for itself: what is found of it, or what is wrong with it. For whoever can do something about that, or looks
//! at a directory that somebody else may have open.

use super::found::{FoundQueue, volumes};
use super::name::file_name;
use crate::directory::VolumeNumber;
use crate::medium::Medium;
use crate::persist::op::VolumeId;
use crate::persist::open_error::OpenError;
use crate::persist::refusal::Finding;
use crate::persist::superblock::Superblock;
use crate::persist::volumes::VolumeTable;

/// What is wrong with the queue of that number.
#[derive(Debug)]
pub(crate) struct BadQueue {
    pub volume: VolumeNumber,
    /// What a start says of it.
    pub error: OpenError,
}

/// What is done about bad queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadQueues {
    Refuse,
    Tell,
}

/// All queues.
#[derive(Default)]
pub(crate) struct JudgedQueues {
    /// By number.
    pub found: Vec<FoundQueue>,
    pub bad: Vec<BadQueue>,
}

impl JudgedQueues {
    /// Reads them. Nothing is written.
    ///
    /// # Errors
    /// The names of the files cannot be read.
    pub(crate) fn read(medium: &dyn Medium, superblock: &Superblock) -> Result<Self, OpenError> {
        let Superblock {
            uuid,
            shape,
            session,
            ..
        } = *superblock;
        let mut judged = Self::default();
        for volume in volumes(medium)? {
            match FoundQueue::read_beside(medium, volume, uuid, shape, session) {
                Ok(found) => judged.found.push(found),
                Err(error) => judged.bad.push(BadQueue { volume, error }),
            }
        }
        Ok(judged)
    }

    /// Compares them with what the directory says of its volumes. What holds something of no volume is not among those that were found any
    /// more.
    pub(crate) fn compare(&mut self, volumes: &VolumeTable) {
        for bad in check(volumes, &self.found) {
            // That it is damaged says more than that it is missing.
            if self.bad.iter().all(|known| known.volume != bad.volume) {
                self.bad.push(bad);
            }
        }
        let is_known = |queue: &FoundQueue| volumes.get(queue.id).is_some();
        self.found
            .retain(|queue| queue.is_empty() || is_known(queue));
        self.bad.sort_by_key(|bad| bad.volume);
    }

    /// All of them, if bad ones are to be told.
    ///
    /// # Errors
    /// They are not, and there is one; or one is of a newer format, of which nobody here could say what it gives up.
    pub(crate) fn unless(mut self, bad_queues: BadQueues) -> Result<Self, OpenError> {
        let is_refused = |bad: &BadQueue| bad_queues == BadQueues::Refuse || !bad.can_be_given_up();
        match self.bad.iter().position(is_refused) {
            Some(at) => Err(self.bad.swap_remove(at).error),
            None => Ok(self),
        }
    }
}

impl BadQueue {
    fn can_be_given_up(&self) -> bool {
        self.error.is_of_queue() || matches!(self.error, OpenError::Io { .. })
    }
}

/// What of the queues does not fit the volumes: what a volume had queued is not forgotten because somebody took the file away; nor what is queued of a volume
/// that has gone.
pub(crate) fn check(volumes: &VolumeTable, found: &[FoundQueue]) -> Vec<BadQueue> {
    let is_found = |id: VolumeId| found.iter().any(|queue| queue.id == id);
    let known = volumes.volumes().map(|volume| &volume.record);
    let missing = known.filter(|record| record.has_queue && !is_found(record.id));
    let missing = missing.map(|record| BadQueue {
        volume: record.id.volume,
        error: of_queue(record.id.volume, Finding::QueueMissing(record.name.clone())),
    });
    let nobodys = found
        .iter()
        .filter(|queue| !queue.is_empty() && volumes.get(queue.id).is_none())
        .map(|queue| BadQueue {
            volume: queue.id.volume,
            error: of_queue(queue.id.volume, Finding::NobodysQueue),
        });
    missing.chain(nobodys).collect()
}

fn of_queue(volume: VolumeNumber, finding: Finding) -> OpenError {
    OpenError::of_file(file_name(volume), finding)
}
