//! One client: it makes random requests one after the other and checks every answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder::{Error, ErrorKind, Mode, ZeroOptions};

use crate::cache_file::EVERYWHERE;
use crate::contract::{serving, without_origin};
use crate::model::history::{Content, History, Seen};
use crate::model::layout::Span;
use crate::model::run::World;
use crate::origin::OriginConnection;
use crate::random::{Random, content, mix};
use crate::subject::Client;

/// One client at work.
pub struct Worker {
    /// Its number, from 0.
    pub number: usize,
    world: Arc<World>,
    random: Random,
    /// Apart, so that it changes nothing about the rest of a seed.
    reads_in_order: Random,
    client: Arc<dyn Client>,
    origin: Arc<OriginConnection>,
}

/// What a request may do besides succeeding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MayFail {
    /// Nothing, unless there are faults.
    No,
    /// It may say that this is not supported.
    NotSupported,
}

impl Worker {
    /// A client that has just connected.
    pub fn new(world: &Arc<World>, number: usize) -> Result<Self, String> {
        let (client, origin) = world.connect()?;
        Ok(Self {
            number,
            random: Random::new(world.case.seed).fork(1000 + number as u64),
            reads_in_order: Random::new(world.case.seed).fork(2000 + number as u64),
            world: Arc::clone(world),
            client,
            origin,
        })
    }

    /// Another one on the same connection.
    pub fn beside(&self, number: usize) -> Self {
        Self {
            number,
            random: Random::new(self.world.case.seed).fork(1000 + number as u64),
            reads_in_order: Random::new(self.world.case.seed).fork(2000 + number as u64),
            world: Arc::clone(&self.world),
            client: Arc::clone(&self.client),
            origin: Arc::clone(&self.origin),
        }
    }

    /// Makes all its requests. The error is a violation.
    pub fn work(&mut self) -> Result<(), String> {
        for _ in 0..self.world.case.requests {
            if self.world.is_over() {
                break;
            }
            self.world.step();
            let losses = self.world.case.losses;
            if losses > 0 && self.random.chance(losses) {
                self.world.lose_connection(self.random.fork(1));
            }
            self.request()?;
        }
        Ok(())
    }

    fn request(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=26 => {
                let span = self.any();
                if self.reads_in_order.chance(30) {
                    return self.read_in_order(span.offset);
                }
                self.read(span)
            }
            27..=62 => self.write(),
            63..=71 => self.zero(),
            72..=76 => self.trim(),
            77..=83 => self.flush(),
            84..=87 => {
                let span = self.any();
                let result = self.serve(|client| client.cache(span.offset, span.length));
                self.judge("cache", span, &result, MayFail::No)
            }
            88..=95 => {
                let span = self.any();
                if self.world.case.at_once && !self.world.is_over() {
                    self.status(span)?;
                }
                self.extents(span)
            }
            96..=97 => self.reconnect(),
            98 => {
                self.world.clock.advance(Duration::from_secs(7));
                Ok(())
            }
            _ => {
                self.toggle_file_faults();
                Ok(())
            }
        }
    }

    fn any(&mut self) -> Span {
        let block_bytes = self.world.case.config.block_bytes;
        self.world.layout.any(&mut self.random, block_bytes)
    }

    fn own(&mut self) -> Span {
        let block_bytes = self.world.case.config.block_bytes;
        let worker = self.number as u64;
        self.world.layout.own(worker, &mut self.random, block_bytes)
    }

    fn serve<T>(&self, request: impl FnOnce(&dyn Client) -> T) -> T {
        serving(self.origin.number(), || request(&*self.client))
    }

    /// Whether the result is one that the request may have.
    fn judge(
        &self,
        what: &str,
        span: Span,
        result: &Result<(), Error>,
        may: MayFail,
    ) -> Result<(), String> {
        let Err(error) = result else {
            return Ok(());
        };
        let not_supported = error.kind() == ErrorKind::NotSupported;
        let fine = self.world.origin.disk().crashed()
            || (not_supported && may == MayFail::NotSupported)
            || (self.world.case.losses_are_told() && error.errno() == libc::EIO)
            || (self.world.case.faulty() && error.errno() != libc::ENOSPC);
        if fine && error.kind() != ErrorKind::Poisoned {
            return Ok(());
        }
        let errno = error.errno();
        Err(format!(
            "{what} of {}+{} failed with errno {errno}: {error}",
            span.offset, span.length
        ))
    }

    /// Reads the range and checks every byte of it.
    pub fn read(&self, span: Span) -> Result<(), String> {
        let start = self.world.history.now();
        let mut bytes = vec![0x77; span.length as usize];
        let result = self.serve(|client| {
            let tried = self.try_at_once(|| client.try_read(span.offset, &mut bytes));
            tried.and_then(|done| {
                if done {
                    Ok(())
                } else {
                    client.read(span.offset, &mut bytes)
                }
            })
        });
        self.judge("read", span, &result, MayFail::No)?;
        if result.is_err() {
            return Ok(());
        }
        self.seen("read", span, &bytes, start)
    }

    /// Reads one piece after the other, which is what the cache fetches ahead of.
    fn read_in_order(&mut self, offset: u64) -> Result<(), String> {
        let random = &mut self.reads_in_order;
        let block_bytes = self.world.case.config.block_bytes;
        let length = random.pick(&[4096, 70_001, block_bytes]);
        let pieces = random.between(3, 12);
        let size = self.world.layout.size;
        let starts = (0..pieces).map(|piece| offset + piece * length);
        for offset in starts.take_while(|offset| offset + length <= size) {
            self.read(Span { offset, length })?;
        }
        Ok(())
    }

    /// The range as the client sees it now.
    pub fn get(&self, span: Span) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0x77; span.length as usize];
        let result = self.serve(|client| client.read(span.offset, &mut bytes));
        self.judge("read", span, &result, MayFail::No)?;
        Ok(bytes)
    }

    /// A request that is not to ask the origin, where it is to be tried. One that a faulty cache file
    /// or another request spoils in the middle may ask, and so may one that maintains the cache.
    fn try_at_once(&self, request: impl FnOnce() -> Result<bool, Error>) -> Result<bool, Error> {
        let case = &self.world.case;
        match (case.at_once, case.config.background && !case.faulty()) {
            (false, _) => Ok(false),
            (true, true) => without_origin(request),
            (true, false) => request(),
        }
    }

    fn status(&self, span: Span) -> Result<(), String> {
        let most = 1 + span.length as usize % 5;
        let status = self.serve(|client| client.cache_status(span.offset, span.length, most));
        let status = status.map_err(|error| format!("cache status failed: {error}"))?;
        let total: u64 = status.iter().map(|extent| extent.length).sum();
        let is_joined = status.windows(2).all(|two| two[0].state != two[1].state);
        let is_right = is_joined
            && (1..=most).contains(&status.len())
            && status.iter().all(|extent| extent.length > 0)
            && (total == span.length || (total < span.length && status.len() == most));
        if is_right {
            return Ok(());
        }
        Err(format!("status of {span:?} has no right shape: {status:?}"))
    }

    fn seen(&self, what: &str, span: Span, bytes: &[u8], start: u64) -> Result<(), String> {
        let history = &self.world.history;
        let end = history.now();
        history
            .explain(span.offset, bytes, |change| {
                match History::seen_by_read(change, start, end) {
                    Seen::Certain if self.world.may_be_lost(change) => Seen::Possible,
                    seen => seen,
                }
            })
            .map_err(|wrong| {
                let worker = self.number;
                let (from, length) = (span.offset, span.length);
                format!("{what} of {from}+{length} by worker {worker} at {start}..{end}: {wrong}")
            })
    }

    /// Makes a request that changes bytes, and records it.
    fn change(
        &self,
        what: &str,
        span: Span,
        content: Content,
        fua: bool,
        may: MayFail,
        request: impl FnOnce(&dyn Client) -> Result<(), Error>,
    ) -> Result<(), String> {
        let history = &self.world.history;
        history.begin(self.number, self.origin.number(), span, content);
        let result = self.serve(request);
        let durable = fua && self.world.case.fua_can_be_trusted();
        history.end(self.number, result.is_ok(), durable);
        self.judge(what, span, &result, may)
    }

    fn write(&mut self) -> Result<(), String> {
        let span = self.own();
        let seed = mix(self.world.case.seed, self.random.next_u64());
        let fua = self.random.chance(12);
        let (left, bytes) = if self.random.chance(8) {
            (Content::Zeros, vec![0; span.length as usize])
        } else {
            let bytes = content(seed, span.offset, span.length as usize);
            (Content::Seeded(seed), bytes)
        };
        self.change("write", span, left, fua, MayFail::No, |client| {
            if self.try_at_once(|| client.try_write(span.offset, &bytes, fua))? {
                return Ok(());
            }
            client.write(span.offset, &bytes, fua)
        })
    }

    fn zero(&mut self) -> Result<(), String> {
        let span = self.own();
        let options = ZeroOptions {
            may_trim: self.random.chance(50),
            fua: self.random.chance(12),
            fast: self.random.chance(25),
        };
        let may = if options.fast {
            MayFail::NotSupported
        } else {
            MayFail::No
        };
        let zeros = Content::Zeros;
        self.change("zero", span, zeros, options.fua, may, |client| {
            client.zero(span.offset, span.length, options)
        })
    }

    fn trim(&mut self) -> Result<(), String> {
        let span = self.own();
        let fua = self.random.chance(12);
        let may = if self.world.case.origin.capabilities.trim {
            MayFail::No
        } else {
            MayFail::NotSupported
        };
        let left = Content::Anything;
        self.change("trim", span, left, fua, may, |client| {
            client.trim(span.offset, span.length, fua)
        })
    }

    /// Flushes; what it promises is checked at once on what the origin holds durably.
    pub fn flush(&self) -> Result<(), String> {
        let case = &self.world.case;
        let start = self.world.history.now();
        let result = self.serve(|client| client.flush());
        let none = Span {
            offset: 0,
            length: 0,
        };
        let may = if case.origin.capabilities.flush || case.config.mode == Mode::Writeback {
            MayFail::No
        } else {
            MayFail::NotSupported
        };
        self.judge("flush", none, &result, may)?;
        if result.is_err() || case.config.mode == Mode::Unsafe {
            return Ok(());
        }
        if !case.flush_can_be_trusted() {
            return Ok(());
        }
        let connection = (!case.flush_covers_all()).then(|| self.origin.number());
        self.world.history.flushed(start, connection);
        let promised = self.world.history.promised();
        self.world
            .explain_durable(|change| promised.survives(change))
            .map_err(|wrong| format!("durable after the flush at {start}: {wrong}"))
    }

    /// Flushes, and nobody has anything to tell any more.
    pub fn flush_well(&self) -> Result<(), String> {
        let flushed = self.serve(|client| client.flush());
        flushed.map_err(|error| format!("the flush after a flush failed: {error}"))
    }

    fn extents(&mut self, span: Span) -> Result<(), String> {
        let one = self.random.chance(30);
        let start = self.world.history.now();
        let result = self.serve(|client| client.extents(span.offset, span.length, one));
        let extents = match result {
            Ok(extents) => extents,
            Err(error) => return self.judge("extents", span, &Err(error), MayFail::No),
        };
        let total: u64 = extents.iter().map(|extent| extent.length).sum();
        let shaped = extents.iter().all(|extent| extent.length > 0)
            && !extents.is_empty()
            && total <= span.length
            && (!one || extents.len() == 1);
        if !shaped {
            return Err(format!(
                "extents of {}+{} (one: {one}) have no right shape: {extents:?}",
                span.offset, span.length
            ));
        }
        let mut offset = span.offset;
        for extent in extents {
            if extent.zero {
                let part = Span {
                    offset,
                    length: extent.length,
                };
                let zeros = vec![0; extent.length as usize];
                self.seen("zero extent", part, &zeros, start)?;
            }
            offset += extent.length;
        }
        Ok(())
    }

    /// Leaves the volume.
    pub fn leave(&self) -> Result<(), String> {
        let result = self.serve(|client| client.disconnect());
        self.world.has_left(self.origin.number())?;
        self.origin.close();
        let none = Span {
            offset: 0,
            length: 0,
        };
        self.judge("disconnect", none, &result, MayFail::No)
    }

    /// What a connection was not told before it left, nobody hears of any more.
    fn hear_of_losses(&self) {
        const ENOUGH: u32 = 100;
        if self.world.case.losses_are_told() {
            let flush = |_| self.serve(|client| client.flush());
            // Faults hide it for a while.
            let _ = (0..ENOUGH).map(flush).find(Result::is_ok);
        }
    }

    fn reconnect(&mut self) -> Result<(), String> {
        if self.world.case.shared_connection {
            return Ok(());
        }
        self.hear_of_losses();
        self.leave()?;
        (self.client, self.origin) = self.world.connect()?;
        Ok(())
    }

    fn toggle_file_faults(&mut self) {
        if !self.world.case.file_faults {
            return;
        }
        let file = &self.world.file;
        let fail = self.world.file_fails.fetch_xor(true, Ordering::SeqCst);
        let ranges: &[(u64, u64)] = if fail { &[] } else { &[EVERYWHERE] };
        file.fail_reads(ranges);
        if self.random.chance(50) {
            file.fail_writes(ranges);
        } else {
            file.fail_writes(&[]);
        }
    }
}
