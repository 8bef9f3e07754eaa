//! A client that says what it is told to say, right or wrong.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, ChunkType, Command, CommandFlags, Descriptor, ExportRequest,
    MetaRequest, OPTION_REPLY_HEADER_BYTES, OptionCode, OptionHeader, OptionReplyHeader, ReplyType,
    Request, RequestFormat, SIMPLE_REPLY_BYTES, SimpleReply,
};

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Simple,
    Structured,
    Extended,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Simple, Self::Structured, Self::Extended];

    pub fn format(self) -> RequestFormat {
        match self {
            Self::Extended => RequestFormat::Extended,
            _ => RequestFormat::Compact,
        }
    }
}

/// What a request was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub cookie: u64,
    /// 0, or the protocol's number.
    pub error: u32,
    pub data: Vec<u8>,
    /// Context and extents, in order.
    pub status: Vec<(u32, Vec<Descriptor>)>,
}

/// A connection.
#[derive(Debug)]
pub struct RawClient {
    pub stream: UnixStream,
    pub form: Form,
    next_cookie: u64,
}

impl RawClient {
    /// A connection on which nothing has been said.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            form: Form::Simple,
            next_cookie: 0,
        }
    }

    /// A connection after the greeting.
    pub fn greet(socket: &Path) -> Self {
        let mut client = Self::connect(socket);
        let greeting = client.receive(18).expect("a greeting");
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        client.send(&3_u32.to_be_bytes());
        client
    }

    /// A connection to the export `name` with all metadata contexts that the form allows.
    pub fn open(socket: &Path, name: &str, form: Form) -> Self {
        let mut client = Self::greet(socket);
        client.go(name, form);
        client
    }

    /// Says what is needed for the export `name`, and takes the replies.
    pub fn go(&mut self, name: &str, form: Form) {
        self.send(&opening(name, form));
        self.form = form;
        while self.option_reply().0 != OptionCode::GO {}
        while self.option_reply().1 != ReplyType::ACK {}
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server receives");
    }

    pub fn receive(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Says an option, and gives the replies up to the last.
    pub fn option(&mut self, code: OptionCode, payload: &[u8]) -> Vec<(ReplyType, Vec<u8>)> {
        self.send(&OptionHeader::encode(code, payload));
        let mut replies = Vec::new();
        loop {
            let (answered, reply, payload) = self.option_reply();
            assert_eq!(answered, code);
            replies.push((reply, payload));
            if reply == ReplyType::ACK || reply.is_error() {
                return replies;
            }
        }
    }

    /// What an option is answered with last.
    pub fn last_reply(&mut self, code: OptionCode, payload: &[u8]) -> ReplyType {
        self.option(code, payload).last().expect("a reply").0
    }

    fn option_reply(&mut self) -> (OptionCode, ReplyType, Vec<u8>) {
        let header = self.receive(OPTION_REPLY_HEADER_BYTES).expect("a reply");
        let header = OptionReplyHeader::decode(header.first_chunk().unwrap()).unwrap();
        let payload = self.receive(header.length_bytes as usize).unwrap();
        (header.code, header.reply, payload)
    }

    /// Sends a request, and its payload if there is one. The cookie.
    pub fn submit(
        &mut self,
        command: Command,
        flags: CommandFlags,
        (offset, length_bytes): (u64, u64),
        payload: &[u8],
    ) -> u64 {
        self.next_cookie += 1;
        let cookie = self.next_cookie;
        let request = Request {
            flags,
            command,
            cookie,
            offset,
            length_bytes,
        };
        let mut message = Vec::new();
        request.encode(&mut message, self.form.format());
        message.extend_from_slice(payload);
        self.send(&message);
        cookie
    }

    /// Sends a request and waits for its answer, which must be the next.
    pub fn call(
        &mut self,
        command: Command,
        flags: CommandFlags,
        range: (u64, u64),
        payload: &[u8],
    ) -> Answer {
        let cookie = self.submit(command, flags, range, payload);
        let answer = self.answer().expect("an answer");
        assert_eq!(answer.cookie, cookie);
        answer
    }

    /// Writes, with the flag that goes with the form.
    pub fn write(&mut self, offset: u64, payload: &[u8]) -> Answer {
        let range = (offset, payload.len() as u64);
        self.call(Command::WRITE, self.write_flags(), range, payload)
    }

    pub fn write_flags(&self) -> CommandFlags {
        match self.form {
            Form::Extended => CommandFlags::PAYLOAD_LEN,
            _ => CommandFlags::empty(),
        }
    }

    /// Reads.
    pub fn read(&mut self, offset: u64, length: u64) -> Answer {
        if self.form == Form::Simple {
            // Only whoever asked knows how much comes.
            let range = (offset, length);
            let cookie = self.submit(Command::READ, CommandFlags::empty(), range, b"");
            let mut answer = self.answer().expect("an answer");
            assert_eq!(answer.cookie, cookie);
            if answer.error == 0 {
                answer.data = self.receive(length as usize).expect("the data");
            }
            return answer;
        }
        let none = CommandFlags::empty();
        self.call(Command::READ, none, (offset, length), b"")
    }

    /// The next answer. An error at the end of the connection.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let magic = self.receive(4)?;
            if u32::from_be_bytes(magic.clone().try_into().unwrap()) == 0x6744_6698 {
                let rest = self.receive(SIMPLE_REPLY_BYTES - 4)?;
                let reply = [magic, rest].concat();
                let reply = SimpleReply::decode(reply.first_chunk().unwrap()).unwrap();
                answer.cookie = reply.cookie;
                answer.error = reply.error.0;
                return Ok(answer);
            }
            assert_ne!(self.form, Form::Simple, "magic {magic:02x?}");
            let format = self.form.format();
            let rest = self.receive(ChunkHeader::bytes(format) - 4)?;
            let header = ChunkHeader::decode(&[magic, rest].concat(), format).unwrap();
            let payload = self.receive(header.length_bytes as usize)?;
            let is_first = answer == Answer::default();
            assert!(
                is_first || answer.cookie == header.cookie,
                "two replies mixed"
            );
            answer.cookie = header.cookie;
            match Chunk::decode(header.kind, &payload).unwrap() {
                Chunk::None => {}
                Chunk::Data { data, .. } => answer.data.extend_from_slice(data),
                Chunk::Hole { length_bytes, .. } => {
                    let length = answer.data.len() + length_bytes as usize;
                    answer.data.resize(length, 0);
                }
                Chunk::Status {
                    context_id,
                    descriptors,
                } => answer.status.push((context_id, descriptors)),
                Chunk::Error { error, .. } => answer.error = error.0,
                Chunk::Unknown(kind) => panic!("{kind:?}"),
            }
            if header.flags.contains(ChunkFlags::DONE) {
                return Ok(answer);
            }
        }
    }

    /// The pieces of the next reply, which must be in chunks, and which nothing else must come between.
    pub fn chunks(&mut self) -> Vec<(ChunkType, Vec<u8>)> {
        let format = self.form.format();
        let mut chunks = Vec::new();
        loop {
            let header = self.receive(ChunkHeader::bytes(format)).expect("a chunk");
            let header = ChunkHeader::decode(&header, format).unwrap();
            assert_eq!(header.cookie, self.next_cookie);
            let payload = self.receive(header.length_bytes as usize).unwrap();
            chunks.push((header.kind, payload));
            if header.flags.contains(ChunkFlags::DONE) {
                return chunks;
            }
        }
    }

    /// Says one byte after the other, each a moment after the last, until the server ends the connection. False if it
    /// has taken everything.
    pub fn trickle(&mut self, bytes: impl IntoIterator<Item = u8>) -> bool {
        // What is waited for is the end, and a while is as good as another.
        let pace = Duration::from_millis(300);
        self.stream.set_read_timeout(Some(pace)).unwrap();
        bytes.into_iter().any(|byte| {
            let is_sent = self.stream.write_all(&[byte]).is_ok();
            let heard = self.stream.read(&mut [0; 64]);
            let is_silent = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
            !is_sent || matches!(heard, Ok(0)) || heard.is_err_and(|error| !is_silent(&error))
        })
    }

    /// Nothing more will be said.
    pub fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// All that still comes, up to the end of the connection, which must come.
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

/// The options by which a client comes to an export, as they are sent.
pub fn opening(name: &str, form: Form) -> Vec<u8> {
    let mut bytes = Vec::new();
    match form {
        Form::Simple => {}
        Form::Structured => {
            bytes.extend(OptionHeader::encode(OptionCode::STRUCTURED_REPLY, b""));
        }
        Form::Extended => {
            bytes.extend(OptionHeader::encode(OptionCode::EXTENDED_HEADERS, b""));
        }
    }
    if form != Form::Simple {
        let contexts = MetaRequest {
            export: name,
            queries: vec!["base:allocation", "larder:cache"],
        };
        let contexts = contexts.encode();
        bytes.extend(OptionHeader::encode(
            OptionCode::SET_META_CONTEXT,
            &contexts,
        ));
    }
    let go = ExportRequest {
        name,
        infos: Vec::new(),
    };
    bytes.extend(OptionHeader::encode(OptionCode::GO, &go.encode()));
    bytes
}
