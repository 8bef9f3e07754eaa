//! The handle that every client shares: reads with retries, and nothing to write.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use larder::{Capabilities, Extent, Log, Origin, OriginVersion, RequestLimits, ZeroOptions};
use rustix::io::Errno;
use url::Url;

use super::address::shown;
use super::answer::check;
use super::deadline::{Deadline, Patience};
use super::failure::{Failure, Kind};
use super::pinned::Pinned;
use super::route::{Route, discard};
use super::version;

/// A round trip costs more than some further kilobytes.
const PREFERRED_BYTES: u32 = 64 << 10;

/// The object, for all threads.
pub(super) struct HttpOrigin {
    /// The address as messages show it.
    pub(super) shown: String,
    pub(super) route: Route,
    pub(super) pinned: Pinned,
    pub(super) timeout: Duration,
    pub(super) log: Arc<dyn Log>,
    /// What every read is told since the object was found to be another one.
    pub(super) changed: OnceLock<String>,
    /// Reads are waiting for the server, and the log knows.
    pub(super) troubled: AtomicBool,
}

impl HttpOrigin {
    /// Fills the buffer, going on after an attempt that brought some of it.
    fn read_all(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut deadline = Deadline::new(self.timeout, buffer.len());
        let mut filled = 0;
        let mut failures = 0;
        let mut hurried = false;
        let mut last: Option<Failure> = None;
        loop {
            if let Some(changed) = self.changed.get() {
                return Err(io::Error::other(changed.clone()));
            }
            let before = filled;
            let failure = match self.attempt(offset, buffer, &mut filled, &deadline) {
                Ok(()) => {
                    self.tell_recovery();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            match failure.kind {
                Kind::Changed => return Err(self.tell_change(&failure)),
                Kind::Lasting => {
                    return Err(io::Error::other(format!(
                        "{}: {}",
                        self.shown, failure.message
                    )));
                }
                Kind::Lost if !hurried => {
                    // An idle connection that the server had closed says nothing about the server.
                    hurried = true;
                    last = Some(failure);
                    continue;
                }
                Kind::TooLate => return Err(self.timed_out(&last.unwrap_or(failure))),
                Kind::Unanswered => deadline.be_patient(Patience::Answer),
                Kind::Withheld => deadline.be_patient(Patience::Body),
                Kind::Lost | Kind::Silent | Kind::Passing => {}
            }
            failures = if filled > before { 0 } else { failures + 1 };
            let Some(pause) = deadline.pause(failures, failure.retry_after) else {
                return Err(self.timed_out(&failure));
            };
            self.tell_trouble(&failure, failures);
            std::thread::sleep(pause);
            last = Some(failure);
        }
    }

    /// One attempt: where redirects led before, else (and if that does not do) at the original address.
    fn attempt(
        &self,
        offset: u64,
        buffer: &mut [u8],
        filled: &mut usize,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        if let Some(target) = self.route.target() {
            let result = self.attempt_at(Some(&target), offset, buffer, filled, deadline);
            let Err(failure) = result else {
                return Ok(());
            };
            self.route.forget(&target);
            if deadline.is_over() {
                return Err(failure.at(&shown(&target)).passing());
            }
        }
        self.attempt_at(None, offset, buffer, filled, deadline)
    }

    fn attempt_at(
        &self,
        start: Option<&Url>,
        offset: u64,
        buffer: &mut [u8],
        filled: &mut usize,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let wanted = &mut buffer[*filled..];
        let first = offset + *filled as u64;
        let last = first + wanted.len() as u64 - 1;
        let mut reached = self.route.get(start, first, last, deadline)?;
        if let Err(failure) = check(&reached.answer.response, &self.pinned, first, last) {
            discard(reached.answer);
            return Err(match &reached.redirected_to {
                Some(url) if failure.kind != Kind::Changed => failure.at(&shown(url)),
                _ => failure,
            });
        }
        let body = reached.answer.response.body_mut();
        let brought = fill(&mut body.as_reader(), wanted, filled);
        let began_after = brought.inspect_err(|failure| reached.client.note(failure))?;
        reached.client.learn(Patience::Body, began_after);
        if let Some(target) = reached.redirected_to {
            self.route.remember(target);
        }
        Ok(())
    }

    /// A single failure is worth nobody's attention; a second one in a row is the server's.
    fn tell_trouble(&self, failure: &Failure, failures: u32) {
        let message = format!("{}: {}; trying again", self.shown, failure.message);
        if failures > 1 && !self.troubled.swap(true, Ordering::Relaxed) {
            self.log
                .warning(&format!("{message} for up to {:?}", self.timeout));
        } else if self.log.verbose() {
            self.log.debug(&message);
        }
    }

    fn tell_recovery(&self) {
        if self.troubled.load(Ordering::Relaxed) && self.troubled.swap(false, Ordering::Relaxed) {
            self.log
                .warning(&format!("{}: the server answers again", self.shown));
        }
    }

    fn tell_change(&self, failure: &Failure) -> io::Error {
        let message = format!(
            "{} has changed at the server ({})",
            self.shown, failure.message
        );
        if self.changed.set(message.clone()).is_ok() {
            self.log.error(&format!(
                "{message}: it cannot be read any more and has to be opened anew"
            ));
        }
        io::Error::other(self.changed.get().cloned().unwrap_or(message))
    }

    /// All of a read's time has passed in vain: whatever came, to ask once more for less would take as long again.
    fn timed_out(&self, failure: &Failure) -> io::Error {
        let message = format!(
            "{}: {}, tried for {:?}",
            self.shown, failure.message, self.timeout
        );
        io::Error::new(io::ErrorKind::TimedOut, message)
    }
}

/// Fills a buffer from a body that has to end with it, and counts in `filled` what came and can be kept. How long it took to begin.
pub(super) fn fill(
    body: &mut impl Read,
    mut wanted: &mut [u8],
    filled: &mut usize,
) -> Result<Duration, Failure> {
    let (before, asked) = (*filled, Instant::now());
    let mut began_after = Duration::ZERO;
    while !wanted.is_empty() {
        let is_first = *filled == before;
        let count = body
            .read(wanted)
            .map_err(|error| of_body(error, is_first))?;
        if is_first {
            began_after = asked.elapsed();
        }
        if count == 0 {
            return Err(Failure::new(
                Kind::Lost,
                "the server sent less of a range than it announced",
            ));
        }
        *filled += count;
        wanted = &mut wanted[count..];
    }
    // Only a body that was read to its end gives its connection back. An error there hurts no byte.
    match body.read(&mut [0]) {
        Ok(0) | Err(_) => Ok(began_after),
        Ok(_) => {
            *filled = before;
            Err(Failure::new(
                Kind::Passing,
                "the server sent more of a range than was asked for",
            ))
        }
    }
}

/// The failure of a body that brought no more, or nothing at all if this was to be the first of it.
fn of_body(error: io::Error, is_first: bool) -> Failure {
    let mut failure = Failure::from(error);
    if is_first && failure.kind == Kind::Silent {
        failure.kind = Kind::Withheld;
    }
    failure
}

impl Origin for HttpOrigin {
    fn size(&self) -> u64 {
        self.pinned.size_bytes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multi_conn: true,
            parallel: true,
            ..Capabilities::default()
        }
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits {
            minimum: 1,
            preferred: PREFERRED_BYTES,
            maximum: RequestLimits::DEFAULT_MAXIMUM_BYTES,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        match end {
            _ if buffer.is_empty() => Ok(()),
            Some(end) if end <= self.pinned.size_bytes => self.read_all(offset, buffer),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn write(&self, _offset: u64, _data: &[u8], _fua: bool) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, _offset: u64, _length: u64, _options: ZeroOptions) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    fn trim(&self, _offset: u64, _length: u64, _fua: bool) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }

    fn extents(&self, _offset: u64, _length: u64, _one: bool) -> io::Result<Vec<Extent>> {
        Err(Errno::NOTSUP.into())
    }

    /// What was pinned: every answer is checked against it, and nothing of another version is read.
    fn version(&self) -> io::Result<Option<OriginVersion>> {
        Ok(version::of(self.route.original(), &self.pinned.validator))
    }
}
