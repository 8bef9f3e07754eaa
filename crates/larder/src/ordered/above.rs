//! The queue as the engine sees it: an origin.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::overlay::{Content, Piece};
use super::queue::Queue;
use super::queues::QueueCell;
use super::send::{How, has_ended, send_oldest};
use crate::origin::{Capabilities, Extent, Fua, Origin, OriginVersion, RequestLimits, ZeroOptions};
use crate::persist::queue_log::Wiping;
use crate::planted::{Bug, is_planted};

/// A connection to an origin, with the volume's queue before it.
pub(crate) struct QueuedOrigin {
    cell: Arc<QueueCell>,
    pub(super) below: Arc<dyn Origin>,
    capabilities: Capabilities,
}

impl QueuedOrigin {
    pub(crate) fn new(cell: Arc<QueueCell>, below: Arc<dyn Origin>) -> Self {
        Self {
            cell,
            capabilities: below.capabilities(),
            below,
        }
    }

    /// Of who may write there is one.
    fn queue(&self) -> io::Result<Arc<Queue>> {
        let missing = || io::Error::other("the volume has no queue");
        self.cell.get().ok_or_else(missing)
    }

    /// Makes durable what the origin itself was told before, by whomever.
    pub(crate) fn flush_below(&self) -> io::Result<()> {
        match self.capabilities.takes_flush() {
            true => self.below.flush(),
            false => Ok(()),
        }
    }

    /// Sends everything, also what belongs to no epoch yet.
    pub(crate) fn send_all(&self) -> io::Result<()> {
        let Some(queue) = self.cell.get() else {
            return Ok(());
        };
        queue.flush()?;
        // What comes later is somebody else's to send.
        let end = queue.end();
        while queue.has_before(end) && self.send(&queue, How::default())? {}
        Ok(())
    }

    /// For who has no background thread: whether it is time to send something.
    pub(crate) fn is_due(&self, dirty_age: Option<Duration>) -> bool {
        let queue = self.cell.get();
        queue.is_some_and(|queue| has_ended(&queue) && queue.is_filling_or_old(dirty_age))
    }

    /// Sends the oldest epoch.
    pub(crate) fn send_one(&self) -> io::Result<()> {
        let Some(queue) = self.cell.get() else {
            return Ok(());
        };
        self.send(&queue, How::default()).map(drop)
    }

    fn send(&self, queue: &Queue, how: How<'_>) -> io::Result<bool> {
        let _sending = queue.send_at_once();
        send_oldest(queue, &*self.below, how)
    }

    fn wipe(&self, offset: u64, length: u64, how: Wiping, fua: bool) -> io::Result<()> {
        let queue = self.queue()?;
        let make_room = |bytes| self.make_room(&queue, bytes);
        queue.wipe((offset, offset + length), how, &make_room)?;
        finish(&queue, fua)
    }
}

/// What was asked for is in the queue, and with `fua` durable there.
fn finish(queue: &Queue, fua: bool) -> io::Result<()> {
    match fua {
        true => queue.flush(),
        false => Ok(()),
    }
}

impl Origin for QueuedOrigin {
    fn size(&self) -> u64 {
        self.below.size()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            flush: true,
            fua: Fua::Native,
            // All connections share the log.
            multi_conn: true,
            fast_zero: self.capabilities.zero && self.capabilities.fast_zero,
            ..self.capabilities
        }
    }

    fn limits(&self) -> RequestLimits {
        self.below.limits()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some(queue) = self.cell.get() else {
            return self.below.read(offset, buffer);
        };
        if is_planted(Bug::QueueReadsThrough) {
            return self.below.read(offset, buffer);
        }
        let gaps = queue.read(offset, buffer)?;
        for (start, end) in gaps {
            let part = &mut buffer[(start - offset) as usize..(end - offset) as usize];
            self.below.read(start, part)?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        let queue = self.queue()?;
        queue.write(offset, data, &|bytes| self.make_room(&queue, bytes))?;
        finish(&queue, fua)
    }

    fn flush(&self) -> io::Result<()> {
        match self.cell.get() {
            Some(queue) => queue.flush(),
            None => self.flush_below(),
        }
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        let how = match options.may_trim {
            true => Wiping::Hole,
            false => Wiping::Zero,
        };
        self.wipe(offset, length, how, options.fua)
    }

    /// As a zero that may be a hole: so what is read does not change when it is sent. Where the origin has no such thing nothing happens: it is
    /// advice.
    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        match self.capabilities.zero {
            true => self.wipe(offset, length, Wiping::Hole, fua),
            false => Ok(()),
        }
    }

    fn version(&self) -> io::Result<Option<OriginVersion>> {
        self.below.version()
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        let end = offset + length;
        let pieces = self.cell.get();
        let pieces = pieces.map_or_else(Vec::new, |queue| queue.pieces(offset, end));
        let mut extents = Vec::new();
        let mut at = offset;
        for piece in pieces.into_iter().map(Some).chain([None]) {
            if one && !extents.is_empty() {
                break;
            }
            let gap_end = piece.map_or(end, |piece| piece.start);
            if at < gap_end {
                let below = self.below.extents(at, gap_end - at, one)?;
                let covered: u64 = below.iter().map(|extent| extent.length).sum();
                extents.extend(below);
                at += covered;
            }
            if at < gap_end || (one && !extents.is_empty()) {
                break;
            }
            if let Some(piece) = piece {
                extents.push(extent(&piece));
                at = piece.end;
            }
        }
        Ok(extents)
    }
}

fn extent(piece: &Piece) -> Extent {
    let (hole, zero) = match piece.content {
        Content::Data(_) => (false, false),
        Content::Zero { may_trim } => (may_trim, true),
    };
    Extent {
        length: piece.end - piece.start,
        hole,
        zero,
    }
}
