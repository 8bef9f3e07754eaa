//! What one commit says, in frames.

use super::frame::{FrameBuilder, HEAD_BYTES};
use super::op::Op;

/// Ops that belong together, and cannot stand in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Frames that are being filled.
#[derive(Debug)]
pub(crate) struct Batch {
    frames: Vec<FrameBuilder>,
    /// A frame is not filled further than this if it says something already.
    frame_bytes: u64,
    /// The longest that there can be.
    longest_bytes: u64,
    /// Above this somebody else's turn would come too late.
    enough_bytes: u64,
    /// Some op has a sum of bytes that it does not carry.
    needs_data: bool,
}

/// Frames of about this size are written and checked at once.
const FRAME_BYTES: u64 = 1 << 20;

/// A batch is not filled further than this, in bytes.
const ENOUGH_BYTES: u64 = 4 << 20;

impl Batch {
    /// For a journal whose ring has so many bytes, and which takes frames up to that length.
    pub(crate) fn new(ring_bytes: u64, longest_bytes: u64) -> Self {
        Self {
            frames: Vec::new(),
            frame_bytes: FRAME_BYTES.min(ring_bytes / 8),
            longest_bytes,
            enough_bytes: ENOUGH_BYTES.min(ring_bytes / 4),
            needs_data: false,
        }
    }

    /// The same for who needs most of the ring for other things: a batch is an eighth of it at most.
    pub(crate) fn small(ring_bytes: u64, longest_bytes: u64) -> Self {
        Self {
            enough_bytes: ENOUGH_BYTES.min(ring_bytes / 16),
            ..Self::new(ring_bytes, longest_bytes)
        }
    }

    /// Adds ops that must be durable together or not at all. Tells which of the batch's frames they are in. The batch is as it was if they
    /// are too long.
    pub(crate) fn push(&mut self, group: &[Op<'_>]) -> Result<usize, TooLong> {
        let bytes: usize = group.iter().map(Op::encoded_bytes).sum();
        let bytes = bytes as u64;
        if HEAD_BYTES as u64 + bytes > self.longest_bytes {
            return Err(TooLong);
        }
        let fits = |frame: &FrameBuilder| frame.padded_bytes() + bytes <= self.frame_bytes;
        if !self.frames.last().is_some_and(fits) {
            self.frames.push(FrameBuilder::new());
        }
        if let Some(frame) = self.frames.last_mut() {
            group.iter().for_each(|op| frame.push(op));
        }
        self.needs_data |= group.iter().any(has_sums_without_bytes);
        Ok(self.frames.len() - 1)
    }

    /// Whether what else there is to say should wait for another batch.
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.frames.iter().map(FrameBuilder::padded_bytes);
        bytes.sum::<u64>() >= self.enough_bytes
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether slots must be synced before this is written.
    pub(super) fn needs_data(&self) -> bool {
        self.needs_data
    }

    pub(crate) fn into_frames(self) -> Vec<FrameBuilder> {
        self.frames
    }
}

fn has_sums_without_bytes(op: &Op<'_>) -> bool {
    matches!(op, Op::Slot(op) if op.fresh != op.inlined)
}
