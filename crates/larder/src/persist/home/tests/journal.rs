//! What was committed is found again, however often the journal has been around its ring.

use std::collections::BTreeSet;

use super::*;
use crate::persist::op::RecordedZeros;
use crate::persist::op::ZeroOp;

const SECTOR_BYTES: usize = 512;

/// Commits given ops.
pub(super) struct Saying<'h> {
    pub home: &'h Home,
    slots: Box<dyn MediumFile>,
    /// Each is durable as a whole.
    pub groups: Vec<Vec<Op<'static>>>,
    /// Bytes that are to go into slots once they are durable: where, and what.
    held: Vec<(u64, &'static [u8])>,
    /// Up to which frame all was durable, each time that it was told.
    pub durable: Vec<u64>,
    pub slot_syncs: u64,
    pub checkpoints: u64,
    pub fails: Option<Errno>,
    pub panics: bool,
}

impl<'h> Saying<'h> {
    pub(super) fn nothing(home: &'h Home) -> Self {
        Self {
            home,
            slots: home.open_slots(),
            groups: Vec::new(),
            held: Vec::new(),
            durable: Vec::new(),
            slot_syncs: 0,
            checkpoints: 0,
            fails: None,
            panics: false,
        }
    }

    fn hold(&mut self, op: &Op<'static>) {
        let Op::Slot(op) = op else { return };
        let start = self.home.shape().slot_offset(op.slot);
        let held = op.inlined();
        let held =
            held.map(|(sector, bytes)| (start + (u64::from(sector) << op.sector_shift), bytes));
        self.held.extend(held);
    }
}

impl Home {
    pub(super) fn open_slots(&self) -> Box<dyn MediumFile> {
        self.medium.open("slots").unwrap()
    }
}

impl CommitWork for Saying<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        assert!(!self.panics, "as planned");
        if let Some(errno) = self.fails.take() {
            return Err(errno.into());
        }
        while !batch.is_full() {
            if self.groups.is_empty() {
                return Ok(More::No);
            }
            let group = self.groups.remove(0);
            batch.push(&group).unwrap();
            assert!(!batch.is_empty());
            group.iter().for_each(|op| self.hold(op));
        }
        Ok(More::Yes)
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        self.slot_syncs += 1;
        self.slots.sync()
    }

    fn appended(&mut self, _: usize, seq: u64) {
        assert!(seq > self.durable.last().copied().unwrap_or_default());
    }

    fn durable(&mut self, seq: u64) -> bool {
        self.durable.push(seq);
        for (offset, bytes) in std::mem::take(&mut self.held) {
            self.slots.write(offset, bytes).unwrap();
        }
        true
    }

    fn make_room(&mut self, _: u64) -> Result<(), CommitError> {
        self.checkpoints += 1;
        match self.home.checkpoint() {
            Ok(true) => Ok(()),
            Ok(false) => Err(CommitError::NoRoom),
            Err(error) => Err(self.home.journal().fail(&error.to_string())),
        }
    }
}

/// Says which volumes there are.
pub(super) fn commit_volumes(home: &Home, table: &VolumeTable) {
    let mut work = Saying::nothing(home);
    let volumes = table.volumes();
    let records = volumes.map(|volume| Op::Volume(volume.record.clone()));
    work.groups.push(records.collect());
    commit::run(home.journal(), &mut work, Durability::Now).unwrap();
}

/// What is true of a slot.
#[derive(Clone, Debug)]
struct Truth {
    content: Option<Content>,
    sums: [Sum; 8],
    bytes: [&'static [u8]; 8],
}

struct World {
    random: Random,
    slots: Vec<Truth>,
    zeros: Vec<RecordedZeros>,
    /// Of these slots something is said already that is not committed.
    said: BTreeSet<u32>,
}

impl World {
    fn new(number: u64) -> Self {
        let nothing = Truth {
            content: None,
            sums: [Sum(0); 8],
            bytes: [&[]; 8],
        };
        Self {
            random: Random::new(number),
            slots: vec![nothing; SLOTS as usize],
            zeros: Vec::new(),
            said: BTreeSet::new(),
        }
    }

    /// Says that sectors of a slot are new, and puts into it what goes there before the frame.
    fn change(&mut self, home: &Home, slot: u32, content: Content, fresh: Mask) -> Op<'static> {
        let random = &mut self.random;
        let truth = &mut self.slots[slot as usize];
        let same = |old: Content| old.occupant == content.occupant;
        let was_dirty = truth.content.filter(|old| same(*old)).map(|old| old.dirty);
        let must = fresh & was_dirty.unwrap_or_default();
        let inlined = (random.some_of(fresh) & content.dirty) | must;
        let bytes = pool(random, inlined.count() as usize * SECTOR_BYTES);
        let sums = pool(random, fresh.count() as usize * 8);
        let op = SlotOp {
            slot: SlotNumber(slot),
            content,
            sector_shift: 9,
            fresh,
            inlined,
            sums,
            bytes,
        };
        for (sector, sum) in op.sums() {
            truth.sums[sector as usize] = sum;
        }
        let file = home.open_slots();
        for sector in each(fresh - inlined) {
            let bytes = pool(random, SECTOR_BYTES);
            truth.bytes[sector as usize] = bytes;
            let within = u64::from(sector) * SECTOR_BYTES as u64;
            let offset = home.shape().slot_offset(op.slot) + within;
            file.write(offset, bytes).unwrap();
        }
        for (sector, bytes) in op.inlined() {
            truth.bytes[sector as usize] = bytes;
        }
        truth.content = Some(content);
        Op::Slot(op)
    }

    fn op(&mut self, home: &Home, table: &VolumeTable) -> Op<'static> {
        let slot = loop {
            let slot = self.random.below(u64::from(SLOTS)) as u32;
            if self.said.insert(slot) {
                break slot;
            }
        };
        let old = self.slots[slot as usize].content;
        let is_dirty = old.is_some_and(|content| !content.dirty.is_empty());
        match (old, self.random.below(5)) {
            (Some(_), 0) if !is_dirty => {
                self.slots[slot as usize].content = None;
                Op::Empty(SlotNumber(slot))
            }
            (Some(content), 1..3) => {
                let clean = self.random.some_of(content.dirty);
                let gone = self.random.some_of(content.valid - content.dirty);
                let content = Content {
                    valid: content.valid - gone,
                    dirty: content.dirty - clean,
                    ..content
                };
                self.change(home, slot, content, Mask::EMPTY)
            }
            (Some(content), _) if is_dirty => {
                let changed = self.random.some_of(Mask::span(0, 8));
                let content = Content {
                    valid: content.valid | changed,
                    dirty: content.dirty | changed,
                    ..content
                };
                self.change(home, slot, content, changed)
            }
            _ => {
                let block = self.random.below(1000);
                let valid = self.random.some_of(Mask::span(0, 8));
                let content = Content {
                    occupant: occupant(table, self.random.below(2) as usize, block),
                    valid,
                    dirty: self.random.some_of(valid),
                    heat: self.random.below(8) as u8,
                };
                self.change(home, slot, content, valid)
            }
        }
    }

    /// A range of the first volume, whose zeros are all there are.
    fn zero_op(&mut self, table: &VolumeTable) -> Op<'static> {
        let start = self.random.below(1000) * 4096;
        self.zeros = vec![RecordedZeros {
            start,
            end: start + 512,
            may_trim: self.random.chance(50),
        }];
        Op::Zero(ZeroOp {
            id: occupant(table, 0, 0).volume_id(),
            start: 0,
            end: 1 << 30,
            zeros: self.zeros.clone(),
        })
    }

    fn commit(&mut self, home: &Home, table: &VolumeTable, count: u64) {
        let mut work = Saying::nothing(home);
        for _ in 0..count {
            let op = self.op(home, table);
            work.groups.push(vec![op, self.zero_op(table)]);
        }
        commit::run(home.journal(), &mut work, Durability::Now).unwrap();
        self.said.clear();
        assert!(work.held.is_empty() && work.groups.is_empty());
        assert!(work.durable.is_sorted());
        assert_eq!(work.durable.last(), Some(&home.journal().synced_seq()));
    }

    /// What the directory says is the truth.
    fn assert_found(&self, opened: &Opened) {
        let slots = opened.home.open_slots();
        let entries = entries(opened);
        let numbered = self.slots.iter().rposition(|truth| truth.content.is_some());
        assert!(entries.len() > numbered.unwrap_or(0));
        for (number, entry) in entries.iter().enumerate() {
            let truth = &self.slots[number];
            assert_eq!(entry.content, truth.content, "slot {number}");
            let Some(content) = entry.content else {
                continue;
            };
            let slot = SlotNumber(number as u32);
            let mut sums = [Sum(0); 8];
            opened.home.read_sums(slot, 0, &mut sums).unwrap();
            for sector in each(content.valid) {
                assert_eq!(sums[sector as usize], truth.sums[sector as usize]);
            }
            let start = opened.home.shape().slot_offset(slot);
            for sector in each(content.dirty) {
                let mut bytes = [0; SECTOR_BYTES];
                let within = u64::from(sector) * SECTOR_BYTES as u64;
                slots.read(start + within, &mut bytes).unwrap();
                assert_eq!(bytes, truth.bytes[sector as usize]);
            }
        }
        let id = occupant(&opened.volumes, 0, 0).volume_id();
        let volume = opened.volumes.get(id).unwrap();
        assert_eq!(volume.recorded_zeros(0, 1 << 30), self.zeros);
    }
}

#[test]
fn what_was_committed_is_found_after_any_number_of_laps() {
    for number in 0..12 {
        let medium = MemoryMedium::default();
        let mut opened = open(&medium);
        let table = volumes(2);
        let mut world = World::new(number);
        commit_volumes(&opened.home, &table);
        for round in 0..20 {
            let home = &opened.home;
            home.prepare_slots(SLOTS).unwrap();
            for _ in 0..world.random.below(30) {
                let count = 1 + world.random.below(20);
                world.commit(home, &table, count);
                if home.journal().is_half_full() && world.random.chance(50) {
                    assert!(home.checkpoint().unwrap());
                    assert_eq!(home.journal().used_bytes(), 0);
                    assert!(!home.checkpoint().unwrap());
                }
                if world.random.chance(20) {
                    home.journal().vouch().unwrap();
                    assert!(!home.journal().vouch().unwrap());
                }
            }
            drop(opened);
            opened = open(&medium);
            assert!(round == 0 || matches!(opened.found, Found::Crashed { .. }));
            if !world.zeros.is_empty() {
                world.assert_found(&opened);
            }
        }
    }
}

#[test]
fn what_was_committed_is_found_after_every_step_of_a_checkpoint() {
    let medium = MemoryMedium::default();
    let opened = Home::open_with(Arc::new(medium.clone()), &wanted(), 1 << 20).unwrap();
    let home = &opened.home;
    let table = volumes(2);
    let mut world = World::new(77);
    commit_volumes(home, &table);
    home.prepare_slots(SLOTS).unwrap();
    let (mut steps, mut regions) = (0, Vec::new());
    for _ in 0..6 {
        world.commit(home, &table, 12);
        let mut checkpoint = home.begin_checkpoint().unwrap();
        loop {
            let is_done = home.step_checkpoint(&mut checkpoint).unwrap();
            steps += 1;
            world.commit(home, &table, 1);
            world.assert_found(&open(&MemoryMedium::of(&medium.image())));
            if is_done {
                break;
            }
        }
        regions.push(home.tables.superblocks().current().volumes.offset);
    }
    assert_eq!(steps, 6 * 10);
    assert!(regions.windows(2).all(|pair| pair[0] != pair[1]));
    let after_half = home.begin_checkpoint();
    let mut checkpoint = after_half.unwrap();
    for _ in 0..9 {
        home.step_checkpoint(&mut checkpoint).unwrap();
    }
    // One that was given up when one copy was written disturbs neither the next nor the end.
    drop(checkpoint);
    world.commit(home, &table, 5);
    assert!(home.checkpoint().unwrap());
    world.assert_found(&open(&MemoryMedium::of(&medium.image())));
}

/// A slot full of new bytes, which the op carries.
pub(super) fn full(home: &Home, random: &mut Random, occupant: Occupant, slot: u32) -> Op<'static> {
    let all = Mask::span(0, 8);
    let bytes = pool(random, 8 * SECTOR_BYTES);
    let sums = BlockSums::new(home.seed(), occupant);
    let sectors = (0..).zip(bytes.chunks_exact(SECTOR_BYTES));
    let sums = sums_as_bytes(sectors.map(|(sector, bytes)| sums.of(sector, bytes)));
    Op::Slot(SlotOp {
        slot: SlotNumber(slot),
        content: Content {
            occupant,
            valid: all,
            dirty: all,
            heat: 0,
        },
        sector_shift: 9,
        fresh: all,
        inlined: all,
        sums: sums.leak(),
        bytes,
    })
}

#[test]
fn a_checkpoint_that_could_not_write_tables_may_be_tried_again_and_others_are_final() {
    let (mut again, mut dead) = (0, 0);
    for failing in 0.. {
        let medium = MemoryMedium::default();
        let opened = open(&medium);
        let home = &opened.home;
        let table = volumes(2);
        commit_volumes(home, &table);
        home.prepare_slots(SLOTS).unwrap();
        let mut world = World::new(3);
        world.commit(home, &table, 10);
        medium.fail_after(failing, Errno::NOSPC, false);
        let Err(error) = home.checkpoint() else {
            break;
        };
        assert!(error.to_string().contains("make room"), "{error}");
        medium.fail_after(u64::MAX, Errno::IO, false);
        match home.journal().failure() {
            Some(_) => dead += 1,
            None => {
                again += 1;
                world.commit(home, &table, 1);
                assert!(home.checkpoint().unwrap());
                assert_eq!(home.journal().used_bytes(), 0);
            }
        }
        drop(opened);
        world.assert_found(&open(&medium));
    }
    assert!(again >= 8 && dead == 1 + 4 + 4, "{again} {dead}");
}
