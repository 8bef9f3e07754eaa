//! An origin in memory: one disk, any number of connections to it, and everything a test wants to
//! do to it. What a crash does is told in [`crate::disk`], what a fault does in [`crate::fault`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder::{Capabilities, Extent, Fua, Origin, OriginVersion, RequestLimits, ZeroOptions};

use crate::calls::{Call, Calls};
use crate::contract::{Contract, Terms};
use crate::disk::{Change, ChangeId, Disk};
use crate::fault::{Failure, Fault, Faults, Happens, Verdict};
use crate::pace::{Kind, Phase, SharedPace, Side, Stop};
use crate::random::{Random, content};
use crate::violation::Violations;

/// What a trim leaves, for each 512-byte piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimLeaves {
    /// What was there.
    OldContent,
    /// Zeros.
    Zeros,
    /// Neither.
    Garbage,
    /// One of these, by seed.
    Either,
}

/// What an origin is like.
#[derive(Clone, Debug)]
pub struct OriginSettings {
    /// In bytes.
    pub size: u64,
    /// What its connections can do.
    pub capabilities: Capabilities,
    /// What requests keep to.
    pub limits: RequestLimits,
    /// What a trim leaves.
    pub trim: TrimLeaves,
    /// Block status answers with less than it was asked for, in small pieces.
    pub short_extents: bool,
    /// What every choice of its own follows.
    pub seed: u64,
}

impl OriginSettings {
    /// An origin that can do everything.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            capabilities: Capabilities {
                write: true,
                flush: true,
                tells_losses: false,
                fua: Fua::Native,
                trim: true,
                zero: true,
                fast_zero: true,
                extents: true,
                multi_conn: true,
                parallel: true,
            },
            limits: RequestLimits::default(),
            trim: TrimLeaves::Zeros,
            short_extents: false,
            seed: 1,
        }
    }
}

struct Shared {
    settings: OriginSettings,
    disk: Disk,
    faults: Faults,
    calls: Calls,
    contract: Contract,
    violations: Violations,
    pace: SharedPace,
    random: Mutex<Random>,
    connections: AtomicU64,
    /// How often the way to the disk was lost. Held while it is, and while a flush asks.
    losses: Mutex<u64>,
    version: Mutex<Option<OriginVersion>>,
}

impl Shared {
    fn version(&self) -> MutexGuard<'_, Option<OriginVersion>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn losses(&self) -> MutexGuard<'_, u64> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The origin as a test sees it.
#[derive(Clone)]
pub struct OriginDouble {
    shared: Arc<Shared>,
}

impl OriginDouble {
    /// An empty disk.
    pub fn new(settings: OriginSettings, violations: Violations, pace: SharedPace) -> Self {
        let random = Random::new(settings.seed);
        let shared = Shared {
            disk: Disk::default(),
            faults: Faults::new(random.fork(1)),
            calls: Calls::default(),
            contract: Contract::new(violations.clone()),
            violations,
            pace,
            random: Mutex::new(random.fork(2)),
            connections: AtomicU64::new(0),
            losses: Mutex::new(0),
            version: Mutex::new(None),
            settings,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A connection as the settings say.
    pub fn connect(&self) -> Arc<OriginConnection> {
        self.connect_as(|_| {})
    }

    /// A connection that cannot write.
    pub fn connect_read_only(&self) -> Arc<OriginConnection> {
        self.connect_as(|terms| terms.capabilities.write = false)
    }

    /// A connection that differs from the settings.
    pub fn connect_as(&self, change: impl FnOnce(&mut Terms)) -> Arc<OriginConnection> {
        let settings = &self.shared.settings;
        let mut terms = Terms {
            size: settings.size,
            capabilities: settings.capabilities,
            limits: settings.limits,
        };
        change(&mut terms);
        Arc::new(OriginConnection {
            shared: Arc::clone(&self.shared),
            terms,
            number: self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1,
            losses_told: AtomicU64::new(*self.shared.losses()),
            inside: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// What it says of its content from now on.
    pub fn set_version(&self, stable: &str, changing: &str) {
        let version = OriginVersion {
            stable: stable.as_bytes().to_vec(),
            changing: changing.as_bytes().to_vec(),
        };
        *self.shared.version() = Some(version);
    }

    /// The disk behind it.
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// The calls it got.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// Sets a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.set(fault);
    }

    /// The way to the disk is lost and found again: what was not flushed is gone, apart from what luck keeps, and every
    /// connection is told so once.
    pub fn lose_connection(&self, luck: Option<Random>) {
        let mut losses = self.shared.losses();
        *losses += 1;
        self.shared.disk.lose_unflushed(luck);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.faults.heal();
    }
}

/// One connection to the origin.
pub struct OriginConnection {
    shared: Arc<Shared>,
    terms: Terms,
    number: u64,
    losses_told: AtomicU64,
    inside: AtomicU64,
    closed: AtomicBool,
}

impl OriginConnection {
    /// Its number, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The client has gone: nothing may call it any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if self.inside.load(Ordering::SeqCst) > 0 {
            let message = format!("connection {} left with calls in flight", self.number);
            self.shared.violations.record(message);
        }
    }

    fn stop(&self, call: &Call, phase: Phase) {
        self.shared.pace.stop(&Stop {
            side: Side::Origin,
            connection: call.connection,
            kind: call.kind,
            offset: call.offset,
            length: call.length,
            phase,
        });
    }

    /// The way of every call. `effect` is told what a failing call is still to do, and returns
    /// the changes it made besides its result.
    fn call<T>(
        &self,
        mut call: Call,
        effect: impl FnOnce(Happens) -> (T, Vec<ChangeId>),
    ) -> io::Result<T> {
        call.connection = self.number;
        let others = self.inside.fetch_add(1, Ordering::SeqCst);
        let _leave = Leave(&self.inside);
        if self.closed.load(Ordering::SeqCst) {
            let message = format!("called after its client had gone: {call:?}");
            self.shared.violations.record(message);
        }
        if others > 0 && !self.terms.capabilities.parallel {
            let message =
                format!("two calls at once on a connection that is not parallel: {call:?}");
            self.shared.violations.record(message);
        }
        let in_flight = self.shared.contract.begin(&self.terms, &call);
        let name = self.shared.calls.begin(call.clone());
        self.stop(&call, Phase::Before);
        let result = self.perform(&call, effect);
        self.stop(&call, Phase::After);
        let result = result.and_then(|(value, changes)| {
            let disk = &self.shared.disk;
            if disk.crashed() {
                return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
            }
            disk.acknowledge(&changes, call.fua || !self.terms.capabilities.takes_flush());
            self.stop(&call, Phase::Acknowledged);
            Ok(value)
        });
        drop(in_flight);
        let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        self.shared
            .calls
            .end(name, result.as_ref().map(|_| ()).map_err(errno));
        result
    }

    fn perform<T>(
        &self,
        call: &Call,
        effect: impl FnOnce(Happens) -> (T, Vec<ChangeId>),
    ) -> io::Result<(T, Vec<ChangeId>)> {
        if self.shared.disk.crashed() {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        let faults = &self.shared.faults;
        let ends_with_flush =
            call.kind == Kind::Flush || (call.fua && self.terms.capabilities.fua == Fua::Emulated);
        match faults.judge(call.kind, call.connection, call.offset, call.length) {
            None if ends_with_flush => self.unless_lost(|| effect(Happens::Everything)),
            None => Ok(effect(Happens::Everything)),
            Some(Verdict { failure, happens }) => {
                if happens != Happens::Nothing {
                    effect(happens);
                }
                match failure {
                    Failure::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
                    Failure::Silence => Err(io::ErrorKind::TimedOut.into()),
                    Failure::Panic => panic!("the origin double panics, as told: {call:?}"),
                }
            }
        }
    }

    /// Runs a flush, or fails if the connection was lost since it was last told so.
    fn unless_lost<T>(&self, flush: impl FnOnce() -> T) -> io::Result<T> {
        let losses = self.shared.losses();
        if self.losses_told.swap(*losses, Ordering::SeqCst) == *losses {
            return Ok(flush());
        }
        let message = "the connection was lost with unflushed writes";
        Err(io::Error::new(io::ErrorKind::ConnectionReset, message))
    }

    fn random(&self) -> Random {
        let mut random = self
            .shared
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Random::new(random.next_u64())
    }

    fn change(&self, offset: u64, change: Change) -> ((), Vec<ChangeId>) {
        let id = self.shared.disk.change(self.number, offset, change);
        ((), id.into_iter().collect())
    }

    /// What a trim does to each piece of its range.
    fn trim_pieces(&self, offset: u64, length: u64) -> Vec<ChangeId> {
        let mut random = self.random();
        let large = length > (1 << 20);
        let unit = if large { length } else { 512 };
        let mut ids = Vec::new();
        let mut from = offset;
        while from < offset + length {
            let until = if large {
                offset + length
            } else {
                ((from / unit + 1) * unit).min(offset + length)
            };
            let all = [
                TrimLeaves::OldContent,
                TrimLeaves::Zeros,
                TrimLeaves::Garbage,
            ];
            let leaves = match self.shared.settings.trim {
                TrimLeaves::Either => random.pick(&all[..if large { 2 } else { 3 }]),
                one => one,
            };
            let change = match leaves {
                TrimLeaves::OldContent | TrimLeaves::Either => None,
                TrimLeaves::Zeros => Some(Change::Zeros {
                    length: until - from,
                    hole: true,
                }),
                TrimLeaves::Garbage => Some(Change::Bytes(content(
                    random.next_u64(),
                    from,
                    (until - from) as usize,
                ))),
            };
            if let Some(change) = change {
                ids.extend(self.shared.disk.change(self.number, from, change));
            }
            from = until;
        }
        ids
    }

    fn status(&self, offset: u64, length: u64, one: bool) -> Vec<Extent> {
        let mut random = self.random();
        let mut extents: Vec<Extent> = Vec::new();
        for run in self.shared.disk.runs(offset, length) {
            let mut rest = run.length;
            while rest > 0 {
                let short = self.shared.settings.short_extents && rest > 1;
                let length = if short { random.between(1, rest) } else { rest };
                rest -= length;
                extents.push(Extent {
                    length,
                    hole: !run.stored,
                    zero: run.zero,
                });
            }
        }
        if self.shared.settings.short_extents {
            let keep = random.between(1, extents.len() as u64) as usize;
            extents.truncate(keep);
        }
        extents.truncate(if one { 1 } else { usize::MAX });
        extents
    }
}

struct Leave<'a>(&'a AtomicU64);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How much of a change happens.
fn share(length: u64, happens: Happens) -> u64 {
    match happens {
        Happens::Nothing => 0,
        Happens::Half | Happens::Either => length / 2,
        Happens::Everything => length,
    }
}

impl Origin for OriginConnection {
    fn size(&self) -> u64 {
        self.terms.size
    }

    fn capabilities(&self) -> Capabilities {
        self.terms.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.terms.limits
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let call = Call::new(0, Kind::Read, offset, buffer.len() as u64);
        let mut garbage = self.random();
        let result = self.call(call, |happens| {
            self.shared.disk.read(offset, buffer);
            if happens != Happens::Everything {
                buffer.fill(garbage.next_u64() as u8);
            }
            ((), Vec::new())
        });
        if result.is_err() {
            // What a failed read leaves in the buffer is nobody's data.
            buffer.fill(0xEE);
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        let mut call = Call::new(0, Kind::Write, offset, data.len() as u64);
        call.fua = fua;
        self.call(call, |happens| {
            let part = &data[..share(data.len() as u64, happens) as usize];
            self.change(offset, Change::Bytes(part.to_vec()))
        })
    }

    fn flush(&self) -> io::Result<()> {
        let everybody = self.terms.capabilities.multi_conn;
        let disk = &self.shared.disk;
        let covered = disk.covered((!everybody).then_some(self.number));
        let flushed = self.call(Call::new(0, Kind::Flush, 0, 0), |happens| {
            if happens == Happens::Everything {
                disk.make_durable(&covered);
            }
            ((), Vec::new())
        });
        // What a lost connection took with it has gone already.
        let is_lost = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        if flushed.as_ref().is_err_and(|error| !is_lost(error)) {
            disk.lose(&covered);
        }
        flushed
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        let mut call = Call::new(0, Kind::Zero, offset, length);
        call.fua = options.fua;
        call.may_trim = options.may_trim;
        call.fast = options.fast;
        self.call(call, |happens| {
            let change = Change::Zeros {
                length: share(length, happens),
                hole: options.may_trim,
            };
            self.change(offset, change)
        })
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        let mut call = Call::new(0, Kind::Trim, offset, length);
        call.fua = fua;
        self.call(call, |happens| {
            ((), self.trim_pieces(offset, share(length, happens)))
        })
    }

    fn version(&self) -> io::Result<Option<OriginVersion>> {
        Ok(self.shared.version().clone())
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        let call = Call::new(0, Kind::Extents, offset, length);
        self.call(call, |_| (self.status(offset, length, one), Vec::new()))
    }
}
