//! How often keys came lately, roughly: a count-min sketch of 4-bit counters that are halved from
//! time to time (G. Einziger, R. Friedman and B. Manes, "TinyLFU: A Highly Efficient Cache Admission
//! Policy", ACM Transactions on Storage 2017), with the sizes that Caffeine has.

const ROWS: usize = 4;
const MAX_COUNT: u8 = 15;
/// Counters in each row for each block of the cache.
const COUNTERS_PER_BLOCK: usize = 4;
/// Keys are counted so many times for each block before all counts are halved.
const SAMPLE: usize = 10;

pub(super) struct Sketch {
    rows: [Vec<u8>; ROWS],
    counted: usize,
    sample: usize,
}

impl Sketch {
    pub(super) fn new(capacity: usize) -> Self {
        let width = (capacity.next_power_of_two() * COUNTERS_PER_BLOCK).max(64);
        Self {
            rows: std::array::from_fn(|_| vec![0; width]),
            counted: 0,
            sample: capacity * SAMPLE,
        }
    }

    pub(super) fn count(&self, key: u32) -> u8 {
        let counts = self.rows.iter().enumerate();
        let counts = counts.map(|(row, counters)| counters[place(key, row, counters.len())]);
        counts.min().unwrap_or(0)
    }

    pub(super) fn add(&mut self, key: u32) {
        let mut has_grown = false;
        for (row, counters) in self.rows.iter_mut().enumerate() {
            let at = place(key, row, counters.len());
            if counters[at] < MAX_COUNT {
                counters[at] += 1;
                has_grown = true;
            }
        }
        self.counted += usize::from(has_grown);
        if self.counted >= self.sample {
            for counter in self.rows.iter_mut().flatten() {
                *counter /= 2;
            }
            self.counted /= 2;
        }
    }
}

fn place(key: u32, row: usize, width: usize) -> usize {
    let seeded = (u64::from(key) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (row as u64) << 17 | 1);
    let mixed = (seeded ^ seeded >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 32) as usize & (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_to_fifteen_and_halves() {
        let mut sketch = Sketch::new(100);
        for _ in 0..7 {
            sketch.add(1);
        }
        for _ in 0..40 {
            sketch.add(2);
        }
        assert_eq!(
            (sketch.count(1), sketch.count(2), sketch.count(3)),
            (7, 15, 0)
        );
        for key in 1000..1000 + 978 {
            sketch.add(key);
        }
        assert!(sketch.counted < 600, "{}", sketch.counted);
        // A little more where others share all four counters.
        assert!((3..=4).contains(&sketch.count(1)), "{}", sketch.count(1));
        assert!((7..=8).contains(&sketch.count(2)), "{}", sketch.count(2));
    }
}
