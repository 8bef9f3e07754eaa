use super::*;
use crate::persist::testing::Random;
use crate::persist::testing::{assert_every_flip, golden_sum, random_superblock, uuid};

fn superblock() -> Superblock {
    let position = |offset, seq, chain| Position { offset, seq, chain };
    Superblock {
        uuid: uuid(),
        shape: Shape::new(65536).unwrap(),
        state: State::Clean,
        generation: 0x0102_0304_0506_0708,
        session: 9,
        slots_numbered: 1000,
        journal_bytes: 4 << 20,
        tail: position(0x3000, 77, 0x1122_3344_5566_7788),
        volumes: Region {
            offset: 0x2000,
            bytes: 300,
            generation: 5,
        },
    }
}

#[test]
fn golden_bytes() {
    let page = superblock().encode();
    let number = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!(&page[..8], b"LARDERSB");
    assert_eq!(page[8..12], [1, 0, 0, 0], "version");
    assert_eq!(page[12..16], [0; 4], "features");
    assert_eq!(page[16..24], [16, 7, 1, 0, 0, 0, 0, 0]);
    assert_eq!(page[24..40], uuid().0);
    assert_eq!((number(40), number(48)), (0x0102_0304_0506_0708, 9));
    assert_eq!((number(56), number(64)), (1000, 4 << 20));
    assert_eq!((number(72), number(80)), (0x3000, 77));
    assert_eq!((number(88), number(96)), (0x1122_3344_5566_7788, 0x2000));
    assert_eq!((number(104), number(112)), (300, 5));
    assert!(page[120..4088].iter().all(|byte| *byte == 0));
    assert_eq!(golden_sum(page.as_slice()), 0xe258_9b21_6fc4_e8bd);
}

#[test]
fn what_was_written_is_read() {
    let mut random = Random::new(1);
    for _ in 0..1000 {
        let superblock = random_superblock(&mut random);
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_the_other_copy_is_enough() {
    let whole = superblock().encode();
    assert_every_flip(whole.as_slice(), |page| {
        let page: &Page = page.try_into().unwrap();
        Superblock::decode(page).is_err()
    });
    // Choosing takes two sums, so a few bits of each byte are enough.
    for bit in (0..4096 * 8).step_by(41) {
        let mut spoilt = whole.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        for (copies, copy) in [([&*whole, &*spoilt], 0), ([&*spoilt, &*whole], 1)] {
            let chosen = Superblock::choose(copies).unwrap();
            assert_eq!((chosen.superblock, chosen.copy), (superblock(), copy));
            assert!(!chosen.other_is_as_new);
        }
    }
}

#[test]
fn the_newer_copy_counts() {
    let newer = Superblock {
        generation: superblock().generation + 1,
        session: 10,
        ..superblock()
    };
    let (old, new) = (superblock().encode(), newer.encode());
    for (copies, copy) in [([&*old, &*new], 1), ([&*new, &*old], 0)] {
        let chosen = Superblock::choose(copies).unwrap();
        assert_eq!((chosen.copy, chosen.other_is_as_new), (copy, false));
        assert_eq!(chosen.superblock, newer);
    }
    assert!(Superblock::choose([&new, &new]).unwrap().other_is_as_new);
}

/// A write of a copy is torn between any two of its sectors.
#[test]
fn a_torn_copy_is_old_or_new_or_damaged() {
    let newer = Superblock {
        generation: superblock().generation + 1,
        ..superblock()
    };
    let (old, new) = (superblock().encode(), newer.encode());
    for pieces in 0..256_u32 {
        let mut torn = old.clone();
        for at in (0..8).filter(|at| pieces >> at & 1 == 1) {
            torn[at * 512..][..512].copy_from_slice(&new[at * 512..][..512]);
        }
        let chosen = Superblock::choose([&torn, &old]).unwrap().superblock;
        assert!(chosen == superblock() || chosen == newer);
    }
}

fn refused(first: &Page, second: &Page) -> String {
    Superblock::choose([first, second]).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_used_is_refused_with_a_sentence() {
    let whole = superblock().encode();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    let sentence = "superblock is damaged: its checksum does not fit";
    assert_eq!(refused(&damaged, &damaged), sentence);
    assert_eq!(refused(&damaged, &[0; 4096]), sentence);
    assert_eq!(refused(&[0; 4096], &damaged), sentence);
    assert_eq!(
        refused(&[0; 4096], &[0; 4096]),
        "superblock is no file of a Larder cache"
    );
    let changed = |at: usize, value: u8| {
        let mut page = whole.clone();
        page[at] = value;
        seal(&page[..4088])
    };
    let newer =
        "superblock is of format 2.0, and this program knows formats up to 1.0: use a newer one";
    assert_eq!(refused(&changed(8, 2), &whole), newer);
    assert_eq!(refused(&damaged, &changed(8, 2)), newer);
    assert_eq!(
        refused(&whole, &changed(13, 0x80)),
        "superblock needs features 0x8000 that this program does not know: use a newer one"
    );
    assert!(refused(&whole, &changed(30, 0)).starts_with("superblock belongs to the cache"));
    assert_eq!(
        refused(&whole, &changed(48, 0)),
        "superblock cannot be understood: its two copies disagree"
    );
}

#[test]
fn impossible_numbers_are_refused() {
    let refuse = |change: fn(&mut Superblock)| {
        let mut superblock = superblock();
        change(&mut superblock);
        assert!(matches!(
            Superblock::decode(&superblock.encode()),
            Err(Finding::Malformed(_))
        ));
    };
    refuse(|it| it.journal_bytes = 0);
    refuse(|it| it.journal_bytes += 512);
    refuse(|it| it.journal_bytes = u64::MAX - 4095);
    refuse(|it| it.tail.offset = it.journal_bytes);
    refuse(|it| it.tail.offset += 1);
    refuse(|it| it.tail.seq = 0);
    refuse(|it| it.slots_numbered = u32::MAX);
    refuse(|it| it.volumes.offset = 0);
    refuse(|it| it.volumes.bytes = u64::MAX);
}
