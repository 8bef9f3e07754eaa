//! What was damaged, or is another's, is refused if it may have been durable.

use super::*;
use crate::persist::header::seal;

/// Three changes and a boundary; all but the last frame are durable, and the last one says so.
fn synced() -> Image {
    let (medium, _home, log) = made();
    for byte in 1..=3 {
        log.append(&data(0, &[byte; 512])).unwrap();
    }
    log.sync().unwrap();
    log.bound().unwrap();
    medium.image()
}

fn spoil(image: &mut Image, at: u64) {
    image.get_mut(NAME).unwrap()[at as usize] ^= 1;
}

fn frame_at(number: u64) -> u64 {
    RING_START + (number - 1) * PAGE_BYTES + 60
}

#[test]
fn a_frame_that_was_torn_off_never_was() {
    let mut image = synced();
    spoil(&mut image, frame_at(4));
    let (_home, changes, log) = begin(&image);
    assert_eq!((changes.len(), log.end().seq), (3, 4));
    // Frames behind a missing one never were, too.
    let (medium, _home, log) = made();
    for byte in 1..=3 {
        log.append(&data(0, &[byte; 512])).unwrap();
    }
    let mut image = medium.image();
    spoil(&mut image, frame_at(2));
    let (_home, changes, log) = begin(&image);
    assert_eq!((changes.len(), log.end().seq), (1, 2));
}

#[test]
fn a_frame_that_was_durable_and_is_not_there_is_refused() {
    for number in 1..=3 {
        let mut image = synced();
        spoil(&mut image, frame_at(number));
        assert_eq!(
            refusal(&image),
            format!(
                "queue-3: frame {number} is damaged, and frame 4 says that it had been written: data that only the cache has may be lost"
            )
        );
    }
    // What a start has found is durable from then on.
    let medium = MemoryMedium::of(&synced());
    let Opened {
        home, mut queues, ..
    } = open(&medium).unwrap();
    queues.remove(0).begin(&home).unwrap();
    let mut image = medium.image();
    spoil(&mut image, frame_at(4));
    assert!(refusal(&image).starts_with("queue-3: frame 4 is damaged, and frame 5 says"));
}

#[test]
fn either_head_is_enough_and_the_newer_counts() {
    let (medium, _home, log) = made();
    log.append(&data(0, &[1])).unwrap();
    log.advance(log.bound().unwrap()).unwrap();
    log.append(&data(0, &[2])).unwrap();
    let place = log.bound().unwrap();
    log.sync().unwrap();
    let before = medium.image();
    log.advance(place).unwrap();
    let image = medium.image();
    let page = |image: &Image, copy: usize| image[NAME][copy * 4096..][..4096].to_vec();
    let written: Vec<usize> = (0..2)
        .filter(|copy| page(&before, *copy) != page(&image, *copy))
        .collect();
    assert_eq!(written.len(), 1, "one copy is written, the other one stays");
    let (new, old) = (written[0] as u64, 1 - written[0] as u64);
    assert!(found(&image).1.found.is_empty());
    let mut stale = image.clone();
    spoil(&mut stale, old * PAGE_BYTES + 50);
    assert!(found(&stale).1.found.is_empty());
    // A head that a crash tore: it begins where it began before, and nothing of that is lost.
    let mut torn = image.clone();
    spoil(&mut torn, new * PAGE_BYTES + 50);
    assert_eq!(found(&torn).1.found, found(&before).1.found);
    spoil(&mut torn, old * PAGE_BYTES + 50);
    assert_eq!(
        refusal(&torn),
        "queue-3 is damaged: its checksum does not fit"
    );
}

#[test]
fn an_older_head_does_not_go_unnoticed_once_its_space_was_used() {
    let (medium, _home, log) = made();
    for _ in 0..40 {
        log.append(&data(0, &[1])).unwrap();
        let place = log.bound().unwrap();
        log.sync().unwrap();
        log.advance(place).unwrap();
    }
    let place = log.end();
    for _ in 0..12 {
        log.append(&data(0, &[2])).unwrap();
        log.sync().unwrap();
    }
    log.advance(place).unwrap();
    while log.has_room(1) {
        log.append(&data(0, &[3])).unwrap();
        log.sync().unwrap();
    }
    let image = medium.image();
    let refused = (0..2).filter(|copy| {
        let mut spoilt = image.clone();
        spoil(&mut spoilt, copy * PAGE_BYTES + 50);
        let opened = open(&MemoryMedium::of(&spoilt));
        let error = opened.err().map(|error| error.to_string());
        error.is_some_and(|error| error.contains("may be lost"))
    });
    assert_eq!(refused.count(), 1);
}

#[test]
fn what_is_anothers_or_newer_is_refused_by_name() {
    let changed = |at: usize, byte: u8| {
        let mut image = synced();
        let file = image.get_mut(NAME).unwrap();
        for copy in [0, 4096] {
            let mut page = file[copy..copy + 4088].to_vec();
            page[at] = byte;
            file[copy..copy + 4096].copy_from_slice(&*seal(&page));
        }
        refusal(&image)
    };
    assert_eq!(
        changed(8, 2),
        "queue-3 is of format 2.0, and this program knows formats up to 1.0: use a newer one"
    );
    assert!(changed(20, 255).starts_with("queue-3 belongs to the cache"));
    assert_eq!(
        changed(32, 7),
        "queue-3 is the file 'queue-7' under another name: put it back"
    );
    assert_eq!(
        changed(48, 200),
        "queue-3 cannot be understood: it is of a session that has not begun"
    );
    assert_eq!(
        changed(58, 2),
        "queue-3 was cut: it has 73728 bytes instead of 139264"
    );
    let with = |change: fn(&mut Vec<u8>)| {
        let mut image = synced();
        change(image.get_mut(NAME).unwrap());
        refusal(&image)
    };
    assert_eq!(
        with(|file| file.truncate(5000)),
        "queue-3 was cut: it has 5000 bytes instead of 73728"
    );
    assert_eq!(
        with(Vec::clear),
        "queue-3 was cut: it has 0 bytes instead of 8192"
    );
    assert_eq!(
        with(|file| file[..8192].fill(0)),
        "queue-3 is no file of a Larder cache"
    );
}

#[test]
fn a_frame_that_says_what_no_queue_says_is_refused() {
    let with = |ops: &[Op<'_>]| {
        let (medium, _home, log) = made();
        let mut frame = FrameBuilder::new();
        ops.iter().for_each(|op| frame.push(op));
        log.ring.append(frame).unwrap();
        refusal(&medium.image())
    };
    let change = Op::Change(data(0, &[1]));
    assert_eq!(
        with(&[Op::VolumeGone(id(3, 4))]),
        "queue-3: frame 1 cannot be understood: it says what no queue says"
    );
    let refused =
        "queue-3: frame 1 cannot be understood: it says more than a frame of a queue says";
    assert_eq!(with(&[change.clone(), change]), refused);
    assert!(with(&[]).ends_with("it says what no queue says"));
    let (medium, _home, log) = made();
    let mut vouch = FrameBuilder::new();
    vouch.push(&Op::Vouch);
    log.ring.append(vouch).unwrap();
    assert!(found(&medium.image()).1.is_empty());
}

#[test]
fn a_directory_with_a_queue_and_without_a_superblock_is_no_new_one() {
    let mut image = synced();
    for name in ["superblock", "journal", "map"] {
        image.remove(name);
    }
    assert_eq!(
        refusal(&image),
        "superblock is missing: put it back, the cache is of no use without it"
    );
}
