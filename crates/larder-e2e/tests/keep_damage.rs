//! A cache directory that was damaged at random: it is refused with a sentence, or the data is right; never wrong data, never
//! a panic.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use keep::{BOTH, Front, Kept, SIZE, assert_warm, read_all};
use larder_e2e::{Client, Random, assert_same_bytes, read_file, write_at};

const CASES: u64 = 50;
const ID: [&str; 1] = ["cache-id=golden"];

/// Something that happens to a directory while nobody uses it.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Bits of one file, at some places.
    Flip,
    /// A run of bytes of one file, by others.
    Overwrite,
    /// One file is shorter.
    Cut,
    /// One file is longer.
    Extend,
    /// One file is gone.
    Remove,
    /// One file comes from another cache.
    Foreign,
    /// Two files have each other's names.
    Swap,
}

const KINDS: [Damage; 7] = [
    Damage::Flip,
    Damage::Overwrite,
    Damage::Cut,
    Damage::Extend,
    Damage::Remove,
    Damage::Foreign,
    Damage::Swap,
];

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
    names.sort();
    names
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Damages the directory. What was done, for a message.
fn damage(directory: &Path, foreign: &Path, random: &mut Random) -> String {
    let kind = KINDS[random.below(KINDS.len() as u64) as usize];
    let names = names(directory);
    let mut any = || names[random.below(names.len() as u64) as usize].clone();
    let (name, other) = (any(), any());
    let path = directory.join(&name);
    let length = fs::metadata(&path).unwrap().len();
    let kind = if length == 0 { Damage::Extend } else { kind };
    match kind {
        Damage::Flip => {
            let file = open(&path);
            for _ in 0..random.between(1, 20) {
                let at = place(&path, random);
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at)
                    .unwrap();
            }
        }
        Damage::Overwrite => {
            let at = place(&path, random);
            let run = random.between(1, 100_000).min(length - at);
            open(&path).write_all_at(&random.bytes(run), at).unwrap();
        }
        Damage::Cut => open(&path).set_len(random.below(length)).unwrap(),
        Damage::Extend => {
            let more = random.between(1, 100_000);
            open(&path)
                .write_all_at(&random.bytes(more), length)
                .unwrap();
        }
        Damage::Remove => fs::remove_file(&path).unwrap(),
        Damage::Foreign => {
            fs::copy(foreign.join(&name), &path).unwrap();
        }
        Damage::Swap => {
            let aside = directory.join("aside");
            fs::rename(&path, &aside).unwrap();
            // The same name twice changes nothing.
            let _ = fs::rename(directory.join(&other), &path);
            fs::rename(&aside, directory.join(&other)).unwrap();
        }
    }
    format!("{kind:?} {name} ({other})")
}

/// A place in a file where there is something, which is not everywhere in the one with the slots.
fn place(path: &Path, random: &mut Random) -> u64 {
    let bytes = fs::read(path).unwrap();
    for _ in 0..1000 {
        let at = random.below(bytes.len() as u64);
        if bytes[at as usize] != 0 {
            return at;
        }
    }
    random.below(bytes.len() as u64)
}

/// A cache in which everything is.
fn cache(front: Front, seed: u64, is_killed: bool) -> Kept {
    let kept = Kept::new();
    write_at(&kept.image, 0, &Random::new(seed).bytes(SIZE));
    let server = kept.start(front, &ID);
    let mut client = Client::connect(server.socket());
    client.write(100_000, &[1; 50_000]).unwrap();
    client.zero(200_000, 50_000).unwrap();
    client.flush().unwrap();
    client.disconnect_and_wait();
    read_all(&server);
    if is_killed {
        server.kill();
    } else {
        server.stop();
    }
    kept
}

fn damage_at_random(front: Front) {
    let seed = Random::seed_or(1);
    let caches = [false, true].map(|is_killed| cache(front, 1, is_killed));
    let foreign = cache(front, 2, false);
    let expected = read_file(&caches[0].image);
    assert_same_bytes("the other disk", &read_file(&caches[1].image), &expected);
    let (mut refused, mut served) = (0, 0);
    for case in 0..CASES {
        let mut random = Random::new(seed + case);
        let kept = caches[usize::from(random.one_in(4))].copy();
        let mut what = String::new();
        for _ in 0..random.between(1, 2) {
            what += &damage(&kept.directory, &foreign.directory, &mut random);
            what += "; ";
        }
        println!("LARDER_SEED={}: {what}", seed + case);
        match kept.copied(front, &ID) {
            None => refused += 1,
            Some(bytes) => {
                served += 1;
                assert_same_bytes("the disk", &bytes, &expected);
                // What it left is good again.
                let again = kept.copied(front, &ID).expect("its own directory");
                assert_same_bytes("the disk in the next life", &again, &expected);
            }
        }
    }
    // Otherwise nothing was tried.
    println!("{refused} refused, {served} served");
    assert!(refused > 0 && served > 0);
}

#[test]
fn a_damaged_directory_is_refused_by_the_filter_or_the_data_is_right() {
    damage_at_random(Front::Filter);
}

#[test]
fn a_damaged_directory_is_refused_by_the_server_or_the_data_is_right() {
    damage_at_random(Front::Server);
}

/// Flips one bit in each block's slot.
fn spoil_all_slots(kept: &Kept) {
    const FIRST: u64 = 1 << 20;
    let slots = open(&kept.directory.join("slots"));
    let length = slots.metadata().unwrap().len();
    for at in (FIRST..length).step_by(64 << 10) {
        let at = at + 5000;
        let mut byte = [0];
        if slots.read_exact_at(&mut byte, at).is_ok() {
            slots.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
    }
}

#[test]
fn bad_sectors_are_fetched_again_and_counted() {
    for front in BOTH {
        let kept = cache(front, 1, false);
        let expected = read_file(&kept.image);
        spoil_all_slots(&kept);
        let exit = kept.live(front, &ID, &expected);
        assert!(
            exit.stats().value("bad_clean_sectors") >= 50,
            "{}",
            exit.output
        );
        let exit = kept.live(front, &ID, &expected);
        assert_eq!(exit.stats().value("bad_clean_sectors"), 0);
        assert_warm(&exit);
    }
}

/// The file with the slots is cut under a server that reads it through a mapping.
#[test]
fn slots_that_are_cut_while_they_are_used_are_an_error_or_fetched_again() {
    for front in BOTH {
        let kept = cache(front, 1, false);
        let expected = read_file(&kept.image);
        let mut server = kept.start(front, &ID);
        kept.check(&server, &expected);
        open(&kept.directory.join("slots"))
            .set_len(1 << 20)
            .unwrap();
        kept.check(&server, &expected);
        assert!(server.is_running());
        server.terminate();
        let exit = server.wait_for_exit();
        assert!(!exit.output.contains("panicked"), "{}", exit.output);
        assert!(
            kept.copied(front, &ID)
                .is_none_or(|bytes| bytes == expected)
        );
    }
}
