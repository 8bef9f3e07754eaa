//! A record of every call that reached a double.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pace::Kind;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The origin connection's number; 0 for the cache file.
    pub connection: u64,
    /// What it does.
    pub kind: Kind,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// Durable on return.
    pub fua: bool,
    /// For zeros: a hole will do.
    pub may_trim: bool,
    /// For zeros: only if it is fast.
    pub fast: bool,
    /// How it ended: `None` while it runs, an errno if it failed.
    pub result: Option<Result<(), i32>>,
    /// Places among the starts and ends of all calls, in order: when it began, and when it ended.
    pub began: u64,
    /// See `began`; 0 while it runs.
    pub ended: u64,
}

impl Call {
    /// A call that has not begun.
    pub fn new(connection: u64, kind: Kind, offset: u64, length: u64) -> Self {
        Self {
            connection,
            kind,
            offset,
            length,
            fua: false,
            may_trim: false,
            fast: false,
            result: None,
            began: 0,
            ended: 0,
        }
    }

    /// The byte after its last.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

#[derive(Debug, Default)]
struct Record {
    calls: Vec<Call>,
    events: u64,
    cleared: usize,
}

/// The calls of one double.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    record: Arc<Mutex<Record>>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call that begins and names it.
    pub fn begin(&self, mut call: Call) -> usize {
        let mut record = self.lock();
        record.events += 1;
        call.began = record.events;
        record.calls.push(call);
        record.cleared + record.calls.len() - 1
    }

    /// The call has ended.
    pub fn end(&self, name: usize, result: Result<(), i32>) {
        let mut record = self.lock();
        record.events += 1;
        let ended = record.events;
        let Some(index) = name.checked_sub(record.cleared) else {
            return;
        };
        record.calls[index].result = Some(result);
        record.calls[index].ended = ended;
    }

    /// Forgets all calls so far.
    pub fn clear(&self) {
        let mut record = self.lock();
        record.cleared += record.calls.len();
        record.calls.clear();
    }

    /// All calls, in the order they began.
    pub fn all(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The calls of one kind, in the order they began.
    pub fn of(&self, kind: Kind) -> Vec<Call> {
        let record = self.lock();
        let calls = record.calls.iter().filter(|call| call.kind == kind);
        calls.cloned().collect()
    }

    /// How many calls of that kind began.
    pub fn count(&self, kind: Kind) -> usize {
        self.of(kind).len()
    }

    /// Offset and length of the calls of one kind, in the order they began.
    pub fn ranges(&self, kind: Kind) -> Vec<(u64, u64)> {
        let calls = self.of(kind);
        calls
            .iter()
            .map(|call| (call.offset, call.length))
            .collect()
    }
}
