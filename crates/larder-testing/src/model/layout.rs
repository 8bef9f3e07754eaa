//! Which bytes of the image a case uses, and who may change them.

use crate::random::Random;

/// A part of the image, cut into stripes that the workers own in turn. Stripes are of odd
/// lengths, so that workers share sectors and blocks but never a byte.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// In bytes.
    pub stripe: u64,
}

/// The image.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In bytes.
    pub size: u64,
    /// From the lowest offset to the highest.
    pub zones: Vec<Zone>,
    /// How many workers share it.
    pub workers: u64,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

impl Span {
    /// The byte after its last.
    pub fn end(self) -> u64 {
        self.offset + self.length
    }

    /// The bytes in both.
    pub fn meet(self, other: Self) -> Option<Self> {
        let offset = self.offset.max(other.offset);
        let end = self.end().min(other.end());
        (offset < end).then(|| Self {
            offset,
            length: end - offset,
        })
    }
}

impl Layout {
    /// Four zones: one where workers share sectors, one where they share blocks, one for long
    /// ranges, and the end of the image, which no unit divides.
    pub fn new(size: u64, workers: u64) -> Self {
        let middle = size / 2;
        let zone = |offset, length, stripe| Zone {
            offset,
            length,
            stripe,
        };
        let zones = vec![
            zone(0, 300_001, 700),
            zone(middle - 3 * (1 << 20) - 13, 2_500_000, 611_113),
            zone(middle + 5, 700_003, 9_001),
            zone(size - 800_777, 800_777, 50_021),
        ];
        Self {
            size,
            zones,
            workers,
        }
    }

    /// A range that the worker may change.
    pub fn own(&self, worker: u64, random: &mut Random, block_bytes: u64) -> Span {
        let zone = self.zones[random.below(self.zones.len() as u64) as usize];
        let stripe = self.stripe(zone, worker, random);
        let longest = random.pick(&[64, 600, 2_000, 20_000, 300_000, 2_000_000]);
        let length = random.between(1, longest.min(stripe.length));
        let offset = stripe.offset + random.below(stripe.length - length + 1);
        let wanted = Span { offset, length };
        let unit = random.pick(&[1, 1, 512, 4096, block_bytes]);
        aligned(wanted, unit).meet(stripe).unwrap_or(wanted)
    }

    fn stripe(&self, zone: Zone, worker: u64, random: &mut Random) -> Span {
        if self.workers == 1 {
            return Span {
                offset: zone.offset,
                length: zone.length,
            };
        }
        let stripes = zone.length.div_ceil(zone.stripe);
        let turns = stripes.saturating_sub(worker).div_ceil(self.workers);
        if turns == 0 {
            // A zone of few stripes has none for this worker.
            return self.stripe(self.zones[0], worker, random);
        }
        let index = random.below(turns) * self.workers + worker;
        let offset = index * zone.stripe;
        Span {
            offset: zone.offset + offset,
            length: zone.stripe.min(zone.length - offset),
        }
    }

    /// A range that anybody may look at.
    pub fn any(&self, random: &mut Random, block_bytes: u64) -> Span {
        let whole = Span {
            offset: 0,
            length: self.size,
        };
        let within = if random.chance(90) {
            let zone = self.zones[random.below(self.zones.len() as u64) as usize];
            Span {
                offset: zone.offset,
                length: zone.length,
            }
        } else {
            whole
        };
        let longest = random.pick(&[64, 1_000, 5_000, 70_000, 400_000]);
        let length = random.between(1, longest.min(within.length));
        let offset = within.offset + random.below(within.length - length + 1);
        let wanted = Span { offset, length };
        let unit = random.pick(&[1, 512, 4096, block_bytes]);
        aligned(wanted, unit).meet(whole).unwrap_or(wanted)
    }
}

/// The whole units that contain the range.
fn aligned(span: Span, unit: u64) -> Span {
    let offset = span.offset / unit * unit;
    Span {
        offset,
        length: span.end().div_ceil(unit) * unit - offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_has_two_owners() {
        let layout = Layout::new((20 << 20) + 12_345, 3);
        let mut random = Random::new(1);
        let mut owner = std::collections::HashMap::new();
        for round in 0..3000 {
            let worker = round % 3;
            let span = layout.own(worker, &mut random, 65536);
            assert!(span.end() <= layout.size && span.length > 0);
            for byte in [span.offset, span.offset + span.length / 2, span.end() - 1] {
                assert_eq!(*owner.entry(byte).or_insert(worker), worker);
            }
        }
    }
}
