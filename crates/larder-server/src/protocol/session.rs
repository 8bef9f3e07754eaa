//! One client after the handshake: requests in, replies out.
//!
//! The thread that receives answers what the cache can answer at once, and sends those replies together
//! before it receives again. Everything else goes to the client's workers, each of which sends its
//! own reply. Nothing is shared with other clients but the cache.
//!
//! Lock order: in flight, workers' queue, output are leaves; none is held over a call of the engine
//! or while another is taken.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Scope};

use larder::Log;
use nbd_wire::{Command, CommandFlags, MAX_PAYLOAD_BYTES, Request, RequestFormat};

use super::in_flight::{InFlight, Permit};
use super::input::{Input, SMALL_PAYLOAD_BYTES};
use super::output::Output;
use super::replies::ReplyForm;
use super::reply_buffer::ReplyBuffer;
use super::terms::{Allowed, Terms, check};
use super::workers::{Job, Workers};
use crate::export::ClientConnection;

/// Replies are sent when they have come to this much.
const BATCH_BYTES: usize = 256 << 10;

/// One client that has chosen its export.
pub(crate) struct Session<'l> {
    pub(super) client: ClientConnection,
    pub(super) terms: Terms,
    pub(super) allowed: Allowed,
    pub(super) log: &'l dyn Log,
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
}

impl Session<'_> {
    pub(super) fn form(&self) -> ReplyForm {
        self.terms.form
    }

    pub(super) fn log(&self, message: &str) {
        self.log.error(message);
    }

    /// Serves requests until the client leaves or breaks the protocol; all of them have been answered then.
    pub(crate) fn serve(&self, input: &mut Input, output: &Output) {
        let in_flight = InFlight::default();
        let workers = Workers::default();
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
            };
            let ended = catch_unwind(AssertUnwindSafe(|| receiving.run()));
            workers.close();
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
        let Job {
            request,
            payload,
            permit,
        } = job;
        let only_looks = [Command::READ, Command::CACHE, Command::BLOCK_STATUS];
        if output.is_broken() && only_looks.contains(&request.command) {
            return;
        }
        let worked = catch_unwind(AssertUnwindSafe(|| {
            let mut reply = ReplyBuffer::default();
            self.execute(&request, &payload, &mut reply);
            output.send(&mut reply);
        }));
        drop(payload);
        drop(permit);
        if worked.is_err() {
            output.abort();
        }
    }
}

impl<'scope, 'env, 'flight: 'env> Receiving<'scope, 'env, 'flight> {
    fn run(&mut self) -> io::Result<()> {
        let format = self.session.form().format;
        loop {
            let request = self.input.peek(format).map_err(invalid)?;
            let next = match request {
                Some(request) if self.is_here(&request, format) => {
                    self.input.take(format.header_bytes());
                    self.handle(&request)?
                }
                _ => {
                    self.output.send(&mut self.replies);
                    match self.input.receive_more()? {
                        true => Next::Request,
                        false => Next::End,
                    }
                }
            };
            if next == Next::End || self.output.is_broken() {
                self.output.send(&mut self.replies);
                return Ok(());
            }
            if self.replies.len() >= BATCH_BYTES {
                self.output.send(&mut self.replies);
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
            Command::READ => self.read(request),
            Command::WRITE => self.write(request)?,
            _ => {
                let permit = self.enter(0);
                self.submit(request, Vec::new(), permit);
            }
        }
        Ok(Next::Request)
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
        if payload > MAX_PAYLOAD_BYTES.into() {
            self.output.send(&mut self.replies);
        }
        self.input.discard(payload)
    }

    fn read(&mut self, request: &Request) {
        let client = &self.session.client;
        // Checked to be at most 32 MiB.
        let length = request.length_bytes as usize;
        let fill = |space: &mut [u8]| client.try_read(request.offset, space);
        let form = self.session.form();
        match form.read(&mut self.replies, request, length, fill) {
            Ok(true) => {}
            Ok(false) => {
                let permit = self.enter(request.length_bytes);
                self.submit(request, Vec::new(), permit);
            }
            Err(error) => self.session.failed(request, &error, &mut self.replies),
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
                self.submit(request, payload, permit);
            }
            self.input.take(length);
            return Ok(());
        }
        let permit = self.enter(request.length_bytes);
        self.output.send(&mut self.replies);
        let mut payload = vec![0; length];
        self.input.receive_exactly(&mut payload)?;
        if !self
            .session
            .write_at_once(request, &payload, &mut self.replies)
        {
            self.submit(request, payload, permit);
        }
        Ok(())
    }

    /// A place for one more request. What has been answered is sent before anything is waited for.
    fn enter(&mut self, bytes: u64) -> Permit<'flight> {
        let in_flight = self.in_flight;
        in_flight.try_enter(bytes).unwrap_or_else(|| {
            self.output.send(&mut self.replies);
            in_flight.enter(bytes)
        })
    }

    fn submit(&mut self, request: &Request, payload: Vec<u8>, permit: Permit<'flight>) {
        let job = Job {
            request: *request,
            payload,
            permit,
        };
        if let Err(job) = self.workers.submit(self.scope, job, self.work) {
            self.session
                .execute(&job.request, &job.payload, &mut self.replies);
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
