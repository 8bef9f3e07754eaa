//! The thread that receives: it answers what the cache can answer at once, and finds somebody for the rest.

use std::io;
use std::thread::{Builder, Scope};

use nbd_wire::{Command, CommandFlags, Request, RequestFormat};

use super::super::in_flight::{OWN_BYTES, Permit};
use super::super::input::{Input, SMALL_PAYLOAD_BYTES};
use super::super::output::Output;
use super::super::replies::Part;
use super::super::reply_buffer::ReplyBuffer;
use super::super::terms::check;
use super::super::workers::Job;
use super::Session;
use super::serving::Serving;

/// Replies are sent when they have come to this much.
const BATCH_BYTES: usize = 128 << 10;

/// A payload is charged in steps of at most so much.
const PAYLOAD_STEP_BYTES: usize = 1 << 20;

/// What the receiving thread does next.
#[derive(Debug)]
enum Next<'s> {
    /// The next request.
    Request,
    /// This job; another thread receives.
    Job(Job<'s>),
    /// Nothing: the client has said goodbye.
    End,
}

/// What passes from who received to who receives.
pub(super) struct Hand<'s> {
    pub(super) input: &'s mut Input,
    pub(super) replies: ReplyBuffer,
    /// There is a thread that sends what the client does not take at once.
    has_sending_thread: bool,
}

impl<'s> Hand<'s> {
    pub(super) fn new(input: &'s mut Input) -> Self {
        Self {
            input,
            replies: ReplyBuffer::default(),
            has_sending_thread: false,
        }
    }
}

/// The receiving thread's turn.
pub(super) struct Receiving<'t, 'scope, 'env, 's> {
    pub(super) serving: &'env Serving<'s>,
    pub(super) session: &'s Session<'s>,
    pub(super) output: &'s Output,
    pub(super) scope: &'scope Scope<'scope, 'env>,
    pub(super) hand: &'t mut Hand<'s>,
}

impl<'s: 'env, 'env> Receiving<'_, '_, 'env, 's> {
    /// Receives until the end, or until another thread is to receive and this one has a job to do. Whatever was
    /// answered by then is sent, also if the end is an error.
    pub(super) fn run(&mut self) -> io::Result<Option<Job<'s>>> {
        let ended = self.receive();
        self.send();
        ended
    }

    /// Sends what has been answered. What the client does not take at once is another thread's to send: this one goes on
    /// receiving, since the client may be sending.
    pub(super) fn send(&mut self) {
        let output = self.output;
        if output.send_at_once(&mut self.hand.replies) {
            return;
        }
        if !self.hand.has_sending_thread {
            let spawned = Builder::new()
                .name("larder-send".to_owned())
                .spawn_scoped(self.scope, || output.send_for_others());
            self.hand.has_sending_thread = spawned.is_ok();
        }
        if self.hand.has_sending_thread {
            output.hand_over();
        } else {
            output.send_rest();
        }
    }

    fn receive(&mut self) -> io::Result<Option<Job<'s>>> {
        let format = self.session.form().format;
        loop {
            let request = self.hand.input.peek(format).map_err(invalid)?;
            let next = match request {
                Some(request) if self.is_here(&request, format) => {
                    self.hand.input.take(format.header_bytes());
                    self.handle(&request)?
                }
                _ => {
                    let has_answered = !self.hand.replies.is_empty();
                    self.send();
                    let received = match has_answered {
                        true => self.hand.input.receive_next(),
                        false => self.hand.input.receive_more(),
                    };
                    match received? {
                        true => Next::Request,
                        false => Next::End,
                    }
                }
            };
            match next {
                Next::Job(job) => return Ok(Some(job)),
                Next::Request if !self.output.is_broken() => {}
                Next::Request | Next::End => return Ok(None),
            }
            if self.hand.replies.len() >= BATCH_BYTES {
                self.send();
            }
        }
    }

    /// Whether as much of the request is here as is waited for in the buffer.
    fn is_here(&self, request: &Request, format: RequestFormat) -> bool {
        let payload = self.payload_bytes(request);
        payload > SMALL_PAYLOAD_BYTES as u64
            || self.hand.input.received().len() >= format.header_bytes() + payload as usize
    }

    /// Bytes that follow the request's header. With extended headers a flag says so; qemu leaves it out
    /// of its writes, which always have a payload.
    fn payload_bytes(&self, request: &Request) -> u64 {
        let is_flagged = self.session.form().format == RequestFormat::Extended
            && request.flags.contains(CommandFlags::PAYLOAD_LEN);
        match request.command == Command::WRITE || is_flagged {
            true => request.length_bytes,
            false => 0,
        }
    }

    fn handle(&mut self, request: &Request) -> io::Result<Next<'s>> {
        let session = self.session;
        if request.command == Command::DISCONNECT {
            return Ok(Next::End);
        }
        if let Err(refusal) = check(request, &session.terms, &session.allowed) {
            self.discard_payload(request)?;
            let (error, reason) = (refusal.error, refusal.reason);
            session
                .form()
                .error(&mut self.hand.replies, request, error, reason);
            return Ok(Next::Request);
        }
        match request.command {
            Command::READ => {
                let next = self.read(request)?;
                session.client.fetch_ahead_if_due(session.common);
                Ok(next)
            }
            Command::WRITE => self.write(request),
            _ => Ok(self.other(request)),
        }
    }

    /// What neither reads nor writes.
    fn other(&mut self, request: &Request) -> Next<'s> {
        let mut request = *request;
        let permit = match self.enter_large(self.session.working_bytes(&request)) {
            Some(permit) => permit,
            None => {
                // A shorter answer is allowed, and needs next to nothing.
                request.flags |= CommandFlags::REQ_ONE;
                self.enter(self.session.working_bytes(&request))
            }
        };
        self.submit(&request, Vec::new(), 0, permit)
    }

    /// Takes away the payload of a request that is refused, unless it is endless.
    fn discard_payload(&mut self, request: &Request) -> io::Result<()> {
        let payload = self.payload_bytes(request);
        if payload > u32::MAX.into() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a payload of {payload} bytes"),
            ));
        }
        if payload > SMALL_PAYLOAD_BYTES as u64 {
            self.send();
        }
        self.hand.input.discard(payload)
    }

    /// Answers as much as the cache has at once, from the beginning on; the rest is a worker's. What must be answered
    /// as a whole is all a worker's if it is large: it is charged as long as it waits for the client.
    fn read(&mut self, request: &Request) -> io::Result<Next<'s>> {
        let client = &self.session.client;
        let form = self.session.form();
        // Checked to be at most 32 MiB.
        let length = request.length_bytes as usize;
        let mut answered = 0;
        while answered < length {
            let part_length = form.part_bytes(request).min(length - answered);
            if part_length as u64 > OWN_BYTES {
                return self.read_later(request, 0);
            }
            let part = Part {
                offset: request.offset + answered as u64,
                length: part_length,
                is_last: answered + part_length == length,
            };
            let fill = |space: &mut [u8]| client.try_read(part.offset, space);
            match form.read(&mut self.hand.replies, request, part, fill) {
                Ok(true) => answered += part_length,
                Ok(false) => return self.read_later(request, answered),
                Err(error) => {
                    self.session.failed(request, &error, &mut self.hand.replies);
                    return Ok(Next::Request);
                }
            }
            if self.hand.replies.len() >= BATCH_BYTES {
                self.send();
            }
        }
        Ok(Next::Request)
    }

    /// Leaves the rest of a read to a worker, or to nobody if there is no room for it.
    fn read_later(&mut self, request: &Request, answered: usize) -> io::Result<Next<'s>> {
        if answered > 0 {
            // The worker's part is the last and must not come before these.
            self.send();
        }
        let left = request.length_bytes - answered as u64;
        let permit = match self.enter_large(self.session.fetched_bytes(left)) {
            // A large block is fetched for it all the same.
            None if left <= OWN_BYTES => self.enter(left),
            None => {
                self.read_in_pieces(request, answered)?;
                return Ok(Next::Request);
            }
            Some(permit) => permit,
        };
        Ok(self.submit(request, Vec::new(), answered, permit))
    }

    fn write(&mut self, request: &Request) -> io::Result<Next<'s>> {
        // Checked to be at most 32 MiB.
        let length = request.length_bytes as usize;
        if length <= SMALL_PAYLOAD_BYTES {
            let payload = &self.hand.input.received()[..length];
            if !self
                .session
                .write_at_once(request, payload, &mut self.hand.replies)
            {
                let payload = payload.to_vec();
                self.hand.input.take(length);
                let permit = self.enter(request.length_bytes);
                return Ok(self.submit(request, payload, 0, permit));
            }
            self.hand.input.take(length);
            return Ok(Next::Request);
        }
        self.write_large(request)
    }

    /// A payload is charged as it comes, so that a client which stops in its middle has no more of the budget than it
    /// has sent.
    fn write_large(&mut self, request: &Request) -> io::Result<Next<'s>> {
        let length = request.length_bytes as usize;
        let mut permit = self.enter(OWN_BYTES.min(request.length_bytes));
        self.send();
        // Memory that is zero until it is used is not taken before.
        let mut payload = vec![0; length];
        let mut here = 0;
        while here < length {
            let end = length.min(here.max(OWN_BYTES as usize) + here.min(PAYLOAD_STEP_BYTES));
            if !permit.grow_to(end as u64) {
                payload.truncate(here);
                self.write_in_pieces(request, payload, permit)?;
                return Ok(Next::Request);
            }
            self.hand.input.receive_exactly(&mut payload[here..end])?;
            here = end;
        }
        if !self
            .session
            .write_at_once(request, &payload, &mut self.hand.replies)
        {
            return Ok(self.submit(request, payload, 0, permit));
        }
        Ok(Next::Request)
    }

    /// A place for one more request of at most the client's own share. What has been answered is sent before anything is
    /// waited for.
    fn enter(&mut self, bytes: u64) -> Permit<'s> {
        let in_flight = self.serving.in_flight;
        in_flight.try_enter(bytes).unwrap_or_else(|| {
            self.send();
            in_flight.enter(bytes)
        })
    }

    /// The same for a request of any size; None where clients leave too little for a large one.
    fn enter_large(&mut self, bytes: u64) -> Option<Permit<'s>> {
        let in_flight = self.serving.in_flight;
        in_flight.try_enter(bytes).or_else(|| {
            self.send();
            in_flight.enter_large(bytes)
        })
    }

    /// Finds somebody for a job: if nothing more has come and a thread has nothing to do, that one is to receive, and
    /// the job is this one's.
    fn submit(
        &mut self,
        request: &Request,
        payload: Vec<u8>,
        answered_bytes: usize,
        permit: Permit<'s>,
    ) -> Next<'s> {
        let job = Job {
            request: *request,
            payload,
            answered_bytes,
            permit,
        };
        let (serving, scope) = (self.serving, self.scope);
        if self.hand.input.received().is_empty() && serving.workers.offer_turn() {
            return Next::Job(job);
        }
        let begin = || serving.work(scope);
        if let Err(job) = serving.workers.submit(scope, job, begin) {
            self.session.execute(&job, &mut self.hand.replies);
        }
        Next::Request
    }
}

fn invalid(error: nbd_wire::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
