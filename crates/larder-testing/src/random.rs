//! A seeded source of choices: splitmix64, which is small, fast and the same everywhere.
//!
//! Ours rather than a crate: a failing seed must replay for years, whatever a dependency does to
//! its algorithms.

/// A sequence of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: mix(seed, 0),
        }
    }

    /// An independent sequence for one part of a test.
    pub fn fork(&self, part: u64) -> Self {
        Self {
            state: mix(self.state, part.wrapping_add(1)),
        }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        finish(self.state)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True that often, in percent.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number that both arguments determine and that looks random.
pub fn mix(a: u64, b: u64) -> u64 {
    finish(finish(a.wrapping_add(GOLDEN)) ^ b.wrapping_mul(GOLDEN).rotate_left(23))
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The byte at `offset` of the endless content that `seed` names: what tests write, so that a
/// wrong byte tells which write it came from.
pub fn content_byte(seed: u64, offset: u64) -> u8 {
    (mix(seed, offset >> 3) >> ((offset & 7) * 8)) as u8
}

/// `length` bytes of the content that `seed` names, from `offset`.
pub fn content(seed: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = offset >> 3;
    bytes.extend_from_slice(&mix(seed, word).to_le_bytes()[(offset & 7) as usize..]);
    while bytes.len() < length {
        word += 1;
        bytes.extend_from_slice(&mix(seed, word).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_whichever_way_it_is_asked_for() {
        for (offset, length) in [(0, 3), (5, 40), (8, 8), (1 << 40, 17), (7, 1)] {
            let bytes = content(9, offset, length);
            let single: Vec<u8> = (0..length as u64)
                .map(|i| content_byte(9, offset + i))
                .collect();
            assert_eq!(bytes, single);
        }
    }

    #[test]
    fn a_seed_replays_and_forks_differ() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(a.fork(0).next_u64(), a.fork(1).next_u64());
        assert!((0..1000).all(|_| a.between(3, 5) <= 5));
    }
}
