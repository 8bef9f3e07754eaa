//! A cache file in memory.
//!
//! # Fault model
//!
//! - The disk it is on is full after a number of bytes: `allocate` fails with ENOSPC and leaves
//!   nothing allocated; a write into what was not allocated fails likewise.
//! - Reads or writes that meet a range fail with EIO, or all of them do. A failed write may have
//!   written half.
//! - What was never written reads as garbage, so that a slot's old or missing content shows.
//! - A write that meets a write in flight is a violation: the engine's latches failed.
//! - A read that meets a write in flight gets garbage: whoever reads without a latch must notice,
//!   and not use it.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder::CacheFile;

use crate::calls::{Call, Calls};
use crate::pace::{Kind, Phase, SharedPace, Side, Stop};
use crate::pages::{PAGE_BYTES, Pages};
use crate::random::content;
use crate::violation::Violations;

#[derive(Default)]
struct State {
    bytes: Pages,
    allocated: HashSet<u64>,
    most_allocated: u64,
    capacity_bytes: Option<u64>,
    failing_reads: Vec<(u64, u64)>,
    failing_writes: Vec<(u64, u64)>,
    in_flight: Vec<Flight>,
    last_flight: u64,
}

/// A call in flight.
struct Flight {
    number: u64,
    call: Call,
    /// A read that met a write.
    torn: bool,
}

impl Flight {
    /// Whether they touch the same bytes, and one of them changes them.
    fn clashes(&self, other: &Call) -> bool {
        let meet = self.call.offset < other.end() && other.offset < self.call.end();
        let transfers = self.call.kind != Kind::Allocate && other.kind != Kind::Allocate;
        meet && transfers && (self.call.kind == Kind::Write || other.kind == Kind::Write)
    }
}

struct Shared {
    state: Mutex<State>,
    calls: Calls,
    pace: SharedPace,
    violations: Violations,
}

/// The file as a test sees it.
#[derive(Clone)]
pub struct CacheFileDouble {
    shared: Arc<Shared>,
}

/// All of the file.
pub const EVERYWHERE: (u64, u64) = (0, u64::MAX);

impl CacheFileDouble {
    /// An empty file on an endless disk.
    pub fn new(violations: Violations, pace: SharedPace) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            calls: Calls::default(),
            pace,
            violations,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What the engine is to be given.
    pub fn file(&self) -> Box<dyn CacheFile> {
        Box::new(self.clone())
    }

    /// The disk is full once so many bytes are allocated.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Reads that meet one of these ranges (offset, length) fail from here on, others do not.
    pub fn fail_reads(&self, ranges: &[(u64, u64)]) {
        self.lock().failing_reads = ranges.to_vec();
    }

    /// The same for writes.
    pub fn fail_writes(&self, ranges: &[(u64, u64)]) {
        self.lock().failing_writes = ranges.to_vec();
    }

    /// Bytes allocated now.
    pub fn allocated_bytes(&self) -> u64 {
        self.lock().allocated.len() as u64 * PAGE_BYTES
    }

    /// The most bytes that were ever allocated at once.
    pub fn most_allocated_bytes(&self) -> u64 {
        self.lock().most_allocated * PAGE_BYTES
    }

    /// The calls it got.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of every call: its result, and whether it was torn.
    fn call(
        &self,
        kind: Kind,
        offset: u64,
        length: u64,
        effect: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> (io::Result<()>, bool) {
        let call = Call::new(0, kind, offset, length);
        let flight = self.take_off(&call);
        let name = self.shared.calls.begin(call.clone());
        self.stop(&call, Phase::Before);
        let result = effect(&mut self.lock());
        self.stop(&call, Phase::After);
        let torn = self.land(flight);
        let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let ended = result.as_ref().copied().map_err(errno);
        self.shared.calls.end(name, ended);
        (result, torn)
    }

    fn take_off(&self, call: &Call) -> u64 {
        let mut state = self.lock();
        let mut torn = false;
        for other in &mut state.in_flight {
            if !other.clashes(call) {
                continue;
            }
            match (other.call.kind, call.kind) {
                (Kind::Read, _) => other.torn = true,
                (_, Kind::Read) => torn = true,
                _ => self.shared.violations.record(format!(
                    "cache file: {call:?} meets {:?}, which is in flight",
                    other.call
                )),
            }
        }
        state.last_flight += 1;
        let number = state.last_flight;
        state.in_flight.push(Flight {
            number,
            call: call.clone(),
            torn,
        });
        number
    }

    /// Ends a flight and tells whether it was torn.
    fn land(&self, number: u64) -> bool {
        let flights = &mut self.lock().in_flight;
        let place = flights.iter().position(|flight| flight.number == number);
        place.is_some_and(|place| flights.swap_remove(place).torn)
    }

    fn stop(&self, call: &Call, phase: Phase) {
        self.shared.pace.stop(&Stop {
            side: Side::CacheFile,
            connection: 0,
            kind: call.kind,
            offset: call.offset,
            length: call.length,
            phase,
        });
    }
}

impl State {
    fn grow(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let pages = offset / PAGE_BYTES..(offset + length).div_ceil(PAGE_BYTES);
        let new: Vec<u64> = pages
            .filter(|page| !self.allocated.contains(page))
            .collect();
        let after = (self.allocated.len() + new.len()) as u64;
        let full = self
            .capacity_bytes
            .is_some_and(|capacity| after * PAGE_BYTES > capacity);
        if full && !new.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.allocated.extend(new);
        self.most_allocated = self.most_allocated.max(after);
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if meets(&self.failing_reads, offset, buffer.len() as u64) {
            buffer.fill(0xDD);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let end = offset + buffer.len() as u64;
        self.bytes.read(offset, buffer);
        let mut at = offset;
        while at < end {
            let until = ((at / PAGE_BYTES + 1) * PAGE_BYTES).min(end);
            if !self.bytes.is_stored(at / PAGE_BYTES) {
                let garbage = content(GARBAGE, at, (until - at) as usize);
                buffer[(at - offset) as usize..(until - offset) as usize].copy_from_slice(&garbage);
            }
            at = until;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.grow(offset, data.len() as u64)?;
        let fails = meets(&self.failing_writes, offset, data.len() as u64);
        let data = if fails { &data[..data.len() / 2] } else { data };
        self.bytes.write_with(offset, data, garbage_page);
        if fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }
}

const GARBAGE: u64 = 0x6A7B;

fn garbage_page(page: u64) -> Box<[u8; PAGE_BYTES as usize]> {
    let mut bytes = Box::new([0; PAGE_BYTES as usize]);
    bytes.copy_from_slice(&content(GARBAGE, page * PAGE_BYTES, PAGE_BYTES as usize));
    bytes
}

fn meets(ranges: &[(u64, u64)], offset: u64, length: u64) -> bool {
    ranges
        .iter()
        .any(|&(from, long)| offset < from.saturating_add(long) && from < offset + length)
}

impl CacheFile for CacheFileDouble {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len() as u64;
        let (result, torn) = self.call(Kind::Read, offset, length, |state| {
            state.read(offset, buffer)
        });
        if torn {
            buffer.iter_mut().for_each(|byte| *byte ^= 0x5A);
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(Kind::Write, offset, data.len() as u64, |state| {
            state.write(offset, data)
        })
        .0
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.call(Kind::Allocate, offset, length, |state| {
            state.grow(offset, length)
        })
        .0
    }

    fn sync(&self) -> io::Result<()> {
        self.call(Kind::Flush, 0, 0, |_| Ok(())).0
    }
}
