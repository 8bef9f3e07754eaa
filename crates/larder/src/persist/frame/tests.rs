use super::*;
use crate::directory::SlotNumber;
use crate::persist::op::{Op, SlotOp};
use crate::persist::testing::{
    Random, assert_every_flip, golden_sum, random_op, random_slot_op, seed, shape,
};

const AT: u64 = 0x5000;

fn head() -> Head {
    Head {
        seq: 7,
        chain: 0x1122_3344_5566_7788,
        synced_seq: 6,
        session: 5,
        is_filler: false,
    }
}

fn frame(ops: &[Op<'_>]) -> (Vec<u8>, u64) {
    let mut builder = FrameBuilder::new();
    ops.iter().for_each(|op| builder.push(op));
    builder.finish(head(), seed(), AT)
}

fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    Frame::decode(bytes, seed(), AT)
}

#[test]
fn golden_bytes() {
    let (bytes, checksum) = frame(&[Op::Empty(SlotNumber(1)), Op::Vouch]);
    assert_eq!(&bytes[..4], b"LJF1");
    assert_eq!(bytes[4..8], [88, 0, 0, 0], "bytes used");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((number(8), number(16)), (7, 0x1122_3344_5566_7788));
    assert_eq!((number(24), number(32)), (6, 5));
    assert_eq!(bytes[40..48], [2, 0, 0, 0, 0, 0, 0, 0], "ops, flags");
    assert_eq!((number(48), number(56)), (0, checksum));
    assert_eq!(bytes[64..72], [2, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(bytes[80..88], [8, 0, 0, 0, 0, 0, 0, 0]);
    assert!(bytes.len() == 4096 && bytes[88..].iter().all(|byte| *byte == 0));
    assert_eq!(golden_sum(&bytes), 0x3025_07ef_b1f6_55e2);
}

#[test]
fn what_was_written_is_read() {
    let mut random = Random::new(8);
    for _ in 0..500 {
        let count = random.below(8);
        let ops: Vec<Op<'_>> = (0..count).map(|_| random_op(&mut random)).collect();
        let (bytes, checksum) = frame(&ops);
        let frame = decode(&bytes).unwrap();
        assert_eq!((frame.head, frame.checksum), (head(), checksum));
        assert_eq!(frame.taken_bytes(AT, 1 << 30), bytes.len() as u64);
        let read: Result<Vec<_>, _> = frame.ops(shape()).collect();
        let read = read.unwrap();
        assert!(read.iter().map(|(_, op)| op).eq(&ops));
        for (at, op) in &read {
            let (mut again, at) = (Vec::new(), *at as usize);
            op.put(&mut again);
            assert!(bytes[at..].starts_with(&again));
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_padding_says_nothing() {
    let mut random = Random::new(9);
    let op = random_slot_op(&mut random);
    for ops in [&[][..], &[Op::Slot(op), Op::Vouch]] {
        let (bytes, _) = frame(ops);
        let used = bytes_used(&bytes).unwrap() as usize;
        assert_every_flip(&bytes[..used], |bytes| decode(bytes).is_none());
        assert_every_flip(&bytes[used..], |padding| {
            decode(&[&bytes[..used], padding].concat()).is_some()
        });
    }
}

#[test]
fn a_frame_that_was_cut_is_none() {
    let mut random = Random::new(10);
    for _ in 0..50 {
        let ops: Vec<Op<'_>> = (0..6).map(|_| random_op(&mut random)).collect();
        let (bytes, _) = frame(&ops);
        let used = bytes_used(&bytes).unwrap() as usize;
        for end in 0..used {
            assert!(decode(&bytes[..end]).is_none());
        }
        // Torn: the last sectors are what was there before.
        for end in (0..used).step_by(512) {
            let mut torn = bytes[..used].to_vec();
            torn[end..].fill(0);
            let is_whole = torn == bytes[..used];
            assert_eq!(decode(&torn).is_some(), is_whole);
        }
    }
}

#[test]
fn a_frame_is_one_only_in_its_own_place_and_cache() {
    let (bytes, _) = frame(&[Op::Vouch]);
    assert!(Frame::decode(&bytes, seed(), AT + PAGE_BYTES).is_none());
    assert!(Frame::decode(&bytes, Seed::NONE, AT).is_none());
}

#[test]
fn a_filler_takes_the_rest_of_the_ring() {
    let filler = Head {
        is_filler: true,
        ..head()
    };
    let (bytes, checksum) = FrameBuilder::new().finish(filler, seed(), AT);
    assert_eq!((bytes.len(), bytes[44]), (4096, 1));
    let frame = decode(&bytes).unwrap();
    assert_eq!(frame.head, filler);
    assert_eq!(frame.ops(shape()).count(), 0);
    let taken = frame.taken_bytes(AT, 0x9000);
    assert_eq!(taken, 0x4000);
    let at = Position {
        offset: AT,
        seq: 7,
        chain: 1,
    };
    let next = Position {
        offset: 0,
        seq: 8,
        chain: checksum,
    };
    assert_eq!(at.after(taken, checksum, 0x9000), next);
    assert_eq!(at.after(0x1000, checksum, 0x9000).offset, 0x6000);
}

#[test]
fn a_frame_of_a_newer_version_or_of_another_count_is_refused() {
    let finish = |flags: u32, ops: u32| {
        let mut builder = FrameBuilder::new();
        builder.push(&Op::Vouch);
        builder.ops = ops;
        let (mut bytes, _) = builder.finish(head(), seed(), AT);
        bytes[44..48].copy_from_slice(&flags.to_le_bytes());
        let used = bytes_used(&bytes).unwrap() as usize;
        let sum = checksum(&bytes[..used], seed(), AT);
        bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        let frame = decode(&bytes).unwrap();
        let ops: Result<Vec<_>, _> = frame.ops(shape()).collect();
        ops.is_ok()
    };
    assert!(finish(0, 1));
    assert!(!finish(2, 1) && !finish(1 << 31, 1));
    assert!(!finish(0, 0) && !finish(0, 2));
}

#[test]
fn a_frame_takes_ops_until_it_is_full() {
    let mut random = Random::new(11);
    let full = SlotOp {
        bytes: &[],
        ..random_slot_op(&mut random)
    };
    let mut builder = FrameBuilder::new();
    assert!(builder.is_empty() && builder.padded_bytes() == 4096);
    let op = Op::Slot(full);
    while builder.fits(&op) {
        builder.push(&op);
    }
    assert!(!builder.is_empty());
    let room = MAX_FRAME_BYTES - builder.padded_bytes();
    assert!(room < op.encoded_bytes() as u64);
    let (bytes, _) = builder.finish(head(), seed(), AT);
    assert!(decode(&bytes).is_some() && bytes.len() as u64 <= MAX_FRAME_BYTES);
}
