//! One client after the handshake: requests in, replies out.
//!
//! The thread that receives answers what the cache can answer at once, and sends those replies together
//! before it receives again. Everything else goes to the client's workers, each of which sends its
//! own reply. Nothing is shared with other clients but the cache, and a budget of memory and threads: a large
//! request that gets none of it is done by the receiving thread in pieces (see `pieces.rs`).
//!
//! Lock order: in flight, workers' queue, output are leaves; none is held over a call of the engine
//! or while another is taken.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, Scope};
use std::time::Instant;

use larder::Log;
use nbd_wire::{Command, CommandFlags, Request, RequestFormat};

use super::budget::Common;
use super::in_flight::{InFlight, OWN_BYTES, Permit};
use super::input::{Input, SMALL_PAYLOAD_BYTES};
use super::output::Output;
use super::replies::{Part, ReplyForm};
use super::reply_buffer::ReplyBuffer;
use super::terms::{Allowed, Terms, check};
use super::workers::{Job, Workers};
use crate::export::ClientConnection;
use crate::rate_limit::RateLimit;

mod pieces;

/// Replies are sent when they have come to this much.
const BATCH_BYTES: usize = 128 << 10;

/// One client that has chosen its export.
pub(crate) struct Session<'l> {
    pub(super) client: ClientConnection,
    pub(super) terms: Terms,
    pub(super) allowed: Allowed,
    pub(super) log: &'l dyn Log,
    /// Memory and threads that clients share.
    pub(super) common: &'l Common,
    /// Requests that failed: a client may cause any number of them.
    pub(super) failures: RateLimit,
    /// No more requests come.
    pub(super) is_leaving: AtomicBool,
}

/// What the receiving thread does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The next request.
    Request,
    /// Nothing: the client has said goodbye.
    End,
}

/// What the receiving thread of a session has at hand.
struct Receiving<'scope, 'env, 'flight> {
    session: &'env Session<'env>,
    input: &'env mut Input,
    output: &'env Output,
    in_flight: &'flight InFlight,
    workers: &'env Workers<'flight>,
    work: &'env (dyn Fn(Job<'flight>) + Sync),
    scope: &'scope Scope<'scope, 'env>,
    replies: ReplyBuffer,
    /// There is a thread that sends what the client does not take at once.
    has_sending_thread: bool,
}

impl Session<'_> {
    pub(super) fn form(&self) -> ReplyForm {
        self.terms.form
    }

    /// Tells the operator that a request has failed.
    pub(super) fn tell_failure(&self, message: &str) {
        if let Some(message) = self.failures.pass(Instant::now(), message.to_owned()) {
            self.log.error(&message);
        }
    }

    /// Serves requests until the client leaves or breaks the protocol; all of them have been answered then.
    pub(crate) fn serve(&self, input: &mut Input, output: &Output) {
        let in_flight = InFlight::new(&self.common.bytes);
        let workers = Workers::new(&self.common.threads);
        let work = |job: Job<'_>| self.work(job, output);
        let ended = thread::scope(|scope| {
            let mut receiving = Receiving {
                session: self,
                input,
                output,
                in_flight: &in_flight,
                workers: &workers,
                work: &work,
                scope,
                replies: ReplyBuffer::default(),
                has_sending_thread: false,
            };
            let ended = catch_unwind(AssertUnwindSafe(|| receiving.run()));
            self.is_leaving.store(true, Ordering::SeqCst);
            workers.close();
            output.close();
            ended
        });
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) if self.log.verbose() => {
                self.log.debug(&format!("a connection ended: {error}"));
            }
            Ok(Err(_)) => {}
            Err(_) => output.abort(),
        }
    }

    /// What a worker does. A panic outside the engine ends the connection, and only that. What changes nothing
    /// is not done for a client that cannot be told any more.
    fn work(&self, job: Job<'_>, output: &Output) {
        let only_looks = [Command::READ, Command::CACHE, Command::BLOCK_STATUS];
        if output.is_broken() && only_looks.contains(&job.request.command) {
            return;
        }
        let worked = catch_unwind(AssertUnwindSafe(|| {
            if self.is_early(&job) {
                return self.read_early(&job, output);
            }
            let mut reply = ReplyBuffer::default();
            self.execute(&job, &mut reply);
            output.send(&mut reply);
        }));
        drop(job);
        if worked.is_err() {
            output.abort();
        }
    }
}

impl<'scope, 'env, 'flight: 'env> Receiving<'scope, 'env, 'flight> {
    /// Receives until the end. Whatever was answered by then is sent, also if the end is an error.
    fn run(&mut self) -> io::Result<()> {
        let ended = self.receive();
        self.send();
        ended
    }

    /// Sends what has been answered. What the client does not take at once is another thread's to send: this one goes on
    /// receiving, since the client may be sending.
    fn send(&mut self) {
        let output = self.output;
        if output.send_at_once(&mut self.replies) {
            return;
        }
        if !self.has_sending_thread {
            let spawned = Builder::new()
                .name("larder-send".to_owned())
                .spawn_scoped(self.scope, || output.send_for_others());
            self.has_sending_thread = spawned.is_ok();
        }
        if self.has_sending_thread {
            output.hand_over();
        } else {
            output.send_rest();
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let format = self.session.form().format;
        loop {
            let request = self.input.peek(format).map_err(invalid)?;
            let next = match request {
                Some(request) if self.is_here(&request, format) => {
                    self.input.take(format.header_bytes());
                    self.handle(&request)?
                }
                _ => {
                    self.send();
                    match self.input.receive_more()? {
                        true => Next::Request,
                        false => Next::End,
                    }
                }
            };
            if next == Next::End || self.output.is_broken() {
                return Ok(());
            }
            if self.replies.len() >= BATCH_BYTES {
                self.send();
            }
        }
    }

    /// Whether as much of the request is here as is waited for in the buffer.
    fn is_here(&self, request: &Request, format: RequestFormat) -> bool {
        let payload = self.payload_bytes(request);
        payload > SMALL_PAYLOAD_BYTES as u64
            || self.input.received().len() >= format.header_bytes() + payload as usize
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

    fn handle(&mut self, request: &Request) -> io::Result<Next> {
        let session = self.session;
        if request.command == Command::DISCONNECT {
            return Ok(Next::End);
        }
        if let Err(refusal) = check(request, &session.terms, &session.allowed) {
            self.discard_payload(request)?;
            let (error, reason) = (refusal.error, refusal.reason);
            session
                .form()
                .error(&mut self.replies, request, error, reason);
            return Ok(Next::Request);
        }
        match request.command {
            Command::READ => {
                self.read(request)?;
                session.client.fetch_ahead_if_due();
            }
            Command::WRITE => self.write(request)?,
            _ => self.other(request),
        }
        Ok(Next::Request)
    }

    /// What neither reads nor writes.
    fn other(&mut self, request: &Request) {
        let mut request = *request;
        let permit = match self.enter_large(self.session.answer_bytes(&request)) {
            Some(permit) => permit,
            None => {
                // A shorter answer is allowed, and needs next to nothing.
                request.flags |= CommandFlags::REQ_ONE;
                self.enter(self.session.answer_bytes(&request))
            }
        };
        self.submit(&request, Vec::new(), 0, permit);
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
        self.input.discard(payload)
    }

    /// Answers as much as the cache has at once, from the beginning on; the rest is a worker's. What must be answered
    /// as a whole is all a worker's if it is large: it is charged as long as it waits for the client.
    fn read(&mut self, request: &Request) -> io::Result<()> {
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
            match form.read(&mut self.replies, request, part, fill) {
                Ok(true) => answered += part_length,
                Ok(false) => return self.read_later(request, answered),
                Err(error) => {
                    self.session.failed(request, &error, &mut self.replies);
                    return Ok(());
                }
            }
            if self.replies.len() >= BATCH_BYTES {
                self.send();
            }
        }
        Ok(())
    }

    /// Leaves the rest of a read to a worker, or to nobody if there is no room for it.
    fn read_later(&mut self, request: &Request, answered: usize) -> io::Result<()> {
        if answered > 0 {
            // The worker's part is the last and must not come before these.
            self.send();
        }
        match self.enter_large(request.length_bytes - answered as u64) {
            Some(permit) => {
                self.submit(request, Vec::new(), answered, permit);
                Ok(())
            }
            None => self.read_in_pieces(request, answered),
        }
    }

    fn write(&mut self, request: &Request) -> io::Result<()> {
        // Checked to be at most 32 MiB.
        let length = request.length_bytes as usize;
        if length <= SMALL_PAYLOAD_BYTES {
            let payload = &self.input.received()[..length];
            if !self
                .session
                .write_at_once(request, payload, &mut self.replies)
            {
                let payload = payload.to_vec();
                let permit = self.enter(request.length_bytes);
                self.submit(request, payload, 0, permit);
            }
            self.input.take(length);
            return Ok(());
        }
        let Some(permit) = self.enter_large(request.length_bytes) else {
            return self.write_in_pieces(request);
        };
        self.send();
        let mut payload = vec![0; length];
        self.input.receive_exactly(&mut payload)?;
        if !self
            .session
            .write_at_once(request, &payload, &mut self.replies)
        {
            self.submit(request, payload, 0, permit);
        }
        Ok(())
    }

    /// A place for one more request of at most the client's own share. What has been answered is sent before anything is
    /// waited for.
    fn enter(&mut self, bytes: u64) -> Permit<'flight> {
        let in_flight = self.in_flight;
        in_flight.try_enter(bytes).unwrap_or_else(|| {
            self.send();
            in_flight.enter(bytes)
        })
    }

    /// The same for a request of any size; None where clients leave too little for a large one.
    fn enter_large(&mut self, bytes: u64) -> Option<Permit<'flight>> {
        let in_flight = self.in_flight;
        in_flight.try_enter(bytes).or_else(|| {
            self.send();
            in_flight.enter_large(bytes)
        })
    }

    fn submit(
        &mut self,
        request: &Request,
        payload: Vec<u8>,
        answered_bytes: usize,
        permit: Permit<'flight>,
    ) {
        let job = Job {
            request: *request,
            payload,
            answered_bytes,
            _permit: permit,
        };
        if let Err(job) = self.workers.submit(self.scope, job, self.work) {
            self.session.execute(&job, &mut self.replies);
        }
    }
}

impl Session<'_> {
    /// Writes into the cache, if that needs no waiting, and appends the reply.
    fn write_at_once(&self, request: &Request, payload: &[u8], into: &mut ReplyBuffer) -> bool {
        let fua = request.flags.contains(CommandFlags::FUA);
        match self.client.try_write(request.offset, payload, fua) {
            Ok(true) => self.form().done(into, request),
            Ok(false) => return false,
            Err(error) => self.failed(request, &error, into),
        }
        true
    }
}

fn invalid(error: nbd_wire::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
