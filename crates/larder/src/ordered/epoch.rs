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
    let mut last = Overlay::default();
    queue.with_state(|state| {
        let changes = state.changes.iter();
        for change in changes.take_while(|change| change.seq < after.seq) {
            last.insert(*change);
        }
    });
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
