//! What a written sector carries: whose it is, and which request wrote it. A sector that is a mixture of two shows.

use std::ops::Range;
use std::sync::Arc;

use super::log::hash_of;
use super::medium::PIECE_BYTES;
use crate::random::mix;

/// The unit in which the requests of a run write, in bytes.
pub const SECTOR_BYTES: usize = PIECE_BYTES;

/// Which request wrote something: all requests of a run are numbered. 0 is what was there before.
pub type Version = u64;

/// What is in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Zeros.
    Zeros,
    /// What a request wrote into that sector of that volume.
    Written {
        /// The volume.
        volume: u32,
        /// The sector.
        sector: u64,
        /// The request.
        version: Version,
    },
    /// Something else, by its hash: a mixture of two writes, be it that the second was meant to be of a part, or garbage.
    Other(u64),
}

/// What is in a sector, with all its bytes. Two are equal if they are seen as the same.
#[derive(Clone, Debug)]
pub struct Content {
    /// What it is.
    pub seen: Seen,
    /// The bytes of what cannot be made anew.
    other: Option<Arc<[u8; SECTOR_BYTES]>>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Content {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        let seen = see(bytes);
        let is_other = matches!(seen, Seen::Other(_));
        let other = is_other.then(|| {
            let mut all = [0; SECTOR_BYTES];
            all.copy_from_slice(bytes);
            Arc::new(all)
        });
        Self { seen, other }
    }

    /// What a request writes into a sector.
    pub fn written(volume: u32, sector: u64, version: Version) -> Self {
        let seen = Seen::Written {
            volume,
            sector,
            version,
        };
        Self { seen, other: None }
    }

    /// Zeros.
    pub fn zeros() -> Self {
        let (seen, other) = (Seen::Zeros, None);
        Self { seen, other }
    }

    /// All its bytes.
    pub fn bytes(&self) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        match (self.seen, &self.other) {
            (
                Seen::Written {
                    volume,
                    sector,
                    version,
                },
                _,
            ) => fill(volume, sector, version, &mut bytes),
            (Seen::Other(_), Some(other)) => bytes = **other,
            _ => {}
        }
        bytes
    }

    /// What it becomes when a part of it is written over with the same part of something else.
    pub fn overlaid(&self, with: &Self, part: Range<usize>) -> Self {
        let mut bytes = self.bytes();
        bytes[part.clone()].copy_from_slice(&with.bytes()[part]);
        Self::of(&bytes)
    }
}

/// The bytes that a request writes into a sector.
pub fn fill(volume: u32, sector: u64, version: Version, bytes: &mut [u8]) {
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&word_at(volume, sector, version, index).to_le_bytes());
    }
}

/// The first words name the write, and each of the others depends on all of that and on its place.
fn word_at(volume: u32, sector: u64, version: Version, index: usize) -> u64 {
    let place = u64::from(volume) << 40 | sector;
    match index {
        0 => place,
        1 => version,
        _ => mix(place, version).wrapping_add((index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
    }
}

/// Tells what a sector's bytes are.
pub fn see(bytes: &[u8]) -> Seen {
    let word = |index: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
        u64::from_le_bytes(word)
    };
    let (place, version) = (word(0), word(1));
    let (volume, sector) = ((place >> 40) as u32, place & ((1 << 40) - 1));
    let mut expected = [0; SECTOR_BYTES];
    fill(volume, sector, version, &mut expected);
    if bytes == expected {
        Seen::Written {
            volume,
            sector,
            version,
        }
    } else if bytes.iter().all(|&byte| byte == 0) {
        Seen::Zeros
    } else {
        Seen::Other(hash_of(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_write_and_a_mixture_is_neither() {
        let (mut old, mut new) = ([0; SECTOR_BYTES], [0; SECTOR_BYTES]);
        assert_eq!(see(&old), Seen::Zeros);
        fill(1, 7, 3, &mut old);
        fill(1, 7, 4, &mut new);
        let written = |version| Seen::Written {
            volume: 1,
            sector: 7,
            version,
        };
        assert_eq!(see(&old), written(3));
        for at in 9..SECTOR_BYTES {
            let mut mixed = new;
            mixed[at..].copy_from_slice(&old[at..]);
            let mixture = Content::written(1, 7, 4).overlaid(&Content::written(1, 7, 3), at..512);
            assert!(matches!(mixture.seen, Seen::Other(_)), "from byte {at} on");
            assert_eq!(mixture.bytes(), mixed);
            assert_eq!(mixture, Content::of(&mixed));
        }
        fill(0, 0, 0, &mut old);
        assert_ne!(see(&old), Seen::Zeros);
    }
}
