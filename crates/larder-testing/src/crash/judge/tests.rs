//! What may be there, from a history written by hand.

use super::super::value::{SECTOR_BYTES, fill};
use super::*;

const SECTOR: u64 = 3;

fn request(asked: Asked) -> Request {
    Request {
        volume: 1,
        first: SECTOR,
        count: u64::from(asked != Asked::Flush),
        edges: (0, 0),
        asked,
    }
}

const WRITE: Asked = Asked::Change(Change::Write, false);
const FUA: Asked = Asked::Change(Change::Write, true);
const ZERO: Asked = Asked::Change(Change::Zero, false);
const TRIM: Asked = Asked::Change(Change::Trim, false);

/// Requests one after the other, from position 10 on, each with one call; `false` means that it fails.
fn history(requests: &[(Asked, bool)]) -> History {
    let mut history = History::new(2, 8);
    for (number, &(asked, is_well)) in requests.iter().enumerate() {
        let position = 10 * (number + 1);
        let version = history.begin(position, request(asked));
        history.end(position + 2, version, request(asked), is_well);
    }
    history
}

/// Which versions may be there after a crash; 99 stands for zeros.
fn allowed(history: &History, position: usize, demand: Demand) -> Vec<u64> {
    let mut judge = Judge::new(history);
    judge.advance_to(position);
    let mut bytes = [0; SECTOR_BYTES];
    let mut allowed = Vec::new();
    for version in 0..10 {
        fill(1, SECTOR, version, &mut bytes);
        if judge.judge(1, SECTOR, &bytes, demand).is_ok() {
            allowed.push(version);
        }
    }
    if judge.judge(1, SECTOR, &[0; SECTOR_BYTES], demand).is_ok() {
        allowed.push(99);
    }
    allowed
}

#[test]
fn what_was_acknowledged_before_a_completed_flush_is_promised() {
    let history = history(&[
        (WRITE, true),
        (WRITE, true),
        (Asked::Flush, true),
        (WRITE, true),
    ]);
    assert_eq!(allowed(&history, 9, Demand::Flushed), [0]);
    assert_eq!(allowed(&history, 12, Demand::Flushed), [0, 1]);
    assert_eq!(allowed(&history, 12, Demand::Acknowledged), [1]);
    assert_eq!(allowed(&history, 31, Demand::Flushed), [0, 1, 2]);
    assert_eq!(allowed(&history, 32, Demand::Flushed), [2]);
    assert_eq!(allowed(&history, 40, Demand::Flushed), [2, 4]);
    assert_eq!(allowed(&history, 42, Demand::Begun), [0, 1, 2, 4]);
}

#[test]
fn a_flush_covers_what_was_acknowledged_before_it_began() {
    let mut history = History::new(2, 8);
    let flush = history.begin(5, request(Asked::Flush));
    let write = history.begin(6, request(WRITE));
    history.end(7, write, request(WRITE), true);
    history.end(8, flush, request(Asked::Flush), true);
    assert_eq!(allowed(&history, 9, Demand::Flushed), [0, write]);
}

#[test]
fn what_failed_may_be_there_or_not_and_no_flush_changes_that() {
    let history = history(&[(WRITE, true), (WRITE, false), (Asked::Flush, true)]);
    assert_eq!(allowed(&history, 40, Demand::Flushed), [1, 2]);
    assert_eq!(allowed(&history, 40, Demand::Acknowledged), [1, 2]);
}

#[test]
fn a_failed_flush_promises_nothing_and_fua_is_a_promise() {
    let failed = history(&[(WRITE, true), (Asked::Flush, false)]);
    assert_eq!(allowed(&failed, 30, Demand::Flushed), [0, 1]);
    let fua = history(&[(WRITE, true), (FUA, true)]);
    assert_eq!(allowed(&fua, 21, Demand::Flushed), [0, 1, 2]);
    assert_eq!(allowed(&fua, 22, Demand::Flushed), [2]);
}

#[test]
fn zeros_are_a_version_and_trims_may_be() {
    let zeroed = history(&[(WRITE, true), (ZERO, true), (Asked::Flush, true)]);
    assert_eq!(allowed(&zeroed, 40, Demand::Flushed), [99]);
    let trimmed = history(&[(WRITE, true), (TRIM, true), (Asked::Flush, true)]);
    assert_eq!(allowed(&trimmed, 40, Demand::Flushed), [1, 99]);
}

#[test]
fn the_rule_that_is_broken_is_told() {
    let history = history(&[(WRITE, true), (Asked::Flush, true)]);
    let mut judge = Judge::new(&history);
    judge.advance_to(30);
    let mut bytes = [0; SECTOR_BYTES];
    let rule = |bytes: &[u8]| {
        judge
            .judge(1, SECTOR, bytes, Demand::Flushed)
            .err()
            .unwrap()
            .0
    };
    fill(1, SECTOR, 0, &mut bytes);
    assert_eq!(rule(&bytes), Rule::Flushed);
    fill(1, SECTOR, 7, &mut bytes);
    assert_eq!(rule(&bytes), Rule::Whole);
    fill(0, SECTOR, 1, &mut bytes);
    assert_eq!(rule(&bytes), Rule::OwnPlace);
    bytes[100] ^= 1;
    assert_eq!(rule(&bytes), Rule::Whole);
}

#[test]
fn a_part_is_laid_over_what_was_there_and_over_nothing_else() {
    let mut history = history(&[
        (WRITE, true),
        (Asked::Flush, true),
        (WRITE, true),
        (WRITE, false),
    ]);
    let part = Request {
        edges: (100, 12),
        ..request(WRITE)
    };
    let version = history.begin(50, part);
    let mut judge = Judge::new(&history);
    judge.advance_to(50);
    let allowed = |old: u64, part: Range<usize>| {
        let new = Content::written(1, SECTOR, version);
        let mixed = Content::written(1, SECTOR, old).overlaid(&new, part);
        judge
            .judge(1, SECTOR, &mixed.bytes(), Demand::Flushed)
            .is_ok()
    };
    assert!(
        allowed(3, 100..500) && allowed(4, 100..500),
        "4 has failed: it may be there"
    );
    assert!(!allowed(1, 100..500), "3 was acknowledged");
    assert!(!allowed(3, 100..501) && !allowed(3, 0..512));
    assert!(
        allowed(3, 0..0) && allowed(1, 0..0),
        "it may not have happened"
    );
}

#[test]
fn after_a_crash_what_was_seen_is_promised() {
    let history = history(&[(WRITE, true), (WRITE, true)]);
    let mut seen = history.start.clone();
    seen[8 + SECTOR as usize] = Content::written(1, SECTOR, 1);
    let mut history = history.continued(seen);
    let version = history.begin(5, request(WRITE));
    assert_eq!(version, 3);
    assert_eq!(allowed(&history, 4, Demand::Flushed), [1]);
    assert_eq!(allowed(&history, 5, Demand::Flushed), [1, 3]);
    let mut bytes = [0; SECTOR_BYTES];
    fill(1, SECTOR, 2, &mut bytes);
    let judge = Judge::new(&history);
    let gone = judge.judge(1, SECTOR, &bytes, Demand::Flushed).unwrap_err();
    assert_eq!(gone.0, Rule::Stable);
}

#[test]
fn a_kill_may_lose_what_was_not_flushed_and_what_is_seen_after_it_is_flushed_next() {
    let mut history = history(&[(WRITE, true), (Asked::Flush, true), (WRITE, true)]);
    history.kill(40);
    assert_eq!(allowed(&history, 39, Demand::Acknowledged), [3]);
    assert_eq!(allowed(&history, 40, Demand::Acknowledged), [1, 3]);
    let mut found = history.start.clone();
    found[8 + SECTOR as usize] = Content::written(1, SECTOR, 3);
    history.find(41, found);
    assert_eq!(allowed(&history, 41, Demand::Acknowledged), [3]);
    assert_eq!(allowed(&history, 41, Demand::Flushed), [1, 3]);
    let flush = history.begin(50, request(Asked::Flush));
    history.end(51, flush, request(Asked::Flush), true);
    assert_eq!(allowed(&history, 51, Demand::Flushed), [3]);
}
