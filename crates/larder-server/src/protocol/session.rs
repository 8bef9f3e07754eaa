//! One client after the handshake: requests in, replies out.
//!
//! The thread that receives answers what the cache can answer at once, and sends those replies together
//! before it receives again. Everything else goes to the client's workers, each of which sends its
//! own reply. Where one of those has nothing to do and nothing more has come, it is told to receive instead, and
//! who received does the job itself: the request need not wait until another thread has woken up. Nothing is shared with other clients but the cache, and a budget of memory and threads: a large
//! request that gets none of it is done by the receiving thread in pieces (see `pieces.rs`).
//!
//! Lock order: who receives holds `hand`. Below it in flight, workers' queue, output are leaves; none is held over a
//! call of the engine or while another is taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use larder::Log;
use nbd_wire::{Command, CommandFlags, Request};

use super::budget::Common;
use super::in_flight::InFlight;
use super::input::Input;
use super::output::Output;
use super::replies::ReplyForm;
use super::reply_buffer::ReplyBuffer;
use super::terms::{Allowed, Terms};
use super::workers::Job;
use crate::export::ClientConnection;
use crate::rate_limit::RateLimit;
use crate::stream::Stream;

mod pieces;
mod receiving;
mod serving;

use serving::Serving;

/// One client that has chosen its export.
pub(crate) struct Session<'l> {
    pub(super) client: ClientConnection,
    pub(super) terms: Terms,
    pub(super) allowed: Allowed,
    pub(super) log: &'l dyn Log,
    /// Memory and threads that clients share.
    pub(super) common: &'l Common,
    /// Requests that failed, of all clients: any of them may cause any number, and come again.
    pub(super) failures: &'l RateLimit,
    /// No more requests come.
    pub(super) is_leaving: AtomicBool,
    /// The client's socket, to ask whether the client is there.
    pub(super) stream: Stream,
    /// The unit in which the cache fetches, in bytes.
    pub(super) block_bytes: u64,
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
        let serving = Serving::new(self, (input, output), &in_flight);
        match serving.run() {
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
