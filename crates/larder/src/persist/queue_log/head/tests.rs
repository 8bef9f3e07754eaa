use super::*;
use crate::persist::frame::{Frame, FrameBuilder, Head};
use crate::persist::op::{Change, Op};
use crate::persist::testing::{assert_every_flip, golden_sum, seed, uuid};

fn head() -> QueueHead {
    QueueHead {
        uuid: uuid(),
        id: VolumeId {
            volume: VolumeNumber(3),
            incarnation: Incarnation(4),
        },
        generation: 0x0102_0304_0506_0708,
        session: 9,
        ring_bytes: 4 << 20,
        begin: Position {
            offset: 0x3000,
            seq: 77,
            chain: 0x1122_3344_5566_7788,
        },
        durable_below: 80,
    }
}

#[test]
fn golden_bytes() {
    let page = head().encode();
    let number = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!(&page[..8], b"LARDERQH");
    assert_eq!(page[8..16], [1, 0, 0, 0, 0, 0, 0, 0], "version");
    assert_eq!(page[16..32], uuid().0);
    assert_eq!(page[32..40], [3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!((number(40), number(48)), (0x0102_0304_0506_0708, 9));
    assert_eq!((number(56), number(64)), (4 << 20, 0x3000));
    assert_eq!((number(72), number(80)), (77, 0x1122_3344_5566_7788));
    assert_eq!(number(88), 80);
    assert!(page[96..4088].iter().all(|byte| *byte == 0));
    assert_eq!(golden_sum(page.as_slice()), 0x9406_90f9_d5d3_5867);
}

#[test]
fn golden_bytes_of_a_frame() {
    let mut frame = FrameBuilder::new();
    frame.push(&Op::Change(Change::Data {
        start: 0x0102,
        bytes: b"abc",
    }));
    let of_frame = Head {
        seq: 7,
        chain: 0x1122_3344_5566_7788,
        synced_seq: 6,
        session: 5,
        is_filler: false,
    };
    let (bytes, checksum) = frame.finish(of_frame, head().seed(), 0x5000);
    assert_eq!(checksum, 0x66ce_0260_c249_0908);
    assert_eq!(golden_sum(&bytes), 0x9e39_820d_79e6_14f7);
    assert!(Frame::decode(&bytes, head().seed(), 0x5000).is_some());
    let of_others = [
        seed(),
        QueueHead {
            uuid: Uuid::from_random(1),
            ..head()
        }
        .seed(),
        of(4, 4).seed(),
        of(3, 5).seed(),
    ];
    for other in of_others {
        assert!(Frame::decode(&bytes, other, 0x5000).is_none());
    }
}

fn of(volume: u32, incarnation: u32) -> QueueHead {
    let id = VolumeId {
        volume: VolumeNumber(volume),
        incarnation: Incarnation(incarnation),
    };
    QueueHead { id, ..head() }
}

#[test]
fn every_flipped_bit_is_noticed_and_the_other_copy_is_enough() {
    let whole = head().encode();
    assert_eq!(QueueHead::decode(&whole), Ok(head()));
    assert_every_flip(whole.as_slice(), |page| {
        let page: &Page = page.try_into().unwrap();
        QueueHead::decode(page).is_err()
    });
    let damaged = [0; PAGE_BYTES as usize];
    for (copies, copy) in [([&whole, &damaged], 0), ([&damaged, &*whole], 1)] {
        let chosen = QueueHead::choose(copies).unwrap();
        assert_eq!((chosen.value, chosen.copy), (head(), copy));
    }
    assert_eq!(
        QueueHead::choose([&damaged, &damaged]),
        Err(Finding::NotOurs)
    );
}

#[test]
fn the_newer_copy_counts() {
    let (old, new) = (
        head(),
        QueueHead {
            generation: head().generation + 1,
            ..head()
        },
    );
    let choose = |first: QueueHead, second: QueueHead| {
        let chosen = QueueHead::choose([&first.encode(), &second.encode()])?;
        Ok((chosen.value, chosen.copy))
    };
    assert_eq!(choose(old, new), Ok((new, 1)));
    assert_eq!(choose(new, old), Ok((new, 0)));
    let other = QueueHead { session: 3, ..old };
    assert!(matches!(choose(old, other), Err(Finding::Malformed(_))));
    let uuid = Uuid::from_random(1);
    let other = QueueHead { uuid, ..new };
    assert!(matches!(
        choose(old, other),
        Err(Finding::OtherCache { .. })
    ));
}

#[test]
fn a_newer_version_counts_more_than_a_whole_copy() {
    let whole = head().encode();
    let mut newer = whole.clone();
    newer[8] = 2;
    let newer = seal(&newer[..4088]);
    let refused = |copies| matches!(QueueHead::choose(copies), Err(Finding::Newer(_)));
    assert!(refused([&whole, &newer]) && refused([&newer, &whole]));
    assert!(refused([&newer, &[0; PAGE_BYTES as usize]]));
}

#[test]
fn impossible_numbers_are_refused() {
    let refuse = |change: fn(&mut QueueHead)| {
        let mut head = head();
        change(&mut head);
        assert!(matches!(
            QueueHead::decode(&head.encode()),
            Err(Finding::Malformed(_))
        ));
    };
    refuse(|it| it.ring_bytes = 0);
    refuse(|it| it.ring_bytes += 512);
    refuse(|it| it.ring_bytes = u64::MAX - 4095);
    refuse(|it| it.begin.offset = it.ring_bytes);
    refuse(|it| it.begin.offset += 1);
    refuse(|it| it.begin.seq = 0);
    refuse(|it| it.durable_below = it.begin.seq - 1);
}
