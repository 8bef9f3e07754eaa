//! A queue as a start finds it: read and judged, and nothing written; and then taken over by the session that begins.

use std::io;
use std::sync::Arc;

use super::QueueLog;
use super::head::{Heads, QueueHead, RING_START};
use super::name::{file_name, volume_of};
use crate::directory::VolumeNumber;
use crate::medium::{Medium, MediumFile};
use crate::persist::bytes::Malformed;
use crate::persist::chain::{Ring, Start, Walk};
use crate::persist::copies::Newer;
use crate::persist::files::open_named;
use crate::persist::frame::{Frame, Position};
use crate::persist::header::Page;
use crate::persist::home::Home;
use crate::persist::journal::distance;
use crate::persist::op::{Change, DATA_AT, Op, VolumeId, Wiping};
use crate::persist::open_error::{OpenError, SYNCED, THE_DIRECTORY};
use crate::persist::refusal::Finding;
use crate::persist::ring::{RingFile, write_again};
use crate::persist::shape::{PAGE_BYTES, Shape};
use crate::persist::sums::Uuid;
use crate::planted::{Bug, is_planted};

/// How often a queue is read that somebody changes meanwhile.
const TRIES: u32 = 8;

/// What a queue says, in the order in which it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundChange {
    /// A range was given something.
    Change {
        /// The number of its frame.
        seq: u64,
        start: u64,
        /// The byte after the last.
        end: u64,
        content: FoundContent,
    },
    /// What follows is of another epoch. The place is the one after the boundary's frame.
    Boundary(Position),
}

/// What a range was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundContent {
    /// As many bytes as the range has, from there on in the ring.
    Data {
        offset: u64,
    },
    Wipe(Wiping),
}

/// What the frames of a queue say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFrames {
    pub changes: Vec<FoundChange>,
    /// Where the next frame is to be.
    pub end: Position,
}

impl FoundFrames {
    /// Follows the frames of a ring.
    ///
    /// # Errors
    /// The ring cannot be read; or a frame is missing that had been durable, or one is no queue's.
    pub(crate) fn read(
        ring: Ring<'_>,
        head: &QueueHead,
        shape: Shape,
    ) -> io::Result<Result<Self, Finding>> {
        let start = Start {
            cache: head.seed(),
            from: head.begin,
            durable_below: head.durable_below,
            session: head.session,
        };
        let mut walk = Walk::new(ring, start);
        let mut changes = Vec::new();
        while let Some((offset, frame)) = walk.advance()? {
            let seq = frame.head.seq;
            match take(&frame, offset, shape) {
                Ok(Said::Change(change)) => changes.push(change),
                Ok(Said::Boundary) => changes.push(FoundChange::Boundary(walk.position())),
                Ok(Said::Nothing) => {}
                Err(what) => return Ok(Err(Finding::Frame { seq, what })),
            }
        }
        let end = walk.position();
        let judged = walk.check_end()?;
        Ok(judged.map(|()| Self { changes, end }))
    }
}

enum Said {
    Change(FoundChange),
    Boundary,
    Nothing,
}

/// The one thing that a frame says.
fn take(frame: &Frame<'_>, offset: u64, shape: Shape) -> Result<Said, Malformed> {
    let mut ops = frame.ops(shape);
    let op = ops.next().transpose()?;
    if frame.head.is_filler || ops.next().is_some() {
        return match (frame.head.is_filler, op) {
            (true, None) => Ok(Said::Nothing),
            _ => Err(Malformed("it says more than a frame of a queue says")),
        };
    }
    let (start, end, content) = match op.map(|(_, op)| op) {
        Some(Op::Epoch) => return Ok(Said::Boundary),
        Some(Op::Vouch) => return Ok(Said::Nothing),
        Some(Op::Change(Change::Data { start, bytes })) => {
            let offset = offset + DATA_AT;
            let end = start + bytes.len() as u64;
            (start, end, FoundContent::Data { offset })
        }
        Some(Op::Change(Change::Wipe { start, end, how })) => (start, end, FoundContent::Wipe(how)),
        _ => return Err(Malformed("it says what no queue says")),
    };
    let seq = frame.head.seq;
    Ok(Said::Change(FoundChange::Change {
        seq,
        start,
        end,
        content,
    }))
}

/// A queue that is there.
pub(crate) struct FoundQueue {
    pub id: VolumeId,
    /// The length of its ring.
    pub ring_bytes: u64,
    /// What it holds, in order. May be taken.
    pub found: Vec<FoundChange>,
    file: Arc<dyn MediumFile>,
    heads: Heads,
    end: Position,
    /// There is a change among what was found.
    holds_changes: bool,
    /// No change was found behind the last boundary.
    is_bounded: bool,
}

impl FoundQueue {
    /// All queues of a cache, by number. `session` is that of its superblock. Nothing is written.
    ///
    /// # Errors
    /// One is refused, or cannot be read.
    pub(crate) fn all(
        medium: &dyn Medium,
        uuid: Uuid,
        shape: Shape,
        session: u64,
    ) -> Result<Vec<Self>, OpenError> {
        let read = |volume| Self::read(medium, volume, uuid, shape, session);
        volumes(medium)?.into_iter().map(read).collect()
    }

    /// The queue of a volume, which must be there.
    pub(super) fn read(
        medium: &dyn Medium,
        volume: VolumeNumber,
        uuid: Uuid,
        shape: Shape,
        session: u64,
    ) -> Result<Self, OpenError> {
        let name = file_name(volume);
        let file: Arc<dyn MediumFile> = open_named(medium, &name)?.into();
        let refuse = |finding: Finding| OpenError::of_file(name.clone(), finding);
        let unread = || OpenError::io(&name, "read");
        let chosen = read_head(&*file).map_err(unread())?.map_err(refuse)?;
        let head = &chosen.value;
        check(head, volume, uuid, session).map_err(refuse)?;
        let (found, expected) = (
            file.length().map_err(unread())?,
            RING_START + head.ring_bytes,
        );
        if found < expected {
            return Err(refuse(Finding::Short { found, expected }));
        }
        let read = |offset: u64, buffer: &mut [u8]| file.read(RING_START + offset, buffer);
        let ring = Ring {
            read: &read,
            bytes: head.ring_bytes,
        };
        let frames = FoundFrames::read(ring, head, shape)
            .map_err(unread())?
            .map_err(refuse)?;
        let is_change = |change: &FoundChange| matches!(change, FoundChange::Change { .. });
        Ok(Self {
            id: head.id,
            ring_bytes: head.ring_bytes,
            holds_changes: frames.changes.iter().any(is_change),
            is_bounded: !frames.changes.last().is_some_and(is_change),
            found: frames.changes,
            end: frames.end,
            heads: Heads::new(Arc::clone(&file), chosen),
            file,
        })
    }

    /// The same where somebody may have it open and go on.
    pub(super) fn read_beside(
        medium: &dyn Medium,
        volume: VolumeNumber,
        uuid: Uuid,
        shape: Shape,
        session: u64,
    ) -> Result<Self, OpenError> {
        let mut failed = None;
        for _ in 1..TRIES {
            match Self::read(medium, volume, uuid, shape, session) {
                Ok(found) => {
                    if let Some(found) = found.brought_up_to_date()? {
                        return Ok(found);
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    // A frame or a head that is just being written is another one by then.
                    if failed.replace(text.clone()).is_some_and(|it| it == text) {
                        return Err(error);
                    }
                }
            }
        }
        Self::read(medium, volume, uuid, shape, session)
    }

    /// Without what the origin has got while it was read. None if something else may be there by now: only what lies before the beginning is
    /// written over.
    fn brought_up_to_date(mut self) -> Result<Option<Self>, OpenError> {
        let name = file_name(self.id.volume);
        let read = read_head(&*self.file).map_err(OpenError::io(&name, "read"))?;
        let Some(now) = read.ok().filter(|now| now.value.id == self.id) else {
            return Ok(None);
        };
        let begin = now.value.begin;
        if begin.seq > self.end.seq {
            return Ok(None);
        }
        self.found.retain(|change| match change {
            FoundChange::Change { seq, .. } => *seq >= begin.seq,
            FoundChange::Boundary(after) => after.seq > begin.seq,
        });
        let is_change = |change: &FoundChange| matches!(change, FoundChange::Change { .. });
        self.holds_changes = self.found.iter().any(is_change);
        self.heads = Heads::new(Arc::clone(&self.file), now);
        Ok(Some(self))
    }

    /// Whether it holds no change.
    pub(crate) fn is_empty(&self) -> bool {
        !self.holds_changes
    }

    /// How many frames were found whole.
    pub(crate) fn frames(&self) -> u64 {
        self.end.seq - self.heads.current().begin.seq
    }

    /// How much of the ring they take.
    pub(crate) fn used_bytes(&self) -> u64 {
        distance(self.heads.current().begin, self.end, self.ring_bytes)
    }

    /// Reads from the ring, as [`FoundContent`] says where.
    pub(crate) fn read_data(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(RING_START + offset, buffer)
    }

    /// The session of the home, which has begun, goes on with it. What was found is written once more and synced: whoever was killed may
    /// have left what is seen and not durable, and a sync alone saves nothing of what an earlier one has failed to save.
    ///
    /// # Errors
    /// The system failed: the next start finds what this one has found.
    pub(crate) fn begin(self, home: &Home) -> Result<QueueLog, OpenError> {
        let Self {
            id,
            file,
            mut heads,
            end,
            is_bounded,
            ..
        } = self;
        let name = file_name(id.volume);
        let unwritten = || OpenError::io(&name, "written");
        let unsynced = || OpenError::io(&name, SYNCED);
        let QueueHead {
            begin, ring_bytes, ..
        } = *heads.current();
        let ring = RingFile {
            file: &*file,
            start: RING_START,
            bytes: ring_bytes,
        };
        let used_bytes = distance(begin, end, ring_bytes);
        if !is_planted(Bug::QueueNotWrittenAgain) {
            write_again(ring, begin.offset, used_bytes).map_err(unwritten())?;
        }
        heads.renew().map_err(unwritten())?;
        file.sync().map_err(unsynced())?;
        for _ in 0..2 {
            let new = QueueHead {
                session: home.session(),
                durable_below: end.seq,
                ..*heads.current()
            };
            let new = heads.write(new).map_err(unwritten())?;
            file.sync().map_err(unsynced())?;
            heads.note_durable(new);
        }
        Ok(QueueLog::new(file, heads, end, is_bounded))
    }
}

/// The volumes that have the file of a queue, by number.
pub(super) fn volumes(medium: &dyn Medium) -> Result<Vec<VolumeNumber>, OpenError> {
    let unread = OpenError::io(THE_DIRECTORY, "read");
    let names = medium.names().map_err(unread)?;
    let mut volumes: Vec<VolumeNumber> = names.iter().filter_map(|name| volume_of(name)).collect();
    volumes.sort_unstable();
    Ok(volumes)
}

/// The head that counts.
fn read_head(file: &dyn MediumFile) -> io::Result<Result<Newer<QueueHead>, Finding>> {
    let found = file.length()?;
    let mut copies = [[0; PAGE_BYTES as usize]; 2];
    for (at, copy) in (0..).map(|copy| copy * PAGE_BYTES).zip(&mut copies) {
        let length = found.saturating_sub(at).min(PAGE_BYTES) as usize;
        if length > 0 {
            file.read(at, &mut copy[..length])?;
        }
    }
    let [first, second]: &[Page; 2] = &copies;
    Ok(match QueueHead::choose([first, second]) {
        Err(_) if found < RING_START => Err(Finding::Short {
            found,
            expected: RING_START,
        }),
        chosen => chosen,
    })
}

/// Whether it is the head of that volume's queue, as far as that can be told without the volume.
fn check(head: &QueueHead, volume: VolumeNumber, uuid: Uuid, session: u64) -> Result<(), Finding> {
    if head.uuid != uuid {
        return Err(Finding::OtherCache {
            found: head.uuid,
            expected: uuid,
        });
    }
    if head.id.volume != volume {
        return Err(Finding::OtherQueue(head.id.volume));
    }
    match head.session <= session {
        true => Ok(()),
        false => Err(Malformed("it is of a session that has not begun").into()),
    }
}
