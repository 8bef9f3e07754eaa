//! Each rule is seen to be broken, by stores that break one.

use std::io;

use larder::Medium;

use super::super::damage;
use super::super::history::{Asked, Change, Request, origin_bytes};
use super::super::store::{Listed, Store};
use super::super::value::fill;
use super::*;

const SECTORS: u64 = 4;

/// What is wrong with what is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Neighbour,
    OtherVolume,
    Torn,
    BadDirty,
    BadClean,
    Unreadable,
    Panics,
    Refuses,
    RefusesAndWrites,
}

/// Shows what the origins hold, or something else in the place of sector 2 of volume 1.
struct Stub(Wrong);

impl Look for Stub {
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (sector, bytes) in (first..).zip(buffer.chunks_exact_mut(SECTOR_BYTES)) {
            fill(volume, sector, 0, bytes);
            if (volume, sector) == (1, 2) {
                match self.0 {
                    Wrong::Neighbour => fill(volume, sector + 1, 0, bytes),
                    Wrong::OtherVolume => fill(0, sector, 0, bytes),
                    Wrong::Torn => fill(volume, sector, 1, &mut bytes[256..]),
                    Wrong::Unreadable => return Err(io::Error::from_raw_os_error(libc::EIO)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn bad(&mut self) -> Vec<BadSector> {
        let bad = |is_dirty| BadSector {
            volume: 1,
            sector: 2,
            is_dirty,
            listed: None,
        };
        match self.0 {
            Wrong::BadDirty => vec![bad(true)],
            Wrong::BadClean => vec![bad(false)],
            _ => Vec::new(),
        }
    }
}

/// Nothing is asked of it.
impl Store for Stub {
    fn write(&mut self, _: u32, _: u64, _: &[u8], _: bool) -> io::Result<()> {
        Ok(())
    }
    fn zero(&mut self, _: u32, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn trim(&mut self, _: u32, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn step(&mut self, _: &mut Random) {}
    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Opening(Wrong);

impl Opening {
    fn open(&self, machine: &Machine) -> Result<Stub, String> {
        match self.0 {
            Wrong::Panics => panic!("planted"),
            Wrong::RefusesAndWrites => {
                let file = machine.medium().create("journal").unwrap();
                file.write(0, &[1]).unwrap();
                Err("no".to_owned())
            }
            Wrong::Refuses => Err("no".to_owned()),
            wrong => Ok(Stub(wrong)),
        }
    }
}

impl Subject for Opening {
    fn look(&self, machine: &Machine) -> Result<Box<dyn Look>, String> {
        Ok(Box::new(self.open(machine)?))
    }

    fn start(&self, machine: &Machine) -> Result<Box<dyn Store>, String> {
        let lock = machine.medium().lock("lock").unwrap();
        lock.write(0, b"pid 1").unwrap();
        Ok(Box::new(self.open(machine)?))
    }
}

fn image() -> Image {
    let origins = (0..2).map(|volume| origin_bytes(volume, SECTORS));
    Image::with_origins(origins.collect())
}

/// The rule that is broken when the store is looked at after a crash before the first request.
fn broken(wrong: Wrong) -> Option<Rule> {
    let history = History::new(2, SECTORS);
    let recording = Recording::new(image(), 0);
    let crash = Crash {
        subject: &Opening(wrong),
        history: &history,
        judge: &Judge::new(&history),
        recording: &recording,
        position: 0,
        demand: Demand::Flushed,
        alone: Alone::Anything,
    };
    let looked = crash.look(&image(), 0);
    looked.err().map(|violation| violation.rule)
}

#[test]
fn each_rule_is_told_apart() {
    assert_eq!(broken(Wrong::Nothing), None);
    assert_eq!(broken(Wrong::Neighbour), Some(Rule::OwnPlace));
    assert_eq!(broken(Wrong::OtherVolume), Some(Rule::OwnPlace));
    assert_eq!(broken(Wrong::Torn), Some(Rule::Whole));
    assert_eq!(broken(Wrong::BadDirty), Some(Rule::Sums));
    assert_eq!(broken(Wrong::BadClean), Some(Rule::Sums));
    assert_eq!(broken(Wrong::Unreadable), Some(Rule::Sums));
    assert_eq!(broken(Wrong::Panics), Some(Rule::Opens));
    assert_eq!(broken(Wrong::Refuses), Some(Rule::Opens));
}

#[test]
fn a_clean_sector_may_be_bad_where_it_was_written_since_it_was_listed() {
    let machine = Machine::new(image(), 0);
    let file = machine.medium().create("slots").unwrap();
    file.write(512, &[1; 512]).unwrap();
    let listed = machine.position();
    file.write(1024, &[1; 512]).unwrap();
    let recording = machine.recording();
    let mut left = image();
    left.names.insert("slots".to_owned(), 2);
    let history = History::new(2, SECTORS);
    let crash = Crash {
        subject: &Opening(Wrong::Nothing),
        history: &history,
        judge: &Judge::new(&history),
        recording: &recording,
        position: recording.position(),
        demand: Demand::Flushed,
        alone: Alone::Anything,
    };
    let judged = |is_dirty, offset| {
        let bad = BadSector {
            volume: 1,
            sector: 2,
            is_dirty,
            listed: Some(Listed {
                name: "slots".to_owned(),
                range: (offset, 512),
                position: listed,
            }),
        };
        crash.judge_bad(&[bad], &left).is_ok()
    };
    assert!(judged(false, 1024));
    assert!(!judged(false, 512));
    assert!(!judged(true, 1024));
}

#[test]
fn an_origin_that_was_not_flushed_is_seen() {
    let mut history = History::new(2, SECTORS);
    let write = Request {
        volume: 1,
        first: 2,
        count: 1,
        edges: (0, 0),
        asked: Asked::Change(Change::Write, true),
    };
    let version = history.begin(0, write);
    history.end(0, version, write, true);
    let mut judge = Judge::new(&history);
    judge.advance_to(0);
    let recording = Recording::new(image(), 0);
    let crash = Crash {
        subject: &Opening(Wrong::Nothing),
        history: &history,
        judge: &judge,
        recording: &recording,
        position: 0,
        demand: Demand::Flushed,
        alone: Alone::Flushed,
    };
    let mut image = image();
    let violation = crash.judge_alone(&image).unwrap_err();
    assert_eq!(violation.rule, Rule::OriginAlone);
    let crash = Crash {
        alone: Alone::Older(&judge),
        ..crash
    };
    crash.judge_alone(&image).unwrap();
    let mut bytes = [0; SECTOR_BYTES];
    fill(1, 2, version, &mut bytes);
    image.files[1].put(2 * SECTOR_BYTES as u64, &bytes);
    crash.judge_alone(&image).unwrap();
    fill(1, 2, version + 1, &mut bytes);
    image.files[1].put(2 * SECTOR_BYTES as u64, &bytes);
    let violation = crash.judge_alone(&image).unwrap_err();
    assert_eq!(violation.rule, Rule::OriginOlder);
}

#[test]
fn damaged_files_may_be_refused_and_are_not_touched_then() {
    let history = History::new(2, SECTORS);
    let judge = Judge::new(&history);
    let check = |wrong| {
        let opening = Opening(wrong);
        let checked = damage::check(
            &opening,
            &history,
            &judge,
            &image(),
            Demand::Flushed,
            "lock",
        );
        checked.map_err(|violation| violation.rule)
    };
    assert_eq!(check(Wrong::Nothing), Ok(true));
    assert_eq!(check(Wrong::Unreadable), Ok(true));
    assert_eq!(check(Wrong::Refuses), Ok(false));
    assert_eq!(check(Wrong::RefusesAndWrites), Err(Rule::Opens));
    assert_eq!(check(Wrong::Panics), Err(Rule::Opens));
    assert_eq!(check(Wrong::Torn), Err(Rule::Whole));
}
