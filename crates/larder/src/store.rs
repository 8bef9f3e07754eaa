//! What all volumes of a cache share: the slots, who holds them, the policy, and the figures.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::config::{Config, FlushTo, Writeback};
use crate::directory::{Directory, Owner, SlotNumber, VolumeNumber};
use crate::eviction::Eviction;
use crate::log::Log;
use crate::sector::BlockNumber;
use crate::slots::{Slots, Taken};
use crate::stats::Stats;
use crate::survival::Survival;
use crate::sync::{self, Condvar};
use crate::volume::Volume;
use crate::{CacheFile, Clock};

/// What all volumes of a cache share.
pub(crate) struct Store {
    pub config: Config,
    pub slots: Slots,
    pub directory: Arc<Directory>,
    pub eviction: Mutex<Eviction<Arc<Directory>>>,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<dyn Log>,
    pub stats: Stats,
    volumes: Mutex<HashMap<VolumeNumber, Weak<Volume>>>,
    volume_numbers: Mutex<VolumeNumbers>,
    /// A panic struck while shared state was being changed: nothing is sure any more.
    damaged: AtomicBool,
    pub maintenance: Maintenance,
    pub inline: Inline,
    /// Where the cache lives in a directory.
    pub survival: Option<Survival>,
}

/// Numbers are used again, so that they stay small.
#[derive(Debug, Default)]
struct VolumeNumbers {
    next: u32,
    free: BTreeSet<VolumeNumber>,
}

/// Wakes the front end's thread that does the background work.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    state: Mutex<MaintenanceState>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct MaintenanceState {
    is_wanted: bool,
    is_stopped: bool,
}

impl Maintenance {
    /// There is work.
    pub(crate) fn wake(&self) {
        let mut state = sync::lock(&self.state);
        if !state.is_wanted {
            state.is_wanted = true;
            self.woken.notify_all();
        }
    }

    /// There will be no more work.
    pub(crate) fn stop(&self) {
        sync::lock(&self.state).is_stopped = true;
        self.woken.notify_all();
    }

    /// Waits for work, at most `timeout`. False once stopped.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut state = sync::lock(&self.state);
        if !state.is_wanted && !state.is_stopped {
            state = sync::wait_timeout(&self.woken, state, timeout);
        }
        state.is_wanted = false;
        !state.is_stopped
    }

    /// Waits for `pause` whatever work there is. False once stopped.
    pub(crate) fn rest(&self, pause: Duration) -> bool {
        let mut state = sync::lock(&self.state);
        if !state.is_stopped {
            state = sync::wait_timeout(&self.woken, state, pause);
        }
        !state.is_stopped
    }
}

/// Keeps requests that maintain the cache themselves to one at a time, and from trying in vain.
#[derive(Debug, Default)]
pub(crate) struct Inline {
    is_busy: AtomicBool,
    rests_until: Mutex<Duration>,
}

/// How long nobody tries again after a failure.
const INLINE_PAUSE: Duration = Duration::from_millis(500);

/// The one request that maintains; over when dropped.
pub(crate) struct Maintaining<'a>(&'a Inline);

impl Inline {
    pub(crate) fn begin(&self, now: Duration) -> Option<Maintaining<'_>> {
        if self.is_resting(now) || self.is_busy.swap(true, Ordering::SeqCst) {
            return None;
        }
        Some(Maintaining(self))
    }

    pub(crate) fn is_resting(&self, now: Duration) -> bool {
        now < *sync::lock(&self.rests_until)
    }

    pub(crate) fn pause(&self, now: Duration) {
        *sync::lock(&self.rests_until) = now + INLINE_PAUSE;
    }
}

impl Drop for Maintaining<'_> {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::SeqCst);
    }
}

impl Store {
    pub(crate) fn new(
        config: Config,
        file: Box<dyn CacheFile>,
        clock: Arc<dyn Clock>,
        log: Arc<dyn Log>,
    ) -> Self {
        let slots = Slots::new(&config, file);
        Self::with_slots(config, slots, None, clock, log)
    }

    /// The same over slots that may survive.
    pub(crate) fn with_slots(
        config: Config,
        slots: Slots,
        survival: Option<Survival>,
        clock: Arc<dyn Clock>,
        log: Arc<dyn Log>,
    ) -> Self {
        let directory = Arc::new(Directory::new());
        let capacity = config.max_size_bytes.map(|_| u64::from(slots.limit()));
        Self {
            slots,
            eviction: Mutex::new(Eviction::new(capacity, Arc::clone(&directory))),
            directory,
            clock,
            log,
            stats: Stats::default(),
            volumes: Mutex::default(),
            volume_numbers: Mutex::default(),
            damaged: AtomicBool::new(false),
            maintenance: Maintenance::default(),
            inline: Inline::default(),
            survival,
            config,
        }
    }

    /// The lowest number that no volume has.
    pub(crate) fn number_volume(&self) -> VolumeNumber {
        let mut numbers = sync::lock(&self.volume_numbers);
        numbers.free.pop_first().unwrap_or_else(|| {
            numbers.next += 1;
            VolumeNumber(numbers.next - 1)
        })
    }

    /// The volume of that number is gone, with all that it had in slots. Whoever still takes one of them for its own
    /// finds, under the lock of the index, that the next volume of that number does not have it.
    pub(crate) fn free_volume_number(&self, number: VolumeNumber) {
        sync::lock(&self.volume_numbers).free.insert(number);
    }

    /// Takes a number that a volume had before. Done before any other is asked for.
    pub(crate) fn reserve_volume_number(&self, number: VolumeNumber) {
        let numbers = &mut *sync::lock(&self.volume_numbers);
        if number.0 >= numbers.next {
            numbers
                .free
                .extend((numbers.next..number.0).map(VolumeNumber));
            numbers.next = number.0 + 1;
        }
        numbers.free.remove(&number);
    }

    pub(crate) fn register(&self, volume: &Arc<Volume>) {
        let weak = Arc::downgrade(volume);
        sync::lock(&self.volumes).insert(volume.number(), weak);
    }

    pub(crate) fn unregister(&self, number: VolumeNumber) {
        sync::lock(&self.volumes).remove(&number);
    }

    pub(crate) fn volume(&self, number: VolumeNumber) -> Option<Arc<Volume>> {
        sync::lock(&self.volumes).get(&number)?.upgrade()
    }

    pub(crate) fn volumes(&self) -> Vec<Arc<Volume>> {
        let volumes = sync::lock(&self.volumes);
        let mut all: Vec<_> = volumes.values().filter_map(Weak::upgrade).collect();
        all.sort_by_key(|volume| volume.number());
        all
    }

    /// A slot in hand now belongs to a block.
    pub(crate) fn assigned(&self, slot: SlotNumber, volume: &Volume, number: BlockNumber) {
        let owner = Owner {
            volume: volume.number(),
            number,
        };
        self.directory.set(slot, owner);
        self.mark_assigned(slot);
        sync::lock(&self.eviction).inserted(slot.0, owner.key());
        self.slots.settle();
    }

    /// A slot in hand now belongs to a block that nobody has asked for.
    pub(crate) fn assigned_ahead(&self, slot: SlotNumber, volume: &Volume, number: BlockNumber) {
        let owner = Owner {
            volume: volume.number(),
            number,
        };
        self.directory.set(slot, owner);
        self.mark_assigned(slot);
        sync::lock(&self.eviction).inserted_ahead(slot.0);
        self.slots.settle();
    }

    fn mark_assigned(&self, slot: SlotNumber) {
        if let Some(survival) = &self.survival {
            survival.marks.assigned(slot);
        }
    }

    /// A block is about to give its slot up. Called with its shard's lock held.
    pub(crate) fn leaving(&self, slot: SlotNumber, volume: &Volume, number: BlockNumber) {
        if let Some(survival) = &self.survival {
            let owner = Owner {
                volume: volume.number(),
                number,
            };
            survival.leaving(slot, owner);
        }
    }

    /// The volume that had the slot is forgotten, and all that the directory says of it.
    pub(crate) fn forgotten(&self, slot: SlotNumber) {
        if let Some(survival) = &self.survival {
            survival.marks.unlisted(slot);
        }
    }

    /// A block gave its slot up.
    pub(crate) fn release(&self, slot: SlotNumber) {
        sync::lock(&self.eviction).removed(slot.0);
        self.slots.free(slot);
    }

    /// Victims in hand gave their slots up.
    pub(crate) fn release_victims(&self, slots: &[SlotNumber]) {
        if slots.is_empty() {
            return;
        }
        {
            let mut eviction = sync::lock(&self.eviction);
            slots.iter().for_each(|slot| eviction.removed(slot.0));
        }
        self.slots.free_victims(slots);
        self.stats.reclaimed.add(slots.len() as u64);
    }

    /// A request used a block's slot. Where many say so at once, some go unheard: the order
    /// of such neighbours in time decides nothing.
    pub(crate) fn touched(&self, slot: SlotNumber) {
        if let Ok(mut eviction) = self.eviction.try_lock() {
            eviction.touched(slot.0);
        }
    }

    /// Takes a free slot without evicting anything.
    pub(crate) fn take_free(&self) -> Option<SlotNumber> {
        match self.slots.take() {
            Taken::Slot(slot) => Some(slot),
            Taken::None => None,
            Taken::DiskFull => {
                let usage = self.slots.usage();
                sync::lock(&self.eviction).set_capacity(Some(usage.used));
                self.log.warning(&format!(
                    "no space left for the cache file: going on with the {} blocks it has",
                    usage.used
                ));
                None
            }
        }
    }

    /// Whether clean blocks are so few that looking for one takes longer than somebody's writing back. A guess: nobody
    /// may rely on it for long.
    pub(crate) fn is_mostly_dirty(&self) -> bool {
        let used = self.slots.usage().used;
        let reserved = self.slots.reserved().load(Ordering::Relaxed) as u64;
        let others = self.stats.dirty_blocks.get() + reserved;
        used.saturating_sub(others) < used / 64
    }

    /// Whether more is dirty than the share of the limit that may be.
    pub(crate) fn has_much_dirty(&self) -> bool {
        let (Some(share), Some(_)) = (self.config.dirty_share_percent, self.config.max_size_bytes)
        else {
            return false;
        };
        let most = u64::from(self.slots.limit()) * u64::from(share) / 100;
        self.stats.dirty_blocks.get() > most
    }

    /// After a panic: whether state that volumes share was being changed.
    pub(crate) fn check_damage(&self) {
        if self.eviction.is_poisoned() || self.volumes.is_poisoned() || self.slots.is_poisoned() {
            self.damaged.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether a flush is durable in the cache's directory.
    pub(crate) fn flushes_to_cache(&self) -> bool {
        self.config.flush_to == FlushTo::Cache && !self.is_ordered()
    }

    /// Whether origins get everything in order, by way of a queue in the cache's directory. To all else that is a cache whose flushes reach the origin.
    pub(crate) fn is_ordered(&self) -> bool {
        self.config.writeback == Writeback::Ordered
    }

    /// Tells what happens to a block, if anybody listens.
    pub(crate) fn trace(&self, message: impl FnOnce() -> String) {
        if self.log.verbose() {
            self.log.debug(&message());
        }
    }
}
