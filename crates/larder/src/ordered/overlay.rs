//! What a queue says of each byte: ranges that do not overlap, the last change of each.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The longest request of zeros, in bytes: an origin may have to write them.
const ZERO_BYTES: u64 = 32 << 20;

/// What a change makes of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The bytes lie in the ring, from that offset on.
    Data(u64),
    /// Zeros.
    Zero {
        /// A hole will do.
        may_trim: bool,
    },
}

impl Content {
    /// The same without its first bytes.
    pub(crate) fn skip(self, bytes: u64) -> Self {
        match self {
            Self::Data(offset) => Self::Data(offset + bytes),
            other => other,
        }
    }

    /// Whether the next bytes, which begin so many later, are a part of the same.
    fn goes_on(self, bytes: u64, next: Self) -> bool {
        self.skip(bytes) == next
    }
}

/// A range and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub start: u64,
    pub end: u64,
    /// The number of the frame that says so.
    pub seq: u64,
    pub content: Content,
}

impl Piece {
    /// The part of it between two bounds, if there is one.
    fn within(self, start: u64, end: u64) -> Option<Self> {
        let (from, to) = (self.start.max(start), self.end.min(end));
        (from < to).then(|| Self {
            start: from,
            end: to,
            content: self.content.skip(from - self.start),
            ..self
        })
    }
}

/// The ranges, by start.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pieces: BTreeMap<u64, Piece>,
}

impl Overlay {
    /// The piece takes the place of whatever was there.
    pub(crate) fn insert(&mut self, piece: Piece) {
        self.cut(piece.start, piece.end, |_| true);
        self.pieces.insert(piece.start, piece);
    }

    /// What the frames up to that number have said of these bytes, and no later one, is forgotten.
    pub(crate) fn forget(&mut self, start: u64, end: u64, up_to: u64) {
        self.cut(start, end, |piece| piece.seq <= up_to);
    }

    fn cut(&mut self, start: u64, end: u64, is_meant: impl Fn(&Piece) -> bool) {
        let meant: Vec<Piece> = self.touching(start, end).filter(&is_meant).collect();
        for piece in meant {
            self.pieces.remove(&piece.start);
            let before = piece.within(0, start);
            let after = piece.within(end, u64::MAX);
            for part in before.into_iter().chain(after) {
                self.pieces.insert(part.start, part);
            }
        }
    }

    /// The pieces that touch these bytes, whole, in order.
    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = Piece> {
        let before = self.pieces.range(..start).next_back();
        let before = before.filter(move |(_, piece)| piece.end > start);
        let from = (Bound::Included(start), Bound::Excluded(end.max(start)));
        let others = self.pieces.range(from);
        before.into_iter().chain(others).map(|(_, piece)| *piece)
    }

    /// What lies between two bounds, cut to them, in order.
    pub(crate) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = Piece> {
        let touching = self.touching(start, end);
        touching.filter_map(move |piece| piece.within(start, end))
    }

    /// All of it in order, neighbours that are one thing together, no data longer than `longest`, and no zeros longer than what an origin that writes
    /// them does in one request.
    pub(crate) fn joined(&self, longest: u64) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in self.pieces.values() {
            match joined.last_mut() {
                Some(last)
                    if last.end == piece.start
                        && piece.end - last.start <= ZERO_BYTES
                        && !matches!(piece.content, Content::Data(_))
                        && last.content.goes_on(last.end - last.start, piece.content) =>
                {
                    last.end = piece.end;
                }
                _ => joined.extend(parts(*piece, longest)),
            }
        }
        joined
    }
}

/// Data in parts of so many bytes at most.
fn parts(piece: Piece, longest: u64) -> impl Iterator<Item = Piece> {
    let longest = match piece.content {
        Content::Data(_) => longest.max(1),
        Content::Zero { .. } => ZERO_BYTES,
    };
    let mut at = piece.start;
    std::iter::from_fn(move || {
        let part = piece.within(at, at.saturating_add(longest))?;
        at = part.end;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(start: u64, end: u64, seq: u64) -> Piece {
        Piece {
            start,
            end,
            seq,
            content: Content::Data(1000 * seq),
        }
    }

    fn zero(start: u64, end: u64, seq: u64) -> Piece {
        Piece {
            content: Content::Zero { may_trim: false },
            ..data(start, end, seq)
        }
    }

    fn all(overlay: &Overlay) -> Vec<(u64, u64, Content)> {
        let pieces = overlay.within(0, u64::MAX);
        pieces
            .map(|piece| (piece.start, piece.end, piece.content))
            .collect()
    }

    #[test]
    fn the_last_change_of_each_byte_counts() {
        let mut overlay = Overlay::default();
        overlay.insert(data(0, 100, 1));
        overlay.insert(data(20, 40, 2));
        overlay.insert(zero(30, 50, 3));
        overlay.insert(data(100, 110, 4));
        let zeros = Content::Zero { may_trim: false };
        assert_eq!(
            all(&overlay),
            [
                (0, 20, Content::Data(1000)),
                (20, 30, Content::Data(2000)),
                (30, 50, zeros),
                (50, 100, Content::Data(1050)),
                (100, 110, Content::Data(4000)),
            ]
        );
        let part: Vec<_> = overlay.within(25, 60).collect();
        assert_eq!(part.len(), 3);
        assert_eq!((part[0].start, part[0].content), (25, Content::Data(2005)));
        assert_eq!((part[2].end, part[2].content), (60, Content::Data(1050)));
        assert_eq!(overlay.within(200, 300).count(), 0);
    }

    #[test]
    fn what_has_been_sent_is_forgotten_and_nothing_newer() {
        let mut overlay = Overlay::default();
        overlay.insert(data(0, 100, 1));
        overlay.insert(data(20, 40, 7));
        overlay.forget(0, 30, 6);
        assert_eq!(
            all(&overlay),
            [
                (20, 40, Content::Data(7000)),
                (40, 100, Content::Data(1040))
            ]
        );
        overlay.forget(0, 1000, 7);
        assert!(all(&overlay).is_empty());
    }

    /// Against an array of bytes.
    #[test]
    fn it_is_what_a_disk_would_be() {
        let mut state = 5_u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut overlay = Overlay::default();
        let mut disk = [None::<(u64, Content)>; 64];
        for seq in 1..3000 {
            let start = below(64);
            let end = start + 1 + below(64 - start);
            let content = match below(3) {
                0 => Content::Data(10_000 * seq),
                1 => Content::Zero { may_trim: false },
                _ => Content::Zero { may_trim: true },
            };
            if below(4) == 0 {
                let up_to = seq - below(10).min(seq);
                overlay.forget(start, end, up_to);
                for byte in &mut disk[start as usize..end as usize] {
                    *byte = byte.filter(|(seq, _)| *seq > up_to);
                }
                continue;
            }
            overlay.insert(Piece {
                start,
                end,
                seq,
                content,
            });
            for at in start..end {
                disk[at as usize] = Some((seq, content.skip(at - start)));
            }
        }
        for at in 0..64 {
            let found = overlay.within(at, at + 1).next();
            let found = found.map(|piece| (piece.seq, piece.content));
            assert_eq!(found, disk[at as usize], "{at}");
        }
        let joined = overlay.joined(u64::MAX);
        let covered: u64 = joined.iter().map(|piece| piece.end - piece.start).sum();
        assert_eq!(covered, disk.iter().flatten().count() as u64);
    }

    #[test]
    fn zeros_are_joined_and_data_is_parted() {
        let mut overlay = Overlay::default();
        overlay.insert(zero(0, 10, 1));
        overlay.insert(zero(10, 30, 2));
        overlay.insert(data(30, 55, 3));
        let joined = overlay.joined(10);
        let ends: Vec<u64> = joined.iter().map(|piece| piece.end).collect();
        assert_eq!(ends, [30, 40, 50, 55]);
        assert_eq!(joined[2].content, Content::Data(3010));
    }
}
