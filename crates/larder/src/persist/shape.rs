//! Sizes and places: how large blocks are, where in the files what belongs to a slot lies, and how long the files are.

use crate::directory::SlotNumber;
use crate::sector::{BlockNumber, Mask};

use super::bytes::Malformed;
use super::header::Role;
use super::refusal::{Finding, Refusal};

/// What the files are laid out in: a file header, a copy of the superblock, what frames start on.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// A map entry.
pub(crate) const ENTRY_BYTES: u64 = 64;

/// Slot 0 begins so far into its file: the header's page, and what keeps slots aligned to huge pages' halves and raid stripes.
pub(crate) const SLOTS_START: u64 = 1 << 20;

/// The smallest and the largest block of a cache directory, as logarithms to base 2: 4 KiB and 8 MiB. The sectors of larger ones would not fit
/// into the smallest journal.
const BLOCK_SHIFTS: std::ops::RangeInclusive<u8> = 12..=23;

/// The same in bytes.
pub(crate) const SMALLEST_BLOCK_BYTES: u64 = 1 << 12;
pub(crate) const LARGEST_BLOCK_BYTES: u64 = 1 << 23;

/// The smallest journal, in bytes, that a cache directory is made with.
const MIN_JOURNAL_BYTES: u64 = 4 << 20;

/// The largest.
const MAX_JOURNAL_BYTES: u64 = 128 << 20;

/// The most sectors in a block, as a logarithm to base 2.
const MAX_SECTORS_SHIFT: u8 = 7;

/// The sizes of a cache directory's blocks, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    block_shift: u8,
}

impl Shape {
    /// None for a size that is no power of two from 4 KiB to 8 MiB.
    pub(crate) fn new(block_bytes: u64) -> Option<Self> {
        let is_power = block_bytes.is_power_of_two();
        let shift = block_bytes.trailing_zeros() as u8;
        (is_power && BLOCK_SHIFTS.contains(&shift)).then_some(Self { block_shift: shift })
    }

    /// As a file says it.
    pub(super) fn from_shifts(block_shift: u8, sums_shift: u8) -> Result<Self, Malformed> {
        let shape = Self { block_shift };
        if !BLOCK_SHIFTS.contains(&block_shift) {
            return Err(Malformed("its block size is none that there is"));
        }
        if sums_shift != shape.sums_shift() {
            return Err(Malformed("its sums are not as many as its blocks need"));
        }
        Ok(shape)
    }

    pub(super) fn block_shift(self) -> u8 {
        self.block_shift
    }

    /// How many sums a slot has, as a logarithm to base 2: one for each 512 bytes, at most 128.
    pub(super) fn sums_shift(self) -> u8 {
        (self.block_shift - 9).min(MAX_SECTORS_SHIFT)
    }

    pub(crate) fn block_bytes(self) -> u64 {
        1 << self.block_shift
    }

    /// Sums that each slot has room for: as many as a block can have sectors.
    pub(crate) fn sums_per_slot(self) -> u32 {
        1 << self.sums_shift()
    }

    /// The sectors of a block of a volume whose sectors are so large. None for a size that this volume's cannot be.
    pub(crate) fn sectors(self, sector_shift: u8) -> Option<Mask> {
        let smallest = self.block_shift - self.sums_shift();
        let is_one = (smallest..=self.block_shift).contains(&sector_shift);
        is_one.then(|| Mask::span(0, 1 << (self.block_shift - sector_shift)))
    }

    /// Whether a volume can have a block of that number: its bytes end below 2^63.
    pub(super) fn can_have(self, block: BlockNumber) -> bool {
        block.0 < 1 << (63 - self.block_shift)
    }

    /// What each slot takes of the limit, in bytes: block, both map entries, sums.
    pub(crate) fn bytes_per_slot(self) -> u64 {
        self.block_bytes() + 2 * ENTRY_BYTES + self.sums_bytes()
    }

    fn sums_bytes(self) -> u64 {
        u64::from(self.sums_per_slot()) * 8
    }

    /// Where a slot's entry lies in `map` and in `map.copy`.
    pub(crate) fn entry_offset(self, slot: SlotNumber) -> u64 {
        PAGE_BYTES + u64::from(slot.0) * ENTRY_BYTES
    }

    /// Where a sector's sum lies in `sums`.
    pub(crate) fn sum_offset(self, slot: SlotNumber, sector: u32) -> u64 {
        PAGE_BYTES + u64::from(slot.0) * self.sums_bytes() + u64::from(sector) * 8
    }

    /// Where a slot lies in `slots`.
    pub(crate) fn slot_offset(self, slot: SlotNumber) -> u64 {
        SLOTS_START + u64::from(slot.0) * self.block_bytes()
    }

    /// How long a file is at least, in bytes, once so many slots are numbered. Of `volumes` the superblock says where it ends.
    pub(crate) fn file_bytes(self, role: Role, slots_numbered: u32, journal_bytes: u64) -> u64 {
        let end = SlotNumber(slots_numbered);
        match role {
            Role::Journal => PAGE_BYTES + journal_bytes,
            Role::Map | Role::MapCopy => self.entry_offset(end),
            Role::Sums => self.sum_offset(end, 0),
            Role::Volumes => PAGE_BYTES,
            Role::Slots => self.slot_offset(end),
        }
    }

    /// Whether a file is as long as it must be.
    pub(crate) fn check_file_bytes(
        self,
        role: Role,
        slots_numbered: u32,
        journal_bytes: u64,
        found: u64,
    ) -> Result<(), Refusal> {
        let expected = self.file_bytes(role, slots_numbered, journal_bytes);
        match found >= expected {
            true => Ok(()),
            false => Err(Refusal::of(role, Finding::Short { found, expected })),
        }
    }
}

/// How large the journal's ring is made under a limit on the whole directory, both in bytes.
pub(crate) fn journal_bytes(max_size_bytes: u64) -> u64 {
    let share_bytes = max_size_bytes / 32;
    share_bytes.clamp(MIN_JOURNAL_BYTES, MAX_JOURNAL_BYTES) / PAGE_BYTES * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(block_bytes: u64) -> Shape {
        Shape::new(block_bytes).unwrap()
    }

    #[test]
    fn a_slot_has_a_sum_for_each_sector_that_it_can_have() {
        let sums = |block| shape(block).sums_per_slot();
        assert_eq!((sums(4096), sums(65536), sums(8 << 20)), (8, 128, 128));
        assert_eq!(shape(65536).sectors(9), Some(Mask::span(0, 128)));
        assert_eq!(shape(65536).sectors(16), Some(Mask::span(0, 1)));
        assert_eq!(shape(65536).sectors(8), None);
        assert_eq!(shape(65536).sectors(17), None);
        assert_eq!(shape(8 << 20).sectors(15), None);
        assert_eq!(shape(8 << 20).sectors(16), Some(Mask::span(0, 128)));
    }

    #[test]
    fn blocks_are_powers_of_two_from_4_kib_to_8_mib() {
        for bad in [0, 1, 512, 2048, 4097, 12288, 16 << 20, u64::MAX] {
            assert_eq!(Shape::new(bad), None, "{bad}");
        }
        assert!(Shape::from_shifts(12, 3).is_ok());
        for (block, sums) in [(11, 2), (24, 7), (16, 6), (16, 8), (255, 7), (0, 0)] {
            assert!(Shape::from_shifts(block, sums).is_err());
        }
    }

    #[test]
    fn what_belongs_to_neighbouring_slots_lies_side_by_side() {
        let shape = shape(65536);
        assert_eq!(shape.entry_offset(SlotNumber(2)), 4096 + 128);
        assert_eq!(shape.sum_offset(SlotNumber(1), 127) + 8, 4096 + 2 * 1024);
        assert_eq!(shape.slot_offset(SlotNumber(1)), (1 << 20) + 65536);
        assert_eq!(shape.bytes_per_slot(), 65536 + 128 + 1024);
        assert_eq!(shape.file_bytes(Role::Sums, 2, 0), 4096 + 2048);
        assert_eq!(shape.file_bytes(Role::Slots, 0, 0), 1 << 20);
        let largest = self::shape(8 << 20);
        assert!(largest.file_bytes(Role::Slots, u32::MAX, 0) < 1 << 63);
        assert!(largest.can_have(BlockNumber((1 << 40) - 1)));
        assert!(!largest.can_have(BlockNumber(1 << 40)));
    }

    #[test]
    fn a_file_that_was_cut_is_refused() {
        let check = |found| shape(4096).check_file_bytes(Role::Map, 2, 0, found);
        assert_eq!((check(4224), check(9000)), (Ok(()), Ok(())));
        assert_eq!(
            check(4223).unwrap_err().to_string(),
            "map was cut: it has 4223 bytes instead of 4224"
        );
    }

    #[test]
    fn the_journal_is_a_share_of_the_limit_within_bounds() {
        assert_eq!(journal_bytes(32 << 20), 4 << 20);
        assert_eq!(journal_bytes((1 << 30) + 4095 * 32), 32 << 20);
        assert_eq!(journal_bytes(u64::MAX), 128 << 20);
    }
}
