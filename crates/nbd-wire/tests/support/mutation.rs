//! Messages made wrong, so that a seed replays them.

/// A SplitMix64 generator that spoils messages.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The one that `seed` gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// One of the seeds, spoilt in one to four places.
    #[must_use]
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut message = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.spoil(&mut message, seeds);
        }
        message
    }

    fn spoil(&mut self, message: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        if message.is_empty() {
            message.push(self.next_u64() as u8);
            return;
        }
        let at = self.below(message.len());
        match self.below(7) {
            0 => message[at] ^= 1 << self.below(8),
            1 => message[at] = self.next_u64() as u8,
            2 => message.truncate(at),
            3 => self.repeat(message, at),
            4 => {
                let other = &seeds[self.below(seeds.len())];
                self.splice(message, at, other);
            }
            5 => self.overwrite_number(message, at),
            _ => {
                message.remove(at);
            }
        }
    }

    /// A part comes twice.
    fn repeat(&mut self, message: &mut Vec<u8>, at: usize) {
        let end = at + 1 + self.below((message.len() - at).min(64));
        let part = message[at..end.min(message.len())].to_vec();
        message.splice(at..at, part);
    }

    /// The rest is another message's.
    fn splice(&mut self, message: &mut Vec<u8>, at: usize, other: &[u8]) {
        message.truncate(at);
        if !other.is_empty() {
            message.extend_from_slice(&other[self.below(other.len())..]);
        }
    }

    /// A number that lengths and offsets are often wrong by, in 2, 4 or 8 bytes.
    fn overwrite_number(&mut self, message: &mut [u8], at: usize) {
        const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 1 << 25, (1 << 25) + 1, 1 << 63, u64::MAX];
        let number = NUMBERS[self.below(NUMBERS.len())].to_be_bytes();
        let width = [2, 4, 8][self.below(3)];
        for (place, byte) in message[at..].iter_mut().zip(&number[8 - width..]) {
            *place = *byte;
        }
    }
}
