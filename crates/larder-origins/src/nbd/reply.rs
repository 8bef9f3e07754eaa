//! One reply, put together from what the server sends and checked against what was asked.
//!
//! Nothing is allocated that the request does not bound, and nothing is believed: a chunk that
//! does not belong to the request, or a length that cannot be, is a violation, an error of kind
//! [`io::ErrorKind::InvalidData`], after which the connection is of no use.

use std::cell::Cell;
use std::io::{self, Read};

use larder::Extent;
use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, ChunkType, Descriptor, ErrorCode, MAX_STRING_BYTES,
    RequestFormat, StatusFlags,
};

use super::coverage::Coverage;
use super::export::Dialect;

/// The longest block status, in bytes: more than any server sends.
const MAX_STATUS_BYTES: u64 = 24 << 20;
/// The most memory that a thread keeps for its next read.
const KEPT_BYTES: usize = 1 << 20;
/// An error's number, the length of its message, and an offset.
const ERROR_BYTES: u64 = 4 + 2 + 8;

/// What a request may be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// So many bytes of data, as a read.
    Data,
    /// The status of the range.
    Status,
    /// Only whether it succeeded.
    Outcome,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Data(Vec<u8>),
    /// Covers at least a byte and no more than was asked about.
    Extents(Vec<Extent>),
    Nothing,
}

/// An error that the server answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ErrorCode,
    /// The server's words; may be empty.
    pub(super) message: String,
}

/// A reply that is coming in.
#[derive(Debug)]
pub(super) struct Assembly {
    asked: Asked,
    offset: u64,
    length_bytes: u64,
    dialect: Dialect,
    /// Of any content until the first data come.
    buffer: Vec<u8>,
    has_data: bool,
    coverage: Coverage,
    descriptors: Vec<Descriptor>,
    refusal: Option<Refusal>,
}

pub(super) fn violation(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

thread_local! {
    /// Memory that a reply came in and that the next one may: new memory for each costs more than the copy.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What has been read is not needed any more; the thread's next read uses its memory.
pub(super) fn give_back(data: Vec<u8>) {
    if data.capacity() <= KEPT_BYTES {
        KEPT.set(data);
    }
}

impl Assembly {
    /// The reply to a request for that range.
    pub(super) fn new(asked: Asked, offset: u64, length_bytes: u64, dialect: Dialect) -> Self {
        let data_bytes = match asked {
            Asked::Data => length_bytes as usize,
            Asked::Status | Asked::Outcome => 0,
        };
        Self {
            asked,
            offset,
            length_bytes,
            dialect,
            buffer: match asked {
                Asked::Data => KEPT.take(),
                Asked::Status | Asked::Outcome => Vec::new(),
            },
            has_data: false,
            coverage: Coverage::new(data_bytes),
            descriptors: Vec::new(),
            refusal: None,
        }
    }

    /// Whether the request changes nothing.
    pub(super) fn is_read(&self) -> bool {
        self.asked != Asked::Outcome
    }

    /// Takes what follows the header of a simple reply, which is a whole one.
    pub(super) fn take_simple(&mut self, error: ErrorCode, from: &mut impl Read) -> io::Result<()> {
        if error.0 != 0 {
            self.refuse(error, "");
            return Ok(());
        }
        match self.asked {
            Asked::Outcome => Ok(()),
            Asked::Data if !self.dialect.is_structured => {
                self.take_data(0, self.length_bytes, from)
            }
            Asked::Data | Asked::Status => {
                Err(violation("a simple reply where chunks were agreed on"))
            }
        }
    }

    /// Takes what follows a chunk's header. True if the reply is whole.
    pub(super) fn take_chunk(
        &mut self,
        header: &ChunkHeader,
        from: &mut impl Read,
    ) -> io::Result<bool> {
        if self.dialect.format == RequestFormat::Extended && header.offset != self.offset {
            return Err(violation("a chunk with the offset of another request"));
        }
        match header.kind {
            ChunkType::OFFSET_DATA => self.take_data_chunk(header.length_bytes, from)?,
            kind => {
                let payload = self.read_payload(kind, header.length_bytes, from)?;
                let chunk = Chunk::decode(kind, &payload).map_err(|error| violation(error.0))?;
                self.take_small(header, chunk)?;
            }
        }
        Ok(header.flags.contains(ChunkFlags::DONE))
    }

    /// The whole reply.
    pub(super) fn finish(self) -> io::Result<Result<Answer, Refusal>> {
        if let Some(refusal) = self.refusal {
            return Ok(Err(refusal));
        }
        let answer = match self.asked {
            Asked::Outcome => Answer::Nothing,
            Asked::Data if self.coverage.is_complete() => Answer::Data(self.buffer),
            Asked::Data => return Err(violation("a read that was answered in part")),
            Asked::Status if self.descriptors.is_empty() => {
                return Err(violation("a block status without a status"));
            }
            Asked::Status => Answer::Extents(extents(&self.descriptors, self.length_bytes)),
        };
        Ok(Ok(answer))
    }

    fn refuse(&mut self, error: ErrorCode, message: &str) {
        // The first says why; others may follow from it.
        if self.refusal.is_none() {
            let message = message.chars().filter(|c| !c.is_control()).take(200);
            self.refusal = Some(Refusal {
                error,
                message: message.collect(),
            });
        }
    }

    fn take_data_chunk(&mut self, payload_bytes: u64, from: &mut impl Read) -> io::Result<()> {
        let length_bytes = payload_bytes.checked_sub(8).filter(|bytes| *bytes > 0);
        let length_bytes = length_bytes.ok_or_else(|| violation("a data chunk without data"))?;
        let mut offset = [0; 8];
        from.read_exact(&mut offset)?;
        let start = self.place(u64::from_be_bytes(offset))?;
        self.take_data(start, length_bytes, from)
    }

    /// Where in the read an offset is.
    fn place(&self, offset: u64) -> io::Result<u64> {
        let start = offset.checked_sub(self.offset);
        start
            .filter(|start| self.asked == Asked::Data && *start < self.length_bytes)
            .ok_or_else(|| violation("a chunk outside what was asked for"))
    }

    fn take_data(&mut self, start: u64, length_bytes: u64, from: &mut impl Read) -> io::Result<()> {
        let range = self.cover(start, length_bytes)?;
        from.read_exact(&mut self.buffer[range])
    }

    /// Makes sure that these bytes belong to the read and come for the first time.
    fn cover(&mut self, start: u64, length_bytes: u64) -> io::Result<std::ops::Range<usize>> {
        let wrong = || violation("a chunk with bytes that were not asked for or came before");
        let start = usize::try_from(start).map_err(|_| wrong())?;
        let length = usize::try_from(length_bytes).map_err(|_| wrong())?;
        if !self.coverage.add(start, length) {
            return Err(wrong());
        }
        if !self.has_data {
            self.buffer.resize(self.length_bytes as usize, 0);
            self.has_data = true;
        }
        Ok(start..start + length)
    }

    /// Receives the payload of anything but data, after a look at its length.
    fn read_payload(
        &self,
        kind: ChunkType,
        bytes: u64,
        from: &mut impl Read,
    ) -> io::Result<Vec<u8>> {
        let is_extended = self.dialect.format == RequestFormat::Extended;
        let is_status = match kind {
            ChunkType::BLOCK_STATUS => !is_extended,
            ChunkType::BLOCK_STATUS_EXT => is_extended,
            _ => false,
        };
        let limit = match kind {
            ChunkType::NONE => 0,
            ChunkType::OFFSET_HOLE => 12,
            _ if is_status && self.asked == Asked::Status => self.status_limit(),
            kind if kind.is_error() => ERROR_BYTES + MAX_STRING_BYTES as u64,
            _ => {
                return Err(violation(format!(
                    "a chunk of type {} was not asked for",
                    kind.0
                )));
            }
        };
        if bytes > limit {
            return Err(violation(format!(
                "a chunk of type {} has {bytes} bytes",
                kind.0
            )));
        }
        let mut payload = vec![0; bytes as usize];
        from.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Every extent has a byte of the range at least.
    fn status_limit(&self) -> u64 {
        MAX_STATUS_BYTES.min(8 + self.length_bytes.saturating_mul(16))
    }

    fn take_small(&mut self, header: &ChunkHeader, chunk: Chunk<'_>) -> io::Result<()> {
        match chunk {
            Chunk::None if header.flags.contains(ChunkFlags::DONE) => Ok(()),
            Chunk::None => Err(violation("an empty chunk that is not the last")),
            Chunk::Hole {
                offset,
                length_bytes,
            } => {
                let start = self.place(offset)?;
                let range = self.cover(start, length_bytes.into())?;
                self.buffer[range].fill(0);
                Ok(())
            }
            Chunk::Status {
                context_id,
                descriptors,
            } => {
                if Some(context_id) != self.dialect.allocation_id {
                    return Err(violation(
                        "a block status of a context that was not asked for",
                    ));
                }
                if !self.descriptors.is_empty() {
                    return Err(violation("two block statuses where one was asked for"));
                }
                self.descriptors = descriptors;
                Ok(())
            }
            Chunk::Error { error, .. } if error.0 == 0 => {
                Err(violation("an error without a number"))
            }
            Chunk::Error {
                error,
                message,
                offset,
            } => {
                let end = self.offset.saturating_add(self.length_bytes);
                if offset.is_some_and(|offset| !(self.offset..=end).contains(&offset)) {
                    return Err(violation("an error outside what was asked for"));
                }
                self.refuse(error, message);
                Ok(())
            }
            Chunk::Data { .. } | Chunk::Unknown(_) => Err(violation("a chunk out of place")),
        }
    }
}

/// What of a status lies within the range that was asked about.
fn extents(descriptors: &[Descriptor], length_bytes: u64) -> Vec<Extent> {
    let mut left = length_bytes;
    let mut extents = Vec::with_capacity(descriptors.len());
    for run in descriptors {
        let length = run.length_bytes.min(left);
        if length == 0 {
            break;
        }
        left -= length;
        let status = StatusFlags::from_bits_truncate(run.status as u32);
        extents.push(Extent {
            length,
            hole: status.contains(StatusFlags::HOLE),
            zero: status.contains(StatusFlags::ZERO),
        });
    }
    extents
}
