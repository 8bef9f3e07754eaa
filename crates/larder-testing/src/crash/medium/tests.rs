//! The medium against what its fault model says, and its log.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::bytes::Bytes;
use super::super::faults::{MediumFault, Target};
use super::super::image::Image;
use super::super::log::Recording;
use super::super::walk::Walk;
use super::*;
use crate::fault::When;
use crate::pace::{Kind, Pace, Phase, Stop};
use crate::random::{Random, content, mix};

fn machine() -> Machine {
    Machine::new(Image::default(), 1)
}

/// What many crashes at the end of a run leave.
fn crashes(machine: &Machine) -> Vec<Image> {
    let recording = machine.recording();
    let mut walk = Walk::new(&recording);
    walk.advance_to(recording.position());
    (0..500)
        .map(|seed| walk.crash(&mut Random::new(seed)))
        .collect()
}

fn first_byte(image: &Image, name: &str) -> Option<u8> {
    let mut byte = [0];
    image.file(name)?.get(0, &mut byte);
    Some(byte[0])
}

#[test]
fn a_name_is_either_until_the_medium_is_synced() {
    let machine = machine();
    let medium = machine.medium();
    for (name, byte) in [("a", 1), ("b", 2)] {
        let file = medium.create(name).unwrap();
        file.write(0, &[byte]).unwrap();
        file.sync().unwrap();
    }
    let images = crashes(&machine);
    let found: BTreeSet<_> = images.iter().map(|image| image.names.len()).collect();
    assert_eq!(found, [0, 1, 2].into(), "each name for itself");
    medium.sync().unwrap();
    medium.rename("a", "b").unwrap();
    let seen = |machine: &Machine| -> BTreeSet<_> {
        let images = crashes(machine);
        let seen = images
            .iter()
            .map(|image| (first_byte(image, "a"), first_byte(image, "b")));
        seen.collect()
    };
    let both = [(Some(1), Some(2)), (None, Some(1))];
    assert_eq!(seen(&machine), both.into());
    medium.sync().unwrap();
    assert_eq!(seen(&machine), [both[1]].into());
}

#[test]
fn a_failed_sync_of_names_is_final() {
    let machine = machine();
    let medium = machine.medium();
    medium.create("a").unwrap();
    machine.fail(MediumFault {
        target: Target::Medium,
        kind: CallKind::SyncNames,
        when: When::Nth(1),
        errno: libc::EIO,
    });
    medium.sync().unwrap_err();
    medium.create("b").unwrap();
    medium.sync().unwrap();
    let images = crashes(&machine);
    assert!(images.iter().all(|image| image.names.contains_key("b")));
    let with_a = images.iter().filter(|image| image.names.contains_key("a"));
    assert!((1..images.len()).contains(&with_a.count()));
}

#[test]
fn files_are_independent() {
    let machine = machine();
    let medium = machine.medium();
    let (one, other) = (medium.create("a").unwrap(), medium.create("b").unwrap());
    medium.sync().unwrap();
    one.write(0, &[1]).unwrap();
    other.write(0, &[1]).unwrap();
    let bytes = |image: &Image| (first_byte(image, "a"), first_byte(image, "b"));
    let seen: BTreeSet<_> = crashes(&machine).iter().map(bytes).collect();
    assert_eq!(seen.len(), 4);
    other.sync().unwrap();
    let seen: BTreeSet<_> = crashes(&machine).iter().map(bytes).collect();
    assert_eq!(seen, [(Some(0), Some(1)), (Some(1), Some(1))].into());
}

#[test]
fn calls_fail_on_demand() {
    let machine = machine();
    let medium = machine.medium();
    let file = medium.create("a").unwrap();
    file.allocate(0, 4096).unwrap();
    let full = MediumFault::file("a", CallKind::Allocate, When::Always).errno(libc::ENOSPC);
    machine.fail(full);
    machine.fail(MediumFault::file("a", CallKind::Sync, When::Nth(2)));
    machine.fail(MediumFault::file(
        "a",
        CallKind::Read,
        When::Meets(512, 512),
    ));
    let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno(file.allocate(4096, 4096)), Some(libc::ENOSPC));
    assert_eq!(errno(file.sync()), None);
    assert_eq!(errno(file.sync()), Some(libc::EIO));
    assert_eq!(errno(file.read(0, &mut [0; 512])), None);
    assert_eq!(errno(file.read(511, &mut [0; 2])), Some(libc::EIO));
    assert_eq!(file.length().unwrap(), 4096);
    machine.set_read_only();
    assert_eq!(errno(file.write(0, &[1])), Some(libc::EROFS));
    assert_eq!(errno(medium.sync()), Some(libc::EROFS));
    assert_eq!(errno(medium.remove("a")), Some(libc::EROFS));
    assert_eq!(errno(file.read(0, &mut [0; 1])), None);
    machine.heal();
    file.write(0, &[1]).unwrap();
    let past = file.read(4000, &mut [0; 100]).unwrap_err();
    assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_failed_write_has_written_nothing_half_or_all() {
    let seen: BTreeSet<_> = (0..50)
        .map(|seed| {
            let machine = Machine::new(Image::default(), seed);
            let file = machine.medium().create("a").unwrap();
            file.set_length(4096).unwrap();
            machine.fail(MediumFault::file("a", CallKind::Write, When::Always));
            file.write(0, &[7; 4096]).unwrap_err();
            let mut bytes = [0; 4096];
            file.read(0, &mut bytes).unwrap();
            bytes.iter().filter(|byte| **byte == 7).count()
        })
        .collect();
    assert_eq!(seen, [0, 2048, 4096].into());
}

#[test]
fn one_at_a_time_has_the_lock() {
    let machine = machine();
    let (one, other) = (machine.medium(), machine.medium());
    let held = one.lock("lock").unwrap();
    let refused = other.lock("lock").err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    other.open("lock").unwrap();
    drop(held);
    other.lock("lock").unwrap();
}

/// Syncs another handle of a file whenever a write has happened and not returned.
struct SyncAmidst(Box<dyn MediumFile>);

impl Pace for SyncAmidst {
    fn stop(&self, stop: &Stop) {
        if stop.kind == Kind::Write && stop.phase == Phase::After {
            self.0.sync().unwrap();
        }
    }
}

#[test]
fn a_sync_is_not_about_a_write_that_has_not_returned() {
    let machine = machine();
    let medium = machine.medium();
    let file = medium.create("a").unwrap();
    file.set_length(1).unwrap();
    file.sync().unwrap();
    medium.sync().unwrap();
    let amidst = SyncAmidst(medium.open("a").unwrap());
    machine.pace().set(Arc::new(amidst));
    file.write(0, &[1]).unwrap();
    let seen = |machine: &Machine| -> BTreeSet<_> {
        let images = crashes(machine);
        images.iter().map(|image| first_byte(image, "a")).collect()
    };
    assert_eq!(seen(&machine), [Some(0), Some(1)].into());
    file.sync().unwrap();
    assert_eq!(seen(&machine), [Some(1)].into());
}

#[test]
fn an_origin_is_a_file_whose_flush_is_its_sync() {
    let bytes = Bytes::zeros(512);
    let machine = Machine::new(Image::with_origins(vec![bytes]), 1);
    let origin = machine.origin(0);
    assert_eq!(origin.size(), 512);
    let seen = |machine: &Machine| -> BTreeSet<u8> {
        let first = |image: &Image| {
            let mut byte = [0];
            image.files[0].get(0, &mut byte);
            byte[0]
        };
        crashes(machine).iter().map(first).collect()
    };
    origin.write(0, &[1; 512], false).unwrap();
    assert_eq!(seen(&machine), [0, 1].into());
    origin.flush().unwrap();
    assert_eq!(seen(&machine), [1].into());
    origin.write(0, &[2; 512], true).unwrap();
    assert_eq!(seen(&machine), [2].into());
}

/// A run of calls to two files and an origin, some of which fail.
fn random_run(seed: u64) -> (Machine, Recording) {
    let origin = Bytes::zeros(8192);
    let machine = Machine::new(Image::with_origins(vec![origin]), seed);
    let medium = machine.medium();
    let files = ["a", "b"].map(|name| medium.create(name).unwrap());
    let origin = machine.origin(0);
    machine.fail(MediumFault::file("b", CallKind::Sync, When::Chance(30)));
    machine.fail(MediumFault::file("b", CallKind::Write, When::Chance(10)));
    let mut random = Random::new(mix(seed, 9));
    for number in 0..200 {
        let offset = random.below(6000);
        let data = content(number, 0, random.between(1, 2000) as usize);
        let file = &files[random.below(2) as usize];
        let _ = match random.below(8) {
            0 | 1 => file.sync(),
            2 => file.set_length(random.below(8000)),
            3 => origin.write(offset, &data, random.chance(20)),
            4 => medium.sync(),
            _ => file.write(offset, &data),
        };
    }
    let recording = machine.recording();
    (machine, recording)
}

#[test]
fn a_seed_makes_the_same_log_and_the_walk_comes_to_what_is_there() {
    for seed in 0..20 {
        let (machine, recording) = random_run(seed);
        let (_, again) = random_run(seed);
        assert_eq!(recording.events, again.events);
        assert_eq!(recording.hash, again.hash);
        assert_ne!(recording.hash, random_run(seed + 100).1.hash);
        let mut walk = Walk::new(&recording);
        for position in 0..=recording.position() {
            walk.advance_to(position);
        }
        // The files that nothing pends on are as reads find them.
        let medium = machine.medium();
        let left = |name: &str| {
            let file = medium.open(name).unwrap();
            let mut bytes = vec![0; file.length().unwrap() as usize];
            file.read(0, &mut bytes).unwrap();
            bytes
        };
        medium.open("a").unwrap().sync().unwrap();
        medium.sync().unwrap();
        let image = &crashes(&machine)[0];
        let bytes = image.file("a").unwrap();
        let mut found = vec![0; bytes.length() as usize];
        bytes.get(0, &mut found);
        assert_eq!(found, left("a"));
    }
}

/// Against a plain copy of the file after each call: what a crash leaves of each piece is that piece after one of the
/// calls since the last sync, and nearly all of those are met.
#[test]
fn each_piece_is_as_one_of_the_calls_since_the_last_sync_left_it() {
    let length = 4096_usize;
    for seed in 0..20 {
        let machine = Machine::new(Image::default(), seed);
        let medium = machine.medium();
        let file = medium.create("a").unwrap();
        file.set_length(length as u64).unwrap();
        file.sync().unwrap();
        medium.sync().unwrap();
        let mut random = Random::new(seed);
        let mut versions = vec![vec![0; length]];
        for number in 0..60 {
            if random.chance(15) {
                file.sync().unwrap();
                versions.drain(..versions.len() - 1);
            }
            let offset = random.below(length as u64 - 1) as usize;
            let long = random.between(1, 900).min((length - offset) as u64) as usize;
            let data = content(number, 0, long);
            file.write(offset as u64, &data).unwrap();
            let mut next = versions.last().unwrap().clone();
            next[offset..offset + long].copy_from_slice(&data);
            versions.push(next);
        }
        let mut met = BTreeSet::new();
        for image in crashes(&machine) {
            let mut bytes = vec![0; length];
            image.file("a").unwrap().get(0, &mut bytes);
            for piece in 0..length / PIECE_BYTES {
                let range = piece * PIECE_BYTES..(piece + 1) * PIECE_BYTES;
                let is_it = |version: &Vec<u8>| version[range.clone()] == bytes[range.clone()];
                let version = versions.iter().position(is_it);
                let version = version.expect("a piece that no call has left");
                met.insert((piece, versions[version][range].to_vec()));
            }
        }
        let all: BTreeSet<_> = (0..length / PIECE_BYTES)
            .flat_map(|piece| {
                let range = piece * PIECE_BYTES..(piece + 1) * PIECE_BYTES;
                versions
                    .iter()
                    .map(move |version| (piece, version[range.clone()].to_vec()))
            })
            .collect();
        assert!(
            met.len() * 10 >= all.len() * 9,
            "{} of {}",
            met.len(),
            all.len()
        );
    }
}
