//! Slots: the cache file's space, its limit, and what happens when the disk is full.
//!
//! A slot is given disk space, or promised it, when it is first used and keeps it: a full disk is met in
//! [`Slots::take`], and a freed slot costs no file-system metadata to use again.
//! Invariant: slots given out + free + failed to allocate = slots ever numbered <= the limit.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::cache_file::{CacheFile, write_zeros};
use crate::change_counts::{ChangeCounts, Unlocked};
use crate::config::Config;
use crate::directory::SlotNumber;
use crate::doubts::Doubts;
use crate::news::News;
use crate::survival::SlotMarks;
use crate::sync;

/// How often, in failed attempts, a full disk is asked again.
const FULL_DISK_RETRY: u32 = 256;

/// What is made ready ahead of those who need it.
const READY_BYTES: u64 = 1 << 20;

/// The map of a file of up to so many extents fits into its inode on ext4 and xfs.
const FEW_SLOTS: u32 = 4;

/// What is expected where there is no limit: 1 TiB of blocks of 64 KiB.
const UNLIMITED_SLOTS: u64 = 1 << 24;

#[derive(Debug)]
struct Space {
    free: BTreeSet<SlotNumber>,
    /// The next slot never numbered.
    next: u32,
    /// Numbered, but the disk had no space for them.
    unallocated: Vec<SlotNumber>,
    /// Failed attempts since the disk was last found full; 0 while it is not.
    attempts_while_full: u32,
    /// There was not enough disk space for several slots at once.
    is_short: bool,
}

/// What became of a wish for a slot that takes no waiting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Slot(SlotNumber),
    /// Every slot is in use.
    None,
    /// The disk was found full just now.
    DiskFull,
}

/// The cache file's space.
pub(crate) struct Slots {
    file: Box<dyn CacheFile>,
    block_bytes: u64,
    limit: u32,
    high_percent: u64,
    low_percent: u64,
    space: Mutex<Space>,
    /// Slots, pins and victims in somebody's hands: while there are any, room may come free.
    in_hands: AtomicUsize,
    /// Those of them that are set aside and hold nothing yet.
    reserved: AtomicUsize,
    news: Arc<News>,
    counts: ChangeCounts,
    /// Where the cache survives.
    marks: Option<Arc<SlotMarks>>,
    /// Whether what is read can be used.
    doubts: Doubts,
    /// Why the first sync that failed did. Held during a sync.
    sync_failure: Mutex<Option<String>>,
}

/// So much disk space is asked for at once, in bytes.
const AT_ONCE_BYTES: u64 = 1 << 20;
/// And no more than one part in so many of all slots.
const SMALL_PART: u32 = 256;

/// The slots that fit under a limit on allocated bytes, the file system's own metadata for the
/// file included.
///
/// The worst case is one extent for each 4 KiB page: ext4 needs 12 bytes of a leaf block for each,
/// and few index blocks. Few slots need none, see [`Slots::allocate`].
pub(crate) fn slots_within(max_size_bytes: u64, block_bytes: u64) -> u32 {
    let plain = max_size_bytes / block_bytes;
    if plain <= u64::from(FEW_SLOTS) {
        return plain.max(1) as u32;
    }
    let reserve = 8192 + max_size_bytes / 256;
    let slots = (max_size_bytes - reserve) / block_bytes;
    slots.clamp(u64::from(FEW_SLOTS), u64::from(u32::MAX - 1)) as u32
}

impl Slots {
    pub(crate) fn new(config: &Config, file: Box<dyn CacheFile>) -> Self {
        let limit = match config.max_size_bytes {
            Some(max) => slots_within(max, config.block_bytes),
            None => u32::MAX - 1,
        };
        Self::with_limit(config, limit, file)
    }

    /// The same with at most `limit` slots, or as many as a file can have.
    pub(crate) fn with_limit(config: &Config, limit: u32, file: Box<dyn CacheFile>) -> Self {
        let addressable =
            (i64::MAX as u64 / config.block_bytes).min(u64::from(u32::MAX - 1)) as u32;
        Self {
            file,
            block_bytes: config.block_bytes,
            limit: limit.min(addressable),
            high_percent: u64::from(config.high_threshold_percent),
            low_percent: u64::from(config.low_threshold_percent),
            space: Mutex::new(Space {
                free: BTreeSet::new(),
                next: 0,
                unallocated: Vec::new(),
                attempts_while_full: 0,
                is_short: false,
            }),
            in_hands: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            news: Arc::default(),
            counts: ChangeCounts::new(),
            marks: None,
            doubts: Doubts::default(),
            sync_failure: Mutex::default(),
        }
    }

    /// The same, with marks that are to be kept true.
    pub(crate) fn marked(self, marks: Arc<SlotMarks>) -> Self {
        Self {
            marks: Some(marks),
            ..self
        }
    }

    /// Goes on where an earlier cache in the same file ended: so many slots have their space, and these of them hold nothing.
    pub(crate) fn resume(&self, numbered: u32, free: BTreeSet<SlotNumber>) {
        let mut space = sync::lock(&self.space);
        space.next = numbered;
        space.free = free;
    }

    /// How many slots were ever used, in this cache or before.
    pub(crate) fn numbered(&self) -> u32 {
        sync::lock(&self.space).next
    }

    /// The most slots there may be.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// How many slots to expect, whatever the limit.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.limit).min(UNLIMITED_SLOTS)
    }

    /// A free slot, or one never used before if there is space for it. The slot is in hand until
    /// [`Slots::settle`] or [`Slots::free`].
    pub(crate) fn take(&self) -> Taken {
        // In hand from now on, so that nobody concludes meanwhile that there is nothing to wait for.
        self.take_in_hand();
        let taken = self.take_in_hands();
        if !matches!(taken, Taken::Slot(_)) {
            self.let_go();
        }
        taken
    }

    fn take_in_hands(&self) -> Taken {
        let (candidate, more) = {
            let mut space = sync::lock(&self.space);
            if let Some(slot) = space.free.pop_first() {
                return Taken::Slot(slot);
            }
            if space.attempts_while_full > 0 {
                space.attempts_while_full += 1;
                if !space.attempts_while_full.is_multiple_of(FULL_DISK_RETRY) {
                    return Taken::None;
                }
            }
            match space.unallocated.pop() {
                Some(slot) => (slot, 0),
                None if space.next < self.limit => {
                    let count = self.at_once(&space).min(self.limit - space.next);
                    space.next += count;
                    (SlotNumber(space.next - count), count - 1)
                }
                None => return Taken::None,
            }
        };
        let allocated = self.allocate_run(candidate, more);
        let mut space = sync::lock(&self.space);
        if allocated.is_ok() {
            space.attempts_while_full = 0;
            return Taken::Slot(candidate);
        }
        space.unallocated.push(candidate);
        space.attempts_while_full += 1;
        if space.attempts_while_full == 1 {
            Taken::DiskFull
        } else {
            Taken::None
        }
    }

    /// Makes a slot or two ready that were never used, for those who take one soon: that takes time, which is better
    /// spent by somebody whom nobody waits for.
    pub(crate) fn prepare(&self) {
        for _ in 0..2 {
            self.take_in_hand();
            if !self.prepare_one() {
                return self.let_go();
            }
            self.news.room();
            self.settle();
        }
    }

    fn prepare_one(&self) -> bool {
        let candidate = {
            let mut space = sync::lock(&self.space);
            let is_enough = space.free.len() as u64 >= READY_BYTES / self.block_bytes;
            let is_full = space.attempts_while_full > 0 || !space.unallocated.is_empty();
            if is_enough || is_full || space.next >= self.limit {
                return false;
            }
            space.next += 1;
            SlotNumber(space.next - 1)
        };
        let allocated = self.allocate(candidate);
        let mut space = sync::lock(&self.space);
        match allocated {
            Ok(()) => space.free.insert(candidate),
            // Whoever needs a slot finds out that the disk is full, and says so.
            Err(_) => {
                space.unallocated.push(candidate);
                false
            }
        }
    }

    /// So many slots that were never used get their disk space at once: asking for a mebibyte takes no longer than asking for a
    /// block. A small cache takes no more than it needs.
    fn at_once(&self, space: &Space) -> u32 {
        if space.is_short {
            return 1;
        }
        let slots = (AT_ONCE_BYTES / self.block_bytes).clamp(1, u64::from(u32::MAX)) as u32;
        slots.min(self.limit / SMALL_PART).max(1)
    }

    /// Makes room on disk for a slot, and for so many after it, which are free then. Where there is not enough for all, they are as if they had
    /// not been asked for, and so it goes on one by one.
    fn allocate_run(&self, first: SlotNumber, more: u32) -> io::Result<()> {
        if more == 0 {
            return self.allocate(first);
        }
        let others = (first.0 + 1..=first.0 + more).map(SlotNumber);
        let bytes = u64::from(more + 1) * self.block_bytes;
        let is_whole = self.file.allocate(self.offset(first), bytes).is_ok();
        let mut space = sync::lock(&self.space);
        if is_whole {
            space.free.extend(others);
            drop(space);
            self.news.room();
            return Ok(());
        }
        space.is_short = true;
        match space.next == first.0 + more + 1 {
            true => space.next -= more,
            // Somebody has gone on behind them.
            false => space.unallocated.extend(others.rev()),
        }
        drop(space);
        self.allocate(first)
    }

    /// Makes room on disk for a slot. A file of few slots has no reserve for metadata, so its slots
    /// are written at once: patterns of written and unwritten parts would need a longer map.
    fn allocate(&self, slot: SlotNumber) -> io::Result<()> {
        let offset = self.offset(slot);
        self.file.allocate(offset, self.block_bytes)?;
        if self.limit <= FEW_SLOTS {
            write_zeros(self.file.as_ref(), offset, self.block_bytes)?;
        }
        Ok(())
    }

    /// Gives a slot back that is in hand or was in use.
    pub(crate) fn free(&self, slot: SlotNumber) {
        sync::lock(&self.space).free.insert(slot);
        self.news.room();
    }

    /// Gives slots back that were victims in hand; they are settled too.
    pub(crate) fn free_victims(&self, slots: &[SlotNumber]) {
        sync::lock(&self.space).free.extend(slots);
        self.news.room();
        self.in_hands.fetch_sub(slots.len(), Ordering::SeqCst);
        self.news.anything();
    }

    /// Something is in somebody's hands that may turn into room.
    pub(crate) fn take_in_hand(&self) {
        self.in_hands.fetch_add(1, Ordering::SeqCst);
    }

    /// It is in nobody's hands any more.
    pub(crate) fn settle(&self) {
        self.settle_all(1);
    }

    /// So many are in nobody's hands any more. Announced before as well: who finds nothing in hands must
    /// have seen that something has changed.
    pub(crate) fn settle_all(&self, count: usize) {
        self.news.anything();
        self.in_hands.fetch_sub(count, Ordering::SeqCst);
        self.news.anything();
    }

    /// It was in hand for nothing: no room came of it.
    pub(crate) fn let_go(&self) {
        self.in_hands.fetch_sub(1, Ordering::SeqCst);
    }

    /// What those who wait for room are told.
    pub(crate) fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// Slots that requests have set aside and that hold nothing yet. A guess for others.
    pub(crate) fn reserved(&self) -> &AtomicUsize {
        &self.reserved
    }

    /// How many slots, pins and victims are in somebody's hands: while there are any, room may come free without
    /// anybody writing anything back.
    pub(crate) fn in_hands(&self) -> usize {
        self.in_hands.load(Ordering::SeqCst)
    }

    /// Slots in use, and how many are too many and how many are few enough.
    pub(crate) fn usage(&self) -> Usage {
        let space = sync::lock(&self.space);
        let allocated = u64::from(space.next) - space.unallocated.len() as u64;
        let capacity = if space.attempts_while_full > 0 {
            allocated
        } else {
            u64::from(self.limit)
        };
        Usage {
            used: allocated - space.free.len() as u64,
            high: (capacity * self.high_percent).div_ceil(100),
            low: (capacity * self.low_percent).div_ceil(100),
        }
    }

    /// Whether a panic struck while the space was being changed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.space.is_poisoned()
    }

    fn offset(&self, slot: SlotNumber) -> u64 {
        u64::from(slot.0) * self.block_bytes
    }

    /// Reads from a slot, `start` bytes in. For [`crate::latch`], and for reads without one.
    pub(crate) fn read(&self, slot: SlotNumber, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(self.offset(slot) + start, buffer)
    }

    /// Writes into a slot, `start` bytes in. For [`crate::latch`].
    pub(crate) fn write(&self, slot: SlotNumber, start: u64, data: &[u8]) -> io::Result<()> {
        if let Some(marks) = &self.marks {
            marks.written(slot);
        }
        let offset = self.offset(slot) + start;
        self.counts.write(slot, || self.file.write(offset, data))
    }

    /// Makes durable what was written to slots before the call.
    ///
    /// # Errors
    /// Then the slots are in doubt: the system may have dropped what was written to them.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // The system tells a failure to one of those who sync at the same time, and only once.
        let mut failure = sync::lock(&self.sync_failure);
        match &*failure {
            Some(why) => Err(io::Error::other(why.clone())),
            None => self.sync_noting(&mut failure),
        }
    }

    /// The same after a failure too, for who only wants to know of another one.
    pub(crate) fn sync_again(&self) -> io::Result<()> {
        self.sync_noting(&mut sync::lock(&self.sync_failure))
    }

    fn sync_noting(&self, failure: &mut Option<String>) -> io::Result<()> {
        self.file.sync().inspect_err(|error| {
            *failure = Some(error.to_string());
            self.doubts.note();
        })
    }

    /// Whether what is read can be used.
    pub(crate) fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// Begins a read that holds no lock, while whoever calls still knows what the slot holds. None if that must be verified
    /// first.
    pub(crate) fn begin_unlocked_read(&self, slot: SlotNumber) -> Option<UnlockedRead> {
        if self
            .marks
            .as_ref()
            .is_some_and(|marks| marks.is_unverified(slot))
        {
            return None;
        }
        let doubts = self.doubts.noted();
        let read = self.counts.begin_read(slot)?;
        (!self.doubts.is_any()).then_some(UnlockedRead { read, doubts })
    }

    /// Whether what was read since is what the slot held then.
    pub(crate) fn is_unchanged(&self, begun: UnlockedRead) -> bool {
        self.counts.is_unchanged(begun.read) && self.doubts.noted() == begun.doubts
    }
}

/// A read under way without a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnlockedRead {
    read: Unlocked,
    /// How many there had been.
    doubts: u64,
}

/// How full the cache is, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub used: u64,
    /// Reclaim starts above this.
    pub high: u64,
    /// Reclaim ends at this.
    pub low: u64,
}

impl Usage {
    pub(crate) fn is_high(&self) -> bool {
        self.used > self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    struct SmallDisk {
        left_bytes: AtomicU64,
        /// A failed sync is told once.
        has_told: AtomicBool,
    }

    impl CacheFile for SmallDisk {
        fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64, length: u64) -> io::Result<()> {
            let left = self.left_bytes.load(Ordering::SeqCst);
            let after = left.checked_sub(length).ok_or(io::ErrorKind::StorageFull)?;
            self.left_bytes.store(after, Ordering::SeqCst);
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            match self.has_told.swap(true, Ordering::SeqCst) {
                true => Ok(()),
                false => Err(io::Error::other("it was lost")),
            }
        }
    }

    fn slots(max_size_bytes: Option<u64>, left_bytes: u64) -> Slots {
        let config = Config {
            max_size_bytes,
            ..Config::default()
        };
        let left_bytes = AtomicU64::new(left_bytes);
        let has_told = AtomicBool::new(false);
        let disk = SmallDisk {
            left_bytes,
            has_told,
        };
        Slots::new(&config, Box::new(disk))
    }

    #[test]
    fn the_limit_leaves_room_for_metadata() {
        assert_eq!(slots_within(1 << 20, 1 << 20), 1);
        assert_eq!(slots_within(1 << 20, 65536), 15);
        let max = 1 << 30;
        assert!(u64::from(slots_within(max, 4096)) * 4096 + max / 340 + 8192 <= max);
    }

    #[test]
    fn the_limit_is_hard_and_freed_slots_come_back_lowest_first() {
        let slots = slots(Some(1 << 20), u64::MAX);
        let taken: Vec<_> = (0..15).map(|_| slots.take()).collect();
        assert_eq!(taken[14], Taken::Slot(SlotNumber(14)));
        assert_eq!(slots.take(), Taken::None);
        slots.free(SlotNumber(9));
        slots.free(SlotNumber(3));
        assert_eq!(slots.take(), Taken::Slot(SlotNumber(3)));
        assert_eq!(slots.usage().used, 14);
    }

    #[test]
    fn a_full_disk_is_said_once_and_tried_again_later() {
        let slots = slots(None, 2 * 65536);
        assert_eq!(slots.take(), Taken::Slot(SlotNumber(0)));
        assert_eq!(slots.take(), Taken::Slot(SlotNumber(1)));
        assert_eq!(slots.take(), Taken::DiskFull);
        assert_eq!(slots.take(), Taken::None);
        let usage = slots.usage();
        assert_eq!((usage.used, usage.high, usage.low), (2, 2, 2));
        slots.free(SlotNumber(0));
        assert_eq!(slots.take(), Taken::Slot(SlotNumber(0)));
    }

    #[test]
    fn a_sync_that_has_failed_is_told_to_everybody() {
        let slots = slots(None, u64::MAX);
        for _ in 0..3 {
            let error = slots.sync().unwrap_err();
            assert_eq!(error.to_string(), "it was lost");
        }
    }
}
