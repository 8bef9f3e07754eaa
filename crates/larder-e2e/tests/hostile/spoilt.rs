//! Messages that are spoilt and still end where they say they end, so that each of them must be answered.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::{AddAssign, Range};
use std::path::Path;

use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, Command, CommandFlags, ExportRequest, MetaRequest,
    OPTION_REPLY_HEADER_BYTES, OptionCode, OptionHeader, OptionReplyHeader, ReplyType, Request,
    SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, SimpleReply,
};

use super::mutation::Mutator;
use super::raw::{Form, RawClient};

/// What spoilt writes write.
pub const WRITTEN: u8 = 0x55;

/// Lengths and offsets that are often done wrong, beside those that are right.
const NUMBERS: [u64; 14] = [
    0,
    1,
    511,
    4097,
    1 << 16,
    1 << 20,
    (1 << 25) + 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// How messages were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Done.
    pub done: usize,
    /// Answered with an error.
    pub refused: usize,
}

impl Tally {
    fn count(&mut self, is_error: bool) {
        match is_error {
            true => self.refused += 1,
            false => self.done += 1,
        }
    }

    /// Both.
    pub fn answered(self) -> usize {
        self.done + self.refused
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.refused += other.refused;
    }
}

/// An export of which spoilt requests change the upper half only.
pub struct Victim<'v> {
    pub name: &'v str,
    /// What it held at first.
    pub content: &'v [u8],
}

impl Victim<'_> {
    fn half(&self) -> u64 {
        self.content.len() as u64 / 2
    }

    /// Asserts that `read`, from `offset` on, is what it may be after whatever spoilt requests did.
    pub fn check(&self, offset: u64, read: &[u8]) {
        let wrong = (offset..).zip(read).find(|&(at, &byte)| {
            let is_old = byte == self.content[at as usize];
            !is_old && (at < self.half() || ![0, WRITTEN].contains(&byte))
        });
        assert_eq!(wrong, None, "nobody wrote that");
    }

    /// Sends so many spoilt requests in one go, and takes the answers: each must have one. `open` comes to the export.
    pub fn send_requests(
        &self,
        open: impl FnOnce(&str, Form) -> RawClient,
        seed: u64,
        count: usize,
    ) -> Tally {
        let mut mutator = Mutator::new(seed);
        let form = Form::ALL[mutator.below(3)];
        let mut client = open(self.name, form);
        let mut sent = HashMap::new();
        let mut message = Vec::new();
        for number in 0..count {
            let mut request = self.spoilt(&mut mutator, form);
            request.cookie = mutator.next_u64() << 16 | number as u64;
            request.encode(&mut message, form.format());
            if has_payload(&request, form) {
                let payload = message.len() + request.length_bytes as usize;
                message.resize(payload, WRITTEN);
            }
            sent.insert(request.cookie, request);
        }
        client.send(&message);
        client.end_sending();
        let tally = self.take_answers(&mut client, &mut sent);
        assert!(sent.is_empty(), "{form:?}, not answered: {sent:#x?}");
        tally
    }

    /// A request with one or two fields that are wrong, or right by chance.
    fn spoilt(&self, mutator: &mut Mutator, form: Form) -> Request {
        let (command, length_bytes) = [
            (Command::READ, 4096),
            (Command::READ, 140_000),
            (Command::WRITE, 512),
            (Command::WRITE, 9000),
            (Command::FLUSH, 0),
            (Command::TRIM, 65536),
            (Command::CACHE, 65536),
            (Command::WRITE_ZEROES, 70_000),
            (Command::BLOCK_STATUS, 1 << 20),
        ][mutator.below(9)];
        let mut request = Request {
            flags: CommandFlags::empty(),
            command,
            cookie: 0,
            offset: mutator.below(self.content.len()) as u64,
            length_bytes,
        };
        for _ in 0..=mutator.below(2) {
            let flags = &mut request.flags;
            match mutator.below(6) {
                0 => *flags = CommandFlags::from_bits_retain(flags.bits() ^ 1 << mutator.below(6)),
                1 => *flags = CommandFlags::from_bits_retain(mutator.next_u64() as u16),
                2 => request.command = Command(mutator.below(12) as u16),
                3 => request.command = Command(mutator.next_u64() as u16),
                4 => request.offset = NUMBERS[mutator.below(NUMBERS.len())],
                _ => request.length_bytes = NUMBERS[mutator.below(NUMBERS.len())],
            }
        }
        if request.command == Command::DISCONNECT {
            request.command = Command::READ;
        }
        self.frame(&mut request, form);
        request
    }

    /// Makes it end where it says, and keeps its changes out of the lower half.
    fn frame(&self, request: &mut Request, form: Form) {
        if form != Form::Extended {
            request.length_bytes &= u64::from(u32::MAX);
        }
        if has_payload(request, form) {
            request.length_bytes %= 20_000;
        }
        let changes = [Command::WRITE, Command::TRIM, Command::WRITE_ZEROES];
        if changes.contains(&request.command) && request.offset < self.half() {
            request.offset += self.half();
        }
    }

    /// Takes everything up to the end, strikes out what is answered, and looks at what was read.
    fn take_answers(&self, client: &mut RawClient, sent: &mut HashMap<u64, Request>) -> Tally {
        let mut tally = Tally::default();
        let mut failed = None;
        while let Some(magic) = next_magic(client) {
            if magic == SIMPLE_REPLY_MAGIC.to_be_bytes() {
                assert_ne!(client.form, Form::Extended);
                let rest = client.receive(SIMPLE_REPLY_BYTES - 4).unwrap();
                let reply = [&magic[..], &rest].concat();
                let reply = SimpleReply::decode(reply.first_chunk().unwrap()).unwrap();
                let request = sent.remove(&reply.cookie).expect("an answer to a request");
                let is_read = request.command == Command::READ;
                assert!(!is_read || client.form == Form::Simple, "{request:?}");
                if is_read && reply.error.0 == 0 {
                    let data = client.receive(request.length_bytes as usize).unwrap();
                    self.check(request.offset, &data);
                }
                tally.count(reply.error.0 != 0);
                continue;
            }
            let format = client.form.format();
            let rest = client.receive(ChunkHeader::bytes(format) - 4).unwrap();
            let header = ChunkHeader::decode(&[&magic[..], &rest].concat(), format).unwrap();
            let payload = client.receive(header.length_bytes as usize).unwrap();
            assert!(sent.contains_key(&header.cookie), "an answer to a request");
            match Chunk::decode(header.kind, &payload).unwrap() {
                Chunk::Data { offset, data } => self.check(offset, data),
                Chunk::Hole {
                    offset,
                    length_bytes,
                } => self.check(offset, &vec![0; length_bytes as usize]),
                Chunk::Error { .. } => failed = Some(header.cookie),
                _ => {}
            }
            if header.flags.contains(ChunkFlags::DONE) {
                sent.remove(&header.cookie);
                tally.count(failed == Some(header.cookie));
            }
        }
        tally
    }
}

fn has_payload(request: &Request, form: Form) -> bool {
    let is_flagged = request.flags.contains(CommandFlags::PAYLOAD_LEN);
    request.command == Command::WRITE || form == Form::Extended && is_flagged
}

/// None at the end.
fn next_magic(client: &mut RawClient) -> Option<[u8; 4]> {
    let mut magic = [0; 4];
    match client.stream.read_exact(&mut magic) {
        Ok(()) => Some(magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => panic!("no further answer: {error}"),
    }
}

/// Sends so many spoilt options in one go, and takes the replies: each must have one that is the last.
pub fn send_options(socket: &Path, seed: u64, count: usize) -> Tally {
    let mut mutator = Mutator::new(seed);
    let mut client = RawClient::greet(socket);
    let mut codes = Vec::new();
    let mut message = Vec::new();
    for _ in 0..count {
        // EXPORT_NAME, ABORT and GO may end the handshake.
        let code = match mutator.below(14) {
            code @ (1 | 2 | 7) => code + 1000,
            code => code,
        };
        let code = OptionCode(code as u32);
        let payload = option_payload(&mut mutator);
        message.extend(OptionHeader::encode(code, &payload));
        codes.push(code);
    }
    client.send(&message);
    client.end_sending();
    let mut tally = Tally::default();
    for code in codes {
        loop {
            let header = client.receive(OPTION_REPLY_HEADER_BYTES).expect("a reply");
            let header = OptionReplyHeader::decode(header.first_chunk().unwrap()).unwrap();
            client.receive(header.length_bytes as usize).unwrap();
            assert_eq!(header.code, code);
            if header.reply == ReplyType::ACK || header.reply.is_error() {
                tally.count(header.reply.is_error());
                break;
            }
        }
    }
    tally
}

fn option_payload(mutator: &mut Mutator) -> Vec<u8> {
    let export = ExportRequest {
        name: "victim",
        infos: vec![nbd_wire::InfoType::NAME, nbd_wire::InfoType::BLOCK_SIZE],
    };
    let contexts = MetaRequest {
        export: "victim",
        queries: vec!["base:allocation", "larder:cache", "base:"],
    };
    let right = [Vec::new(), export.encode(), contexts.encode()];
    match mutator.below(3) {
        0 => right[mutator.below(3)].clone(),
        _ => mutator.mutated(&right),
    }
}

/// How many replies of any kind are in what a server said. The exports under test never hold such bytes.
pub fn count_replies(said: &[u8]) -> usize {
    const MAGICS: [[u8; 4]; 4] = [
        *b"\x67\x44\x66\x98",
        *b"\x66\x8e\x33\xef",
        *b"\x6e\x8a\x27\x8c",
        *b"\x89\x04\x55\x65",
    ];
    let words = said.windows(4);
    words
        .filter(|word| MAGICS.iter().any(|magic| magic == word))
        .count()
}

/// Asserts of what was zero that it holds nothing but what was written within these ranges.
pub fn check_written(content: &[u8], base: u64, ranges: &[Range<u64>]) {
    let wrong = (base..).zip(content).find(|&(at, &byte)| {
        let may_be_written = ranges.iter().any(|range| range.contains(&at));
        byte != 0 && !(may_be_written && byte == WRITTEN)
    });
    assert_eq!(wrong, None, "nobody wrote that");
}
