//! What an op has of a block's sectors.

use std::io;
use std::sync::Arc;

use super::Survival;
use super::redo::{self, Redo};
use crate::latch::{Latch, Latched};
use crate::persist::op::slot::sums_as_bytes;
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// The sums of sectors, and the bytes of some of them: as they are in the slot, or as they are about to be.
#[derive(Default)]
pub(super) struct Carried {
    pub sums: Vec<u8>,
    pub bytes: Vec<u8>,
}

impl Carried {
    /// The sums of `fresh`, and the bytes of those of them that are `inlined`. What is overwritten is not read from the slot.
    pub(super) fn of(
        survival: &Survival,
        state: &Latch<'_>,
        (volume, number): (&Volume, BlockNumber),
        (fresh, inlined): (Mask, Mask),
        redos: &[Arc<Redo>],
    ) -> io::Result<Self> {
        let Some(block_sums) = survival.block_sums(volume, number) else {
            return Ok(Self::default());
        };
        let (mut sums, mut bytes) = (Vec::new(), Vec::new());
        let geometry = volume.geometry();
        let sector_bytes = geometry.sector_bytes() as usize;
        for (run, redo) in pieces(fresh, redos) {
            let (start, end) = geometry.bytes_of(number, run, volume.size());
            let mut content = vec![0; (end - start) as usize];
            match redo.filter(|_| !is_planted(Bug::RedoSaysTheOld)) {
                Some(redo) => content.copy_from_slice(redo.bytes()),
                None => state.read_slot(start - geometry.base(number), &mut content)?,
            }
            for (sector, content) in (run.0..).zip(content.chunks(sector_bytes)) {
                sums.push(block_sums.of(sector, content));
                if inlined.has(sector) {
                    bytes.extend_from_slice(content);
                    // The last one of a volume.
                    bytes.resize(bytes.len().next_multiple_of(sector_bytes), 0);
                }
            }
        }
        Ok(Self {
            sums: sums_as_bytes(sums),
            bytes,
        })
    }
}

/// Runs of sectors, in order, with what overwrites them.
fn pieces(fresh: Mask, redos: &[Arc<Redo>]) -> Vec<((u32, u32), Option<&Redo>)> {
    let in_slot = (fresh - redo::sectors(redos)).runs().map(|run| (run, None));
    let redone = redos.iter().flat_map(|redo| {
        let runs = redo.sectors().runs();
        runs.map(move |run| (run, Some(&**redo)))
    });
    let mut pieces: Vec<_> = in_slot.chain(redone).collect();
    pieces.sort_unstable_by_key(|(run, _)| *run);
    pieces
}
