//! The life of a queue that goes round its ring and loses its power again and again, beside a list of what it was told.

use super::*;

const SECTOR_BYTES: usize = 512;

/// What the queue was told.
#[derive(Clone)]
struct Told {
    found: FoundChange,
    /// The number of its frame.
    seq: u64,
    bytes: &'static [u8],
}

struct Story {
    random: Random,
    image: Image,
    told: Vec<Told>,
}

/// What a power loss leaves: of each sector what was durable, or what was written since.
fn lose(random: &mut Random, durable: &Image, now: &Image) -> Image {
    let mut left = now.clone();
    let file = left.get_mut(NAME).unwrap();
    let share = random.below(101);
    for (sector, durable) in file
        .chunks_mut(SECTOR_BYTES)
        .zip(durable[NAME].chunks(SECTOR_BYTES))
    {
        if random.chance(share) {
            sector.copy_from_slice(durable);
        }
    }
    left
}

fn random_change(random: &mut Random) -> Change<'static> {
    let start = random.next() >> 2;
    let length = match random.below(4) {
        0 => 1 + random.below(20_000),
        _ => 1 + random.below(5000),
    };
    match random.chance(20) {
        true => wipe(start, start + length, Wiping::Hole),
        false => data(start, pool(random, length as usize)),
    }
}

impl Story {
    /// A session up to a power loss.
    fn live(&mut self) {
        let medium = MemoryMedium::of(&self.image);
        let Opened {
            home, mut queues, ..
        } = open(&medium).unwrap();
        let mut queue = queues.remove(0);
        let changes = std::mem::take(&mut queue.found);
        let expected: Vec<FoundChange> = self.told.iter().map(|told| told.found).collect();
        assert_eq!(changes, expected);
        let log = queue.begin(&home).unwrap();
        for told in &self.told {
            if let FoundChange::Change {
                content: FoundContent::Data { offset },
                ..
            } = told.found
            {
                assert_eq!(bytes_at(&log, offset, told.bytes.len()), told.bytes);
            }
        }
        let mut durable = medium.image();
        for _ in 0..self.random.below(60) {
            self.step(&log);
            match self.random.below(10) {
                0 => {
                    assert_eq!(log.sync().unwrap(), log.end().seq - 1);
                    durable = medium.image();
                }
                1 => {
                    let Some(to) = self.boundary() else { continue };
                    log.advance(to).unwrap();
                    if self.random.chance(20) {
                        // The power is lost before the head is synced.
                        let left = lose(&mut self.random, &durable, &medium.image());
                        return self.die(left, log.synced_seq(), Some(to));
                    }
                    self.told.retain(|told| told.seq >= to.seq);
                    durable = medium.image();
                }
                _ => {}
            }
        }
        let left = lose(&mut self.random, &durable, &medium.image());
        self.die(left, log.synced_seq(), None);
    }

    /// Something is appended, if there is room.
    fn step(&mut self, log: &QueueLog) {
        let change = random_change(&mut self.random);
        match log.append(&change) {
            Ok(placed) => self.told.push(Told {
                found: as_found(&change, placed),
                seq: placed.seq,
                bytes: match change {
                    Change::Data { bytes, .. } => bytes,
                    Change::Wipe { .. } => &[],
                },
            }),
            Err(CommitError::NoRoom) => {}
            Err(other) => panic!("{other}"),
        }
        let is_open = |told: &Told| !matches!(told.found, FoundChange::Boundary(_));
        if self.random.chance(30) && self.told.last().is_some_and(is_open) {
            let place = log.bound().unwrap();
            self.told.push(Told {
                found: FoundChange::Boundary(place),
                seq: place.seq - 1,
                bytes: &[],
            });
        }
    }

    /// The first boundary.
    fn boundary(&self) -> Option<Position> {
        self.told.iter().find_map(|told| match told.found {
            FoundChange::Boundary(place) => Some(place),
            FoundChange::Change { .. } => None,
        })
    }

    /// What is found is a beginning of what was told that has all that was durable; without what the origin was said to have, or with it.
    fn die(&mut self, left: Image, synced_seq: u64, sent: Option<Position>) {
        let changes = found(&left).1.found;
        let without = self.told.iter().position(|told| {
            let is_first = changes.first() == Some(&told.found);
            is_first || changes.is_empty() && sent.is_some_and(|sent| told.seq >= sent.seq)
        });
        let first = match (changes.is_empty(), sent) {
            (true, None) => 0,
            _ => without.unwrap_or(self.told.len()),
        };
        if first > 0 {
            let sent = sent.unwrap();
            assert!(self.told[first - 1].seq < sent.seq);
            assert!(self.told.get(first).is_none_or(|told| told.seq >= sent.seq));
        }
        self.told.drain(..first);
        let kept: Vec<FoundChange> = self.told.iter().map(|told| told.found).collect();
        assert!(kept.starts_with(&changes));
        let lost = self.told.split_off(changes.len());
        assert!(lost.iter().all(|told| told.seq > synced_seq));
        self.image = left;
    }
}

#[test]
fn a_queue_keeps_what_was_durable_through_any_number_of_power_losses() {
    for seed in 0..20 {
        let mut story = Story {
            random: Random::new(seed),
            image: made().0.image(),
            told: Vec::new(),
        };
        for _ in 0..20 {
            story.live();
        }
    }
}
