//! Doing what a request asks for, whatever it has to wait for.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use larder::{CacheState, ErrorKind, Extent, ZeroOptions};
use nbd_wire::{Command, CommandFlags, Descriptor, ErrorCode, Request, RequestFormat, StatusFlags};

use super::contexts::{CACHED, Context, DIRTY};
use super::in_flight::{OWN_BYTES, Permit};
use super::output::{Now, Output};
use super::replies::Part;
use super::reply_buffer::ReplyBuffer;
use super::session::Session;
use super::workers::Job;

/// The longest length of one extent in a compact answer: a multiple of every block size below it.
const MAX_COMPACT_EXTENT_BYTES: u64 = 2 << 30;
/// Extents of one context in one answer, at most.
const MAX_EXTENTS: usize = 64 << 10;
/// Memory that one extent takes while it is answered.
const EXTENT_BYTES: u64 = 16;
/// What is fetched at once of a hint, where blocks are not larger. Before more of it is followed it is asked whether the client is
/// still there.
const FETCH_BYTES: u64 = 8 << 20;
/// Memory for the blocks that are looked at, to tell what the cache has of a range.
const LOOK_BYTES: u64 = 8 << 20;

/// What of a read has not been answered yet.
fn rest(request: &Request, answered_bytes: usize) -> Part {
    Part {
        offset: request.offset + answered_bytes as u64,
        // Checked to be at most 32 MiB.
        length: request.length_bytes as usize - answered_bytes,
        is_last: true,
    }
}

impl Session<'_> {
    /// Does the job, whose request has been checked, and appends its reply.
    pub(super) fn execute(&self, job: &Job<'_>, into: &mut ReplyBuffer) {
        let (request, payload) = (&job.request, &*job.payload);
        let done = match request.command {
            Command::READ => self.read(request, job.answered_bytes, into),
            Command::BLOCK_STATUS => self.block_status(request, into),
            Command::CACHE => self
                .cache(request, &job.permit)
                .map(|()| self.form().done(into, request)),
            _ => self
                .change(request, payload)
                .map(|()| self.form().done(into, request)),
        };
        if let Err(error) = done {
            self.failed(request, &error, into);
        }
    }

    /// Whether the job's reply can go out before the cache has done all that the request makes it do.
    pub(super) fn is_early(&self, job: &Job<'_>) -> bool {
        let left = job.request.length_bytes - job.answered_bytes as u64;
        job.request.command == Command::READ && left <= OWN_BYTES
    }

    /// Reads what has not been answered yet, and sends it as soon as it is here. The client is waited for only when the
    /// cache has done its part: others may wait for that. A panic here is none of the cache's.
    pub(super) fn read_early(&self, job: &Job<'_>, output: &Output) {
        let request = &job.request;
        let part = rest(request, job.answered_bytes);
        let mut data = vec![0; part.length];
        let mut reply = ReplyBuffer::default();
        let mut answered = None;
        let read = self.client.read_for(part.offset, &mut data, &mut |data| {
            let fill = |space: &mut [u8]| {
                space.copy_from_slice(data);
                Ok::<_, Infallible>(true)
            };
            answered = Some(catch_unwind(AssertUnwindSafe(|| {
                let Ok(_) = self.form().read(&mut reply, request, part, fill);
                output.send_now(&mut reply)
            })));
        });
        drop(data);
        match (&answered, read) {
            (None, Err(error)) => {
                self.failed(request, &error, &mut reply);
                output.send(&mut reply);
            }
            // Answered already.
            (Some(_), Err(error)) => self.tell_failure(&error.to_string()),
            (_, Ok(())) => {}
        }
        match answered {
            Some(Ok(Now::Kept)) => output.send(&mut reply),
            Some(Ok(Now::Rest)) => output.send_rest(),
            Some(Err(_)) => output.abort(),
            Some(Ok(Now::Done)) | None => {}
        }
    }

    /// Reads what has not been answered yet.
    fn read(
        &self,
        request: &Request,
        answered_bytes: usize,
        into: &mut ReplyBuffer,
    ) -> Result<(), larder::Error> {
        let part = rest(request, answered_bytes);
        let fill = |space: &mut [u8]| {
            self.client.read(part.offset, space)?;
            Ok(true)
        };
        self.form().read(into, request, part, fill)?;
        Ok(())
    }

    fn change(&self, request: &Request, payload: &[u8]) -> Result<(), larder::Error> {
        let (offset, length) = (request.offset, request.length_bytes);
        let fua = request.flags.contains(CommandFlags::FUA);
        match request.command {
            Command::WRITE => self.client.write(offset, payload, fua),
            Command::FLUSH => self.client.flush(),
            Command::TRIM => self.client.trim(offset, length, fua),
            _ => {
                let options = ZeroOptions {
                    may_trim: !request.flags.contains(CommandFlags::NO_HOLE),
                    fua,
                    fast: request.flags.contains(CommandFlags::FAST_ZERO),
                };
                self.client.zero(offset, length, options)
            }
        }
    }

    /// Fetches the range, however long it is, in pieces, as long as the client stays: what it hinted at is of no use to it
    /// once it leaves, and must not hold up its end, nor the server's.
    fn cache(&self, request: &Request, permit: &Permit<'_>) -> Result<(), larder::Error> {
        let end = request.offset + request.length_bytes;
        let mut at = request.offset;
        while at < end {
            let piece = permit.piece(self.fetched_bytes(FETCH_BYTES.min(end - at)));
            let Some(piece) = piece.filter(|_| !self.is_client_leaving()) else {
                break;
            };
            self.client.cache(at, piece.bytes().min(end - at))?;
            at += piece.bytes();
        }
        Ok(())
    }

    /// Whether no more requests come, whoever has noticed. Who receives may wait for something else.
    fn is_client_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst) || self.stream.is_over() || self.stream.has_hung_up()
    }

    /// What a request other than a read or a write may take of the memory that one client may have under way.
    pub(super) fn working_bytes(&self, request: &Request) -> u64 {
        let is_long = !request.flags.contains(CommandFlags::REQ_ONE);
        match request.command {
            Command::BLOCK_STATUS if is_long => {
                let contexts = &self.terms.contexts;
                let looks = contexts.contains(&Context::Cache);
                contexts.len() as u64 * MAX_EXTENTS as u64 * EXTENT_BYTES
                    + if looks { LOOK_BYTES } else { 0 }
            }
            _ => 0,
        }
    }

    /// What a read of so many bytes that asks the origin takes: at least the block that is fetched for it, as far as that is fetched
    /// at once.
    pub(super) fn fetched_bytes(&self, length: u64) -> u64 {
        length.max(self.block_bytes.min(larder::MAX_FETCH_BYTES))
    }

    fn block_status(&self, request: &Request, into: &mut ReplyBuffer) -> Result<(), larder::Error> {
        let one = request.flags.contains(CommandFlags::REQ_ONE);
        let mut answers = Vec::new();
        for context in &self.terms.contexts {
            let descriptors = match context {
                Context::Allocation => self.allocation(request, one)?,
                Context::Cache => self.cache_status(request, one)?,
            };
            answers.push((context.id(), descriptors));
        }
        let count = answers.len();
        for (index, (id, descriptors)) in answers.into_iter().enumerate() {
            let is_last = index + 1 == count;
            self.form().status(into, request, id, descriptors, is_last);
        }
        Ok(())
    }

    fn allocation(&self, request: &Request, one: bool) -> Result<Vec<Descriptor>, larder::Error> {
        let (offset, length) = (request.offset, request.length_bytes);
        let extents = self.client.extents(offset, length, one)?;
        let runs = extents.iter().map(|extent: &Extent| {
            let mut status = StatusFlags::empty();
            status.set(StatusFlags::HOLE, extent.hole);
            status.set(StatusFlags::ZERO, extent.zero);
            (extent.length, u64::from(status.bits()))
        });
        Ok(self.descriptors(runs, one))
    }

    fn cache_status(&self, request: &Request, one: bool) -> Result<Vec<Descriptor>, larder::Error> {
        let (offset, length) = (request.offset, request.length_bytes);
        let most = if one { 1 } else { MAX_EXTENTS };
        let extents = self.client.cache_status(offset, length, most)?;
        let runs = extents.iter().map(|extent| {
            let status = match extent.state {
                CacheState::Absent => 0,
                CacheState::Clean => CACHED,
                CacheState::Dirty => CACHED | DIRTY,
            };
            (extent.length, status)
        });
        Ok(self.descriptors(runs, one))
    }

    /// The runs as an answer has them: cut to what its lengths can say, and not too many.
    fn descriptors(&self, runs: impl Iterator<Item = (u64, u64)>, one: bool) -> Vec<Descriptor> {
        let longest = match self.form().format {
            RequestFormat::Compact => MAX_COMPACT_EXTENT_BYTES,
            RequestFormat::Extended => u64::MAX,
        };
        let most = if one { 1 } else { MAX_EXTENTS };
        let mut descriptors = Vec::new();
        for (length, status) in runs.take(most) {
            let length_bytes = length.min(longest);
            descriptors.push(Descriptor {
                length_bytes,
                status,
            });
            if length_bytes < length {
                break;
            }
        }
        descriptors
    }

    /// Appends the reply to a request that the cache refused, and tells the operator.
    pub(super) fn failed(&self, request: &Request, error: &larder::Error, into: &mut ReplyBuffer) {
        let message = error.to_string();
        // An answer, and not for the log: the client asked whether it would be fast.
        let is_answer = error.kind() == ErrorKind::NotSupported
            && request.flags.contains(CommandFlags::FAST_ZERO);
        if !is_answer {
            self.tell_failure(&message);
        }
        let code = own_word(ErrorCode::from_errno(error.errno()), request);
        self.form().error(into, request, code, &message);
    }
}

/// What an origin's error is in this server's mouth: three of them say something else there than that it failed
/// (NBD protocol, "Error values").
fn own_word(code: ErrorCode, request: &Request) -> ErrorCode {
    let is_fast = request.flags.contains(CommandFlags::FAST_ZERO);
    match code {
        ErrorCode::NOT_SUPPORTED if !is_fast => ErrorCode::IO,
        ErrorCode::OVERFLOW | ErrorCode::SHUTDOWN => ErrorCode::IO,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origins_error_says_nothing_of_this_server() {
        let request = |flags| Request {
            flags,
            command: Command::WRITE_ZEROES,
            cookie: 0,
            offset: 0,
            length_bytes: 512,
        };
        let (plain, fast) = (
            request(CommandFlags::empty()),
            request(CommandFlags::FAST_ZERO),
        );
        for (code, request, told) in [
            (ErrorCode::NOT_SUPPORTED, &plain, ErrorCode::IO),
            (ErrorCode::NOT_SUPPORTED, &fast, ErrorCode::NOT_SUPPORTED),
            (ErrorCode::SHUTDOWN, &fast, ErrorCode::IO),
            (ErrorCode::OVERFLOW, &plain, ErrorCode::IO),
            (ErrorCode::NO_SPACE, &plain, ErrorCode::NO_SPACE),
        ] {
            assert_eq!(own_word(code, request), told);
        }
    }
}
