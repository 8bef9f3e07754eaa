//! Files that were damaged behind everybody's back: looking at them tells what opening them would.

use super::*;

/// Something that can happen to files.
fn spoil(random: &mut Random, image: &mut Image) -> String {
    let names: Vec<String> = image.keys().cloned().collect();
    let name = names[random.below(names.len())].clone();
    let bytes = image.get_mut(&name).unwrap();
    let length = bytes.len();
    match random.below(8) {
        0 => drop(image.remove(&name)),
        1 => bytes.truncate(random.below(length + 1)),
        2 => bytes[random.below(length + 1)..].fill(0),
        _ => {
            // What most of a file says means nothing.
            for _ in 0..=random.below(3) {
                if let Some(byte) = bytes.get_mut(random.below(8192)) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    name
}

#[test]
fn what_a_start_would_find_is_told_and_what_it_would_refuse_is_refused() {
    let mut random = Random(7);
    let (mut whole, mut refused) = (0, 0);
    for image in [closed().image(), crashed().image()] {
        for _ in 0..500 {
            let mut image = image.clone();
            let name = spoil(&mut random, &mut image);
            let medium = MemoryMedium::of(&image);
            let looked = inspect(&medium, Detail::DirtyRanges);
            let scrubbed = scrub(&medium, &mut |_| {});
            assert_eq!(medium.take_changed(), [""; 0]);
            match Home::open_with(Arc::new(medium.clone()), &wanted(), JOURNAL) {
                Ok(opened) => {
                    whole += 1;
                    drop(opened);
                    let found = looked.unwrap();
                    assert_eq!(found.volumes, look(&medium).volumes, "{name}");
                    assert!(scrubbed.is_ok());
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(looked.unwrap_err().to_string(), error.to_string(), "{name}");
                    assert_eq!(scrubbed.unwrap_err().to_string(), error.to_string());
                }
            }
        }
    }
    assert!(whole > 150 && refused > 150, "{whole} {refused}");
}
