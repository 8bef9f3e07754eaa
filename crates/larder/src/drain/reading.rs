//! Reading what is dirty, and only what is as it was written.

use super::plan::{DirtyBlock, Plan};
use super::{Drain, Left, Why};
use crate::persist::sums::{BlockSums, Occupant, Sum};
use crate::sector::Mask;

/// So much is read at once, in bytes.
const PART_BYTES: u64 = 1 << 20;

/// Whole sectors that are as they were written.
#[derive(Debug)]
pub(super) struct Good<'b> {
    pub sectors: Mask,
    /// Within the volume.
    pub start: u64,
    pub bytes: &'b [u8],
}

impl Drain {
    /// Reads the dirty sectors of a block in order. What is good is given to `each`, in runs; what is not is added to `left`.
    pub(super) fn read_dirty(
        &self,
        plan: &Plan,
        block: &DirtyBlock,
        left: &mut Vec<Left>,
        each: &mut dyn FnMut(Good<'_>, &mut Vec<Left>),
    ) {
        let occupant = Occupant {
            volume: plan.id.volume,
            incarnation: plan.id.incarnation,
            block: block.block,
        };
        let mut reading = Reading {
            drain: self,
            plan,
            block,
            sums: BlockSums::new(self.home.seed(), occupant),
            buffer: Vec::new(),
            left,
            each,
        };
        let most = (PART_BYTES / plan.geometry.sector_bytes()).max(1) as u32;
        for (first, end) in block.dirty.runs() {
            let mut at = first;
            while at < end {
                let stop = end.min(at + most);
                reading.read((at, stop));
                at = stop;
            }
        }
    }
}

struct Reading<'r> {
    drain: &'r Drain,
    plan: &'r Plan,
    block: &'r DirtyBlock,
    sums: BlockSums,
    buffer: Vec<u8>,
    left: &'r mut Vec<Left>,
    each: &'r mut dyn FnMut(Good<'_>, &mut Vec<Left>),
}

impl Reading<'_> {
    /// The bytes of the volume that a run is.
    fn bytes_of(&self, run: (u32, u32)) -> (u64, u64) {
        let Plan { geometry, size, .. } = self.plan;
        geometry.bytes_of(self.block.block, run, *size)
    }

    fn read(&mut self, run: (u32, u32)) {
        let (start, end) = self.bytes_of(run);
        let within = start - self.plan.geometry.base(self.block.block);
        let mut recorded = vec![Sum(0); (run.1 - run.0) as usize];
        self.buffer.resize((end - start) as usize, 0);
        let Drain { home, slots, .. } = self.drain;
        let offset = home.shape().slot_offset(self.block.slot) + within;
        let read = home
            .read_sums(self.block.slot, run.0, &mut recorded)
            .and_then(|()| slots.read(offset, &mut self.buffer));
        match read {
            Ok(()) => self.take(run, &recorded),
            // One bad place keeps only itself.
            Err(_) if run.1 - run.0 > 1 => {
                (run.0..run.1).for_each(|sector| self.read((sector, sector + 1)));
            }
            Err(error) => self.leave(run, Why::Unreadable(error.to_string())),
        }
    }

    /// What was read is in the buffer.
    fn take(&mut self, run: (u32, u32), recorded: &[Sum]) {
        let sector_bytes = self.plan.geometry.sector_bytes() as usize;
        let sectors = (run.0..run.1).zip(self.buffer.chunks(sector_bytes));
        let mut good = Mask::EMPTY;
        for ((sector, bytes), recorded) in sectors.zip(recorded) {
            if self.sums.of(sector, bytes) == *recorded {
                good |= Mask::span(sector, sector + 1);
            }
        }
        for (first, end) in good.runs() {
            let from = (first - run.0) as usize * sector_bytes;
            let (start, stop) = self.bytes_of((first, end));
            let good = Good {
                sectors: Mask::span(first, end),
                start,
                bytes: &self.buffer[from..from + (stop - start) as usize],
            };
            (self.each)(good, self.left);
        }
        for bad in (Mask::span(run.0, run.1) - good).runs() {
            self.leave(bad, Why::Damaged);
        }
    }

    fn leave(&mut self, run: (u32, u32), why: Why) {
        let (start, end) = self.bytes_of(run);
        self.left.push(Left {
            start,
            length: end - start,
            why,
        });
    }
}

/// Puts ranges into order, and neighbours of one kind together.
pub(super) fn join(left: &mut Vec<Left>) {
    left.sort_unstable();
    left.dedup_by(|next, before| {
        let is_joined = before.start + before.length == next.start && before.why == next.why;
        if is_joined {
            before.length += next.length;
        }
        is_joined
    });
}
