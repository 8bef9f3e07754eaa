use super::slot::sums_as_bytes;
use super::volume::RecordedVersion;
use super::*;
use crate::persist::entry::Content;
use crate::persist::sums::Sum;
use crate::persist::testing::{Random, pool, random_op, random_slot_op, shape};
use crate::sector::{BlockNumber, Mask};

static ZEROS: [u8; 1024] = [0; 1024];

fn encoded(op: &Op<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    op.put(&mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<Op<'_>>, Malformed> {
    Ops::new(bytes, shape())
        .map(|op| op.map(|(_, op)| op))
        .collect()
}

fn id() -> VolumeId {
    VolumeId {
        volume: VolumeNumber(3),
        incarnation: Incarnation(4),
    }
}

fn slot_op() -> SlotOp<'static> {
    SlotOp {
        slot: SlotNumber(0x0102),
        content: Content {
            occupant: Occupant {
                volume: VolumeNumber(3),
                incarnation: Incarnation(4),
                block: BlockNumber(5),
            },
            valid: Mask(0xff),
            dirty: Mask(0x0f),
            heat: 6,
        },
        sector_shift: 9,
        fresh: Mask(0b101),
        inlined: Mask(0b100),
        sums: &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        bytes: &[0xab; 512],
    }
}

#[test]
fn golden_bytes_of_a_slot() {
    let bytes = encoded(&Op::Slot(slot_op()));
    assert_eq!(bytes[..8], [1, 0, 0, 0, 0x68, 2, 0, 0]);
    assert_eq!(bytes[8..16], [2, 1, 0, 0, 9, 6, 0, 0]);
    assert_eq!(bytes[16..24], [3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(bytes[24..32], [5, 0, 0, 0, 0, 0, 0, 0]);
    for (at, mask) in [(32, 0xff), (48, 0x0f), (64, 0b101), (80, 0b100)] {
        assert_eq!(bytes[at..at + 16], u128::to_le_bytes(mask), "mask at {at}");
    }
    assert_eq!((bytes[96], bytes[104]), (1, 2), "sums");
    assert_eq!(bytes[112..], [0xab; 512]);
}

#[test]
fn golden_bytes_of_the_others() {
    assert_eq!(
        encoded(&Op::Empty(SlotNumber(7))),
        [2, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(encoded(&Op::Vouch), [8, 0, 0, 0, 0, 0, 0, 0]);
    let id_bytes = [3, 0, 0, 0, 4, 0, 0, 0];
    let gone = encoded(&Op::VolumeGone(id()));
    assert_eq!(gone[..8], [5, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(gone[8..], id_bytes);
    let zeros = |start, end, may_trim| RecordedZeros {
        start,
        end,
        may_trim,
    };
    let bytes = encoded(&Op::Zero(ZeroOp {
        id: id(),
        start: 512,
        end: 4096,
        zeros: vec![zeros(512, 1024, false), zeros(1024, 2048, true)],
    }));
    let numbers: Vec<u64> = bytes[16..]
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    assert_eq!(
        bytes[..16],
        [3, 0, 0, 0, 56, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]
    );
    assert_eq!(numbers, [512, 4096, 512, 1024, 1024, 1 << 63 | 2048]);
}

#[test]
fn golden_bytes_of_a_queue() {
    assert_eq!(encoded(&Op::Epoch), [6, 0, 0, 0, 0, 0, 0, 0]);
    let data = Change::Data {
        start: 0x0102,
        bytes: b"abc",
    };
    let bytes = encoded(&Op::Change(data));
    assert_eq!(bytes[..8], [9, 0, 0, 0, 11, 0, 0, 0]);
    assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[16..], b"abc\0\0\0\0\0");
    for (how, code) in [(Wiping::Zero, 0), (Wiping::Hole, 1)] {
        let bytes = encoded(&Op::Change(wipe(512, 4096, how)));
        assert_eq!(bytes[..8], [10, 0, 0, 0, 24, 0, 0, 0]);
        assert_eq!(bytes[8..16], [0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [0, 16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..], [code, 0, 0, 0, 0, 0, 0, 0]);
    }
}

fn wipe(start: u64, end: u64, how: Wiping) -> Change<'static> {
    Change::Wipe { start, end, how }
}

#[test]
fn a_change_of_no_range_is_refused() {
    let is_taken = |change: Change<'_>| decoded(&encoded(&Op::Change(change))).is_ok();
    let content = vec![1; (1 << 20) + 1];
    let data = |start, length: usize| {
        let bytes = &content[..length];
        is_taken(Change::Data { start, bytes })
    };
    assert!(data(0, 1) && data((1 << 63) - 1, 1) && data(0, 1 << 20));
    assert!(!data(0, 0) && !data(0, (1 << 20) + 1));
    assert!(!data(1 << 63, 1) && !data(u64::MAX, 1));
    assert!(is_taken(wipe(0, 1 << 63, Wiping::Hole)));
    assert!(!is_taken(wipe(5, 5, Wiping::Zero)) && !is_taken(wipe(5, 4, Wiping::Zero)));
    assert!(!is_taken(wipe(0, (1 << 63) + 1, Wiping::Zero)));
    let wipe = Op::Change(wipe(0, 512, Wiping::Hole));
    refused(|bytes| bytes[24] = 2, &wipe);
    refused(|bytes| bytes[25] = 1, &wipe);
}

fn volume() -> VolumeRecord {
    VolumeRecord {
        id: id(),
        size_bytes: 1 << 40,
        sector_shift: 9,
        changed_since_version: true,
        has_queue: false,
        name: "disk".to_owned(),
        cache_id: "x".to_owned(),
        version: Some(RecordedVersion {
            stable: vec![1, 2],
            changing: vec![3],
        }),
    }
}

#[test]
fn golden_bytes_of_a_volume() {
    let bytes = encoded(&Op::Volume(volume()));
    assert_eq!(bytes[..8], [4, 0, 0, 0, 44, 0, 0, 0]);
    assert_eq!(bytes[8..16], [3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(bytes[16..28], [0, 0, 0, 0, 0, 1, 0, 0, 9, 3, 0, 0]);
    assert_eq!(
        bytes[28..44],
        [4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]
    );
    assert_eq!(&bytes[44..], b"diskx\x01\x02\x03\0\0\0\0");
}

#[test]
fn what_was_written_is_read() {
    let mut random = Random::new(4);
    let mut stream = Vec::new();
    let ops: Vec<Op<'_>> = (0..2000).map(|_| random_op(&mut random)).collect();
    for op in &ops {
        let bytes = encoded(op);
        assert_eq!(bytes.len(), op.encoded_bytes());
        stream.extend_from_slice(&bytes);
    }
    assert_eq!(decoded(&stream), Ok(ops));
}

#[test]
fn sums_and_bytes_are_those_of_their_sectors() {
    let op = slot_op();
    assert_eq!(op.sums().collect::<Vec<_>>(), [(0, Sum(1)), (2, Sum(2))]);
    let mut random = Random::new(5);
    for _ in 0..500 {
        let op = random_slot_op(&mut random);
        let bytes = encoded(&Op::Slot(op.clone()));
        for ((sector, within), (same, content)) in op.inlined_at().zip(op.inlined()) {
            assert_eq!(sector, same);
            assert!(op.inlined.has(sector));
            assert!(bytes[within as usize..].starts_with(content));
        }
        assert_eq!(op.inlined_at().count(), op.inlined.count() as usize);
        assert_eq!(sums_as_bytes(op.sums().map(|(_, sum)| sum)), op.sums);
    }
}

#[test]
fn a_stream_that_was_cut_is_an_error_or_ends_with_an_op() {
    let mut random = Random::new(6);
    for _ in 0..200 {
        let op = random_op(&mut random);
        let bytes = encoded(&op);
        for end in 1..bytes.len() {
            assert!(decoded(&bytes[..end]).is_err(), "{op:?} cut at {end}");
        }
    }
}

fn refused(change: impl FnOnce(&mut Vec<u8>), op: &Op<'_>) {
    let mut bytes = encoded(op);
    assert!(decoded(&bytes).is_ok());
    change(&mut bytes);
    assert!(decoded(&bytes).is_err());
}

#[test]
fn what_a_newer_version_says_is_refused() {
    let slot = Op::Slot(slot_op());
    let newer = |change: fn(&mut Vec<u8>)| refused(change, &slot);
    newer(|bytes| bytes[0] = 7);
    newer(|bytes| bytes[0] = 11);
    newer(|bytes| bytes[2] = 1);
    newer(|bytes| bytes[14] = 1);
    refused(|bytes| bytes[12] = 1, &Op::Empty(SlotNumber(1)));
    refused(|bytes| bytes[25] |= 8, &Op::Volume(volume()));
    refused(|bytes| bytes[26] = 1, &Op::Volume(volume()));
}

#[test]
fn what_cannot_be_is_refused() {
    let slot = |change: fn(&mut SlotOp<'static>)| {
        let mut op = slot_op();
        change(&mut op);
        op.sums = &ZEROS[..op.fresh.count() as usize * 8];
        let mut random = Random::new(7);
        let length = (op.inlined.count() as usize) << op.sector_shift.min(12);
        op.bytes = pool(&mut random, length);
        decoded(&encoded(&Op::Slot(op))).is_ok()
    };
    assert!(slot(|_| ()));
    assert!(!slot(|op| op.inlined = Mask(0b1000)), "inlined, not fresh");
    assert!(
        !slot(|op| (op.content.valid, op.content.dirty) = (Mask(0xfe), Mask(0))),
        "fresh, not valid"
    );
    assert!(
        !slot(|op| op.content.dirty = Mask(0x100)),
        "dirty, not valid"
    );
    assert!(
        !slot(|op| op.content.valid = Mask(0x1ff)),
        "nine of eight sectors"
    );
    assert!(!slot(|op| op.sector_shift = 10), "eight of four sectors");
    assert!(!slot(|op| op.sector_shift = 8));
    assert!(!slot(|op| op.sector_shift = 200));
    assert!(!slot(|op| op.content.heat = 8));
    assert!(!slot(|op| op.slot = SlotNumber(u32::MAX)));
    assert!(!slot(|op| op.content.occupant.block = BlockNumber(u64::MAX)));

    let zeros = |ranges: &[(u64, u64)], start, end| {
        let zeros = ranges.iter().map(|&(start, end)| RecordedZeros {
            start,
            end,
            may_trim: false,
        });
        let op = ZeroOp {
            id: id(),
            start,
            end,
            zeros: zeros.collect(),
        };
        decoded(&encoded(&Op::Zero(op))).is_ok()
    };
    assert!(zeros(&[(0, 1), (1, 2)], 0, 2));
    assert!(!zeros(&[(0, 2), (1, 3)], 0, 4), "overlapping");
    assert!(!zeros(&[(2, 3), (0, 1)], 0, 4), "out of order");
    assert!(!zeros(&[(1, 1)], 0, 4), "empty");
    assert!(!zeros(&[(0, 1)], 1, 4), "before the range");
    assert!(!zeros(&[(3, 5)], 1, 4), "after the range");
    assert!(!zeros(&[], 4, 4), "no range");

    let volume = |change: fn(&mut VolumeRecord)| {
        let mut record = volume();
        change(&mut record);
        decoded(&encoded(&Op::Volume(record))).is_ok()
    };
    assert!(volume(|record| record.version = None));
    assert!(volume(|record| record.name = "x".repeat(4096)));
    assert!(!volume(|record| record.name = "x".repeat(4097)));
    assert!(!volume(|record| record.size_bytes = 1 << 63));
    assert!(!volume(|record| record.sector_shift = 13));
    refused(|bytes| bytes[44] = 0xff, &Op::Volume(self::volume()));
    refused(|bytes| bytes[25] = 1, &Op::Volume(self::volume()));
}
