//! A volume: one export as clients see it, with its own content, size and dirty state.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::Duration;

use crate::attached::{Attached, AttachedList};
use crate::block::FetchNumber;
use crate::directory::{SlotNumber, VolumeNumber};
use crate::dirty_set::DirtySet;
use crate::durability::Durability;
use crate::foreground::Foreground;
use crate::habit::Habit;
use crate::index::{Evicted, Index};
use crate::ordered::QueueCell;
use crate::pass_token::PassToken;
use crate::persist::op::VolumeRecord;
use crate::range_lock::RangeLocks;
use crate::sector::{BlockNumber, Geometry, Mask, Piece};
use crate::store::Store;
use crate::survival::{Kept, Survival};
use crate::sync;
use crate::unflushed::Unflushed;
use crate::unrecorded::Unrecorded;
use crate::writeback::Pace;
use crate::zero_map::ZeroMap;

/// The most ranges of zeros a volume keeps; beyond it the origin is zeroed directly.
pub(crate) const MAX_ZERO_RANGES: usize = 16384;

/// One export as clients see it.
pub struct Volume {
    number: VolumeNumber,
    name: String,
    store: Arc<Store>,
    index: Index,
    geometry: OnceLock<Geometry>,
    size: AtomicU64,
    dirty: Mutex<DirtySet>,
    zeros: RwLock<ZeroMap>,
    zero_ranges: AtomicUsize,
    pub(crate) ranges: RangeLocks,
    pub(crate) token: PassToken,
    /// One of those who want room looks for victims at a time, where nearly all are dirty. Never held over I/O.
    pub(crate) search: Mutex<()>,
    pub(crate) pace: Pace,
    pub(crate) foreground: Foreground,
    /// How many fetches have begun.
    fetches: AtomicU64,
    pub(crate) attached: AttachedList,
    /// One connection joins or serves its first request at a time: joining may change the volume's
    /// size, and only while nobody is served.
    joining: Mutex<()>,
    pub(crate) durability: Durability,
    pub(crate) unflushed: Unflushed,
    /// What the cache directory is to be told, where a flush is durable in it.
    pub(crate) unrecorded: Unrecorded,
    /// Where a flush is durable in the directory.
    pub(crate) habit: Habit,
    /// Before the origin, where that gets everything in order.
    pub(crate) queue: Arc<QueueCell>,
    poisoned: AtomicBool,
    /// Nobody else finds it, and it ends with its last connection.
    is_private: bool,
    pub(crate) kept: Kept,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Volume {
    pub(crate) fn new(store: Arc<Store>, name: &str, is_private: bool) -> Arc<Self> {
        let number = store.number_volume();
        Self::make(store, number, name, is_private, Kept::default())
    }

    /// One that the cache directory knows, with nothing in its index yet.
    pub(crate) fn found(store: Arc<Store>, record: &VolumeRecord) -> Arc<Self> {
        let number = record.id.volume;
        store.reserve_volume_number(number);
        let block_bytes = store.config.block_bytes;
        let sectors = block_bytes >> record.sector_shift;
        let kept = Kept::of_record(record, Mask::span(0, sectors as u32));
        let volume = Self::make(store, number, &record.name, false, kept);
        let blocks = record.size_bytes.div_ceil(block_bytes);
        volume.index.expect(blocks, &volume.store.directory);
        volume
    }

    fn make(
        store: Arc<Store>,
        number: VolumeNumber,
        name: &str,
        is_private: bool,
        kept: Kept,
    ) -> Arc<Self> {
        let volume = Arc::new(Self {
            number,
            name: name.to_owned(),
            index: Index::new(store.slots.capacity()),
            geometry: OnceLock::new(),
            size: AtomicU64::new(0),
            dirty: Mutex::default(),
            zeros: RwLock::default(),
            zero_ranges: AtomicUsize::new(0),
            ranges: RangeLocks::default(),
            search: Mutex::default(),
            pace: Pace::default(),
            foreground: Foreground::default(),
            fetches: AtomicU64::new(0),
            token: PassToken::new(Arc::clone(store.slots.news())),
            attached: AttachedList::default(),
            joining: Mutex::default(),
            durability: Durability::default(),
            unflushed: Unflushed::default(),
            unrecorded: Unrecorded::default(),
            habit: Habit::default(),
            queue: Arc::default(),
            poisoned: AtomicBool::new(false),
            is_private,
            kept,
            store,
        });
        volume.store.register(&volume);
        volume
    }

    /// A fetch begins.
    pub(crate) fn begin_fetch(&self) -> FetchNumber {
        FetchNumber(self.fetches.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// The fetch that began last.
    pub(crate) fn last_fetch(&self) -> FetchNumber {
        FetchNumber(self.fetches.load(Ordering::SeqCst))
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Held while a connection joins, which may change the volume's size.
    pub(crate) fn lock_joining(&self) -> MutexGuard<'_, ()> {
        sync::lock(&self.joining)
    }

    /// The sizes of blocks and sectors, which the first connection decides.
    pub(crate) fn decide_geometry(&self, wanted: Geometry) -> Geometry {
        *self.geometry.get_or_init(|| wanted)
    }

    /// A connection is about to serve a request. False if the volume's size has changed since it joined.
    pub(crate) fn activate(&self, attached: &Attached, size: u64) -> bool {
        if attached.is_active() {
            return true;
        }
        let _joining = sync::lock(&self.joining);
        if self.size() != size {
            return false;
        }
        attached.set_active();
        true
    }

    pub(crate) fn number(&self) -> VolumeNumber {
        self.number
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Sizes of blocks and sectors. Before the first connection there is nothing to ask about.
    pub(crate) fn geometry(&self) -> Geometry {
        match self.geometry.get() {
            Some(geometry) => *geometry,
            None => unreachable!("a volume is used only through its connections"),
        }
    }

    pub(crate) fn has_geometry(&self) -> bool {
        self.geometry.get().is_some()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    /// Nobody else finds it, and it ends with its last connection.
    pub(crate) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether a flush is durable in the cache's directory. One that the directory does not know is flushed to its origin.
    pub(crate) fn flushes_to_cache(&self) -> bool {
        self.store.flushes_to_cache() && self.kept.id(self.number).is_some()
    }

    /// Takes a slot away from a block, if that can be.
    pub(crate) fn evict(&self, number: BlockNumber, slot: SlotNumber) -> Evicted {
        let leaving = || self.store.leaving(slot, self, number);
        let directory = &self.store.directory;
        self.index.evict(number, slot, directory, leaving)
    }

    /// Forgets all that is cached and that the origin has too, and that is under way from it. Called while nobody is served.
    pub(crate) fn forget_clean(&self) {
        for slot in self.index.drain_clean(&self.store.directory) {
            self.store.forgotten(slot);
            self.store.release(slot);
        }
        // What is dirty in part, or in somebody's hands.
        let all = BlockNumber(0)..BlockNumber(u64::MAX);
        let directory = &self.store.directory;
        for number in self.index.known_within(all.start, all.end, directory) {
            let pin = self.pin(number);
            let mut state = pin.latch();
            let clean = state.valid - state.unsettled();
            state.changed(self.geometry().full());
            state.drop_sectors(clean);
        }
    }

    /// Called while nobody is served, once the geometry is decided.
    pub(crate) fn set_size(&self, size: u64) {
        let blocks = size.div_ceil(self.geometry().block_bytes());
        self.index.expect(blocks, &self.store.directory);
        self.size.store(size, Ordering::SeqCst);
    }

    /// The sectors of a block that lie within the volume.
    pub(crate) fn existing(&self, number: BlockNumber) -> Mask {
        self.geometry().existing(number, self.size())
    }

    /// Known before the first connection where the directory knows it; else 0.
    fn sector_bytes(&self) -> u64 {
        let found = self.kept.found().map(|found| found.full.count());
        let found = found.map(|sectors| self.store.config.block_bytes / u64::from(sectors));
        let decided = self.geometry.get().map(|geometry| geometry.sector_bytes());
        decided.or(found).unwrap_or(0)
    }

    /// A block's unsettled sectors have changed. Called with its latch held.
    pub(crate) fn note_unsettled(&self, number: BlockNumber, was: Mask, now: Mask) {
        if was.is_empty() != now.is_empty() {
            let mut dirty = sync::lock(&self.dirty);
            let blocks = &self.store.stats.dirty_blocks;
            if now.is_empty() {
                dirty.remove(number);
                blocks.subtract(1);
            } else {
                blocks.add(1);
                // Read under the lock, so that the set's order is that of the clock.
                dirty.insert(number, self.store.clock.now());
            }
        }
        let sector_bytes = self.sector_bytes();
        let bytes = &self.store.stats.dirty_bytes;
        bytes.add(u64::from((now - was).count()) * sector_bytes);
        bytes.subtract(u64::from((was - now).count()) * sector_bytes);
    }

    /// Runs `action` on the dirty set. A leaf lock: it takes no other.
    pub(crate) fn with_dirty<R>(&self, action: impl FnOnce(&mut DirtySet) -> R) -> R {
        action(&mut sync::lock(&self.dirty))
    }

    /// Runs `action` on the zero map. A leaf lock: it takes no other.
    pub(crate) fn with_zeros<R>(&self, action: impl FnOnce(&mut ZeroMap) -> R) -> R {
        let mut zeros = sync::write(&self.zeros);
        let result = action(&mut zeros);
        zeros.note_time(self.store.clock.now());
        self.zero_ranges.store(zeros.len(), Ordering::SeqCst);
        result
    }

    /// The dirty blocks and the ranges of zeros at one moment: what moves from the one to the other is
    /// in both meanwhile, so nothing is in neither.
    pub(crate) fn unsettled_now(&self) -> (Vec<BlockNumber>, Vec<(u64, u64)>) {
        self.with_dirty(|dirty| {
            let zeros = sync::read(&self.zeros);
            let ranges = zeros
                .overlapping(0, u64::MAX)
                .map(|range| (range.start, range.end));
            (dirty.all(), ranges.collect())
        })
    }

    /// The lowest of what [`Volume::unsettled_now`] gives, within some bytes: at most `most` blocks and `most`
    /// ranges.
    pub(crate) fn unsettled_within(
        &self,
        start: u64,
        end: u64,
        most: usize,
    ) -> (Vec<BlockNumber>, Vec<(u64, u64)>) {
        let geometry = self.geometry();
        let blocks = geometry.block_of(start)..=geometry.block_of(end - 1);
        self.with_dirty(|dirty| {
            let zeros = sync::read(&self.zeros);
            let ranges = zeros.overlapping(start, end).take(most);
            (
                dirty.within(blocks).take(most).collect(),
                ranges.map(|range| (range.start, range.end)).collect(),
            )
        })
    }

    /// Since when the oldest dirty data has been waiting.
    pub(crate) fn oldest_dirty(&self) -> Option<Duration> {
        let data = self.with_dirty(|dirty| dirty.oldest());
        [data, self.zeros_since()].into_iter().flatten().min()
    }

    /// Since when there have been ranges of zeros.
    pub(crate) fn zeros_since(&self) -> Option<Duration> {
        sync::read(&self.zeros).since()
    }

    /// How many ranges of zeros there are.
    pub(crate) fn zero_ranges(&self) -> usize {
        self.zero_ranges.load(Ordering::SeqCst)
    }

    /// The sectors of a block that are zero by state. Asked with its latch held.
    pub(crate) fn zero_mask(&self, number: BlockNumber) -> Mask {
        if self.zero_ranges() == 0 {
            return Mask::EMPTY;
        }
        sync::read(&self.zeros).mask(self.geometry(), number, self.size())
    }

    /// Forgets that these sectors of a block are zero. Called with its latch held.
    pub(crate) fn clear_zeros(&self, number: BlockNumber, sectors: Mask) {
        if self.zero_ranges() == 0 {
            return;
        }
        self.with_zeros(|zeros| {
            for run in sectors.runs() {
                let (start, end) = self.geometry().bytes_of(number, run, self.size());
                zeros.remove(start, end);
            }
        });
    }

    /// The blocks that these bytes touch and that are resident or pinned, in order.
    pub(crate) fn known_blocks(&self, start: u64, end: u64) -> Vec<BlockNumber> {
        let geometry = self.geometry();
        let first = geometry.block_of(start);
        let last = geometry.block_of(end.saturating_sub(1).max(start));
        let after = BlockNumber(last.0 + 1);
        self.index.known_within(first, after, &self.store.directory)
    }

    /// Runs `action` with the byte ranges between `start` and `end` that lie in blocks of which nothing is
    /// known, and with the pieces of the blocks between them; nothing becomes known meanwhile.
    pub(crate) fn between_known(
        &self,
        start: u64,
        end: u64,
        action: impl FnOnce(&[(u64, u64)], &[Piece]),
    ) {
        let geometry = self.geometry();
        let first = geometry.block_of(start);
        let after = BlockNumber(geometry.block_of(end - 1).0 + 1);
        self.index
            .frozen(first, after, &self.store.directory, |known| {
                let mut gaps = Vec::new();
                let mut pieces = Vec::new();
                let mut at = start;
                for &number in known {
                    let piece = geometry.piece_within(number, start, end);
                    let base = geometry.base(number);
                    if at < base + piece.start {
                        gaps.push((at, base + piece.start));
                    }
                    pieces.push(piece);
                    at = base + piece.end;
                }
                if at < end {
                    gaps.push((at, end));
                }
                action(&gaps, &pieces);
            });
    }

    /// Whether anything would be lost if the volume ended now. Both sets under one lock: what moves from
    /// the one to the other is in both meanwhile.
    pub fn is_dirty(&self) -> bool {
        self.with_dirty(|dirty| !dirty.is_empty() || self.zero_ranges() > 0)
    }

    /// Whether the origin has got something, in writethrough mode, that no flush has covered since.
    pub fn has_unflushed(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// So much was written to the origin, unless that is the queue in front of it.
    pub(crate) fn count_origin_write(&self, bytes: u64) {
        if self.queue.get().is_none() {
            self.store.stats.origin_write_bytes.add(bytes);
        }
    }

    /// Whether the origin lacks anything, be it queued for it in the cache's directory.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.is_dirty() || self.queue.has_any()
    }

    /// Whether nothing would be missed if the volume were forgotten while nobody uses it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_unwritten() && self.index.is_empty()
    }

    /// Whether what was just read from a slot can be sent to the origin, or promised: a sync of the slots may have failed meanwhile, after
    /// which they may show anything.
    pub(crate) fn trusts_slots(&self) -> bool {
        !self.store.slots.doubts().is_any() && !self.is_poisoned()
    }

    /// After a panic: requests fail from now on.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
        self.store.check_damage();
    }

    /// Poisons the volume if it is dropped by a panic, whoever's thread it is: before the locks are let
    /// go that were taken earlier, so that those who waited for them know.
    pub(crate) fn poison_on_panic(&self) -> PoisonOnPanic<'_> {
        PoisonOnPanic(self)
    }

    /// Whether anybody may still want what the volume gives up.
    fn leaves_others_behind(&self) -> bool {
        let survival = self.store.survival.as_ref();
        !survival.is_some_and(Survival::is_closed) && Arc::strong_count(&self.store) > 1
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed) || self.store.is_damaged()
    }
}

/// See [`Volume::poison_on_panic`].
pub(crate) struct PoisonOnPanic<'v>(&'v Volume);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison();
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.store.unregister(self.number);
        self.queue.dismiss();
        let sector_bytes = self.sector_bytes();
        let mut dirty_sectors = 0;
        let dirty_blocks = self.with_dirty(|dirty| dirty.all());
        let stats = &self.store.stats;
        stats.dirty_blocks.subtract(dirty_blocks.len() as u64);
        for number in dirty_blocks {
            let state = self.index.peek(number, Mask::EMPTY, &self.store.directory);
            dirty_sectors += u64::from(state.unsettled().count());
        }
        let dirty_bytes = dirty_sectors * sector_bytes;
        stats.dirty_bytes.subtract(dirty_bytes);
        if self.is_private && dirty_bytes > 0 {
            self.store.log.warning(&format!(
                "volume '{}' ends with {dirty_bytes} bytes that the origin does not have: they are discarded",
                self.name
            ));
        }
        if self.kept.is_sealed() || self.queue.has_any() {
            // The directory keeps what was promised, in these slots or in this queue, and under this number.
            return;
        }
        if self.leaves_others_behind() {
            for slot in self.index.drain() {
                self.store.forgotten(slot);
                self.store.release(slot);
            }
        }
        if let Some(survival) = &self.store.survival {
            survival.forget(self);
        }
        self.store.free_volume_number(self.number);
    }
}
