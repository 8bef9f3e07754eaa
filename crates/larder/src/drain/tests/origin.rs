//! An origin in memory that tells what was asked of it, and keeps apart what was flushed.

use std::io;
use std::sync::{Mutex, MutexGuard};

use rustix::io::Errno;

use crate::origin::{Capabilities, Extent, Origin, OriginVersion, RequestLimits, ZeroOptions};

/// What comes before a call is answered.
type Before = dyn Fn(&Call) -> io::Result<()> + Send + Sync;

/// A call that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Offset and length.
    Write(u64, u64),
    Zero(u64, u64, bool),
    Flush,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    calls: Vec<Call>,
    changes: u32,
}

pub(super) struct TestOrigin {
    state: Mutex<State>,
    pub capabilities: Capabilities,
    pub limits: RequestLimits,
    /// What of its version stays.
    stable: Option<&'static str>,
    before: Box<Before>,
}

/// What an untouched origin holds.
pub(super) const UNTOUCHED: u8 = 0xee;

impl TestOrigin {
    pub(super) fn new(size: u64) -> Self {
        let bytes = vec![UNTOUCHED; size as usize];
        Self {
            state: Mutex::new(State {
                durable: bytes.clone(),
                bytes,
                ..State::default()
            }),
            capabilities: Capabilities {
                write: true,
                flush: true,
                zero: true,
                ..Capabilities::default()
            },
            limits: RequestLimits::default(),
            stable: None,
            before: Box::new(|_| Ok(())),
        }
    }

    /// One that can tell itself from others.
    pub(super) fn with_version(mut self, stable: &'static str) -> Self {
        self.stable = Some(stable);
        self
    }

    /// Does something before each call that may change something, which may also refuse it.
    pub(super) fn before(
        mut self,
        before: impl Fn(&Call) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.before = Box::new(before);
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn durable(&self) -> Vec<u8> {
        self.lock().durable.clone()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    fn change(&self, call: Call, change: impl FnOnce(&mut State)) -> io::Result<()> {
        self.lock().calls.push(call);
        (self.before)(&call)?;
        let mut state = self.lock();
        state.changes += 1;
        change(&mut state);
        Ok(())
    }
}

pub(super) fn eio() -> io::Error {
    Errno::IO.into()
}

impl Origin for TestOrigin {
    fn size(&self) -> u64 {
        self.lock().bytes.len() as u64
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.limits
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        panic!("nobody reads the origin");
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        assert!(!fua && data.len() as u64 <= u64::from(self.limits.maximum));
        let call = Call::Write(offset, data.len() as u64);
        self.change(call, |state| {
            state.bytes[offset as usize..][..data.len()].copy_from_slice(data);
        })
    }

    fn flush(&self) -> io::Result<()> {
        assert!(self.capabilities.flush);
        self.change(Call::Flush, |state| state.durable = state.bytes.clone())
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        assert!(self.capabilities.zero && !options.fua && !options.fast);
        let call = Call::Zero(offset, length, options.may_trim);
        self.change(call, |state| {
            state.bytes[offset as usize..][..length as usize].fill(0);
        })
    }

    fn trim(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        panic!("nobody trims");
    }

    fn version(&self) -> io::Result<Option<OriginVersion>> {
        let changing = format!("{} changes", self.lock().changes);
        Ok(self.stable.map(|stable| OriginVersion {
            stable: stable.as_bytes().to_vec(),
            changing: changing.into_bytes(),
        }))
    }

    fn extents(&self, _: u64, _: u64, _: bool) -> io::Result<Vec<Extent>> {
        panic!("nobody asks for extents");
    }
}
