//! Comparing what a slot holds with the checksums that were recorded of it.
//!
//! Bytes of a dirty sector that the journal carries count instead of the slot's: a start writes them there.

use crate::directory::SlotNumber;
use crate::persist::entry::{Content, Entry};
use crate::persist::look::Look;
use crate::persist::sums::{BlockSums, Sum};
use crate::sector::{Geometry, Mask};

/// What is recorded of a slot that holds something of a volume.
pub(super) struct Recorded<'l> {
    look: &'l Look,
    slot: SlotNumber,
    pub geometry: Geometry,
    /// The volume's, in bytes.
    pub size: u64,
    pub name: &'l str,
    /// Only sectors that are within the volume, and not zero.
    pub content: Content,
    /// None if they cannot be read.
    sums: Option<Vec<Sum>>,
    /// Where in the journal the bytes of sectors are that it carries.
    inlined: Vec<(u32, u64)>,
}

/// What is recorded of some sectors. If it is the same before and after they were read, nobody wrote to them in between who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    session: u64,
    content: Content,
    seq: u64,
    sums: Vec<Option<Sum>>,
    inlined: Vec<(u32, u64)>,
}

/// What was found in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Sectors whose bytes are not what was recorded, or cannot be read.
    pub bad: Mask,
    /// Those of them that cannot be read.
    pub unreadable: Mask,
}

impl<'l> Recorded<'l> {
    /// None of a slot that holds nothing that counts.
    pub(super) fn new(look: &'l Look, slot: SlotNumber, entry: &Entry) -> Option<Self> {
        let mut content = entry.content?;
        let volume = look.volumes().get(content.occupant.volume_id())?;
        let geometry = look.geometry(&volume.record)?;
        let size = volume.record.size_bytes;
        let block = content.occupant.block;
        let existing = geometry.existing(block, size);
        // What is zero counts more, so that nobody ever reads what a slot holds there.
        let counting = existing - volume.zeros.mask(geometry, block, size);
        content.valid &= counting;
        content.dirty &= counting;
        if content.valid.is_empty() {
            return None;
        }
        let mut inlined = look.inlined(slot);
        inlined.retain(|(sector, _)| content.valid.has(*sector));
        Some(Self {
            look,
            slot,
            geometry,
            size,
            name: &volume.record.name,
            content,
            sums: look.sums(slot).ok(),
            inlined,
        })
    }

    /// The bytes of the volume that a run of sectors is.
    pub(super) fn bytes_of(&self, run: (u32, u32)) -> (u64, u64) {
        self.geometry
            .bytes_of(self.content.occupant.block, run, self.size)
    }

    /// How many bytes these sectors have.
    pub(super) fn length_of(&self, sectors: Mask) -> u64 {
        let runs = sectors.runs().map(|run| self.bytes_of(run));
        runs.map(|(start, end)| end - start).sum()
    }

    /// What is recorded of these sectors.
    pub(super) fn evidence(&self, entry: &Entry, sectors: Mask) -> Evidence {
        let each = sectors.runs().flat_map(|(first, end)| first..end);
        let sum = |sector: u32| Some(self.sums.as_ref()?[sector as usize]);
        let inlined = self.inlined.iter().copied();
        Evidence {
            session: self.look.superblock().session,
            content: self.content,
            seq: entry.seq,
            sums: each.map(sum).collect(),
            inlined: inlined.filter(|(sector, _)| sectors.has(*sector)).collect(),
        }
    }

    /// Reads and compares all of it.
    pub(super) fn check(&self, buffer: &mut Vec<u8>) -> Found {
        let Some(sums) = &self.sums else {
            return Found {
                bad: self.content.valid,
                unreadable: self.content.valid,
            };
        };
        let mut checking = Checking {
            recorded: self,
            sums,
            block_sums: BlockSums::new(self.look.seed(), self.content.occupant),
            buffer,
            found: Found::default(),
        };
        let mut in_slot = self.content.valid;
        for (sector, at) in &self.inlined {
            in_slot -= Mask::span(*sector, sector + 1);
            checking.check_inlined(*sector, *at);
        }
        for run in in_slot.runs() {
            checking.check_run(run);
        }
        checking.found
    }
}

struct Checking<'c> {
    recorded: &'c Recorded<'c>,
    sums: &'c [Sum],
    block_sums: BlockSums,
    buffer: &'c mut Vec<u8>,
    found: Found,
}

impl Checking<'_> {
    fn check_run(&mut self, run: (u32, u32)) {
        let (start, end) = self.recorded.bytes_of(run);
        let base = self
            .recorded
            .geometry
            .base(self.recorded.content.occupant.block);
        self.buffer.resize((end - start) as usize, 0);
        let (look, slot) = (self.recorded.look, self.recorded.slot);
        match look.read_slot(slot, start - base, self.buffer) {
            Ok(()) => self.compare(run.0),
            Err(_) if run.1 - run.0 > 1 => (run.0..run.1).for_each(|sector| {
                self.check_run((sector, sector + 1));
            }),
            Err(_) => self.note_unreadable(run.0),
        }
    }

    fn check_inlined(&mut self, sector: u32, at: u64) {
        let (start, end) = self.recorded.bytes_of((sector, sector + 1));
        self.buffer.resize((end - start) as usize, 0);
        match self.recorded.look.read_ring(at, self.buffer) {
            Ok(()) => self.compare(sector),
            Err(_) => self.note_unreadable(sector),
        }
    }

    /// Compares sectors from `first` on, whose bytes are in the buffer.
    fn compare(&mut self, first: u32) {
        let sector_bytes = self.recorded.geometry.sector_bytes() as usize;
        for (sector, bytes) in (first..).zip(self.buffer.chunks(sector_bytes)) {
            if self.block_sums.of(sector, bytes) != self.sums[sector as usize] {
                self.found.bad |= Mask::span(sector, sector + 1);
            }
        }
    }

    fn note_unreadable(&mut self, sector: u32) {
        let sector = Mask::span(sector, sector + 1);
        self.found.bad |= sector;
        self.found.unreadable |= sector;
    }
}
