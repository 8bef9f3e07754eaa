//! Files that were damaged behind everybody's back: an error, or what was there.

use super::*;

/// Something that can happen to files.
fn spoil(random: &mut Random, image: &mut Image, other: &Image) -> String {
    let names: Vec<String> = image.keys().cloned().collect();
    let name = names[random.below(names.len() as u64) as usize].clone();
    let bytes = image.get_mut(&name).unwrap();
    let length = bytes.len() as u64;
    match random.below(12) {
        0 => drop(image.remove(&name)),
        1 => bytes.truncate(random.below(length + 1) as usize),
        2 => image.get_mut(&name).unwrap().clone_from(&other[&name]),
        3 => {
            let from = random.below(length + 1) as usize;
            bytes[from..].fill(0);
        }
        _ => {
            // Most of the bytes of a file mean nothing; these do.
            let used = length.min(4096 + 64 * u64::from(SLOTS));
            for _ in 0..=random.below(3) {
                let at = random.below(used.max(1)) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    name
}

#[test]
fn a_closed_directory_gives_an_error_or_what_was_written() {
    let mut random = Random::new(60);
    let (medium, expected) = closed(1);
    let image = medium.image();
    let other = {
        let medium = MemoryMedium::default();
        let wanted = Wanted {
            uuid_bits: 9,
            ..wanted()
        };
        drop(open_as(&medium, &wanted).unwrap());
        medium.image()
    };
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut image = image.clone();
        let name = spoil(&mut random, &mut image, &other);
        let medium = MemoryMedium::of(&image);
        match open_as(&medium, &wanted()) {
            Ok(found) => {
                opened += 1;
                assert_eq!(entries(&found), expected, "{name}");
                assert_eq!(names(&found.volumes), ["disk0", "disk1"], "{name}");
            }
            Err(error) => {
                refused += 1;
                let changed = medium.take_changed();
                assert!(changed.iter().all(|name| name == "lock"), "{name}: {error}");
            }
        }
    }
    assert!(opened > 500 && refused > 500, "{opened} {refused}");
}

/// All frames but the last, a VOUCH, are known to have been durable.
#[test]
fn a_journal_in_use_gives_an_error_or_what_was_committed() {
    let mut random = Random::new(61);
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let home = &opened.home;
    let table = volumes(2);
    let mut work = journal::Saying::nothing(home);
    journal::commit_volumes(home, &table);
    for slot in 0..5 {
        let occupant = occupant(&table, 0, u64::from(slot));
        let op = journal::full(home, &mut random, occupant, slot);
        work.groups.push(vec![op]);
    }
    home.prepare_slots(5).unwrap();
    commit::run(home.journal(), &mut work, Durability::Now).unwrap();
    assert!(home.journal().vouch().unwrap());
    let used = home.journal().used_bytes();
    let image = medium.image();
    let expected = entries(&open(&MemoryMedium::of(&image)));
    assert_eq!(expected.len(), 5);
    let (mut recovered, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut image = image.clone();
        let at = 4096 + random.below(used) as usize;
        image.get_mut("journal").unwrap()[at] ^= 1 << random.below(8);
        let medium = MemoryMedium::of(&image);
        match open_as(&medium, &wanted()) {
            Ok(found) => {
                recovered += 1;
                assert_eq!(entries(&found), expected, "byte {at}");
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().starts_with("journal: frame "), "{error}");
                assert_eq!(medium.take_changed(), ["lock"]);
            }
        }
    }
    // What pads a frame means nothing, and the last may be torn.
    assert!(recovered > 100 && refused > 700, "{recovered} {refused}");
}
