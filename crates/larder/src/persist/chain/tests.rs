use super::*;
use crate::directory::SlotNumber;
use crate::persist::entry::Content;
use crate::persist::op::{Op, SlotOp};
use crate::persist::sums::Uuid;
use crate::persist::testing::{Random, TestRing, pool, random_slot_op, seed};
use crate::sector::Mask;

const RING_BYTES: u64 = 64 << 10;

/// The numbers of the frames that a walk finds, and how it ends.
fn walk_from(ring: &TestRing, start: Start) -> (Vec<u64>, Position, Result<(), Finding>) {
    let read = |offset: u64, buffer: &mut [u8]| {
        let start = offset as usize;
        buffer.copy_from_slice(&ring.bytes[start..start + buffer.len()]);
        Ok(())
    };
    let bytes = ring.bytes.len() as u64;
    let ring = Ring { read: &read, bytes };
    let mut walk = Walk::new(ring, start);
    let mut found = Vec::new();
    while let Some((_, frame)) = walk.advance().unwrap() {
        found.push(frame.head.seq);
    }
    let position = walk.position();
    assert!(walk.walked_bytes() <= RING_BYTES);
    (found, position, walk.check_end().unwrap())
}

fn start(ring: &TestRing, from: Position) -> Start {
    Start {
        cache: seed(),
        from,
        durable_below: from.seq,
        session: ring.session,
    }
}

/// An op that makes a frame of this many pages.
fn op_of(random: &mut Random, pages: u64) -> Op<'static> {
    let sectors = (pages - 1) * 8;
    if sectors == 0 {
        return Op::Vouch;
    }
    let op = random_slot_op(random);
    let all = Mask::span(0, sectors.min(8) as u32);
    let content = Content {
        valid: all,
        dirty: all,
        ..op.content
    };
    // As large as is wanted; whether the op makes sense is not the walk's to say.
    Op::Slot(SlotOp {
        content,
        fresh: all,
        inlined: all,
        sums: pool(random, 64),
        bytes: pool(random, sectors as usize * 512),
        ..op
    })
}

/// A journal that has been around its ring, and its tail: the frames from there on are all there is.
fn journal(random: &mut Random, frames: usize) -> (TestRing, Position) {
    let mut ring = TestRing::new(RING_BYTES);
    let laps = random.below(60);
    for _ in 0..laps {
        let pages = 1 + random.below(3);
        ring.append(&[op_of(random, pages)]);
    }
    ring.sync();
    let tail = ring.next;
    ring.frames.clear();
    // A filler takes at most two pages; all have room together.
    for _ in 0..frames {
        let pages = 1 + random.below(2);
        ring.append(&[op_of(random, pages)]);
        if random.chance(40) {
            ring.sync();
        }
    }
    (ring, tail)
}

fn spoil(ring: &mut TestRing, frame: usize, random: &mut Random) {
    let (at, bytes) = ring.frames[frame];
    let used = bytes_used(&ring.bytes[at.offset as usize..]).unwrap();
    assert!(used <= bytes);
    let bit = random.below(used * 8);
    ring.bytes[(at.offset + bit / 8) as usize] ^= 1 << (bit % 8);
}

fn seqs(ring: &TestRing) -> Vec<u64> {
    ring.frames.iter().map(|(at, _)| at.seq).collect()
}

#[test]
fn a_whole_journal_is_walked_to_its_end_from_wherever_the_tail_is() {
    let mut random = Random::new(20);
    for round in 0..300 {
        let (ring, tail) = journal(&mut random, round % 7);
        let (found, position, end) = walk_from(&ring, start(&ring, tail));
        assert_eq!(found, seqs(&ring));
        assert_eq!((position, end), (ring.next, Ok(())));
    }
}

#[test]
fn a_journal_that_fills_its_ring_is_walked_once() {
    let mut ring = TestRing::new(RING_BYTES);
    for _ in 0..16 {
        ring.append(&[Op::Empty(SlotNumber(1))]);
    }
    let (found, position, end) = walk_from(&ring, start(&ring, Position::FIRST));
    assert_eq!(found, (1..=16).collect::<Vec<_>>());
    assert_eq!((position.offset, position.seq, end), (0, 17, Ok(())));
}

/// What was not synced is there or not, frame by frame, or torn.
#[test]
fn what_a_crash_tears_off_never_happened() {
    let mut random = Random::new(21);
    let mut torn_tails = 0;
    for _ in 0..1000 {
        let (mut ring, tail) = journal(&mut random, 6);
        let is_durable = |seq: u64| seq <= ring.synced_seq;
        let lost: Vec<usize> = (0..ring.frames.len())
            .filter(|frame| !is_durable(ring.frames[*frame].0.seq) && random.chance(40))
            .collect();
        for &frame in &lost {
            let (at, bytes) = ring.frames[frame];
            let start = at.offset as usize;
            let kept = random.below(bytes / 512) as usize * 512;
            ring.bytes[start + kept..start + bytes as usize].fill(0);
        }
        // A lost part may have been zero anyway.
        let torn = lost.iter().copied().find(|frame| {
            let (at, _) = ring.frames[*frame];
            let bytes = &ring.bytes[at.offset as usize..];
            Frame::decode(bytes, seed(), at.offset).is_none()
        });
        let survivors = torn.unwrap_or(ring.frames.len());
        torn_tails += usize::from(survivors < ring.frames.len());
        let (found, position, end) = walk_from(&ring, start(&ring, tail));
        assert_eq!(found, seqs(&ring)[..survivors]);
        assert_eq!(end, Ok(()));
        assert_eq!(position.seq, tail.seq + survivors as u64);
    }
    assert!(torn_tails > 100, "{torn_tails}");
}

#[test]
fn a_damaged_frame_that_had_been_durable_is_refused_by_number() {
    let mut random = Random::new(22);
    let (mut refused, mut unseen) = (0, 0);
    for _ in 0..1000 {
        let (mut ring, tail) = journal(&mut random, 6);
        let frame = random.below(ring.frames.len() as u64) as usize;
        let missing = ring.frames[frame].0.seq;
        let synced_seq = |at: &Position| {
            let bytes = &ring.bytes[at.offset as usize..];
            let frame = Frame::decode(bytes, seed(), at.offset).unwrap();
            frame.head.synced_seq
        };
        let mut later = ring.frames.iter().skip(frame + 1);
        let is_vouched_for = later.any(|(at, _)| synced_seq(at) >= missing);
        spoil(&mut ring, frame, &mut random);
        let (found, _, end) = walk_from(&ring, start(&ring, tail));
        assert_eq!(found, seqs(&ring)[..frame]);
        match end {
            Err(Finding::FrameLost { missing: named, .. }) => {
                assert!(is_vouched_for);
                assert_eq!(named, missing);
                refused += 1;
            }
            end => {
                assert!(!is_vouched_for && end == Ok(()));
                unseen += 1;
            }
        }
    }
    assert!(refused > 300 && unseen > 100, "{refused}, {unseen}");
}

#[test]
fn a_flip_in_the_last_frame_is_noticed_once_a_vouch_follows() {
    let mut ring = TestRing::new(RING_BYTES);
    ring.append(&[Op::Empty(SlotNumber(1))]);
    ring.sync();
    let mut random = Random::new(23);
    let mut last = ring.clone();
    spoil(&mut last, 0, &mut random);
    assert_eq!(
        walk_from(&last, start(&last, Position::FIRST)).2,
        Ok(()),
        "it looks like a torn one"
    );
    ring.append(&[Op::Vouch]);
    spoil(&mut ring, 0, &mut random);
    let expected = Finding::FrameLost {
        missing: 1,
        later: 2,
    };
    assert_eq!(
        walk_from(&ring, start(&ring, Position::FIRST)).2,
        Err(expected)
    );
}

/// Frame 2 is lost and 3 survives; after the restart another frame 2 is written.
#[test]
fn what_followed_a_lost_frame_is_never_joined_to_its_successor() {
    for is_lost_again in [false, true] {
        let mut ring = TestRing::new(RING_BYTES);
        ring.append(&[Op::Empty(SlotNumber(1))]);
        ring.sync();
        let after_first = ring.next;
        ring.append(&[Op::Empty(SlotNumber(2))]);
        ring.append(&[Op::Empty(SlotNumber(3))]);
        ring.bytes[4096..8192].fill(0);
        let (found, position, end) = walk_from(&ring, start(&ring, Position::FIRST));
        assert_eq!((found, position, end), (vec![1], after_first, Ok(())));

        ring.next = position;
        ring.session = 2;
        ring.append(&[Op::Empty(SlotNumber(4))]);
        if is_lost_again {
            ring.bytes[4096..8192].fill(0);
        }
        let (found, _, end) = walk_from(&ring, start(&ring, position));
        assert_eq!(found, if is_lost_again { vec![] } else { vec![2] });
        assert_eq!(end, Ok(()), "an older session vouches for nothing");
    }
}

#[test]
fn frames_of_other_caches_sessions_and_places_do_not_follow() {
    let mut ring = TestRing::new(RING_BYTES);
    ring.append(&[Op::Vouch]);
    ring.session = 2;
    ring.append(&[Op::Vouch]);
    let right = start(&ring, Position::FIRST);
    assert_eq!(walk_from(&ring, right).0, [1, 2]);
    let older = Start {
        session: 1,
        ..right
    };
    assert_eq!(walk_from(&ring, older).0, [1], "no session comes early");
    let other = Start {
        cache: Seed::of_cache(Uuid::from_random(5)),
        ..right
    };
    assert!(walk_from(&ring, other).0.is_empty());
    let wrong = |change: fn(&mut Position)| {
        let mut from = Position::FIRST;
        change(&mut from);
        walk_from(&ring, start(&ring, from)).0.is_empty()
    };
    assert!(wrong(|from| from.seq = 2));
    assert!(wrong(|from| from.chain = 1));
    assert!(wrong(|from| from.offset = 4096));
    let mut moved = ring.clone();
    moved.bytes.copy_within(0..4096, 8192);
    let elsewhere = Position {
        offset: 8192,
        ..Position::FIRST
    };
    assert!(walk_from(&moved, start(&moved, elsewhere)).0.is_empty());

    ring.session = 1;
    ring.append(&[Op::Vouch]);
    ring.session = 2;
    assert_eq!(walk_from(&ring, right).0, [1, 2], "no session comes back");
}

#[test]
fn what_the_superblock_knows_to_be_durable_must_be_there() {
    let mut ring = TestRing::new(RING_BYTES);
    ring.append(&[Op::Vouch]);
    ring.append(&[Op::Vouch]);
    let with = |durable_below| Start {
        durable_below,
        ..start(&ring, Position::FIRST)
    };
    assert_eq!(walk_from(&ring, with(3)).2, Ok(()));
    let lost = Finding::FrameLost {
        missing: 3,
        later: 4,
    };
    assert_eq!(walk_from(&ring, with(4)).2, Err(lost));
}

#[test]
fn a_ring_that_cannot_be_read_is_an_error() {
    let read = |_: u64, _: &mut [u8]| Err(io::ErrorKind::Other.into());
    let ring = || Ring {
        read: &read,
        bytes: RING_BYTES,
    };
    let start = start(&TestRing::new(RING_BYTES), Position::FIRST);
    assert!(Walk::new(ring(), start).advance().is_err());
    assert!(Walk::new(ring(), start).check_end().is_err());
}

#[test]
fn arbitrary_rings_end() {
    let mut random = Random::new(24);
    for _ in 0..300 {
        let (mut ring, tail) = journal(&mut random, 6);
        for _ in 0..random.below(200) {
            let at = random.below(RING_BYTES) as usize;
            let byte = random.next() as u8;
            ring.bytes[at] = byte;
        }
        let (found, _, _) = walk_from(&ring, start(&ring, tail));
        assert!(seqs(&ring).starts_with(&found));
    }
}

#[test]
fn a_journal_that_was_used_says_so_in_its_first_page() {
    let mut ring = TestRing::new(RING_BYTES);
    assert!(!was_used(&ring.bytes[..4096]));
    for _ in 0..100 {
        ring.append(&[op_of(&mut Random::new(25), 2)]);
        assert!(was_used(&ring.bytes[..4096]));
    }
}
