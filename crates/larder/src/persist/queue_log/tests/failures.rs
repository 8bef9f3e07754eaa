//! Files that cannot be written or synced, and syncs that others do not wait for.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;
use crate::cache_file::CacheFile;
use crate::persist::copies::Newer;

fn dead<T: std::fmt::Debug>(result: Result<T, CommitError>) -> String {
    match result {
        Err(CommitError::Dead(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_cannot_be_written_or_synced_is_dead() {
    type Doing = fn(&QueueLog) -> Result<(), CommitError>;
    let append: Doing = |log| log.append(&data(0, &[9])).map(drop);
    let sync: Doing = |log| log.sync().map(drop);
    let advance: Doing = |log| log.advance(log.end());
    let cases = [
        (append, 0, "queue-3 cannot be written: "),
        (sync, 0, "queue-3 cannot be synced: "),
        (advance, 0, "queue-3 cannot be written: "),
        (advance, 1, "queue-3 cannot be synced: "),
    ];
    for (doing, after, why) in cases {
        let (medium, _home, log) = made();
        let first = log.append(&data(0, &[1])).unwrap();
        log.sync().unwrap();
        let last = log.append(&data(0, &[2])).unwrap();
        let end = log.end();
        medium.fail_after(after, Errno::IO, false);
        let told = dead(doing(&log));
        assert!(told.starts_with(why), "{told}");
        assert_eq!(&*log.failure().unwrap(), told);
        // Though the medium is well again.
        assert_eq!(dead(log.append(&data(0, &[9]))), told);
        assert_eq!(dead(log.bound()), told);
        assert_eq!(dead(log.sync()), told);
        assert_eq!(dead(log.advance(end)), told);
        assert_eq!(log.synced_seq(), first.seq);
        assert_eq!(bytes_at(&log, last.offset, 1), [2]);
        let changes = found(&medium.image()).1.found;
        // A head that was written and not synced is seen after a kill.
        assert!(changes.len() == 2 || (changes.is_empty() && after == 1));
    }
}

#[test]
fn a_queue_whose_making_was_not_finished_is_none() {
    let mut calls = 0;
    loop {
        let medium = MemoryMedium::default();
        let home = open(&medium).unwrap().home;
        medium.fail_after(calls, Errno::NOSPC, true);
        let made = home.make_queue(id(3, 4), RING);
        let image = medium.image();
        medium.fail_after(u64::MAX, Errno::NOSPC, true);
        let opened = open(&MemoryMedium::of(&image)).unwrap();
        assert!(opened.queues.iter().all(FoundQueue::is_empty));
        let names = opened.home.medium().names().unwrap();
        assert!(!names.iter().any(|name| is_new(name)), "{names:?}");
        let again = opened.home.make_queue(id(3, 5), RING).unwrap();
        again.append(&data(0, &[1])).unwrap();
        match made {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("make room"), "{error}"),
        }
        calls += 1;
    }
    assert!(calls > 4);
}

#[test]
fn a_disk_that_is_full_is_met_when_the_queue_is_made_and_nothing_stays() {
    let medium = MemoryMedium::default();
    let home = open(&medium).unwrap().home;
    let before = medium.image();
    // The file is made, its heads are written, its ring is not.
    medium.fail_after(2, Errno::NOSPC, false);
    assert!(home.make_queue(id(3, 4), RING).is_err());
    assert_eq!(medium.image(), before);
    medium.take_written("queue-3.new");
    let log = home.make_queue(id(3, 4), RING).unwrap();
    let file_bytes = RING_START + log.ring_bytes();
    assert_eq!(medium.take_written("queue-3.new"), file_bytes);
}

#[test]
fn a_start_that_is_cut_short_loses_nothing() {
    let (medium, _home, log) = made();
    for byte in 1..=9 {
        let placed = log.append(&data(0, &[byte; 5000])).ok();
        if placed.is_none() || byte % 3 == 0 {
            log.bound().unwrap();
        }
        if byte == 4 {
            log.advance(log.end()).unwrap();
        }
    }
    let image = medium.image();
    let expected = found(&image).1.found;
    let mut calls = 0;
    loop {
        let medium = MemoryMedium::of(&image);
        let Opened {
            home, mut queues, ..
        } = open(&medium).unwrap();
        medium.fail_after(calls, Errno::IO, true);
        let begun = queues.remove(0).begin(&home);
        assert_eq!(found(&medium.image()).1.found, expected);
        match begun {
            Ok(log) => break assert_eq!(log.synced_seq() + 1, log.end().seq),
            Err(error) => assert!(error.to_string().starts_with("queue-3 cannot be ")),
        }
        calls += 1;
    }
    assert!(calls > 6);
}

#[test]
fn what_was_found_is_written_once_more() {
    let (medium, _home, log) = made();
    log.append(&data(0, &[1; 20_000])).unwrap();
    let medium = MemoryMedium::of(&medium.image());
    let Opened {
        home, mut queues, ..
    } = open(&medium).unwrap();
    assert_eq!(medium.take_written(NAME), 0, "a find writes nothing");
    let log = queues.remove(0).begin(&home).unwrap();
    let heads = 3 * PAGE_BYTES;
    assert_eq!(medium.take_written(NAME), log.used_bytes() + heads);
}

/// A file whose syncs wait until they are let go on.
struct Held {
    file: Arc<dyn MediumFile>,
    began: Mutex<Sender<()>>,
    goes_on: Mutex<Receiver<Result<(), Errno>>>,
}

impl CacheFile for Held {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, buffer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.began.lock().unwrap().send(()).unwrap();
        Ok(self.goes_on.lock().unwrap().recv().unwrap()?)
    }
}

impl MediumFile for Held {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_length(length_bytes)
    }
}

/// An empty queue whose syncs are held: it, who tells that one has begun, and who lets it go on.
fn held() -> (QueueLog, Receiver<()>, Sender<Result<(), Errno>>) {
    let (_medium, _home, log) = made();
    let head = *sync::lock(&log.heads).current();
    let ((began, begins), (goes_on, waits)) = (channel(), channel());
    let file: Arc<dyn MediumFile> = Arc::new(Held {
        file: Arc::clone(&log.file),
        began: Mutex::new(began),
        goes_on: Mutex::new(waits),
    });
    let chosen = Newer {
        value: head,
        copy: 0,
        other_is_as_new: true,
    };
    let heads = Heads::new(Arc::clone(&file), chosen);
    let log = QueueLog::new(file, heads, head.begin, true);
    (log, begins, goes_on)
}

#[test]
fn a_sync_is_about_what_was_appended_before_it() {
    let (log, begins, goes_on) = held();
    let log = &log;
    let first = log.append(&data(0, &[1])).unwrap();
    thread::scope(|scope| {
        let syncing = scope.spawn(|| log.sync().unwrap());
        begins.recv().unwrap();
        let second = log.append(&data(0, &[2])).unwrap();
        assert_eq!(log.synced_seq(), 0);
        goes_on.send(Ok(())).unwrap();
        assert_eq!(syncing.join().unwrap(), first.seq);
        assert_eq!(log.synced_seq(), first.seq);
        goes_on.send(Ok(())).unwrap();
        assert_eq!(log.sync().unwrap(), second.seq);
    });
}

#[test]
fn a_failure_that_one_is_told_is_everybodys() {
    let (log, begins, goes_on) = held();
    let log = &log;
    log.append(&data(0, &[1])).unwrap();
    thread::scope(|scope| {
        let advancing = scope.spawn(|| dead(log.advance(log.end())));
        begins.recv().unwrap();
        let syncing = scope.spawn(|| dead(log.sync()));
        goes_on.send(Err(Errno::IO)).unwrap();
        // For a second sync, if there were one.
        goes_on.send(Ok(())).unwrap();
        let told = advancing.join().unwrap();
        assert_eq!(syncing.join().unwrap(), told);
        assert_eq!(log.synced_seq(), 0);
        // What the second sync would have been told is that all is well.
        assert!(begins.try_recv().is_err());
    });
}

#[test]
fn one_appends_one_syncs_and_one_frees_at_once() {
    const CHANGES: u64 = 2000;
    let (medium, _home, log) = made();
    let (medium, log) = (&medium, &log);
    let (appended, places) = channel::<Position>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..CHANGES {
                let bytes = number.to_le_bytes().repeat(100 + number as usize % 1000);
                while !log.has_room(bytes.len() as u64) {
                    thread::yield_now();
                }
                log.append(&data(number, &bytes)).unwrap();
                appended.send(log.bound().unwrap()).unwrap();
            }
        });
        scope.spawn(move || {
            for place in places {
                while log.synced_seq() + 1 < place.seq {
                    let end = log.end().seq;
                    assert!(log.sync().unwrap() + 1 >= end);
                }
                log.advance(place).unwrap();
            }
        });
        scope.spawn(|| {
            while log.synced_seq() < CHANGES {
                log.sync().unwrap();
                thread::yield_now();
            }
        });
    });
    assert_eq!(log.used_bytes(), 0);
    assert!(log.failure().is_none());
    assert!(found(&medium.image()).1.is_empty());
}
