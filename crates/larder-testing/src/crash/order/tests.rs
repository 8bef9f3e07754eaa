//! Origins from histories written by hand, and from a queue of a few lines whose cuts are right by the way they are made.

use super::super::history::{Asked, Change, History, Moment, Request};
use super::*;
use crate::random::{Random, mix};

const SECTORS: u64 = 6;
const VOLUME: u32 = 1;

const WRITE: Asked = Asked::Change(Change::Write, false);
const FUA: Asked = Asked::Change(Change::Write, true);
const ZERO: Asked = Asked::Change(Change::Zero, false);
const TRIM: Asked = Asked::Change(Change::Trim, false);
const FLUSH: Asked = Asked::Flush;

fn request(asked: Asked, first: u64) -> Request {
    Request {
        volume: VOLUME,
        first,
        count: u64::from(asked != FLUSH),
        edges: (0, 0),
        asked,
    }
}

/// Requests one after the other; the number is their sector's.
fn history(requests: &[(Asked, u64)]) -> History {
    let mut history = History::new(2, SECTORS);
    for (position, &(asked, first)) in requests.iter().enumerate() {
        let version = history.begin(position, request(asked, first));
        history.end(position, version, request(asked, first), true);
    }
    history
}

/// Whether the origin may hold these requests' bytes in its first sectors, and what it held at first in the others; 99 stands for zeros.
fn fits(history: &History, held: &[u64]) -> bool {
    let mut judge = Judge::new(history);
    judge.advance_to(usize::MAX);
    judge.judge_older(VOLUME, &bytes_of(held)).is_ok()
}

fn bytes_of(held: &[u64]) -> Vec<u8> {
    let held = held.iter().copied().chain(std::iter::repeat(0));
    let sectors = (0..SECTORS).zip(held);
    let contents = sectors.map(|(sector, version)| match version {
        99 => Content::zeros(),
        version => Content::written(VOLUME, sector, version),
    });
    contents.flat_map(|content| content.bytes()).collect()
}

#[test]
fn flush_after_flush_or_some_of_the_next() {
    let history = history(&[
        (WRITE, 0),
        (FLUSH, 0),
        (WRITE, 1),
        (WRITE, 2),
        (FLUSH, 0),
        (WRITE, 0),
    ]);
    for held in [
        [0, 0, 0],
        [1, 0, 0],
        [1, 3, 0],
        [1, 0, 4],
        [1, 3, 4],
        [6, 3, 4],
    ] {
        assert!(fits(&history, &held), "{held:?}");
    }
    assert!(!fits(&history, &[0, 3, 0]), "some of 2 without 1");
    assert!(!fits(&history, &[0, 3, 4]), "2 without 1");
    assert!(!fits(&history, &[6, 3, 0]), "more than 2 without all of it");
    assert!(!fits(&history, &[7, 3, 4]), "nobody wrote that");
}

#[test]
fn before_the_first_flush_anything_may_be_there() {
    let history = history(&[(WRITE, 0), (WRITE, 1), (WRITE, 0)]);
    for held in [[0, 0], [0, 2], [1, 0], [3, 0], [3, 2], [1, 2]] {
        assert!(fits(&history, &held), "{held:?}");
    }
}

#[test]
fn what_was_overwritten_before_the_next_flush_may_never_be_there() {
    let history = history(&[
        (WRITE, 0),
        (WRITE, 0),
        (FLUSH, 0),
        (WRITE, 1),
        (WRITE, 0),
        (FLUSH, 0),
    ]);
    assert!(fits(&history, &[2, 4]) && fits(&history, &[5, 0]));
    assert!(!fits(&history, &[1, 4]), "4 came after the flush of 2");
}

#[test]
fn a_durable_request_counts_as_a_flush_of_itself() {
    let history = history(&[(WRITE, 0), (FUA, 1), (WRITE, 2), (FLUSH, 0)]);
    assert!(fits(&history, &[0, 2]) && fits(&history, &[0, 2, 3]));
    assert!(!fits(&history, &[0, 0, 3]) && !fits(&history, &[1, 0, 3]));
    assert!(fits(&history, &[1, 0, 0]));
}

#[test]
fn zeros_may_be_older_or_newer_ones_and_both_at_once() {
    let history = history(&[
        (ZERO, 0),
        (FLUSH, 0),
        (WRITE, 0),
        (WRITE, 1),
        (FLUSH, 0),
        (ZERO, 0),
        (WRITE, 2),
        (FLUSH, 0),
    ]);
    assert!(fits(&history, &[99, 0, 0]) && fits(&history, &[99, 4, 0]));
    assert!(fits(&history, &[99, 4, 7]));
    assert!(
        !fits(&history, &[99, 0, 7]),
        "neither the older nor the newer ones"
    );
    assert!(!fits(&history, &[3, 0, 7]));
}

#[test]
fn a_trim_promises_nothing_and_is_no_older_than_it_is() {
    let history = history(&[
        (WRITE, 0),
        (FLUSH, 0),
        (TRIM, 0),
        (WRITE, 1),
        (FLUSH, 0),
        (WRITE, 2),
        (FLUSH, 0),
    ]);
    for held in [[1, 0, 0], [99, 0, 0], [1, 4, 0], [99, 4, 6], [1, 4, 6]] {
        assert!(fits(&history, &held), "{held:?}");
    }
    assert!(!fits(&history, &[0, 4, 0]) && !fits(&history, &[99, 0, 6]));
}

#[test]
fn a_failed_flush_and_the_flush_of_another_volume_do_not_count() {
    let mut history = History::new(2, SECTORS);
    let mut ask = |position, asked, volume, first, is_well| {
        let request = Request {
            volume,
            ..request(asked, first)
        };
        let version = history.begin(position, request);
        history.end(position, version, request, is_well);
    };
    ask(0, WRITE, VOLUME, 0, true);
    ask(1, FLUSH, VOLUME, 0, false);
    ask(2, FLUSH, 0, 0, true);
    ask(3, WRITE, VOLUME, 1, true);
    assert!(fits(&history, &[0, 4]));
}

/// 1 is written while a flush is under way: it is not covered, but may be there. 2 came after the first of two flushes was answered.
#[test]
fn requests_at_once_count_by_when_they_were_begun_and_acknowledged() {
    let mut history = History::new(2, SECTORS);
    let (one, two) = (request(FLUSH, 0), request(WRITE, 0));
    let flush = history.begin(0, one);
    let other_flush = history.begin(1, one);
    let write = history.begin(2, two);
    history.end(3, write, two, true);
    history.end(4, flush, one, true);
    let late = history.begin(5, request(WRITE, 1));
    history.end(6, other_flush, one, true);
    assert_eq!((write, late), (3, 4));
    assert!(fits(&history, &[0, 4]), "neither flush was about 3");
    let last = history.begin(7, one);
    history.end(8, last, one, true);
    let after = history.begin(9, request(WRITE, 2));
    assert!(fits(&history, &[3, 0, after]), "4 was not acknowledged");
    assert!(!fits(&history, &[0, 4, after]));
}

#[test]
fn in_a_later_life_what_was_seen_is_covered_by_the_next_flush() {
    let first = history(&[(WRITE, 0), (FLUSH, 0), (WRITE, 1), (WRITE, 2)]);
    let mut judge = Judge::new(&first);
    judge.advance_to(usize::MAX);
    let mut seen = first.start.clone();
    seen[SECTORS as usize] = Content::written(VOLUME, 0, 1);
    seen[SECTORS as usize + 1] = Content::written(VOLUME, 1, 3);
    let mut second = first.continued(seen.clone());
    for (position, asked) in [FLUSH, WRITE].into_iter().enumerate() {
        let version = second.begin(position, request(asked, 3));
        second.end(position, version, request(asked, 3), true);
    }
    let mut later = judge.continued(&second, &seen);
    let fits = |judge: &Judge<'_>, held: &[u64]| judge.judge_older(VOLUME, &bytes_of(held)).is_ok();
    assert!(fits(&later, &[0, 0, 0]) && fits(&later, &[1, 3, 0]));
    assert!(
        !fits(&later, &[0, 3, 0]),
        "the older flush was of an earlier life"
    );
    later.advance_to(usize::MAX);
    assert!(fits(&later, &[0, 0, 0]) && fits(&later, &[1, 3, 0, 6]));
    assert!(!fits(&later, &[1, 0, 0, 6]), "3 was seen and then flushed");
}

#[test]
fn what_is_wrong_is_told() {
    let history = history(&[(WRITE, 0), (FLUSH, 0), (WRITE, 1)]);
    let mut judge = Judge::new(&history);
    judge.advance_to(usize::MAX);
    let why = |held: &[u64]| judge.judge_older(VOLUME, &bytes_of(held)).unwrap_err();
    let order = why(&[0, 3]);
    assert!(
        order.contains("version: 3 }, which fits flushes 1 and later"),
        "{order}"
    );
    assert!(
        order.ends_with("version: 0 }, which fits flushes 0 to 0"),
        "{order}"
    );
    assert!(why(&[2]).ends_with("which fits no flush"));
}

/// Clients, each with sectors of its own, over a queue into which each request goes at some moment between its beginning and its end.
struct Model {
    random: Random,
    history: History,
    position: usize,
    queue: Vec<Option<(u64, Content)>>,
    clients: Vec<Option<(u64, Request, bool)>>,
}

impl Model {
    fn run(seed: u64) -> Self {
        let mut model = Self {
            random: Random::new(seed),
            history: History::new(2, SECTORS),
            position: 0,
            queue: Vec::new(),
            clients: vec![None; 3],
        };
        for _ in 0..model.random.between(1, 200) {
            model.step();
        }
        model
    }

    fn step(&mut self) {
        self.position += 1;
        let number = self.random.below(3) as usize;
        self.clients[number] = match self.clients[number] {
            None => {
                let kinds = [
                    WRITE,
                    WRITE,
                    FUA,
                    ZERO,
                    Asked::Change(Change::Zero, true),
                    FLUSH,
                    FLUSH,
                ];
                let asked = self.random.pick(&kinds);
                let request = request(asked, 2 * number as u64 + self.random.below(2));
                let version = self.history.begin(self.position, request);
                Some((version, request, false))
            }
            Some((version, request, false)) => {
                self.enqueue(version, request);
                Some((version, request, true))
            }
            Some((version, request, true)) => {
                self.history.end(self.position, version, request, true);
                None
            }
        };
    }

    fn enqueue(&mut self, version: u64, request: Request) {
        let content = match request.asked {
            Asked::Change(Change::Write, _) => {
                Some(Content::written(VOLUME, request.first, version))
            }
            Asked::Change(..) => Some(Content::zeros()),
            Asked::Flush => None,
        };
        self.queue
            .extend(content.map(|content| Some((request.first, content))));
        if request.asked.is_promise() {
            self.queue.push(None);
        }
    }

    /// What the origin may hold when some epochs are on it and some of the next; with `skips`, a later one's too.
    fn origin(&mut self, skips: bool) -> Vec<Content> {
        let mut held: Vec<Content> = (0..SECTORS)
            .map(|sector| Content::written(VOLUME, sector, 0))
            .collect();
        let boundaries = self.queue.iter().filter(|one| one.is_none()).count() as u64;
        let mut whole = self.random.below(boundaries + 1);
        let mut next = 1 + if skips { self.random.below(6) } else { 0 };
        for one in &self.queue {
            match one {
                None if whole > 0 => whole -= 1,
                None if next > 1 => next -= 1,
                None => break,
                Some((sector, content)) if whole > 0 || self.random.chance(50) => {
                    held[*sector as usize] = content.clone();
                }
                Some(_) => {}
            }
        }
        held
    }
}

/// The rule as it is written, one promise after the other.
fn fits_by_the_rule(history: &History, held: &[Content]) -> bool {
    let moments = history.moments();
    let acknowledged = |at: &usize| matches!(&moments[*at].2, Moment::Acknowledged(request) if request.asked.is_promise());
    let promises: Vec<usize> = (0..moments.len()).filter(acknowledged).collect();
    (0..=promises.len()).any(|promise| {
        let end = promises.get(promise).copied().unwrap_or(moments.len());
        let covered = covered_by(history, &promises[..promise]);
        (0..SECTORS).all(|sector| {
            let begun = moments[..end]
                .iter()
                .filter_map(|(_, version, moment)| match moment {
                    Moment::Begun(request) if request.first == sector => match request.asked {
                        Asked::Change(Change::Write, _) => {
                            Some((*version, Content::written(VOLUME, sector, *version)))
                        }
                        Asked::Change(..) => Some((*version, Content::zeros())),
                        Asked::Flush => None,
                    },
                    _ => None,
                });
            let mut all = std::iter::once((0, Content::written(VOLUME, sector, 0))).chain(begun);
            let (sector, held) = (sector as usize, &held[sector as usize]);
            all.any(|(version, content)| version >= covered[sector] && content == *held)
        })
    })
}

/// The newest version of each sector that these promises are about.
fn covered_by(history: &History, promises: &[usize]) -> Vec<u64> {
    let moments = history.moments();
    let mut covered = vec![0; SECTORS as usize];
    for &at in promises {
        let (_, promise, Moment::Acknowledged(request)) = &moments[at] else {
            continue;
        };
        let begun =
            |one: &(usize, u64, Moment)| one.1 == *promise && matches!(one.2, Moment::Begun(_));
        let from = match request.asked {
            Asked::Flush => 0..moments.iter().position(begun).unwrap(),
            _ => at..at + 1,
        };
        for (_, version, moment) in &moments[from] {
            if let Moment::Acknowledged(request) = moment
                && request.asked != FLUSH
            {
                let covered = &mut covered[request.first as usize];
                *covered = (*covered).max(*version);
            }
        }
    }
    covered
}

#[test]
fn a_queue_keeps_the_rule_and_what_breaks_it_is_what_the_rule_says() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..3000 {
        let mut model = Model::run(mix(seed, 17));
        for skips in [false, true] {
            let held = model.origin(skips);
            let mut judge = Judge::new(&model.history);
            judge.advance_to(usize::MAX);
            let bytes: Vec<u8> = held.iter().flat_map(Content::bytes).collect();
            let judged = judge.judge_older(VOLUME, &bytes);
            let expected = fits_by_the_rule(&model.history, &held);
            assert_eq!(judged.is_ok(), expected, "seed {seed}: {judged:?}");
            assert!(skips || expected, "seed {seed}: {judged:?}");
            match expected {
                true => right += 1,
                false => wrong += 1,
            }
        }
    }
    assert!(right > 3000 && wrong > 300, "{right} {wrong}");
}
