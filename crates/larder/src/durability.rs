//! Durable requests: flushes of the origin, and requests that end with one.
//!
//! An origin tells each failure once, to whoever asks first. So whoever is told that all is well must know
//! whether somebody else was told otherwise, since what both had written was lost together. A failure counts from
//! the moment its request ends; a request that succeeds first waits for all that were under way by then, and looks
//! at the count afterwards. Nobody waits while its own request is under way, so no two wait for each other.
//!
//! **Lost connections.** An origin that lost its connection with unflushed writes says so once on each of ours, see
//! [`crate::Origin::flush`]; so it concerns only those who share the connection that it was told on. Whoever
//! still has what was lost does its work again rather than fail, a bounded number of times.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::attached::Attached;
use crate::config::Mode;
use crate::sync::Condvar;
use crate::unflushed::Flush;
use crate::volume::Volume;
use crate::{Fua, sync, through};

/// How often one flush or durable request does its work again.
pub(crate) const MOST_RETRIES: u32 = 8;

/// Why nothing counts as durable.
#[derive(Debug)]
pub(crate) enum NotDurable {
    /// The origin refused.
    Refused(io::Error),
    /// The origin works, but has lost what it had not flushed.
    Lost(io::Error),
    /// Somebody else was told of a failure meanwhile.
    OthersFailed,
}

impl NotDurable {
    /// Whether doing the work again may help.
    pub(crate) fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    pub(crate) fn into_error(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::Lost(error) => error,
            Self::OthersFailed => io::Error::other("another request's durability failed meanwhile"),
        }
    }
}

/// Whether the error of a durable request, or of a flush, tells of a lost connection.
pub(crate) fn is_loss(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

/// What had failed before somebody wrote what is to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failures {
    /// On any connection, losses apart.
    refused: u64,
    /// On its own.
    losses: u64,
}

#[derive(Debug, Default)]
struct State {
    refused: u64,
    losses: u64,
    next: u64,
    under_way: BTreeSet<u64>,
}

/// The durable requests of a volume.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    state: Mutex<State>,
    ended: Condvar,
}

/// A durable request under way; it has failed if it is dropped before it ends.
struct UnderWay<'a> {
    durability: &'a Durability,
    attached: &'a Attached,
    number: u64,
    end: End,
}

/// How a durable request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Refused,
    Lost,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = sync::lock(&self.durability.state);
        state.under_way.remove(&self.number);
        match self.end {
            End::Well => {}
            End::Refused => state.refused += 1,
            End::Lost => {
                state.losses += 1;
                self.attached.losses.fetch_add(1, Ordering::SeqCst);
            }
        }
        drop(state);
        self.durability.ended.notify_all();
    }
}

/// Whether a durable request was refused for what it is, as a fast zero is that would not be fast: nothing was done, so that it was
/// told of nobody's loss.
fn says_nothing_of_others(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

impl Durability {
    /// To be asked before the first write of what is to be durable through that connection.
    pub(crate) fn failures(&self, attached: &Attached) -> Failures {
        let state = sync::lock(&self.state);
        Failures {
            refused: state.refused,
            losses: attached.losses.load(Ordering::SeqCst),
        }
    }

    /// How many durable requests have failed, on any connection and for any reason.
    pub(crate) fn all_failures(&self) -> u64 {
        let state = sync::lock(&self.state);
        state.refused + state.losses
    }

    /// Makes a request that is durable by itself, whatever else failed. Its own failure may be all that is told of
    /// what others have lost.
    pub(crate) fn watch(
        &self,
        attached: &Attached,
        request: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut under_way = self.begin(attached);
        let result = request();
        if result.as_ref().err().is_none_or(says_nothing_of_others) {
            under_way.end = End::Well;
        }
        result
    }

    /// Makes a durable request. What was written since `before` was asked for is durable only if nothing has
    /// failed since that would have lost it.
    pub(crate) fn attempt(
        &self,
        attached: &Attached,
        before: Failures,
        request: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), NotDurable> {
        let mut under_way = self.begin(attached);
        let result = request();
        under_way.end = match &result {
            Ok(()) => End::Well,
            Err(error) if says_nothing_of_others(error) => End::Well,
            Err(error) if is_loss(error) => End::Lost,
            Err(_) => End::Refused,
        };
        drop(under_way);
        match result {
            Ok(()) => {
                self.settle();
                if self.failures(attached) == before {
                    Ok(())
                } else {
                    Err(NotDurable::OthersFailed)
                }
            }
            Err(error) if is_loss(&error) => Err(NotDurable::Lost(error)),
            Err(error) => Err(NotDurable::Refused(error)),
        }
    }

    fn begin<'a>(&'a self, attached: &'a Attached) -> UnderWay<'a> {
        let mut state = sync::lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        UnderWay {
            durability: self,
            attached,
            number,
            end: End::Refused,
        }
    }

    /// Waits until all that are under way now have ended.
    fn settle(&self) {
        let mut state = sync::lock(&self.state);
        let later = state.next;
        while state.under_way.first().is_some_and(|first| *first < later) {
            state = sync::wait(&self.ended, state);
        }
    }
}

impl Volume {
    /// Makes a request that is to be durable. If it ends with a flush of the origin rather than with FUA of its
    /// own, it fails if anybody's durability failed meanwhile: the origin may have told that failure to them alone.
    /// What was lost with a connection is done again.
    pub(crate) fn durably(
        &self,
        attached: &Attached,
        mut request: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        if attached.capabilities.fua == Fua::Native {
            return self.durability.watch(attached, request);
        }
        let mut retries = 0;
        loop {
            let before = self.durability.failures(attached);
            let attempt = self.durability.attempt(attached, before, &mut request);
            let Err(failure) = attempt else {
                return Ok(());
            };
            if !self.can_make_up_for(&failure) || retries == MOST_RETRIES {
                return Err(failure.into_error());
            }
            retries += 1;
        }
    }

    /// A flush of that connection has succeeded which began after that moment of [`Volume::unflushed`].
    pub(crate) fn note_flushed(&self, attached: &Attached, began: u64) {
        let covers_all = attached.capabilities.multi_conn;
        let own = (!covers_all).then_some(attached.number);
        let flush = Flush {
            joined: attached.joined,
            began,
        };
        self.unflushed.flushed(flush, own);
    }

    /// Flushes the origin, where there is nothing that could be written again.
    pub(crate) fn flush_origin(&self, attached: &Attached) -> io::Result<()> {
        let mut retries = 0;
        loop {
            let began = self.unflushed.moment();
            let before = self.durability.failures(attached);
            let attempt = self
                .durability
                .attempt(attached, before, || attached.flush());
            match attempt {
                Ok(()) => {
                    self.note_flushed(attached, began);
                    return Ok(());
                }
                // Whoever still has what they lost was told.
                Err(NotDurable::OthersFailed) if !self.is_written_through() => return Ok(()),
                Err(failure @ NotDurable::OthersFailed) => return Err(failure.into_error()),
                Err(failure) if !self.can_make_up_for(&failure) || retries == MOST_RETRIES => {
                    return Err(failure.into_error());
                }
                Err(_) => retries += 1,
            }
        }
    }

    /// Whether doing the work again makes up for it. What was written through is in nobody's hands any
    /// more: the client must be told, and the cache must forget it.
    fn can_make_up_for(&self, failure: &NotDurable) -> bool {
        self.note_not_durable(failure);
        let is_loss = matches!(failure, NotDurable::Lost(_));
        if is_loss && self.is_written_through() {
            return false;
        }
        failure.is_passing()
    }

    fn is_written_through(&self) -> bool {
        self.store().config.mode == Mode::Writethrough
    }

    /// What was changed on the origin past the cache, and not flushed, may be lost: nobody writes that again.
    pub(crate) fn note_not_durable(&self, failure: &NotDurable) {
        match failure {
            NotDurable::Refused(_) => self.unflushed.refused(),
            NotDurable::Lost(_) if !self.unflushed.is_empty() => through::forget_unflushed(self),
            NotDurable::Lost(_) | NotDurable::OthersFailed => {}
        }
    }
}
