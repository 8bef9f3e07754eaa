//! Checksums: XXH3 of 64 bits, seeded with what the bytes belong to, so that bytes of another cache, volume, block or
//! place do not fit.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::directory::VolumeNumber;
use crate::sector::BlockNumber;

/// Tells one cache from every other. Random, given when the directory is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub [u8; 16]);

impl Uuid {
    /// One of these random bits, marked as a random one.
    pub(crate) fn from_random(bits: u128) -> Self {
        let mut bytes = bits.to_le_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Tells a volume from others that had its number before. No two volumes of a cache ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation(pub u32);

/// What a slot holds, as the medium says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupant {
    pub volume: VolumeNumber,
    pub incarnation: Incarnation,
    pub block: BlockNumber,
}

/// The checksum of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum(pub u64);

/// What the bytes belong to, in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    /// Of what belongs to no cache yet.
    pub(super) const NONE: Self = Self(0);

    /// Of what belongs to a cache as a whole.
    pub(crate) fn of_cache(uuid: Uuid) -> Self {
        Self::NONE.with(&uuid.0)
    }

    /// Of a part of what this one stands for.
    pub(super) fn with(self, part: &[u8]) -> Self {
        Self(self.sum(part))
    }

    /// The checksum of bytes.
    pub(super) fn sum(self, bytes: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.0, bytes)
    }
}

/// Sums the sectors of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSums(Seed);

impl BlockSums {
    pub(crate) fn new(cache: Seed, occupant: Occupant) -> Self {
        let mut part = [0; 16];
        part[..4].copy_from_slice(&occupant.volume.0.to_le_bytes());
        part[4..8].copy_from_slice(&occupant.incarnation.0.to_le_bytes());
        part[8..].copy_from_slice(&occupant.block.0.to_le_bytes());
        Self(cache.with(&part))
    }

    /// The sum of a sector's bytes: all of them, or in the last sector of a volume those up to the volume's end.
    pub(crate) fn of(self, sector: u32, bytes: &[u8]) -> Sum {
        Sum(self.0.with(&sector.to_le_bytes()).sum(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(volume: u32, incarnation: u32, block: u64) -> BlockSums {
        let seed = Seed::of_cache(Uuid::from_random(7));
        let occupant = Occupant {
            volume: VolumeNumber(volume),
            incarnation: Incarnation(incarnation),
            block: BlockNumber(block),
        };
        BlockSums::new(seed, occupant)
    }

    #[test]
    fn sums_are_those_of_the_c_library() {
        // From XXH3_64bits_withSeed of libxxhash 0.8.1.
        assert_eq!(Seed::NONE.sum(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(Seed(7).sum(&[b'a'; 512]), 0xe192_ca5a_4df9_3e57);
    }

    #[test]
    fn golden_sum_of_a_sector() {
        let occupant = Occupant {
            volume: VolumeNumber(1),
            incarnation: Incarnation(2),
            block: BlockNumber(3),
        };
        let sums = BlockSums::new(crate::persist::testing::seed(), occupant);
        assert_eq!(sums.of(4, &[0; 512]), Sum(0xe9d1_0062_1438_0dff));
    }

    #[test]
    fn equal_bytes_have_another_sum_wherever_else_they_are() {
        let bytes = [0; 512];
        let here = sums(1, 1, 1).of(1, &bytes);
        let others = [
            sums(2, 1, 1).of(1, &bytes),
            sums(1, 2, 1).of(1, &bytes),
            sums(1, 1, 2).of(1, &bytes),
            sums(1, 1, 1).of(2, &bytes),
            sums(1, 1, 1).of(1, &bytes[..511]),
        ];
        assert!(others.iter().all(|other| *other != here));
        let flipped = |bit: usize| {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            sums(1, 1, 1).of(1, &bytes)
        };
        assert!((0..512 * 8).all(|bit| flipped(bit) != here));
    }

    #[test]
    fn a_uuid_reads_like_one() {
        let uuid = Uuid::from_random(u128::MAX);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
