//! What the directory is told before its end: ops of the journal, durable on return.

use std::collections::VecDeque;
use std::io;

use super::{Drain, DrainError};
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::home::Home;
use crate::persist::journal::CommitError;
use crate::persist::op::Op;

impl Drain {
    /// Says something of volumes, or that slots are empty, in that order.
    pub(super) fn say(&mut self, ops: Vec<Op<'static>>) -> Result<(), DrainError> {
        for op in &ops {
            self.volumes
                .apply(op)
                .map_err(|malformed| DrainError::asked(malformed.to_string()))?;
        }
        let mut saying = Saying {
            home: &self.home,
            ops: ops.into(),
        };
        commit::run(self.home.journal(), &mut saying, Durability::Now)?;
        Ok(())
    }
}

struct Saying<'s> {
    home: &'s Home,
    ops: VecDeque<Op<'static>>,
}

impl CommitWork for Saying<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        while !batch.is_full()
            && let Some(op) = self.ops.pop_front()
        {
            batch
                .push(std::slice::from_ref(&op))
                .map_err(|_| io::Error::other("what is said of a volume is too long"))?;
        }
        match self.ops.is_empty() {
            true => Ok(More::No),
            false => Ok(More::Yes),
        }
    }

    /// Nothing is said of what slots hold.
    fn sync_slots(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn appended(&mut self, _frame: usize, _seq: u64) {}

    /// No frame of these carries bytes.
    fn durable(&mut self, _seq: u64) -> bool {
        true
    }

    fn make_room(&mut self, _frame_bytes: u64) -> Result<(), CommitError> {
        match self.home.checkpoint() {
            Ok(true) => Ok(()),
            Ok(false) => Err(CommitError::NoRoom),
            Err(error) => Err(io::Error::other(error.to_string()).into()),
        }
    }
}
