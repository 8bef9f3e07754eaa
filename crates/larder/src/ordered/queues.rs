//! The queues of a cache directory: making them, finding them again, and the space that they take.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};

use super::queue::Queue;
use super::user::User;
use crate::config::{Config, Writeback};
use crate::directory::VolumeNumber;
use crate::persist::home::Home;
use crate::persist::op::VolumeId;
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::{self, FoundQueue};
use crate::persist::volumes::VolumeTable;
use crate::survival::at_path;
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// The smallest and the largest ring, in bytes.
const SMALLEST_RING: u64 = 8 << 20;
const LARGEST_RING: u64 = 256 << 20;

/// How much space queues take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSpace {
    /// Each.
    pub ring_bytes: u64,
    /// So many there may be.
    pub most: u64,
}

impl QueueSpace {
    /// A quarter of the limit for all of them, an eighth of that for each.
    pub(crate) fn of(config: &Config) -> Self {
        let Some(max) = config.max_size_bytes else {
            return Self {
                ring_bytes: LARGEST_RING,
                most: u64::MAX,
            };
        };
        let ring_bytes = (max / 32).clamp(SMALLEST_RING, LARGEST_RING) / 4096 * 4096;
        Self {
            ring_bytes,
            most: (max / 4 / ring_bytes).max(1),
        }
    }

    /// What is set aside of the limit.
    pub(crate) fn reserved_bytes(self) -> u64 {
        match self.most {
            u64::MAX => 0,
            most => most * self.ring_bytes,
        }
    }
}

/// Where a volume has its queue, once there is one.
#[derive(Default)]
pub(crate) struct QueueCell(RwLock<Option<Arc<Queue>>>);

impl QueueCell {
    pub(crate) fn get(&self) -> Option<Arc<Queue>> {
        sync::read(&self.0).clone()
    }

    /// Nobody is being served by the one before.
    fn set(&self, queue: Arc<Queue>) {
        let before = sync::write(&self.0).replace(queue);
        if let Some(before) = before {
            before.dismiss_sender();
        }
    }

    /// Whether something is queued that the origin does not have, or that will be sent again.
    pub(crate) fn has_any(&self) -> bool {
        self.get().is_some_and(|queue| queue.owes())
    }

    /// The volume ends.
    pub(crate) fn dismiss(&self) {
        if let Some(queue) = self.get() {
            queue.dismiss_sender();
        }
    }
}

/// All queues of a directory.
pub(crate) struct Queues {
    space: QueueSpace,
    is_ordered: bool,
    /// The volumes that have one in the directory.
    there: Mutex<BTreeSet<VolumeNumber>>,
    /// What was found and nobody has taken yet.
    found: Mutex<Vec<FoundQueue>>,
}

impl Queues {
    /// Looks at what is there, before anything is written.
    ///
    /// # Errors
    /// Something is queued and cannot be sent in this life of the cache; or a queue is damaged.
    pub(crate) fn find(
        found: Vec<FoundQueue>,
        volumes: &VolumeTable,
        config: &Config,
        space: QueueSpace,
        path: &str,
    ) -> Result<Self, Error> {
        if let Some(bad) = queue_log::check(volumes, &found).first() {
            return Err(at_path(path, &bad.error));
        }
        let is_ordered = config.writeback == Writeback::Ordered;
        let waiting = found.iter().filter(|queue| !queue.is_empty()).count();
        if waiting > 0 && !is_ordered {
            let message = format!(
                "cache directory '{path}': {waiting} of its queues hold what was flushed into it and has not reached the origin in order: \
                 use it with cache-writeback=ordered, or end that first: {WAYS_OUT}"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Self {
            space,
            is_ordered,
            there: Mutex::new(found.iter().map(|queue| queue.id.volume).collect()),
            found: Mutex::new(found),
        })
    }

    /// Gives the volumes that were found their queues again. Called once the directory's session has begun.
    ///
    /// # Errors
    /// The system fails.
    pub(crate) fn load(
        &self,
        home: &Home,
        volumes: &[Arc<Volume>],
        path: &str,
    ) -> Result<(), Error> {
        let failed = |error: OpenError| at_path(path, &error);
        for found in std::mem::take(&mut *sync::lock(&self.found)) {
            let owner = volumes
                .iter()
                .find(|volume| volume.kept.id(volume.number()) == Some(found.id));
            match owner {
                Some(volume) if self.is_ordered => {
                    let queue = Queue::found(User::volume(volume), found, home).map_err(failed)?;
                    volume.queue.set(Arc::new(queue));
                }
                // It is empty, and the directory says that it is there.
                Some(_) => {}
                None => self.remove(home, found.id.volume).map_err(failed)?,
            }
        }
        Ok(())
    }

    fn remove(&self, home: &Home, volume: VolumeNumber) -> Result<(), OpenError> {
        home.remove_queue(volume)?;
        sync::lock(&self.there).remove(&volume);
        Ok(())
    }

    /// Sees to it that a volume has a queue, its own. Called while nobody is served.
    pub(crate) fn provide(
        &self,
        home: &Home,
        volume: &Arc<Volume>,
        path: &str,
    ) -> Result<(), Error> {
        let Some(id) = volume.kept.id(volume.number()) else {
            return Ok(());
        };
        if volume.queue.get().is_none_or(|queue| queue.id != id) {
            let queue = self.make(home, volume, id, path)?;
            volume.queue.set(Arc::new(queue));
        }
        if volume.store().config.background
            && let Some(queue) = volume.queue.get()
        {
            queue.start_sender(volume);
        }
        Ok(())
    }

    fn make(
        &self,
        home: &Home,
        volume: &Arc<Volume>,
        id: VolumeId,
        path: &str,
    ) -> Result<Queue, Error> {
        let there = &mut *sync::lock(&self.there);
        if !there.contains(&id.volume) && there.len() as u64 >= self.space.most {
            let message = format!(
                "volume '{}': cache-writeback=ordered: the queues of {} other volumes take all the space that '{path}' has for such: \
                 a larger cache-max-size would do",
                volume.name(),
                there.len()
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let log = home.make_queue(id, self.space.ring_bytes);
        let log = log.map_err(|error| at_path(path, &error))?;
        there.insert(id.volume);
        Ok(Queue::new(id, User::volume(volume), log))
    }
}

const WAYS_OUT: &str = "'larder drain DIR ORIGIN' writes it back, 'larder drain --output FILE DIR' saves it to a file, \
     'larder drain --discard DIR' forgets it";
