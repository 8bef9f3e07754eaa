//! What a directory has of each volume and its origin has not, found by one look at every entry.

use std::collections::BTreeMap;

use super::DrainError;
use super::error::DrainErrorKind;
use crate::directory::SlotNumber;
use crate::persist::entry::{Content, Entry};
use crate::persist::home::Home;
use crate::persist::op::{RecordedZeros, VolumeId, VolumeRecord};
use crate::persist::volumes::{TableVolume, VolumeTable};
use crate::sector::{BlockNumber, Geometry, Mask};
use crate::zero_map::{Phase, ZeroMap, ZeroRange};

/// A block of which something is dirty.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirtyBlock {
    pub block: BlockNumber,
    pub slot: SlotNumber,
    /// What is not durable on the origin: of the volume, and not zero.
    pub dirty: Mask,
}

/// All of a volume that is not on its origin.
#[derive(Debug)]
pub(super) struct Plan {
    pub id: VolumeId,
    pub geometry: Geometry,
    pub size: u64,
    /// By block.
    pub blocks: Vec<DirtyBlock>,
    /// What was zero when the directory was opened. It stays, whatever the origin gets: of the sectors below, slots
    /// hold something else.
    was_zero: ZeroMap,
    /// What of that is not durable on the origin.
    pub zeros: ZeroMap,
    /// Some of it is on the origin, so that the entries of the volume must say something else at the end.
    pub is_settled: bool,
}

/// The plan of every volume.
pub(super) fn all(
    home: &Home,
    volumes: &VolumeTable,
) -> Result<BTreeMap<VolumeId, Plan>, DrainError> {
    let mut plans = BTreeMap::new();
    for volume in volumes.volumes() {
        plans.insert(volume.record.id, Plan::new(home, volume)?);
    }
    home.read_entries(0..u32::MAX, &mut |slot, entry| {
        if let Entry {
            content: Some(content),
            ..
        } = entry
            && let Some(plan) = plans.get_mut(&content.occupant.volume_id())
        {
            plan.add(slot, &content);
        }
    })?;
    for plan in plans.values_mut() {
        plan.blocks.sort_unstable_by_key(|block| block.block);
        plan.check(volumes)?;
    }
    Ok(plans)
}

impl Plan {
    fn new(home: &Home, volume: &TableVolume) -> Result<Self, DrainError> {
        let VolumeRecord {
            id,
            size_bytes: size,
            ..
        } = volume.record;
        let block_bytes = home.shape().block_bytes();
        let Some(geometry) = volume.record.geometry(block_bytes) else {
            let what = "its sectors are larger than its blocks";
            return Err(damaged(&volume.record, what));
        };
        let (mut zeros, mut was_zero) = (ZeroMap::default(), ZeroMap::default());
        for recorded in volume.recorded_zeros(0, size) {
            let aligned = |at: u64| geometry.align_down(at) == at || at == size;
            if !aligned(recorded.start) || !aligned(recorded.end) {
                let what = "it has zeros that do not begin and end with a sector";
                return Err(damaged(&volume.record, what));
            }
            let range = ZeroRange {
                start: recorded.start,
                end: recorded.end,
                may_trim: recorded.may_trim,
                phase: Phase::Dirty,
            };
            zeros.insert(range);
            was_zero.insert(range);
        }
        Ok(Self {
            id,
            geometry,
            size,
            blocks: Vec::new(),
            was_zero,
            zeros,
            is_settled: false,
        })
    }

    fn add(&mut self, slot: SlotNumber, content: &Content) {
        let block = content.occupant.block;
        let dirty = self.counting(block, content.dirty);
        if !dirty.is_empty() {
            self.blocks.push(DirtyBlock { block, slot, dirty });
        }
    }

    /// Those of a slot's sectors that say something: within the volume, and not zero.
    pub(super) fn counting(&self, block: BlockNumber, sectors: Mask) -> Mask {
        let zeros = self.was_zero.mask(self.geometry, block, self.size);
        (sectors & self.geometry.existing(block, self.size)) - zeros
    }

    /// Nobody could say which of two slots has the newer bytes.
    fn check(&self, volumes: &VolumeTable) -> Result<(), DrainError> {
        let twice = |pair: &&[DirtyBlock]| pair[0].block == pair[1].block;
        let found = self.blocks.windows(2).find(twice);
        match (found, volumes.get(self.id)) {
            (Some([one, other]), Some(volume)) => {
                let (one, other, block) = (one.slot.0, other.slot.0, one.block.0);
                let what = format!("its block {block} was written in two slots, {one} and {other}");
                Err(damaged(&volume.record, &what))
            }
            _ => Ok(()),
        }
    }

    /// What of this block is dirty, if anything was when the directory was opened.
    pub(super) fn of_block(&self, block: BlockNumber) -> Option<&DirtyBlock> {
        let at = self.blocks.binary_search_by_key(&block, |it| it.block);
        Some(&self.blocks[at.ok()?])
    }

    /// The bytes of these sectors.
    pub(super) fn bytes_of(&self, block: BlockNumber, sectors: Mask) -> u64 {
        let runs = sectors.runs();
        let ranges = runs.map(|run| self.geometry.bytes_of(block, run, self.size));
        ranges.map(|(start, end)| end - start).sum()
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        let bytes = |it: &DirtyBlock| self.bytes_of(it.block, it.dirty);
        self.blocks.iter().map(bytes).sum()
    }

    pub(super) fn zero_bytes(&self) -> u64 {
        let zeros = self.zeros.overlapping(0, self.size);
        zeros.map(|zeros| zeros.end - zeros.start).sum()
    }

    /// The zeros that are not on the origin.
    pub(super) fn recorded_zeros(&self) -> Vec<RecordedZeros> {
        let zeros = self.zeros.overlapping(0, self.size);
        let recorded = zeros.map(|zeros| RecordedZeros {
            start: zeros.start,
            end: zeros.end,
            may_trim: zeros.may_trim,
        });
        recorded.collect()
    }

    /// Whether the origin has everything.
    pub(super) fn is_done(&self) -> bool {
        self.zeros.len() == 0 && self.blocks.iter().all(|block| block.dirty.is_empty())
    }
}

pub(super) fn damaged(record: &VolumeRecord, what: &str) -> DrainError {
    let name = &record.name;
    let message = format!("volume {name:?} is damaged: {what}");
    DrainError::new(DrainErrorKind::Refused, message)
}
