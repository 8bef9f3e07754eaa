//! How requests are answered, in the form agreed in the handshake.
//!
//! A read is answered in chunks where the client knows them, and zeros as holes: the whole of a
//! small read, or each 64 KiB of a large one. Whatever else succeeded has the short simple reply
//! wherever that is allowed.

use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, ChunkType, CommandFlags, Descriptor, ErrorCode,
    MAX_STRING_BYTES, Request, RequestFormat, SimpleReply, Sink,
};

use super::reply_buffer::ReplyBuffer;

/// Zeros are looked for in pieces of this many bytes.
const HOLE_BYTES: usize = 64 << 10;

/// Large reads are answered in parts of this many bytes.
const PART_BYTES: usize = 128 << 10;

/// A part of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it begins in the export.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) length: usize,
    /// Whether the reply ends with it.
    pub(crate) is_last: bool,
}

/// What was agreed on replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyForm {
    /// The client knows chunks. Extended headers imply it.
    pub(crate) chunks: bool,
    /// The length of headers.
    pub(crate) format: RequestFormat,
}

impl ReplyForm {
    /// Appends the reply to a request that has succeeded and brings nothing.
    pub(crate) fn done(self, into: &mut ReplyBuffer, request: &Request) {
        match self.format {
            RequestFormat::Compact => simple(into, request, ErrorCode(0)),
            RequestFormat::Extended => self.chunk(into, request, true, &Chunk::None),
        }
    }

    /// Appends the reply to a request that has failed.
    pub(crate) fn error(
        self,
        into: &mut ReplyBuffer,
        request: &Request,
        error: ErrorCode,
        message: &str,
    ) {
        if !self.chunks {
            return simple(into, request, error);
        }
        let chunk = Chunk::Error {
            error,
            message: beginning(message),
            offset: None,
        };
        self.chunk(into, request, true, &chunk);
    }

    /// The parts in which a read is best answered: as many bytes as stay in a processor's cache between being read and
    /// being sent, where the reply may be in pieces.
    pub(crate) fn part_bytes(self, request: &Request) -> usize {
        match self.chunks && !request.flags.contains(CommandFlags::DF) {
            true => PART_BYTES,
            false => usize::MAX,
        }
    }

    /// Appends a part of the reply to a read, whose data `fill` brings. Where it does not bring them, nothing
    /// is appended, and what it said is given back.
    pub(crate) fn read<E>(
        self,
        into: &mut ReplyBuffer,
        request: &Request,
        part: Part,
        fill: impl FnOnce(&mut [u8]) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let before = into.len();
        let length = part.length;
        self.data_header_of(into, request, part);
        let data = into.space(length);
        let filled = fill(data);
        if !matches!(filled, Ok(true)) {
            into.truncate(before);
        } else if self.chunks {
            let piece = piece_bytes(request, length);
            if data.chunks(piece).any(is_zero) {
                self.make_holes(into, request, part, before, piece);
            }
        }
        filled
    }

    /// Appends what comes before the data of a read that is answered as a whole.
    pub(crate) fn data_header(self, into: &mut ReplyBuffer, request: &Request) {
        let whole = Part {
            offset: request.offset,
            // A read has at most 32 MiB.
            length: request.length_bytes as usize,
            is_last: true,
        };
        self.data_header_of(into, request, whole);
    }

    fn data_header_of(self, into: &mut impl Sink, request: &Request, part: Part) {
        if !self.chunks {
            return simple(into, request, ErrorCode(0));
        }
        let header = ChunkHeader {
            flags: done_if(part.is_last),
            kind: ChunkType::OFFSET_DATA,
            cookie: request.cookie,
            offset: request.offset,
            length_bytes: 8 + part.length as u64,
        };
        header.encode(into, self.format);
        into.put(&part.offset.to_be_bytes());
    }

    /// Makes runs of pieces of the data at the buffer's end, zeros as holes, where they are: a hole is shorter than what
    /// it stands for, so that what follows it has room for a header of its own. Only the last one may be longer.
    fn make_holes(
        self,
        into: &mut ReplyBuffer,
        request: &Request,
        part: Part,
        before: usize,
        piece: usize,
    ) {
        let data_end = into.len();
        let data_start = data_end - part.length;
        let (mut from, mut to) = (data_start, before);
        let mut header = Vec::new();
        while from < data_end {
            let left = &into.as_slice()[from..data_end];
            let is_hole = is_zero(&left[..left.len().min(piece)]);
            let run = left.chunks(piece);
            let length: usize = run
                .take_while(|piece| is_zero(piece) == is_hole)
                .map(<[u8]>::len)
                .sum();
            let run = Part {
                offset: part.offset + (from - data_start) as u64,
                length,
                is_last: part.is_last && from + length == data_end,
            };
            header.clear();
            match is_hole {
                true => self.hole(&mut header, request, run),
                false => self.data_header_of(&mut header, request, run),
            }
            let moved = if is_hole { 0 } else { length };
            into.splice(to, &header, from..from + moved);
            to += header.len() + moved;
            from += length;
        }
        into.truncate(to);
    }

    fn hole(self, into: &mut impl Sink, request: &Request, part: Part) {
        let chunk = Chunk::Hole {
            offset: part.offset,
            // A read has at most 32 MiB.
            length_bytes: part.length as u32,
        };
        self.chunk(into, request, part.is_last, &chunk);
    }

    /// Appends one context's answer to block status.
    pub(crate) fn status(
        self,
        into: &mut ReplyBuffer,
        request: &Request,
        context_id: u32,
        descriptors: Vec<Descriptor>,
        is_last: bool,
    ) {
        let chunk = Chunk::Status {
            context_id,
            descriptors,
        };
        self.chunk(into, request, is_last, &chunk);
    }

    fn chunk(self, into: &mut impl Sink, request: &Request, is_last: bool, chunk: &Chunk<'_>) {
        let of = (request.cookie, request.offset);
        chunk.encode(into, self.format, done_if(is_last), of);
    }
}

fn done_if(is_last: bool) -> ChunkFlags {
    match is_last {
        true => ChunkFlags::DONE,
        false => ChunkFlags::empty(),
    }
}

fn simple(into: &mut impl Sink, request: &Request, error: ErrorCode) {
    let cookie = request.cookie;
    into.put(&SimpleReply { error, cookie }.encode());
}

/// A reply that must not be in pieces is a hole only as a whole.
fn piece_bytes(request: &Request, length: usize) -> usize {
    match request.flags.contains(CommandFlags::DF) {
        true => length.max(1),
        false => HOLE_BYTES,
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Pieces without a way out inside, which the compiler makes wide instructions of.
    bytes
        .chunks(256)
        .all(|part| part.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// As much of a message as an error chunk may have.
fn beginning(message: &str) -> &str {
    let mut end = message.len().min(MAX_STRING_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use nbd_wire::Command;

    use super::*;

    const FORM: ReplyForm = form(RequestFormat::Compact);

    const fn form(format: RequestFormat) -> ReplyForm {
        ReplyForm {
            chunks: true,
            format,
        }
    }

    fn request(flags: CommandFlags) -> Request {
        Request {
            flags,
            command: Command::READ,
            cookie: 5,
            offset: 1 << 20,
            length_bytes: 0,
        }
    }

    /// The offsets, lengths and kinds of the chunks that answer a read of this data.
    fn chunks_for(data: &[u8], flags: CommandFlags) -> Vec<(u64, u64, bool)> {
        chunks_in(FORM, data, flags)
    }

    fn chunks_in(form: ReplyForm, data: &[u8], flags: CommandFlags) -> Vec<(u64, u64, bool)> {
        let mut buffer = ReplyBuffer::default();
        buffer.put(b"another reply");
        let fill = |space: &mut [u8]| {
            space.copy_from_slice(data);
            Ok::<_, Infallible>(true)
        };
        let part = Part {
            offset: 1 << 20,
            length: data.len(),
            is_last: true,
        };
        let filled = form.read(&mut buffer, &request(flags), part, fill);
        assert_eq!(filled, Ok(true));
        let mut found = Vec::new();
        let mut left = buffer.as_slice().strip_prefix(b"another reply").unwrap();
        while !left.is_empty() {
            let (header, rest) = left.split_at(ChunkHeader::bytes(form.format));
            let header = ChunkHeader::decode(header, form.format).unwrap();
            let (payload, rest) = rest.split_at(header.length_bytes as usize);
            assert_eq!(header.flags.contains(ChunkFlags::DONE), rest.is_empty());
            found.push(match Chunk::decode(header.kind, payload).unwrap() {
                Chunk::Data { offset, data: part } => {
                    let start = (offset - (1 << 20)) as usize;
                    assert_eq!(part, &data[start..start + part.len()]);
                    (offset, part.len() as u64, false)
                }
                Chunk::Hole {
                    offset,
                    length_bytes,
                } => (offset, length_bytes.into(), true),
                other => panic!("{other:?}"),
            });
            left = rest;
        }
        found
    }

    #[test]
    fn zeros_are_holes() {
        let base = 1 << 20;
        let none = CommandFlags::empty();
        assert_eq!(chunks_for(&[0; 4096], none), [(base, 4096, true)]);
        assert_eq!(chunks_for(&[1; 4096], none), [(base, 4096, false)]);
        let mut mixed = vec![0; 300_000];
        mixed[70_000] = 1;
        let expected = [
            (base, 65536, true),
            (base + 65536, 65536, false),
            (base + 131_072, 168_928, true),
        ];
        assert_eq!(chunks_for(&mixed, none), expected);
        let whole = [(base, 300_000, false)];
        assert_eq!(chunks_for(&mixed, CommandFlags::DF), whole);
        let zeros = vec![0; 300_000];
        assert_eq!(
            chunks_for(&zeros, CommandFlags::DF),
            [(base, 300_000, true)]
        );
    }

    #[test]
    fn every_pattern_of_data_and_holes_is_told_exactly() {
        for (pattern, tail) in
            (0..32).flat_map(|pattern| [0, 1, 31, 65_535].map(|tail| (pattern, tail)))
        {
            let mut data: Vec<u8> = (0..5 * HOLE_BYTES + tail).map(|at| at as u8 | 1).collect();
            let pieces = data.chunks_mut(HOLE_BYTES).enumerate();
            for (_, piece) in pieces.filter(|(number, _)| pattern >> (number % 5) & 1 == 0) {
                piece.fill(0);
            }
            for format in [RequestFormat::Compact, RequestFormat::Extended] {
                let chunks = chunks_in(form(format), &data, CommandFlags::empty());
                let mut at = 1 << 20;
                for (offset, length, is_hole) in chunks {
                    assert_eq!(offset, at);
                    let start = (at - (1 << 20)) as usize;
                    // What is in a chunk of data has been compared already.
                    assert_eq!(is_zero(&data[start..start + length as usize]), is_hole);
                    at += length;
                }
                assert_eq!(at, (1 << 20) + data.len() as u64);
            }
        }
    }

    #[test]
    fn a_read_that_does_not_come_leaves_nothing_behind() {
        let mut buffer = ReplyBuffer::default();
        buffer.put(b"before");
        let part = Part {
            offset: 1 << 20,
            length: 512,
            is_last: false,
        };
        let request = request(CommandFlags::empty());
        let missed = FORM.read(&mut buffer, &request, part, |_| Ok::<_, Infallible>(false));
        assert_eq!(missed, Ok(false));
        assert_eq!(buffer.as_slice(), b"before");
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let long = "ä".repeat(3000);
        assert_eq!(beginning(&long).len(), MAX_STRING_BYTES);
        let odd = format!("x{long}");
        assert_eq!(beginning(&odd).len(), MAX_STRING_BYTES - 1);
    }
}
