use super::*;
use crate::persist::testing::{
    Random, assert_every_flip, golden_sum, random_id, random_op, random_volume, seed, shape,
};

const AT: u64 = 2 * PAGE_BYTES;

fn id(volume: u32, incarnation: u32) -> VolumeId {
    VolumeId {
        volume: VolumeNumber(volume),
        incarnation: Incarnation(incarnation),
    }
}

fn record(id: VolumeId, size_bytes: u64) -> VolumeRecord {
    VolumeRecord {
        id,
        size_bytes,
        sector_shift: 9,
        changed_since_version: false,
        has_queue: false,
        name: "disk".to_owned(),
        cache_id: String::new(),
        version: None,
    }
}

fn zeros(id: VolumeId, range: (u64, u64), within: &[(u64, u64)]) -> Op<'static> {
    let zeros = within.iter().map(|&(start, end)| RecordedZeros {
        start,
        end,
        may_trim: false,
    });
    Op::Zero(ZeroOp {
        id,
        start: range.0,
        end: range.1,
        zeros: zeros.collect(),
    })
}

fn table(ops: &[Op<'_>]) -> VolumeTable {
    let mut table = VolumeTable::default();
    ops.iter().for_each(|op| table.apply(op).unwrap());
    table
}

fn of_volume(table: &VolumeTable, id: VolumeId) -> Vec<(u64, u64)> {
    let zeros = table.get(id).unwrap().recorded_zeros(0, u64::MAX);
    zeros.iter().map(|zeros| (zeros.start, zeros.end)).collect()
}

fn region(table: &VolumeTable) -> Region {
    Region {
        offset: AT,
        bytes: table.encoded_bytes(),
        generation: 9,
    }
}

fn example() -> VolumeTable {
    table(&[
        Op::Volume(record(id(1, 0), 1 << 20)),
        Op::Volume(record(id(0, 4), 1 << 21)),
        zeros(id(1, 0), (0, 1 << 20), &[(512, 1024), (2048, 4096)]),
    ])
}

#[test]
fn golden_bytes() {
    let bytes = example().encode(9, seed(), AT);
    assert_eq!(&bytes[..4], b"LVT1");
    assert_eq!(bytes[4..8], [5, 0, 0, 0], "next incarnation");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((number(8), number(16)), (example().encoded_bytes(), 9));
    assert!(bytes[24..56].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[64..66], [4, 0], "the first op is a volume");
    assert_eq!((bytes.len(), bytes[72], bytes[76]), (4096, 0, 4));
    assert_eq!(golden_sum(&bytes), 0x9348_a2b9_0f3f_1591);
}

#[test]
fn what_was_written_is_read() {
    let mut random = Random::new(30);
    for _ in 0..300 {
        let mut table = VolumeTable::default();
        for _ in 0..random.below(60) {
            // Many make no sense where they come, and change nothing then.
            let op = match random.chance(30) {
                true => {
                    let next = Incarnation(table.next_incarnation);
                    let id = VolumeId {
                        incarnation: next,
                        ..random_id(&mut random)
                    };
                    Op::Volume(random_volume(&mut random, id))
                }
                false => random_op(&mut random),
            };
            let _ = table.apply(&op);
        }
        let bytes = table.encode(9, seed(), AT);
        assert_eq!(bytes.len() as u64, region(&table).end() - AT);
        let read = VolumeTable::decode(&bytes, region(&table), seed(), shape()).unwrap();
        assert_eq!(read.next_incarnation(), table.next_incarnation());
        assert_eq!(read.encode(9, seed(), AT), bytes);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let table = example();
    let bytes = table.encode(9, seed(), AT);
    assert_every_flip(&bytes[..table.encoded_bytes() as usize], |bytes| {
        VolumeTable::decode(bytes, region(&table), seed(), shape()).is_err()
    });
}

#[test]
fn only_the_table_that_the_superblock_names_is_read() {
    let table = example();
    let bytes = table.encode(9, seed(), AT);
    let is_read = |change: fn(&mut Region)| {
        let mut region = region(&table);
        change(&mut region);
        VolumeTable::decode(&bytes, region, seed(), shape()).is_ok()
    };
    assert!(is_read(|_| ()));
    assert!(!is_read(|region| region.generation = 8));
    assert!(!is_read(|region| region.offset += PAGE_BYTES));
    assert!(!is_read(|region| region.bytes -= 8));
    assert!(!is_read(|region| region.bytes += 8));
    assert!(!is_read(|region| region.bytes = 1 << 40));
    assert!(!is_read(|region| region.bytes = 63));
    assert!(VolumeTable::decode(&bytes, region(&table), Seed::NONE, shape()).is_err());
}

#[test]
fn zeros_are_what_was_said_last_of_each_range() {
    let disk = id(0, 0);
    let mut table = table(&[Op::Volume(record(disk, 8192))]);
    type Ranges = &'static [(u64, u64)];
    let steps: [((u64, u64), Ranges, Ranges); 4] = [
        ((0, 8192), &[(0, 8192)], &[(0, 8192)]),
        ((1024, 2048), &[], &[(0, 1024), (2048, 8192)]),
        ((0, 4096), &[(512, 1536)], &[(512, 1536), (4096, 8192)]),
        ((1536, 4096), &[(1536, 4096)], &[(512, 8192)]),
    ];
    for (range, within, expected) in steps {
        table.apply(&zeros(disk, range, within)).unwrap();
        assert_eq!(of_volume(&table, disk), expected);
    }
    table.apply(&Op::Volume(record(disk, 1024))).unwrap();
    assert_eq!(of_volume(&table, disk), [(512, 1024)], "it shrank");
    table.apply(&Op::Volume(record(disk, 8192))).unwrap();
    assert_eq!(of_volume(&table, disk), [(512, 1024)], "and grew");
    assert!(
        table
            .apply(&zeros(disk, (8192, 9000), &[(8192, 8704)]))
            .is_err()
    );
}

#[test]
fn what_is_said_of_an_earlier_volume_of_a_number_changes_nothing() {
    let (old, new) = (id(0, 0), id(0, 1));
    let mut table = table(&[
        Op::Volume(record(old, 8192)),
        zeros(old, (0, 8192), &[(0, 512)]),
        Op::VolumeGone(old),
    ]);
    assert_eq!(table.volumes().count(), 0);
    assert_eq!(table.next_incarnation(), Incarnation(1));
    assert!(table.apply(&Op::Volume(record(old, 8192))).is_err());
    table.apply(&Op::Volume(record(new, 8192))).unwrap();
    for op in [zeros(old, (0, 8192), &[(0, 512)]), Op::VolumeGone(old)] {
        table.apply(&op).unwrap();
    }
    assert!(table.get(old).is_none());
    assert!(of_volume(&table, new).is_empty());
    // A number may be given again without a word about the volume that had it.
    table.apply(&Op::Volume(record(id(0, 2), 512))).unwrap();
    assert!(table.get(new).is_none() && table.get(id(0, 2)).is_some());
}

#[test]
fn a_table_goes_beside_the_one_that_counts() {
    let mut region = Region {
        offset: PAGE_BYTES,
        bytes: 64,
        generation: 1,
    };
    let mut random = Random::new(31);
    let (mut largest, mut end) = (0, 0);
    for generation in 2..2000 {
        let bytes = 64 + random.below(100_000);
        let next = Region {
            offset: region.offset_beside(bytes),
            bytes,
            generation,
        };
        assert!(next.check().is_ok());
        assert!(next.end() <= region.offset || region.end() <= next.offset);
        largest = largest.max(next.end() - next.offset);
        end = end.max(next.end());
        region = next;
    }
    assert!(end <= PAGE_BYTES + 3 * largest, "{end}");
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let refused = |ops: &[Op<'_>], next_incarnation: u32| {
        let mut bytes = Vec::new();
        ops.iter().for_each(|op| op.put(&mut bytes));
        let sealed = VolumeTable::sealed(next_incarnation, &bytes, 9, seed(), AT);
        let region = Region {
            offset: AT,
            bytes: (HEAD_BYTES + bytes.len()) as u64,
            generation: 9,
        };
        VolumeTable::decode(&sealed, region, seed(), shape()).is_err()
    };
    let volume = |number, incarnation| Op::Volume(record(id(number, incarnation), 512));
    assert!(!refused(&[volume(0, 5), volume(1, 3)], 6));
    assert!(refused(&[volume(0, 5), volume(1, 3)], 5), "still to come");
    assert!(refused(&[volume(0, 5), volume(1, 5)], 6), "twice");
    assert!(refused(&[volume(1, 5), volume(0, 3)], 6), "out of order");
    assert!(refused(&[volume(0, 3), volume(0, 3)], 6), "twice");
    assert!(refused(&[Op::Vouch], 6), "no op of a table");
    assert!(refused(&[volume(0, u32::MAX)], u32::MAX));
}

#[test]
fn a_writer_adds_changes_and_removes_volumes() {
    let mut table = VolumeTable::default();
    let add = |table: &mut VolumeTable| {
        let number = table.free_number();
        let made = table.add(number, |id| record(id, 1 << 20));
        made.unwrap()
    };
    let [first, second, third] = [0; 3].map(|_| add(&mut table));
    assert_eq!([first, second, third], [id(0, 0), id(1, 1), id(2, 2)]);
    table.remove(second);
    table.remove(id(0, 9));
    assert_eq!(add(&mut table), id(1, 3), "never the same incarnation");
    let said = |start, end| RecordedZeros {
        start,
        end,
        may_trim: true,
    };
    table
        .set_zeros(third, vec![said(0, 512), said(4096, 8192)])
        .unwrap();
    table.set_zeros(third, vec![said(4096, 8192)]).unwrap();
    assert_eq!(of_volume(&table, third), [(4096, 8192)]);
    table.set_record(&record(third, 5120)).unwrap();
    assert_eq!(of_volume(&table, third), [(4096, 5120)]);
    assert!(table.set_record(&record(second, 1)).is_err());
    assert!(table.set_zeros(second, Vec::new()).is_err());
    assert!(table.set_zeros(third, vec![said(4096, 8192)]).is_err());
}
