//! The volume table: which volumes there are, what is known of their origins, and their zeros by state. It is written whole, beside
//! the one that counts, as the ops that make it.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{Malformed, Put, Reader};
use super::op::{Op, Ops, RecordedZeros, VolumeId, VolumeRecord, ZeroOp};
use super::refusal::Finding;
use super::shape::{PAGE_BYTES, Shape};
use super::sums::{Incarnation, Seed};
use crate::directory::VolumeNumber;
use crate::zero_map::{Phase, ZeroMap, ZeroRange};

const MAGIC: [u8; 4] = *b"LVT1";

const HEAD_BYTES: usize = 64;
const SUMMED_HEAD_BYTES: usize = 56;

/// The largest table: far more than the zeros of thousands of volumes take.
const MAX_TABLE_BYTES: u64 = 1 << 30;

const NO_SUCH_VOLUME: Malformed = Malformed("there is no such volume");

/// Where in its file a table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub offset: u64,
    pub bytes: u64,
    /// That of the superblock which first named it.
    pub generation: u64,
}

impl Region {
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let is_possible = self.offset >= PAGE_BYTES
            && self.offset.is_multiple_of(PAGE_BYTES)
            && self.offset < 1 << 62
            && (HEAD_BYTES as u64..=MAX_TABLE_BYTES).contains(&self.bytes);
        match is_possible {
            true => Ok(()),
            false => Err(Malformed("its volume table lies at an impossible place")),
        }
    }

    /// The byte after the last page.
    pub(crate) fn end(&self) -> u64 {
        (self.offset + self.bytes).next_multiple_of(PAGE_BYTES)
    }

    /// Where a table of so many bytes goes, so that this one stays whole: before it if there is room, else behind.
    pub(crate) fn offset_beside(&self, bytes: u64) -> u64 {
        let fits_before = PAGE_BYTES + bytes.next_multiple_of(PAGE_BYTES) <= self.offset;
        if fits_before { PAGE_BYTES } else { self.end() }
    }
}

/// A volume of the table.
#[derive(Debug)]
pub(crate) struct TableVolume {
    pub record: VolumeRecord,
    /// What is zero by state, all of it newer than the origin.
    pub zeros: ZeroMap,
}

/// All volumes.
#[derive(Debug, Default)]
pub(crate) struct VolumeTable {
    volumes: BTreeMap<VolumeNumber, TableVolume>,
    next_incarnation: u32,
}

impl VolumeTable {
    /// The volumes, by number.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &TableVolume> {
        self.volumes.values()
    }

    /// The volume, unless it is gone, or its number is another's now.
    pub(crate) fn get(&self, id: VolumeId) -> Option<&TableVolume> {
        let volume = self.volumes.get(&id.volume)?;
        (volume.record.id == id).then_some(volume)
    }

    /// What no volume of this cache has had.
    pub(crate) fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.next_incarnation)
    }

    /// Follows an op. What is said of volumes that are gone, and of slots, changes nothing here.
    pub(crate) fn apply(&mut self, op: &Op<'_>) -> Result<(), Malformed> {
        match op {
            Op::Volume(record) => self.set(record)?,
            Op::VolumeGone(id) => self.remove(*id),
            Op::Zero(op) => {
                if let Some(volume) = self.get_mut(op.id) {
                    volume.set_zeros(op)?;
                }
            }
            Op::Slot(op) => {
                let volume = self.get(op.content.occupant.volume_id());
                if volume.is_some_and(|volume| volume.record.sector_shift != op.sector_shift) {
                    return Err(Malformed("a slot's sectors are not those of its volume"));
                }
            }
            Op::Empty(_) | Op::Vouch => {}
            Op::Change(_) | Op::Epoch => return Err(Malformed("it says what only a queue says")),
        }
        Ok(())
    }

    /// The lowest number that no volume has.
    pub(crate) fn free_number(&self) -> VolumeNumber {
        let taken = self.volumes.keys().map(|number| number.0);
        let free = (0..).zip(taken).find(|(free, taken)| free != taken);
        VolumeNumber(free.map_or(self.volumes.len() as u32, |(free, _)| free))
    }

    /// Adds a volume, in place of any other of its number, with an incarnation that none had. `record` is given what it is called by then.
    pub(crate) fn add(
        &mut self,
        volume: VolumeNumber,
        record: impl FnOnce(VolumeId) -> VolumeRecord,
    ) -> Result<VolumeId, Malformed> {
        let id = VolumeId {
            volume,
            incarnation: self.next_incarnation(),
        };
        self.set(&VolumeRecord { id, ..record(id) })?;
        Ok(id)
    }

    /// Changes what is known of a volume that there is; of zeros beyond a smaller end nothing is left.
    pub(crate) fn set_record(&mut self, record: &VolumeRecord) -> Result<(), Malformed> {
        match self.get(record.id) {
            Some(_) => self.set(record),
            None => Err(NO_SUCH_VOLUME),
        }
    }

    /// Forgets a volume, if it is there.
    pub(crate) fn remove(&mut self, id: VolumeId) {
        if self.get(id).is_some() {
            self.volumes.remove(&id.volume);
        }
    }

    /// Says which ranges of a volume are zero by state: these, which are in order and apart, and no others.
    pub(crate) fn set_zeros(
        &mut self,
        id: VolumeId,
        zeros: Vec<RecordedZeros>,
    ) -> Result<(), Malformed> {
        let volume = self.get_mut(id).ok_or(NO_SUCH_VOLUME)?;
        let end = volume.record.size_bytes;
        volume.set_zeros(&ZeroOp {
            id,
            start: 0,
            end,
            zeros,
        })
    }

    fn get_mut(&mut self, id: VolumeId) -> Option<&mut TableVolume> {
        let volume = self.volumes.get_mut(&id.volume)?;
        (volume.record.id == id).then_some(volume)
    }

    fn set(&mut self, record: &VolumeRecord) -> Result<(), Malformed> {
        if let Some(volume) = self.get_mut(record.id) {
            if volume.record.sector_shift != record.sector_shift {
                return Err(Malformed("a volume's sectors changed their size"));
            }
            volume.zeros.remove(record.size_bytes, u64::MAX);
            volume.record = record.clone();
            return Ok(());
        }
        let Incarnation(incarnation) = record.id.incarnation;
        if incarnation < self.next_incarnation || incarnation == u32::MAX {
            return Err(Malformed("a volume has the incarnation of an older one"));
        }
        self.next_incarnation = incarnation + 1;
        let volume = TableVolume {
            record: record.clone(),
            zeros: ZeroMap::default(),
        };
        self.volumes.insert(record.id.volume, volume);
        Ok(())
    }

    /// The table as it is to be written at `offset` of its file.
    pub(crate) fn encode(&self, generation: u64, cache: Seed, offset: u64) -> Vec<u8> {
        let mut ops = Vec::new();
        for volume in self.volumes() {
            volume.ops().for_each(|op| op.put(&mut ops));
        }
        Self::sealed(self.next_incarnation, &ops, generation, cache, offset)
    }

    /// A table of these ops, with the checksum that it needs.
    pub(super) fn sealed(
        next_incarnation: u32,
        ops: &[u8],
        generation: u64,
        cache: Seed,
        offset: u64,
    ) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32(next_incarnation);
        bytes.put_u64((HEAD_BYTES + ops.len()) as u64);
        bytes.put_u64(generation);
        bytes.resize(SUMMED_HEAD_BYTES, 0);
        bytes.put_u64(checksum(&bytes, ops, cache, offset));
        bytes.extend_from_slice(ops);
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES as usize), 0);
        bytes
    }

    /// How many bytes of what [`VolumeTable::encode`] makes are the table: what [`Region::bytes`] says.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        let ops = self.volumes().flat_map(TableVolume::ops);
        HEAD_BYTES as u64 + ops.map(|op| op.encoded_bytes() as u64).sum::<u64>()
    }

    /// The table that the superblock names; `bytes` are those of its region.
    pub(crate) fn decode(
        bytes: &[u8],
        region: Region,
        cache: Seed,
        shape: Shape,
    ) -> Result<Self, Finding> {
        let bytes = usize::try_from(region.bytes)
            .ok()
            .and_then(|length| bytes.get(..length));
        let Some((head, ops)) = bytes.and_then(|bytes| bytes.split_at_checked(HEAD_BYTES)) else {
            return Err(Finding::Damaged);
        };
        let (summed, stored) = head.split_at(SUMMED_HEAD_BYTES);
        let mut reader = Reader::new(summed);
        let (magic, next_incarnation) = (reader.array()?, reader.u32()?);
        let (used, generation) = (reader.u64()?, reader.u64()?);
        let is_it = magic == MAGIC
            && used == region.bytes
            && generation == region.generation
            && checksum(summed, ops, cache, region.offset).to_le_bytes() == stored;
        if !is_it {
            return Err(Finding::Damaged);
        }
        let table = Self::from_ops(Ops::new(ops, shape))?;
        match table.next_incarnation <= next_incarnation {
            true => Ok(Self {
                next_incarnation,
                ..table
            }),
            false => Err(Malformed("a volume has an incarnation that is still to come").into()),
        }
    }

    /// The volumes stand in the order of their numbers, each before what is said of it.
    fn from_ops(ops: Ops<'_>) -> Result<Self, Malformed> {
        let mut table = Self::default();
        let mut incarnations = BTreeSet::new();
        for op in ops {
            let (_, op) = op?;
            match &op {
                Op::Volume(record) => {
                    let is_next = table
                        .volumes
                        .last_key_value()
                        .is_none_or(|(last, _)| *last < record.id.volume);
                    if !is_next || !incarnations.insert(record.id.incarnation) {
                        return Err(Malformed("two volumes are the same one"));
                    }
                    // Incarnations have another order.
                    table.next_incarnation = 0;
                }
                Op::Zero(_) => {}
                _ => return Err(Malformed("it says what no volume table says")),
            }
            table.apply(&op)?;
        }
        let newest = incarnations.last().copied();
        table.next_incarnation = newest.map_or(0, |Incarnation(newest)| newest + 1);
        Ok(table)
    }
}

impl TableVolume {
    fn set_zeros(&mut self, op: &ZeroOp) -> Result<(), Malformed> {
        if op
            .zeros
            .iter()
            .any(|zeros| zeros.end > self.record.size_bytes)
        {
            return Err(Malformed("zeros lie beyond the end of their volume"));
        }
        self.zeros.remove(op.start, op.end);
        for zeros in &op.zeros {
            self.zeros.insert(ZeroRange {
                start: zeros.start,
                end: zeros.end,
                may_trim: zeros.may_trim,
                phase: Phase::Dirty,
            });
        }
        Ok(())
    }

    /// The zeros within a range, as ops say them.
    pub(crate) fn recorded_zeros(&self, start: u64, end: u64) -> Vec<RecordedZeros> {
        let ranges = self.zeros.overlapping(start, end);
        ranges
            .map(|range| RecordedZeros {
                start: range.start,
                end: range.end,
                may_trim: range.may_trim,
            })
            .collect()
    }

    /// What makes the volume as it is.
    fn ops(&self) -> impl Iterator<Item = Op<'static>> {
        let id = self.record.id;
        let end = self.record.size_bytes;
        let zeros = self.recorded_zeros(0, end);
        let zeros = (!zeros.is_empty()).then_some(ZeroOp {
            id,
            start: 0,
            end,
            zeros,
        });
        std::iter::once(Op::Volume(self.record.clone())).chain(zeros.map(Op::Zero))
    }
}

/// Of the head, and with that of the ops.
fn checksum(head: &[u8], ops: &[u8], cache: Seed, offset: u64) -> u64 {
    cache.with(&offset.to_le_bytes()).with(head).sum(ops)
}

#[cfg(test)]
mod tests;
