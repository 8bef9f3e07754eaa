//! Sectors: the unit of knowing. Masks of at most 128 sectors a block, and the arithmetic between
//! byte offsets, blocks and sectors.

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not, Sub, SubAssign};

use crate::origin::RequestLimits;

/// A block's number within its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockNumber(pub u64);

/// A set of sectors of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(pub u128);

impl Mask {
    pub(crate) const EMPTY: Self = Self(0);

    /// The sectors from `first` up to, not including, `end`.
    pub(crate) fn span(first: u32, end: u32) -> Self {
        if first >= end {
            return Self::EMPTY;
        }
        let width = end - first;
        let ones = if width >= 128 {
            u128::MAX
        } else {
            (1 << width) - 1
        };
        Self(ones << first)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, sector: u32) -> bool {
        self.0 >> sector & 1 == 1
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The first run of neighbouring sectors, as first and end.
    pub(crate) fn first_run(self) -> Option<(u32, u32)> {
        if self.is_empty() {
            return None;
        }
        let first = self.0.trailing_zeros();
        let width = (self.0 >> first).trailing_ones();
        Some((first, first + width))
    }

    /// All runs of neighbouring sectors, in order.
    pub(crate) fn runs(self) -> impl Iterator<Item = (u32, u32)> {
        let mut left = self;
        std::iter::from_fn(move || {
            let run = left.first_run()?;
            left -= Self::span(run.0, run.1);
            Some(run)
        })
    }

    /// From the first to the last sector of the set, those between included.
    pub(crate) fn hull(self) -> Option<(u32, u32)> {
        let (first, _) = self.first_run()?;
        Some((first, 128 - self.0.leading_zeros()))
    }
}

impl BitOr for Mask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Mask {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Mask {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitAndAssign for Mask {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl Sub for Mask {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl SubAssign for Mask {
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl Not for Mask {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// The part of a request that falls into one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub number: BlockNumber,
    /// First byte, within the block.
    pub start: u64,
    /// The byte after the last, within the block.
    pub end: u64,
}

/// The sizes of a volume's blocks and sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    block_shift: u32,
    sector_shift: u32,
}

impl Geometry {
    /// A sector is max(512, block/128, the origin's minimum request). None if that is larger than
    /// a block.
    pub(crate) fn new(block_bytes: u64, limits: RequestLimits) -> Option<Self> {
        let sector = 512
            .max(block_bytes / 128)
            .max(u64::from(limits.minimum).next_power_of_two());
        (sector <= block_bytes).then(|| Self {
            block_shift: block_bytes.trailing_zeros(),
            sector_shift: sector.trailing_zeros(),
        })
    }

    pub(crate) fn block_bytes(self) -> u64 {
        1 << self.block_shift
    }

    pub(crate) fn sector_bytes(self) -> u64 {
        1 << self.sector_shift
    }

    pub(crate) fn block_of(self, offset: u64) -> BlockNumber {
        BlockNumber(offset >> self.block_shift)
    }

    /// The byte offset of a block's first byte.
    pub(crate) fn base(self, number: BlockNumber) -> u64 {
        number.0 << self.block_shift
    }

    /// The byte offset of a sector's first byte within its block.
    pub(crate) fn sector_start(self, sector: u32) -> u64 {
        u64::from(sector) << self.sector_shift
    }

    pub(crate) fn align_down(self, offset: u64) -> u64 {
        offset >> self.sector_shift << self.sector_shift
    }

    /// Up to a sector boundary, but not past `size` where `offset` is not.
    pub(crate) fn align_up(self, offset: u64, size: u64) -> u64 {
        let up = offset.div_ceil(self.sector_bytes()) << self.sector_shift;
        if offset <= size { up.min(size) } else { up }
    }

    /// The blocks that `length` bytes from `offset` fall into, each with its part.
    pub(crate) fn pieces(self, offset: u64, length: u64) -> impl Iterator<Item = Piece> {
        let end = offset + length;
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let number = self.block_of(at);
            let base = self.base(number);
            let stop = end.min(base.saturating_add(self.block_bytes()));
            let piece = Piece {
                number,
                start: at - base,
                end: stop - base,
            };
            at = stop;
            Some(piece)
        })
    }

    /// The part of a block, which they touch, of the bytes from `start` to `end`.
    pub(crate) fn piece_within(self, number: BlockNumber, start: u64, end: u64) -> Piece {
        let base = self.base(number);
        Piece {
            number,
            start: start.max(base) - base,
            end: end.min(base.saturating_add(self.block_bytes())) - base,
        }
    }

    /// Every sector that the piece touches.
    pub(crate) fn touched(self, piece: &Piece) -> Mask {
        let first = piece.start >> self.sector_shift;
        let end = piece.end.div_ceil(self.sector_bytes());
        Mask::span(first as u32, end as u32)
    }

    /// Every sector that the piece covers from its first byte to its last; the volume's last
    /// sector ends where the volume does.
    pub(crate) fn whole(self, piece: &Piece, size: u64) -> Mask {
        let first = piece.start.div_ceil(self.sector_bytes());
        let at_end = self.base(piece.number) + piece.end == size;
        let end = if at_end {
            piece.end.div_ceil(self.sector_bytes())
        } else {
            piece.end >> self.sector_shift
        };
        Mask::span(first as u32, end as u32)
    }

    /// All sectors of a block, whether the volume has them or not.
    pub(crate) fn full(self) -> Mask {
        Mask::span(0, 1 << (self.block_shift - self.sector_shift))
    }

    /// The sectors of a block that lie within the volume.
    pub(crate) fn existing(self, number: BlockNumber, size: u64) -> Mask {
        let inside = size
            .saturating_sub(self.base(number))
            .min(self.block_bytes());
        Mask::span(0, inside.div_ceil(self.sector_bytes()) as u32)
    }

    /// The byte range, in the volume, of a run of sectors of a block, ending with the volume.
    pub(crate) fn bytes_of(self, number: BlockNumber, run: (u32, u32), size: u64) -> (u64, u64) {
        let base = self.base(number);
        let start = base + self.sector_start(run.0);
        let end = base + self.sector_start(run.1);
        (start, end.min(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(65536, RequestLimits::default()).unwrap()
    }

    #[test]
    fn a_sector_is_at_least_512_and_a_128th_of_a_block() {
        assert_eq!(geometry().sector_bytes(), 512);
        let large = Geometry::new(1 << 31, RequestLimits::default()).unwrap();
        assert_eq!(large.sector_bytes(), 16 << 20);
        let limits = RequestLimits {
            minimum: 8192,
            ..RequestLimits::default()
        };
        assert_eq!(Geometry::new(65536, limits).unwrap().sector_bytes(), 8192);
        assert!(Geometry::new(4096, limits).is_none());
    }

    #[test]
    fn runs_and_hull_agree_with_the_bits() {
        let mask = Mask::span(0, 3) | Mask::span(5, 6) | Mask::span(100, 128);
        assert_eq!(
            mask.runs().collect::<Vec<_>>(),
            [(0, 3), (5, 6), (100, 128)]
        );
        assert_eq!(mask.hull(), Some((0, 128)));
        assert_eq!(mask.count(), 32);
        assert_eq!(Mask::EMPTY.hull(), None);
        assert_eq!(Mask::span(0, 128), Mask(u128::MAX));
    }

    #[test]
    fn the_last_sector_is_whole_when_the_volume_ends_in_it() {
        let size = 65536 + 700;
        let pieces: Vec<_> = geometry().pieces(65000, size - 65000).collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(geometry().touched(&pieces[0]), Mask::span(126, 128));
        assert_eq!(geometry().whole(&pieces[0], size), Mask::span(127, 128));
        assert_eq!(geometry().whole(&pieces[1], size), Mask::span(0, 2));
        assert_eq!(geometry().whole(&pieces[1], size + 1), Mask::span(0, 1));
        assert_eq!(geometry().existing(BlockNumber(1), size), Mask::span(0, 2));
        assert_eq!(
            geometry().bytes_of(BlockNumber(1), (1, 2), size),
            (65536 + 512, size)
        );
    }
}
