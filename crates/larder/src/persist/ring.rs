//! The journal's frames, folded from its file.

use std::io;

use super::chain::{Ring, Start, Walk};
use super::fold::Fold;
use super::frame::{Frame, Position};
use super::header::Role;
use super::op::Op;
use super::open_error::OpenError;
use super::refusal::{Finding, Refusal};
use super::shape::PAGE_BYTES;
use super::superblock::Superblock;
use super::tables::Tables;
use crate::medium::MediumFile;
use crate::planted::{Bug, is_planted};

/// As much of the journal as is folded before the sums, which take most of the memory, are written.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// So much is written at once, in bytes.
const AT_ONCE_BYTES: u64 = 1 << 20;

/// Reads a part of the ring.
pub(super) fn read(tables: &Tables, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    tables.files.journal.read(PAGE_BYTES + offset, buffer)
}

/// A ring in its file.
#[derive(Clone, Copy)]
pub(super) struct RingFile<'f> {
    pub file: &'f dyn MediumFile,
    /// Where in the file it begins.
    pub start: u64,
    pub bytes: u64,
}

/// Writes so many bytes of a ring from `start` on as they are read.
pub(super) fn write_again(ring: RingFile<'_>, start: u64, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; AT_ONCE_BYTES.min(bytes) as usize];
    let mut done = 0;
    while done < bytes {
        let offset = (start + done) % ring.bytes;
        let length = AT_ONCE_BYTES.min(bytes - done).min(ring.bytes - offset);
        let part = &mut buffer[..length as usize];
        ring.file.read(ring.start + offset, part)?;
        ring.file.write(ring.start + offset, part)?;
        done += length;
    }
    Ok(())
}

/// A fold that knows how far it has come.
#[derive(Debug)]
pub(super) struct Folding {
    pub fold: Fold,
    /// Where the next frame is.
    pub next: Position,
    /// How many frames it has followed.
    pub frames: u64,
}

/// How a walk over a part of the journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartEnd {
    /// There may be more.
    Full,
    /// There is no next frame, or it is not to be followed.
    NoMore,
}

impl Folding {
    /// From the tail on, over the volume table that counts.
    pub(super) fn new(tables: &Tables) -> Result<Self, OpenError> {
        let volumes = tables.read_volumes()?;
        Ok(Self {
            fold: Fold::new(tables.shape(), u32::MAX, volumes),
            next: tables.superblocks().current().tail,
            frames: 0,
        })
    }

    /// Follows the frames of a part below that number, as long as they follow each other.
    ///
    /// # Errors
    /// A frame is missing that had been durable, or means nothing to this version.
    pub(super) fn follow_part(
        &mut self,
        tables: &Tables,
        superblock: &Superblock,
        below: u64,
    ) -> Result<PartEnd, OpenError> {
        let read = |offset: u64, buffer: &mut [u8]| read(tables, offset, buffer);
        let mut walk = walk(tables, superblock, self.next, &read);
        let end = loop {
            if walk.position().seq >= below {
                break PartEnd::NoMore;
            }
            if walk.walked_bytes() >= PART_BYTES {
                break PartEnd::Full;
            }
            let Some((offset, frame)) = walk.advance().map_err(unread())? else {
                break PartEnd::NoMore;
            };
            self.fold.follow(&frame, offset).map_err(refuse)?;
            self.frames += 1;
            if is_planted(Bug::FoldInOnePhase) && below == u64::MAX {
                write_at_once(tables, &frame);
            }
        };
        self.next = walk.position();
        Ok(end)
    }
}

/// Whether the journal ends at that place because no more was durable.
pub(super) fn check_end(
    tables: &Tables,
    superblock: &Superblock,
    end: Position,
) -> Result<(), OpenError> {
    let read = |offset: u64, buffer: &mut [u8]| read(tables, offset, buffer);
    // It looks all around the ring. Frames before the end have smaller numbers, and say nothing of it.
    let walk = walk(tables, superblock, end, &read);
    walk.check_end().map_err(unread())?.map_err(refuse)
}

fn walk<'r>(
    tables: &Tables,
    superblock: &Superblock,
    from: Position,
    read: &'r dyn Fn(u64, &mut [u8]) -> io::Result<()>,
) -> Walk<'r> {
    let bytes = superblock.journal_bytes;
    let start = Start {
        cache: tables.seed,
        from,
        durable_below: superblock.tail.seq,
        session: superblock.session,
    };
    Walk::new(Ring { read, bytes }, start)
}

/// The planted bug: the bytes of a frame are written whatever later frames say.
fn write_at_once(tables: &Tables, frame: &Frame<'_>) {
    for (_, op) in frame.ops(tables.shape()).flatten() {
        let Op::Slot(op) = op else { continue };
        for (sector, bytes) in op.inlined() {
            let within = u64::from(sector) << op.sector_shift;
            let offset = tables.shape().slot_offset(op.slot) + within;
            let _ = tables.files.slots.write(offset, bytes);
        }
    }
}

fn unread() -> impl FnOnce(io::Error) -> OpenError {
    OpenError::io(Role::Journal.file_name(), "read")
}

/// The journal is not used because of that.
pub(super) fn refuse(finding: Finding) -> OpenError {
    Refusal::of(Role::Journal, finding).into()
}
