//! Frames: the journal's records. A frame is durable as a whole or it never was.
//!
//! It starts on a page of the ring, and its checksum is of that place and this cache: neither another cache's journal nor a copy of this
//! one among the data that it carries is taken for it. Frames never wrap; one that is a filler ends the ring.

use super::bytes::{Malformed, Put, Reader};
use super::op::{Op, Ops};
use super::shape::{PAGE_BYTES, Shape};
use super::sums::Seed;

pub(super) const MAGIC: [u8; 4] = *b"LJF1";

/// What stands before the ops.
pub(crate) const HEAD_BYTES: usize = 64;

/// The part of it that the checksum covers, which is all before it.
const SUMMED_HEAD_BYTES: usize = 56;

/// The longest frame, padding included.
pub(crate) const MAX_FRAME_BYTES: u64 = 2 << 20;

/// The frame only fills the ring up to its end.
const IS_FILLER: u32 = 1;

/// A place in the journal, and what the frame there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Within the ring: after the file's header.
    pub offset: u64,
    /// The frame's number. The first of a journal is 1.
    pub seq: u64,
    /// The checksum of the frame before. Before the first it is 0.
    pub chain: u64,
}

impl Position {
    /// Of the first frame of a new journal.
    pub(crate) const FIRST: Self = Self {
        offset: 0,
        seq: 1,
        chain: 0,
    };

    /// Where the next frame is to be, after one that takes so many bytes, and has this checksum.
    pub(crate) fn after(self, taken: u64, checksum: u64, ring_bytes: u64) -> Self {
        let end = self.offset + taken;
        Self {
            offset: if end >= ring_bytes { 0 } else { end },
            seq: self.seq + 1,
            chain: checksum,
        }
    }

    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_u64(self.offset);
        bytes.put_u64(self.seq);
        bytes.put_u64(self.chain);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            offset: reader.u64()?,
            seq: reader.u64()?,
            chain: reader.u64()?,
        })
    }

    /// Whether a frame of a ring of so many bytes can be there.
    pub(super) fn is_within(&self, ring_bytes: u64) -> bool {
        self.offset < ring_bytes && self.offset.is_multiple_of(PAGE_BYTES) && self.seq > 0
    }
}

/// Whether a ring can have so many bytes.
pub(super) fn is_ring(bytes: u64) -> bool {
    bytes >= PAGE_BYTES && bytes.is_multiple_of(PAGE_BYTES) && bytes <= i64::MAX as u64 / 2
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub seq: u64,
    /// The checksum of the frame before.
    pub chain: u64,
    /// All frames up to this one were durable before this frame was written.
    pub synced_seq: u64,
    /// That of the superblock when it was written.
    pub session: u64,
    pub is_filler: bool,
}

/// Collects ops, and makes a frame of them.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    /// Room for the head, then the ops.
    bytes: Vec<u8>,
    ops: u32,
}

impl FrameBuilder {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; HEAD_BYTES],
            ops: 0,
        }
    }

    /// A frame that says whatever these bytes say, in so many ops.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of_raw(raw: &[u8], ops: u32) -> Self {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes.extend_from_slice(raw);
        Self { bytes, ops }
    }

    /// Whether a frame can have this op too. Every op fits into a frame of its own that has at most a mebibyte of inlined bytes.
    pub(crate) fn fits(&self, op: &Op<'_>) -> bool {
        (self.bytes.len() + op.encoded_bytes()) as u64 <= MAX_FRAME_BYTES
    }

    pub(crate) fn push(&mut self, op: &Op<'_>) {
        op.put(&mut self.bytes);
        self.ops += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// What the frame takes of the ring.
    pub(crate) fn padded_bytes(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(PAGE_BYTES)
    }

    /// The frame as it is to be written at `offset` of the ring, and its checksum.
    pub(crate) fn finish(mut self, head: Head, cache: Seed, offset: u64) -> (Vec<u8>, u64) {
        let mut start = MAGIC.to_vec();
        start.put_u32(self.bytes.len() as u32);
        start.put_u64(head.seq);
        start.put_u64(head.chain);
        start.put_u64(head.synced_seq);
        start.put_u64(head.session);
        start.put_u32(self.ops);
        start.put_u32(if head.is_filler { IS_FILLER } else { 0 });
        start.put_u64(0);
        self.bytes[..SUMMED_HEAD_BYTES].copy_from_slice(&start);
        let sum = checksum(&self.bytes, cache, offset);
        self.bytes[SUMMED_HEAD_BYTES..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
        let padded = self.padded_bytes() as usize;
        self.bytes.resize(padded, 0);
        (self.bytes, sum)
    }
}

/// A frame that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'b> {
    pub head: Head,
    pub checksum: u64,
    count: u32,
    /// Whether a newer version said something in the head that this one does not know.
    is_newer: bool,
    ops: &'b [u8],
}

/// How many bytes the frame has whose first page this is, if it is one. Whether it is whole is not known yet.
pub(super) fn bytes_used(page: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(page);
    if reader.array() != Ok(MAGIC) {
        return None;
    }
    let bytes = u64::from(reader.u32().ok()?);
    (HEAD_BYTES as u64..=MAX_FRAME_BYTES)
        .contains(&bytes)
        .then_some(bytes)
}

impl<'b> Frame<'b> {
    /// The frame that these bytes of the ring begin with. None if they begin with none, or if it is not as it was written.
    pub(crate) fn decode(bytes: &'b [u8], cache: Seed, offset: u64) -> Option<Self> {
        let used = bytes_used(bytes)?;
        let bytes = bytes.get(..used as usize)?;
        let stored = Reader::new(&bytes[SUMMED_HEAD_BYTES..]).u64().ok()?;
        if checksum(bytes, cache, offset) != stored {
            return None;
        }
        Self::take(bytes, stored).ok()
    }

    fn take(bytes: &'b [u8], checksum: u64) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        reader.bytes(8)?;
        let (seq, chain) = (reader.u64()?, reader.u64()?);
        let (synced_seq, session) = (reader.u64()?, reader.u64()?);
        let (count, flags, unused) = (reader.u32()?, reader.u32()?, reader.u64()?);
        let head = Head {
            seq,
            chain,
            synced_seq,
            session,
            is_filler: flags & IS_FILLER != 0,
        };
        Ok(Self {
            head,
            checksum,
            count,
            is_newer: flags & !IS_FILLER != 0 || unused != 0,
            ops: &bytes[HEAD_BYTES..],
        })
    }

    /// What the frame says, each with its place in the frame.
    ///
    /// # Errors
    /// An op that this version does not know, or that cannot be; or there are not as many as there should be.
    pub(crate) fn ops(
        &self,
        shape: Shape,
    ) -> impl Iterator<Item = Result<(u64, Op<'b>), Malformed>> + use<'b> {
        let newer = self.is_newer.then_some(Err(Malformed(
            "it has flags that this version does not know",
        )));
        let mut left = self.count;
        let mut ops = Ops::new(self.ops, shape);
        newer.into_iter().chain(std::iter::from_fn(move || {
            let miscounted = match (ops.next(), left) {
                (None, 0) => return None,
                (Some(Ok((at, op))), 1..) => {
                    left -= 1;
                    return Some(Ok((at + HEAD_BYTES as u64, op)));
                }
                (Some(Err(malformed)), _) => malformed,
                _ => Malformed("it has another number of ops than it says"),
            };
            left = 0;
            ops = Ops::new(&[], shape);
            Some(Err(miscounted))
        }))
    }

    /// What it takes of a ring of so many bytes from that offset on.
    pub(crate) fn taken_bytes(&self, offset: u64, ring_bytes: u64) -> u64 {
        match self.head.is_filler {
            true => ring_bytes - offset,
            false => ((HEAD_BYTES + self.ops.len()) as u64).next_multiple_of(PAGE_BYTES),
        }
    }
}

/// Of the head, and with that of the ops.
fn checksum(bytes: &[u8], cache: Seed, offset: u64) -> u64 {
    let (head, ops) = (&bytes[..SUMMED_HEAD_BYTES], &bytes[HEAD_BYTES..]);
    cache.with(&offset.to_le_bytes()).with(head).sum(ops)
}

#[cfg(test)]
mod tests;
