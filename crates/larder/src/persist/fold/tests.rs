use super::*;
use crate::persist::story::{SLOTS, Snapshot, Story, sum_of};
use crate::persist::testing::{Random, TestRing, random_op, random_slot_op, seed, shape};

const FRAMES: usize = 40;
const STORIES: u64 = 60;

fn fold_over(volumes: VolumeTable) -> Fold {
    Fold::new(shape(), SLOTS, volumes)
}

/// Follows these frames of the story's journal.
fn follow(fold: &mut Fold, story: &Story, frames: std::ops::Range<usize>) {
    for (at, _) in &story.ring.frames[frames] {
        let bytes = &story.ring.bytes[at.offset as usize..];
        let frame = Frame::decode(bytes, seed(), at.offset).unwrap();
        fold.follow(&frame, at.offset).unwrap();
    }
}

fn folded(story: &Story, frames: usize) -> Fold {
    let mut fold = fold_over(VolumeTable::default());
    follow(&mut fold, story, 0..frames);
    fold
}

fn encoded(volumes: &VolumeTable) -> Vec<u8> {
    volumes.encode(1, seed(), 4096)
}

/// Masks, occupants, sums and zeros are those of the moment.
fn assert_state(fold: &Fold, moment: &Snapshot) {
    for (number, recorded) in moment.slots.iter().enumerate() {
        let slot = SlotNumber(number as u32);
        let Some(folded) = fold.slots.get(&slot) else {
            assert_eq!(recorded.content, None);
            continue;
        };
        assert_eq!(folded.entry.content, recorded.content);
        assert_eq!(folded.entry.seq, recorded.seq);
        let Some(content) = recorded.content else {
            assert_eq!(folded.sums().count(), 0);
            continue;
        };
        let expected = each(content.valid).map(|sector| {
            let bytes = &recorded.bytes[sector as usize];
            (sector, sum_of(content.occupant, sector, bytes))
        });
        assert!(folded.sums().eq(expected));
    }
    for volume in fold.volumes().volumes() {
        let found = volume.recorded_zeros(0, u64::MAX);
        assert_eq!(found, moment.zeros(volume.record.id));
    }
    assert_eq!(fold.volumes().volumes().count(), moment.volumes.len());
}

/// Every dirty sector can be had, after recovery, from what the disk then held.
fn is_recovered(fold: &Fold, story: &Story, moment: &Snapshot, disk: &[Vec<u8>]) -> bool {
    let mut disk = disk.to_vec();
    for (slot, folded) in fold.slots() {
        for (sector, at) in folded.inlined() {
            let length = folded.sector_bytes() as usize;
            let bytes = &story.ring.bytes[at as usize..][..length];
            disk[slot.0 as usize][sector as usize * length..][..length].copy_from_slice(bytes);
        }
    }
    has_all_dirty(moment, &disk)
}

fn has_all_dirty(moment: &Snapshot, disk: &[Vec<u8>]) -> bool {
    moment.slots.iter().zip(disk).all(|(recorded, slot)| {
        let dirty = recorded
            .content
            .map_or(Mask::EMPTY, |content| content.dirty);
        each(dirty).all(|sector| {
            let bytes = &recorded.bytes[sector as usize];
            slot[sector as usize * 512..].starts_with(bytes)
        })
    })
}

#[test]
fn any_prefix_is_the_state_at_its_last_frame_and_loses_nothing_dirty() {
    for number in 0..STORIES {
        let story = Story::told(number, FRAMES);
        let mut fold = fold_over(VolumeTable::default());
        for (frame, moment) in story.moments.iter().enumerate() {
            follow(&mut fold, &story, frame..frame + 1);
            assert_state(&fold, moment);
            // The crash comes just after the frame, or just before the next.
            for disk in [&moment.disk_after, &moment.disk_before_next] {
                assert!(
                    is_recovered(&fold, &story, moment, disk),
                    "{number} {frame}"
                );
            }
        }
    }
}

/// The other way to do it, which the test above must not accept: bytes are written as soon as they are met.
#[test]
fn folding_in_one_phase_would_be_noticed() {
    let mut caught = 0;
    for number in 0..STORIES {
        let story = Story::told(number, FRAMES);
        for (frame, moment) in story.moments.iter().enumerate() {
            let mut disk = moment.disk_before_next.clone();
            for (at, _) in &story.ring.frames[..=frame] {
                let bytes = &story.ring.bytes[at.offset as usize..];
                let frame = Frame::decode(bytes, seed(), at.offset).unwrap();
                for op in frame.ops(shape()) {
                    let (_, Op::Slot(op)) = op.unwrap() else {
                        continue;
                    };
                    for (sector, bytes) in op.inlined() {
                        let slot = &mut disk[op.slot.0 as usize];
                        slot[sector as usize * 512..][..512].copy_from_slice(bytes);
                    }
                }
            }
            caught += u64::from(!has_all_dirty(moment, &disk));
        }
    }
    assert!(caught > 20, "{caught}");
}

/// What checkpoints write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tables {
    entries: BTreeMap<SlotNumber, Entry>,
    sums: BTreeMap<(SlotNumber, u32), Sum>,
}

impl Tables {
    fn write(&mut self, fold: &Fold) {
        for (slot, folded) in fold.slots() {
            self.entries.insert(slot, folded.entry());
            for (sector, sum) in folded.sums() {
                self.sums.insert((slot, sector), sum);
            }
        }
    }

    /// Sums of sectors that are not valid mean nothing.
    fn that_counts(mut self) -> Self {
        let entries = &self.entries;
        self.sums.retain(|(slot, sector), _| {
            let content = entries[slot].content;
            content.is_some_and(|content| content.valid.has(*sector))
        });
        self
    }
}

fn inlined(fold: &Fold) -> Vec<(SlotNumber, u32, u64)> {
    fold.slots()
        .flat_map(|(slot, folded)| folded.inlined().map(move |(sector, at)| (slot, sector, at)))
        .collect()
}

#[test]
fn folding_in_parts_makes_the_tables_of_folding_at_once() {
    let mut random = Random::new(40);
    for number in 0..STORIES {
        let story = Story::told(number, FRAMES);
        let whole = folded(&story, FRAMES);
        let mut expected = Tables::default();
        expected.write(&whole);
        let expected = expected.that_counts();
        for _ in 0..10 {
            let cut = random.below(FRAMES as u64 + 1) as usize;
            let first = folded(&story, cut);
            let mut tables = Tables::default();
            tables.write(&first);
            let mut second = fold_over(first.into_volumes());
            follow(&mut second, &story, cut..FRAMES);
            tables.write(&second);
            assert_eq!(tables.that_counts(), expected);
            assert_eq!(encoded(second.volumes()), encoded(whole.volumes()));
            // Bytes of frames before a checkpoint are in their slots.
            let start = story.ring.frames.get(cut);
            let start = start.map_or(story.ring.next.offset, |(at, _)| at.offset);
            let mut later = inlined(&whole);
            later.retain(|(_, _, at)| *at >= start);
            assert_eq!(inlined(&second), later);
        }
    }
}

#[test]
fn sums_that_were_written_may_be_forgotten_on_the_way() {
    for number in 0..STORIES {
        let story = Story::told(number, FRAMES);
        let whole = folded(&story, FRAMES);
        let mut expected = Tables::default();
        expected.write(&whole);
        let mut fold = fold_over(VolumeTable::default());
        let mut tables = Tables::default();
        for frame in 0..FRAMES {
            follow(&mut fold, &story, frame..frame + 1);
            if frame % 7 == 0 {
                tables.write(&fold);
                fold.forget_sums();
            }
        }
        tables.write(&fold);
        assert_eq!(tables.that_counts(), expected.that_counts());
        assert_eq!(inlined(&fold), inlined(&whole));
        assert_eq!(fold.slots_numbered(2), whole.slots_numbered(2));
    }
}

#[test]
fn folding_again_over_tables_that_have_it_in_part_changes_nothing() {
    let mut random = Random::new(41);
    for number in 0..STORIES {
        let story = Story::told(number, FRAMES);
        let (half, whole) = (folded(&story, FRAMES / 2), folded(&story, FRAMES));
        let (mut old, mut new) = (Tables::default(), Tables::default());
        old.write(&half);
        new.write(&half);
        new.write(&whole);
        // A crash in the middle of writing the tables.
        let mut mixed = old;
        for (slot, entry) in &new.entries {
            if random.chance(50) {
                mixed.entries.insert(*slot, *entry);
            }
        }
        for (place, sum) in &new.sums {
            if random.chance(50) {
                mixed.sums.insert(*place, *sum);
            }
        }
        mixed.write(&whole);
        assert_eq!(mixed.that_counts(), new.that_counts());
    }
}

#[test]
fn what_cannot_be_of_this_directory_is_refused_with_the_frames_number() {
    let mut random = Random::new(42);
    let refused = |op: &Op<'_>| {
        let mut ring = TestRing::new(64 << 10);
        ring.append(&[Op::Vouch, op.clone()]);
        let frame = Frame::decode(&ring.bytes, seed(), 0).unwrap();
        let mut fold = Fold::new(shape(), 1000, VolumeTable::default());
        fold.follow(&frame, 0)
            .map_err(|finding| finding.to_string())
    };
    let slot = |number| {
        Op::Slot(SlotOp {
            slot: SlotNumber(number),
            ..random_slot_op(&mut Random::new(43))
        })
    };
    let sentence = "frame 1 cannot be understood: it is of a slot that the directory does not have";
    assert_eq!(refused(&slot(999)), Ok(()));
    assert_eq!(refused(&slot(1000)), Err(sentence.to_owned()));
    assert_eq!(
        refused(&Op::Empty(SlotNumber(1000))),
        Err(sentence.to_owned())
    );
    // Whatever is said, in whatever order, nothing panics.
    for _ in 0..2000 {
        let _ = refused(&random_op(&mut random));
    }
}

#[test]
fn tables_need_entries_up_to_the_last_slot_that_was_spoken_of() {
    let mut fold = Fold::new(shape(), 1000, VolumeTable::default());
    assert_eq!(fold.slots_numbered(3), 3);
    fold.apply(1, 0, &Op::Empty(SlotNumber(1))).unwrap();
    assert_eq!(fold.slots_numbered(3), 3);
    fold.apply(1, 0, &Op::Empty(SlotNumber(9))).unwrap();
    assert_eq!(fold.slots_numbered(3), 10);
}
