//! A store that never was: it writes, rewrites, settles and empties slots by a seed, keeps to the rules of the journal, and remembers after each
//! frame what is true and what its disk holds. Only for the tests of the fold.
//!
//! The rules: bytes of a sector that the journal does not call dirty are written in place before the frame that says so; new bytes of one that it does
//! call dirty go into the frame, and into the slot some time after; a slot is used again only when nothing in it is called dirty.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Content;
use super::op::slot::sums_as_bytes;
use super::op::{Op, RecordedZeros, SlotOp, VolumeId, VolumeRecord, ZeroOp, each};
use super::sums::{BlockSums, Incarnation, Occupant, Sum};
use super::testing::{Random, TestRing, pool, seed};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::sector::{BlockNumber, Mask};

pub(super) const SLOTS: u32 = 6;
const SECTORS: u32 = 8;
const SECTOR_BYTES: usize = 512;
const VOLUMES: u32 = 3;
/// The sectors of a volume in which zeros are made.
const ZERO_SECTORS: u64 = 24;

pub(super) fn sum_of(occupant: Occupant, sector: u32, bytes: &[u8]) -> Sum {
    BlockSums::new(seed(), occupant).of(sector, bytes)
}

/// What the journal says of a slot, and the bytes that it means.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub seq: u64,
    pub content: Option<Content>,
    pub bytes: [Vec<u8>; SECTORS as usize],
    /// Sectors whose bytes only the journal has.
    pending: Mask,
}

/// The truth after a frame.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub slots: Vec<Recorded>,
    pub volumes: BTreeMap<VolumeNumber, (Incarnation, ZeroSectors)>,
    pub disk_after: Vec<Vec<u8>>,
    /// With what was written in place meanwhile for the next frame.
    pub disk_before_next: Vec<Vec<u8>>,
}

/// For each sector of a volume whether it is zero, and if a hole will do.
type ZeroSectors = [Option<bool>; ZERO_SECTORS as usize];

impl Snapshot {
    /// The volume's zeros as ranges; of one that is not there any more, none.
    pub(super) fn zeros(&self, id: VolumeId) -> Vec<RecordedZeros> {
        let (incarnation, sectors) = &self.volumes[&id.volume];
        assert_eq!(*incarnation, id.incarnation);
        ranges(sectors, 0, ZERO_SECTORS)
    }
}

fn ranges(sectors: &ZeroSectors, first: u64, end: u64) -> Vec<RecordedZeros> {
    let mut found: Vec<RecordedZeros> = Vec::new();
    for sector in first..end {
        let Some(may_trim) = sectors[sector as usize] else {
            continue;
        };
        let start = sector * 512;
        match found.last_mut() {
            Some(last) if last.end == start && last.may_trim == may_trim => last.end += 512,
            _ => found.push(RecordedZeros {
                start,
                end: start + 512,
                may_trim,
            }),
        }
    }
    found
}

/// All of it.
#[derive(Debug)]
pub(super) struct Story {
    pub ring: TestRing,
    /// One after each frame.
    pub moments: Vec<Snapshot>,
    random: Random,
    slots: Vec<Recorded>,
    disk: Vec<Vec<u8>>,
    volumes: BTreeMap<VolumeNumber, (Incarnation, ZeroSectors)>,
    next_incarnation: u32,
}

/// An op before it is put into a frame.
enum Draft {
    Slot {
        slot: u32,
        content: Content,
        fresh: Mask,
        inlined: Mask,
    },
    Other(Op<'static>),
}

impl Story {
    pub(super) fn told(number: u64, frames: usize) -> Self {
        let mut random = Random::new(number);
        let nothing = Recorded {
            seq: 0,
            content: None,
            bytes: Default::default(),
            pending: Mask::EMPTY,
        };
        let slot_bytes = SECTORS as usize * SECTOR_BYTES;
        let disk = (0..SLOTS).map(|_| random.bytes(slot_bytes)).collect();
        let mut story = Self {
            ring: TestRing::new(4 << 20),
            moments: Vec::new(),
            random,
            slots: vec![nothing; SLOTS as usize],
            disk,
            volumes: BTreeMap::new(),
            next_incarnation: 0,
        };
        let volumes = (0..VOLUMES)
            .map(|volume| story.new_volume(volume))
            .collect();
        story.frame(volumes);
        for _ in 1..frames {
            let drafts = story.drafts();
            if let Some(last) = story.moments.last_mut() {
                last.disk_before_next.clone_from(&story.disk);
            }
            story.frame(drafts);
        }
        story
    }

    fn new_volume(&mut self, volume: u32) -> Draft {
        let id = VolumeId {
            volume: VolumeNumber(volume),
            incarnation: Incarnation(self.next_incarnation),
        };
        self.next_incarnation += 1;
        let zeros = [None; ZERO_SECTORS as usize];
        self.volumes.insert(id.volume, (id.incarnation, zeros));
        Draft::Other(Op::Volume(VolumeRecord {
            id,
            size_bytes: ZERO_SECTORS * 512,
            sector_shift: 9,
            changed_since_version: false,
            has_queue: false,
            name: format!("disk{volume}"),
            cache_id: String::new(),
            version: None,
        }))
    }

    /// What the next frame says: of a few slots, each once, and perhaps of volumes. Bytes that go in place are on the disk after that.
    fn drafts(&mut self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        let count = 1 + self.random.below(3);
        let slots: BTreeSet<u64> = (0..count)
            .map(|_| self.random.below(u64::from(SLOTS)))
            .collect();
        for slot in slots {
            drafts.extend(self.slot_draft(slot as u32));
        }
        if self.random.chance(40) {
            drafts.push(self.zero_draft());
        }
        if self.random.chance(5) {
            drafts.extend(self.replace_volume());
        }
        drafts
    }

    fn slot_draft(&mut self, slot: u32) -> Option<Draft> {
        let content = self.slots[slot as usize].content;
        let dirty = content.map_or(Mask::EMPTY, |content| content.dirty);
        match (content, self.random.below(10)) {
            (None, _) => Some(self.occupy(slot)),
            (Some(_), 0..3) if dirty.is_empty() => Some(self.occupy(slot)),
            (Some(_), 3..5) if dirty.is_empty() => {
                self.slots[slot as usize].content = None;
                Some(Draft::Other(Op::Empty(SlotNumber(slot))))
            }
            (Some(content), 5..8) => Some(self.settle(slot, content)),
            (Some(content), _) => Some(self.rewrite(slot, content)),
        }
    }

    /// Another block comes into the slot.
    fn occupy(&mut self, slot: u32) -> Draft {
        let volume = VolumeNumber(self.random.below(u64::from(VOLUMES)) as u32);
        let valid = self.random.some_of(Mask::span(0, SECTORS));
        let dirty = self.random.some_of(valid);
        let content = Content {
            occupant: Occupant {
                volume,
                incarnation: self.volumes[&volume].0,
                block: BlockNumber(self.random.below(1000)),
            },
            valid,
            dirty,
            heat: self.random.below(8) as u8,
        };
        self.scribble(slot, Mask::span(0, SECTORS));
        let inlined = self.random.some_of(dirty);
        self.slots[slot as usize].pending = Mask::EMPTY;
        self.change(slot, content, valid, inlined)
    }

    /// Some sectors are written, valid before or not.
    fn rewrite(&mut self, slot: u32, content: Content) -> Draft {
        let changed = self.random.some_of(Mask::span(0, SECTORS));
        let inlined = (changed & content.dirty) | self.random.some_of(changed);
        let content = Content {
            valid: content.valid | changed,
            dirty: content.dirty | changed,
            ..content
        };
        self.change(slot, content, changed, inlined)
    }

    /// Some dirty sectors are on the origin: they are clean, and in the slot; or absent, and anything.
    fn settle(&mut self, slot: u32, content: Content) -> Draft {
        let clean = self.random.some_of(content.dirty);
        let absent = self.random.some_of(content.dirty - clean);
        self.apply(slot, clean);
        self.slots[slot as usize].pending -= absent;
        let content = Content {
            valid: content.valid - absent,
            dirty: content.dirty - clean - absent,
            ..content
        };
        self.change(slot, content, Mask::EMPTY, Mask::EMPTY)
    }

    fn change(&mut self, slot: u32, content: Content, fresh: Mask, inlined: Mask) -> Draft {
        for sector in each(fresh) {
            let bytes = pool(&mut self.random, SECTOR_BYTES);
            self.slots[slot as usize].bytes[sector as usize] = bytes.to_vec();
        }
        let recorded = &mut self.slots[slot as usize];
        recorded.content = Some(content);
        recorded.pending = (recorded.pending - fresh) | fresh;
        self.apply(slot, fresh - inlined);
        Draft::Slot {
            slot,
            content,
            fresh,
            inlined,
        }
    }

    /// Pending bytes of these sectors go to the disk.
    fn apply(&mut self, slot: u32, sectors: Mask) {
        let recorded = &mut self.slots[slot as usize];
        for sector in each(recorded.pending & sectors) {
            let start = sector as usize * SECTOR_BYTES;
            self.disk[slot as usize][start..start + SECTOR_BYTES]
                .copy_from_slice(&recorded.bytes[sector as usize]);
        }
        recorded.pending -= sectors;
    }

    /// These sectors hold anything.
    fn scribble(&mut self, slot: u32, sectors: Mask) {
        for sector in each(sectors) {
            let start = sector as usize * SECTOR_BYTES;
            let garbage = self.random.bytes(SECTOR_BYTES);
            self.disk[slot as usize][start..start + SECTOR_BYTES].copy_from_slice(&garbage);
        }
    }

    fn zero_draft(&mut self) -> Draft {
        let volume = VolumeNumber(self.random.below(u64::from(VOLUMES)) as u32);
        let first = self.random.below(ZERO_SECTORS);
        let end = first + 1 + self.random.below(ZERO_SECTORS - first);
        let (incarnation, sectors) = self.volumes.get_mut(&volume).unwrap();
        for sector in &mut sectors[first as usize..end as usize] {
            *sector = match self.random.below(3) {
                0 => None,
                _ => Some(self.random.chance(50)),
            };
        }
        let id = VolumeId {
            volume,
            incarnation: *incarnation,
        };
        Draft::Other(Op::Zero(ZeroOp {
            id,
            start: first * 512,
            end: end * 512,
            zeros: ranges(sectors, first, end),
        }))
    }

    fn replace_volume(&mut self) -> Vec<Draft> {
        let number = self.random.below(u64::from(VOLUMES)) as u32;
        let volume = VolumeNumber(number);
        let id = VolumeId {
            volume,
            incarnation: self.volumes[&volume].0,
        };
        vec![Draft::Other(Op::VolumeGone(id)), self.new_volume(number)]
    }

    /// Writes the frame, remembers the moment, and lets some of what is pending reach the disk.
    fn frame(&mut self, drafts: Vec<Draft>) {
        let seq = self.ring.next.seq;
        let mut sums: Vec<Vec<u8>> = Vec::new();
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for draft in &drafts {
            let (these, those) = self.carried(draft);
            sums.push(these);
            bytes.push(those);
        }
        let carried = sums.iter().zip(&bytes);
        let ops: Vec<Op<'_>> = drafts
            .into_iter()
            .zip(carried)
            .map(|(draft, (sums, bytes))| match draft {
                Draft::Other(op) => op,
                Draft::Slot {
                    slot,
                    content,
                    fresh,
                    inlined,
                } => Op::Slot(SlotOp {
                    slot: SlotNumber(slot),
                    content,
                    sector_shift: 9,
                    fresh,
                    inlined,
                    sums,
                    bytes,
                }),
            })
            .collect();
        for op in &ops {
            if let Op::Slot(SlotOp { slot, .. }) | Op::Empty(slot) = op {
                self.slots[slot.0 as usize].seq = seq;
            }
        }
        self.ring.append(&ops);
        self.ring.sync();
        self.moments.push(Snapshot {
            slots: self.slots.clone(),
            volumes: self.volumes.clone(),
            disk_after: self.disk.clone(),
            disk_before_next: self.disk.clone(),
        });
        self.after_frame();
    }

    fn after_frame(&mut self) {
        for slot in 0..SLOTS {
            let recorded = &self.slots[slot as usize];
            let (pending, content) = (recorded.pending, recorded.content);
            let dirty = content.map_or(Mask::EMPTY, |content| content.dirty);
            let applied = self.random.some_of(pending);
            self.apply(slot, applied);
            if self.random.chance(30) {
                let anything = self.random.some_of(Mask::span(0, SECTORS) - dirty);
                let valid = content.map_or(Mask::EMPTY, |content| content.valid);
                self.scribble(slot, anything - valid);
            }
        }
    }

    /// The sums and the bytes that an op carries.
    fn carried(&self, draft: &Draft) -> (Vec<u8>, Vec<u8>) {
        let Draft::Slot {
            slot,
            content,
            fresh,
            inlined,
        } = draft
        else {
            return Default::default();
        };
        let bytes_of = &self.slots[*slot as usize].bytes;
        let sums =
            each(*fresh).map(|sector| sum_of(content.occupant, sector, &bytes_of[sector as usize]));
        let inlined = each(*inlined).flat_map(|sector| bytes_of[sector as usize].iter().copied());
        (sums_as_bytes(sums), inlined.collect())
    }
}
