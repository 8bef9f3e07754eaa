//! What an epoch asks of the origin: of several changes of a byte the last one, neighbours together.

use super::overlay::{Content, Overlay, Piece};
use super::queue::Queue;
use crate::persist::frame::Position;

/// One request, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub start: u64,
    pub end: u64,
    pub work: Work,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Written: where in the ring the data lies, one place after the other, with lengths.
    Data(Vec<(u64, u64)>),
    Zero {
        may_trim: bool,
    },
}

/// The requests of the changes before that place. No two touch the same byte.
pub(super) fn requests(queue: &Queue, after: Position, longest: u64) -> Vec<Request> {
    requests_between(queue, 0, after, longest)
}

/// The same without the changes in frames below that number.
pub(super) fn requests_between(
    queue: &Queue,
    from: u64,
    after: Position,
    longest: u64,
) -> Vec<Request> {
    let before = |change: &&Piece| change.seq < after.seq;
    let changes = queue.with_state(|state| {
        let first = state.changes.partition_point(|change| change.seq < from);
        let changes = state.changes.range(first..).take_while(before);
        changes.copied().collect::<Vec<_>>()
    });
    requests_of(&changes, longest)
}

fn requests_of(changes: &[Piece], longest: u64) -> Vec<Request> {
    let mut last = Overlay::default();
    for change in changes {
        last.insert(*change);
    }
    let mut requests = Vec::new();
    for piece in last.joined(longest) {
        add(&mut requests, &piece, longest);
    }
    requests
}

fn add(requests: &mut Vec<Request>, piece: &Piece, longest: u64) {
    let length = piece.end - piece.start;
    let work = match piece.content {
        Content::Data(offset) => {
            if let Some(before) = requests.last_mut()
                && before.end == piece.start
                && piece.end - before.start <= longest
                && let Work::Data(places) = &mut before.work
            {
                places.push((offset, length));
                before.end = piece.end;
                return;
            }
            Work::Data(vec![(offset, length)])
        }
        Content::Zero { may_trim } => Work::Zero { may_trim },
    };
    requests.push(Request {
        start: piece.start,
        end: piece.end,
        work,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u64, end: u64, content: Content) -> Piece {
        Piece {
            start,
            end,
            seq: 1,
            content,
        }
    }

    fn asked(changes: &[Piece], longest: u64) -> Vec<(u64, u64, Work)> {
        let requests = requests_of(changes, longest);
        requests
            .into_iter()
            .map(|request| (request.start, request.end, request.work))
            .collect()
    }

    #[test]
    fn the_last_change_of_an_epoch_is_sent_and_neighbours_go_together() {
        let zero = Content::Zero { may_trim: true };
        let changes = [
            piece(0, 100, Content::Data(1000)),
            piece(20, 40, Content::Data(5000)),
            piece(100, 150, Content::Data(7000)),
            piece(200, 300, zero),
            piece(300, 400, zero),
            piece(390, 400, Content::Data(9000)),
        ];
        let places = vec![(1000, 20), (5000, 20), (1040, 60), (7000, 50)];
        let expected = [
            (0, 150, Work::Data(places)),
            (200, 390, Work::Zero { may_trim: true }),
            (390, 400, Work::Data(vec![(9000, 10)])),
        ];
        assert_eq!(asked(&changes, 1 << 20), expected);
    }

    #[test]
    fn no_request_is_longer_than_the_origin_takes() {
        let changes = [
            piece(0, 100, Content::Data(1000)),
            piece(100, 110, Content::Data(5000)),
        ];
        let expected = [
            (0, 64, Work::Data(vec![(1000, 64)])),
            (64, 110, Work::Data(vec![(1064, 36), (5000, 10)])),
        ];
        assert_eq!(asked(&changes, 64), expected);
    }
}
