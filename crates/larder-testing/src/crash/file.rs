//! One file: what reads see, what is durable, and every version of a piece that a crash may leave instead.

use std::collections::BTreeMap;

use super::bytes::Bytes;
use super::log::CallNumber;
use super::medium::PIECE_BYTES;
use crate::random::Random;

type Piece = [u8; PIECE_BYTES];

/// What a sync is about: calls that had ended when it began.
#[derive(Clone, Debug)]
pub struct Covered {
    /// The sync itself.
    pub sync: CallNumber,
    /// What ran when it began.
    pub in_flight: Vec<CallNumber>,
}

impl Covered {
    /// Whether the sync is about that call.
    pub fn has(&self, call: CallNumber) -> bool {
        call < self.sync && !self.in_flight.contains(&call)
    }
}

/// Something as one call left it.
#[derive(Clone, Debug)]
struct Version<T> {
    call: CallNumber,
    content: T,
    /// A sync of it has failed: no later one saves it.
    is_in_limbo: bool,
}

/// Everything that a piece, or the length, may be after a crash apart from what is durable: oldest first.
type Versions<T> = Vec<Version<T>>;

/// A file.
#[derive(Clone, Debug)]
pub struct FileState {
    current: Bytes,
    durable: Bytes,
    pieces: BTreeMap<u64, Versions<Box<Piece>>>,
    lengths: Versions<u64>,
    tears_into_garbage: bool,
}

/// How the survivors among the versions of one file are chosen.
#[derive(Clone, Copy, Debug)]
enum Luck {
    /// Each for itself, that often in percent.
    Percent(u64),
    /// What calls up to this one left.
    Until(CallNumber),
}

impl FileState {
    /// A file all of which is durable. With `tears_into_garbage`, what survives by halves may be neither old nor new.
    pub fn new(bytes: Bytes, tears_into_garbage: bool) -> Self {
        Self {
            current: bytes.clone(),
            durable: bytes,
            pieces: BTreeMap::new(),
            lengths: Vec::new(),
            tears_into_garbage,
        }
    }

    /// What reads see.
    pub fn current(&self) -> &Bytes {
        &self.current
    }

    /// What no crash can take away.
    pub fn durable(&self) -> &Bytes {
        &self.durable
    }

    /// A write.
    pub fn write(&mut self, call: CallNumber, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.extend(call, if data.is_empty() { 0 } else { end });
        self.current.put(offset, data);
        self.note_pieces(call, offset, end);
    }

    /// The file is at least so long from here on.
    pub fn extend(&mut self, call: CallNumber, length: u64) {
        if length > self.current.length() {
            self.note_length(call, length);
        }
    }

    /// Cuts or extends.
    pub fn set_length(&mut self, call: CallNumber, length: u64) {
        let before = self.current.length();
        self.note_length(call, length);
        if length < before {
            self.note_pieces(call, length, before);
        }
    }

    fn note_length(&mut self, call: CallNumber, length: u64) {
        self.current.set_length(length);
        self.lengths.push(Version {
            call,
            content: length,
            is_in_limbo: false,
        });
    }

    fn note_pieces(&mut self, call: CallNumber, offset: u64, end: u64) {
        let piece_bytes = PIECE_BYTES as u64;
        for number in offset / piece_bytes..end.div_ceil(piece_bytes) {
            let mut content = Box::new([0; PIECE_BYTES]);
            self.current.get(number * piece_bytes, &mut *content);
            self.pieces.entry(number).or_default().push(Version {
                call,
                content,
                is_in_limbo: false,
            });
        }
    }

    /// A sync has succeeded.
    pub fn synced(&mut self, covered: &Covered) {
        let durable = &mut self.durable;
        self.pieces.retain(|number, versions| {
            if let Some(newest) = newest_covered(versions, covered) {
                let content = &versions[newest].content;
                durable.put(number * PIECE_BYTES as u64, &**content);
                versions.drain(..=newest);
            }
            !versions.is_empty()
        });
        if let Some(newest) = newest_covered(&self.lengths, covered) {
            self.durable.set_length(self.lengths[newest].content);
            self.lengths.drain(..=newest);
        }
    }

    /// A sync has failed. What it covered may be there or not, and no later sync changes that; some of it reads may
    /// find gone at once, as where the system has dropped pages that it takes for written. A length is no page: the next sync saves it.
    pub fn sync_failed(&mut self, covered: &Covered, mut random: Random) {
        let is_dropping = random.chance(50);
        let (current, durable) = (&mut self.current, &mut self.durable);
        self.pieces.retain(|number, versions| {
            let Some(newest) = newest_covered(versions, covered) else {
                return true;
            };
            if is_dropping && random.chance(50) {
                let offset = number * PIECE_BYTES as u64;
                let chosen = random.below(newest as u64 + 2) as usize;
                if chosen > 0 {
                    durable.put(offset, &*versions[chosen - 1].content);
                }
                versions.drain(..=newest);
                if versions.is_empty() {
                    let mut piece = [0; PIECE_BYTES];
                    durable.get(offset, &mut piece);
                    current.put(offset, &piece);
                }
            } else {
                put_in_limbo(&mut versions[..=newest]);
            }
            !versions.is_empty()
        });
    }

    /// What a crash leaves.
    pub fn survive(&self, random: &mut Random) -> Bytes {
        let mut left = self.durable.clone();
        if self.pieces.is_empty() && self.lengths.is_empty() {
            return left;
        }
        let luck = self.draw_luck(random);
        for (number, versions) in &self.pieces {
            let offset = number * PIECE_BYTES as u64;
            let torn = matches!(luck, Luck::Percent(1..100));
            if self.tears_into_garbage && torn && random.chance(10) {
                left.put(offset, &garbage(random));
            } else if let Some(version) = luck.choose(versions, random) {
                left.put(offset, &**version);
            }
        }
        let length = luck.choose(&self.lengths, random);
        left.set_length(length.copied().unwrap_or(self.durable.length()));
        left
    }

    /// Extremes are likely: that nothing of one file and all of another survives shows what order is left out.
    fn draw_luck(&self, random: &mut Random) -> Luck {
        let calls = self.pieces.values().flatten().map(|version| version.call);
        let calls = calls.chain(self.lengths.iter().map(|version| version.call));
        match random.below(6) {
            0 => {
                let (first, last) = calls.fold((CallNumber::MAX, 0), |(first, last), call| {
                    (first.min(call), last.max(call))
                });
                Luck::Until(random.between(first, last))
            }
            other => Luck::Percent([0, 10, 50, 90, 100][other as usize - 1]),
        }
    }
}

impl Luck {
    /// The version that survives, if it is not what is durable.
    fn choose<'a, T>(self, versions: &'a [Version<T>], random: &mut Random) -> Option<&'a T> {
        let chosen = match self {
            Self::Until(call) => versions.iter().rfind(|version| version.call <= call),
            Self::Percent(100) => versions.last(),
            Self::Percent(percent) if random.chance(percent) => {
                let is_newest = versions.len() < 2 || random.chance(60);
                if is_newest {
                    versions.last()
                } else {
                    versions.get(random.below(versions.len() as u64) as usize)
                }
            }
            Self::Percent(_) => None,
        };
        chosen.map(|version| &version.content)
    }
}

/// The newest version that a sync saves, or fails to save.
fn newest_covered<T>(versions: &[Version<T>], covered: &Covered) -> Option<usize> {
    versions
        .iter()
        .rposition(|version| covered.has(version.call) && !version.is_in_limbo)
}

fn put_in_limbo<T>(versions: &mut [Version<T>]) {
    for version in versions {
        version.is_in_limbo = true;
    }
}

fn garbage(random: &mut Random) -> Piece {
    let mut piece = [0; PIECE_BYTES];
    for word in piece.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    piece
}

#[cfg(test)]
mod tests;
