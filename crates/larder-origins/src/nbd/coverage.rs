//! Which bytes of a read have come: each must come exactly once.
//!
//! Most reads are answered by one piece, or by pieces in order, which costs nothing. Only pieces
//! out of order need a bit a byte, an eighth of the read's own memory whatever the server does.

#[derive(Debug)]
pub(super) struct Coverage {
    length_bytes: usize,
    /// All before it has come.
    front_bytes: usize,
    /// How many bytes have come.
    count_bytes: usize,
    /// A bit for each byte, from the first piece out of order on.
    bits: Vec<u64>,
}

impl Coverage {
    pub(super) fn new(length_bytes: usize) -> Self {
        Self {
            length_bytes,
            front_bytes: 0,
            count_bytes: 0,
            bits: Vec::new(),
        }
    }

    /// Bytes from `start` on have come. False, without a change, if there are none, if
    /// they are not all inside or if one of them had come.
    #[must_use]
    pub(super) fn add(&mut self, start: usize, length_bytes: usize) -> bool {
        let end = start.checked_add(length_bytes);
        let Some(end) = end.filter(|end| *end <= self.length_bytes && start < *end) else {
            return false;
        };
        if self.bits.is_empty() && start == self.front_bytes {
            self.front_bytes = end;
        } else if !self.add_bits(start, end) {
            return false;
        }
        self.count_bytes += length_bytes;
        true
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        self.count_bytes == self.length_bytes
    }

    fn add_bits(&mut self, start: usize, end: usize) -> bool {
        if self.bits.is_empty() {
            self.bits = vec![0; self.length_bytes.div_ceil(64)];
            for (word, mask) in words(0, self.front_bytes) {
                self.bits[word] |= mask;
            }
        }
        if words(start, end).any(|(word, mask)| self.bits[word] & mask != 0) {
            return false;
        }
        for (word, mask) in words(start, end) {
            self.bits[word] |= mask;
        }
        true
    }
}

/// The words that hold the bits of a range, and which of their bits.
fn words(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (start / 64..end.div_ceil(64)).map(move |word| {
        let low = start.max(word * 64) - word * 64;
        let high = end.min(word * 64 + 64) - word * 64;
        (word, (u64::MAX >> (64 - (high - low))) << low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_make_a_whole() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let pieces = [(0, 100), (100, 28), (128, 72)];
            let mut coverage = Coverage::new(200);
            for piece in order {
                assert!(!coverage.is_complete());
                assert!(coverage.add(pieces[piece].0, pieces[piece].1), "{order:?}");
            }
            assert!(coverage.is_complete());
        }
    }

    #[test]
    fn a_byte_that_comes_twice_is_refused() {
        let mut coverage = Coverage::new(256);
        assert!(coverage.add(0, 64));
        assert!(!coverage.add(63, 1), "behind the front");
        assert!(coverage.add(128, 64));
        assert!(!coverage.add(64, 65), "into a later piece");
        assert!(!coverage.add(0, 1));
        assert!(coverage.add(64, 64) && coverage.add(192, 64));
        assert!(coverage.is_complete());
    }

    #[test]
    fn a_piece_outside_is_refused() {
        let mut coverage = Coverage::new(10);
        assert!(!coverage.add(0, 11) && !coverage.add(10, 1) && !coverage.add(usize::MAX, 2));
        assert!(coverage.add(0, 10) && coverage.is_complete());
    }

    #[test]
    fn it_agrees_with_a_plain_set() {
        let mut seed = 1_u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..200 {
            let length = 1 + next(300);
            let mut coverage = Coverage::new(length);
            let mut plain = vec![false; length];
            for _ in 0..60 {
                let (start, count) = (next(length), 1 + next(20));
                let fits = start + count <= length && !plain[start..start + count].contains(&true);
                assert_eq!(coverage.add(start, count), fits);
                if fits {
                    plain[start..start + count].fill(true);
                }
                assert_eq!(coverage.is_complete(), !plain.contains(&false));
            }
        }
    }
}
