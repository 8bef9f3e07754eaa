//! What a crash leaves of one file.

use std::collections::BTreeSet;

use super::*;

/// What the first byte of each piece may be over many crashes.
fn left(file: &FileState, piece: u64) -> BTreeSet<u8> {
    let firsts = (0..2000).map(|seed| {
        let mut byte = [0];
        let left = file.survive(&mut Random::new(seed));
        left.get(piece * PIECE_BYTES as u64, &mut byte);
        byte[0]
    });
    firsts.collect()
}

fn lengths(file: &FileState) -> BTreeSet<u64> {
    let lengths = (0..2000).map(|seed| file.survive(&mut Random::new(seed)).length());
    lengths.collect()
}

fn covered(sync: CallNumber, in_flight: &[CallNumber]) -> Covered {
    let in_flight = in_flight.to_vec();
    Covered { sync, in_flight }
}

/// Two pieces of ones, then written over with twos and threes.
fn written_twice() -> FileState {
    let mut bytes = Bytes::zeros(1024);
    bytes.put(0, &[1; 1024]);
    let mut file = FileState::new(bytes, false);
    file.write(1, 0, &[2; 1024]);
    file.write(2, 0, &[3; 512]);
    file
}

#[test]
fn a_piece_is_old_or_any_version_since() {
    let file = written_twice();
    assert_eq!(left(&file, 0), [1, 2, 3].into());
    assert_eq!(left(&file, 1), [1, 2].into());
    let both: BTreeSet<[u8; 2]> = (0..4000)
        .map(|seed| {
            let left = file.survive(&mut Random::new(seed));
            let mut bytes = [0; 1024];
            left.get(0, &mut bytes);
            assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]));
            [bytes[0], bytes[512]]
        })
        .collect();
    assert_eq!(both.len(), 6, "each piece for itself: {both:?}");
}

#[test]
fn a_part_of_a_piece_comes_with_what_was_around_it() {
    let mut file = FileState::new(Bytes::zeros(512), false);
    file.write(1, 0, &[7; 10]);
    file.write(2, 10, &[8; 10]);
    for seed in 0..200 {
        let mut bytes = [0; 20];
        file.survive(&mut Random::new(seed)).get(0, &mut bytes);
        assert!(bytes[0] == 7 || bytes == [0; 20], "{bytes:?}");
    }
}

#[test]
fn a_sync_makes_durable_what_had_ended_when_it_began() {
    let mut file = written_twice();
    file.synced(&covered(3, &[2]));
    assert_eq!(left(&file, 0), [2, 3].into());
    assert_eq!(left(&file, 1), [2].into());
    file.write(5, 512, &[4; 512]);
    file.synced(&covered(4, &[]));
    assert_eq!(left(&file, 0), [3].into());
    assert_eq!(left(&file, 1), [2, 4].into());
}

#[test]
fn no_later_sync_saves_what_one_failed_to_save() {
    let mut was_seen_lost = false;
    for seed in 0..100 {
        let mut file = written_twice();
        file.sync_failed(&covered(3, &[]), Random::new(seed));
        file.synced(&covered(4, &[]));
        let left_over = left(&file, 0);
        let mut byte = [0];
        file.current().get(0, &mut byte);
        if left_over.len() == 1 {
            assert_eq!(left_over, [byte[0]].into(), "what is decided is seen");
            was_seen_lost |= byte[0] != 3;
        } else {
            assert_eq!(left_over, [1, 2, 3].into());
            assert_eq!(byte, [3]);
        }
        file.write(5, 0, &[9; 512]);
        file.synced(&covered(6, &[]));
        assert_eq!(left(&file, 0), [9].into(), "what is written anew is saved");
    }
    assert!(was_seen_lost);
}

#[test]
fn a_length_is_old_or_new_and_what_is_missing_is_zeros() {
    let mut file = FileState::new(Bytes::zeros(100), false);
    file.write(1, 600, &[7; 100]);
    assert_eq!(lengths(&file), [100, 700].into());
    for seed in 0..200 {
        let left = file.survive(&mut Random::new(seed));
        let mut byte = [1];
        left.get(650, &mut byte);
        assert!(byte[0] == 0 || (byte[0] == 7 && left.length() == 700));
    }
    file.synced(&covered(2, &[]));
    assert_eq!(lengths(&file), [700].into());
    file.set_length(3, 10);
    file.set_length(4, 700);
    assert_eq!(lengths(&file), [10, 700].into());
    let mut byte = [1];
    file.current().get(650, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn garbage_only_where_it_is_asked_for() {
    let mut file = FileState::new(Bytes::zeros(4096), true);
    file.write(1, 0, &[7; 4096]);
    assert!(left(&file, 3).len() > 2);
    file.synced(&covered(2, &[]));
    assert_eq!(left(&file, 3), [7].into());
}
