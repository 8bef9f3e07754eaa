//! Reading what only the directory has into something else, for whoever knows what to do with it.

use super::plan::Plan;
use super::queued::{self, Queued};
use super::work::{Item, Work};
use super::{Drain, DrainError, Left, Progress, Why, reading};
use crate::inspect::{self, DirtyRange};
use crate::ordered::Content;

/// So much of a queue is read at once, in bytes.
const PART_BYTES: u64 = 1 << 20;

/// Where written data goes.
pub trait Output {
    /// Takes bytes of the volume. What it was never given, zeros too, it must hold as zeros or not at all.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// What counts of the output, in order: the rest of the volume is the origin's.
    pub ranges: Vec<DirtyRange>,
    /// What should, and is not there.
    pub left: Vec<Left>,
}

impl Drain {
    /// Reads what the origin does not have of the volume. The directory keeps it.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn export(
        &self,
        volume: u32,
        output: &mut dyn Output,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Exported, DrainError> {
        let id = self.id(volume)?;
        if let Some(queued) = self.queued(id) {
            return Ok(export_queue(queued, output, progress));
        }
        let mut exported = Exported::default();
        let Some(plan) = self.plans.get(&id) else {
            return Ok(exported);
        };
        let mut told = Progress {
            done_bytes: 0,
            total_bytes: plan.dirty_bytes() + plan.zero_bytes(),
        };
        let mut work = Work::all(u64::MAX);
        while let Some(item) = work.next(plan) {
            match item {
                Item::Block(at) => self.export_block(plan, at, output, &mut exported),
                Item::Zeros(zeros) => exported.add((zeros.start, zeros.end), true),
            }
            told.done_bytes += item.bytes(plan);
            progress(told);
        }
        reading::join(&mut exported.left);
        // A block's data came before the zeros in it.
        inspect::join(&mut exported.ranges);
        Ok(exported)
    }

    fn export_block(
        &self,
        plan: &Plan,
        at: usize,
        output: &mut dyn Output,
        exported: &mut Exported,
    ) {
        let mut left = Vec::new();
        self.read_dirty(plan, &plan.blocks[at], &mut left, &mut |good, left| {
            let length = good.bytes.len() as u64;
            match output.write(good.start, good.bytes) {
                Ok(()) => exported.add((good.start, good.start + length), false),
                Err(error) => left.push(Left {
                    start: good.start,
                    length,
                    why: Why::Refused(error.to_string()),
                }),
            }
        });
        exported.left.append(&mut left);
    }
}

/// The last change of each byte.
fn export_queue(
    queued: &Queued,
    output: &mut dyn Output,
    progress: &mut dyn FnMut(Progress),
) -> Exported {
    let mut exported = Exported::default();
    let (data, zeros) = queued.held.bytes();
    let mut told = Progress {
        done_bytes: 0,
        total_bytes: data + zeros,
    };
    let mut buffer = Vec::new();
    for piece in &queued.held.pieces {
        for (start, end, content) in queued::parts(*piece, PART_BYTES) {
            match content {
                Content::Zero { .. } => exported.add((start, end), true),
                Content::Data(at) => {
                    buffer.resize((end - start) as usize, 0);
                    let why = match queued.read(at, &mut buffer) {
                        Ok(()) => output
                            .write(start, &buffer)
                            .err()
                            .map(|error| Why::Refused(error.to_string())),
                        Err(error) => Some(Why::Unreadable(error.to_string())),
                    };
                    match why {
                        None => exported.add((start, end), false),
                        Some(why) => exported.left.push(Left {
                            start,
                            length: end - start,
                            why,
                        }),
                    }
                }
            }
            told.done_bytes += end - start;
            progress(told);
        }
    }
    reading::join(&mut exported.left);
    exported
}

impl Exported {
    /// What comes one after the other is one range.
    fn add(&mut self, (start, end): (u64, u64), is_zero: bool) {
        match self.ranges.last_mut() {
            Some(last) if last.start + last.length == start && last.is_zero == is_zero => {
                last.length += end - start;
            }
            _ => self.ranges.push(DirtyRange {
                start,
                length: end - start,
                is_zero,
            }),
        }
    }
}
