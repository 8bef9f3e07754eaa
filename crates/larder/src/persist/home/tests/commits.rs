//! Commits: in parts, beside checkpoints, and what ends them.

use super::journal::{Saying, commit_volumes, full};
use super::*;

#[test]
fn a_commit_that_is_larger_than_the_ring_goes_through_in_parts() {
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let table = volumes(2);
    let home = &opened.home;
    let mut work = Saying::nothing(home);
    let mut random = Random::new(5);
    home.prepare_slots(SLOTS).unwrap();
    for slot in 0..SLOTS {
        let occupant = occupant(&table, 0, u64::from(slot));
        work.groups
            .push(vec![full(home, &mut random, occupant, slot)]);
    }
    let groups = work.groups.clone();
    commit::run(home.journal(), &mut work, Durability::Now).unwrap();
    assert!(work.checkpoints > 3 && work.durable.len() > 10);
    assert_eq!(work.slot_syncs, 0);
    drop(work);
    drop(opened);
    let opened = open(&medium);
    let slots = opened.home.open_slots();
    for (entry, group) in entries(&opened).iter().zip(&groups) {
        let Op::Slot(op) = &group[0] else {
            unreachable!()
        };
        assert_eq!(entry.content, Some(op.content));
        let mut bytes = [0; 4096];
        let offset = opened.home.shape().slot_offset(op.slot);
        slots.read(offset, &mut bytes).unwrap();
        assert_eq!(bytes, op.bytes);
    }
    assert_eq!(opened.slots_numbered, SLOTS);
}

#[test]
fn what_failed_in_making_is_not_said_and_kills_nothing() {
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let mut work = Saying::nothing(&opened.home);
    work.groups.push(vec![Op::Vouch]);
    work.fails = Some(Errno::IO);
    let failed = commit::run(opened.home.journal(), &mut work, Durability::Now);
    assert!(matches!(failed, Err(CommitError::Making(_))));
    assert_eq!(opened.home.journal().used_bytes(), 0);
    commit::run(opened.home.journal(), &mut work, Durability::WithTheNext).unwrap();
    assert_eq!(opened.home.journal().synced_seq(), 0);
    commit::run(opened.home.journal(), &mut work, Durability::Now).unwrap();
    assert_eq!(opened.home.journal().synced_seq(), 1);
}

#[test]
fn any_failure_of_the_journal_is_final_until_the_next_start() {
    // Header and superblock are there; then: the write, the sync.
    for failing in 0..2 {
        let medium = MemoryMedium::default();
        let opened = open(&medium);
        let mut work = Saying::nothing(&opened.home);
        work.groups.push(vec![Op::Vouch]);
        medium.fail_after(failing, Errno::IO, false);
        for _ in 0..3 {
            let dead = commit::run(opened.home.journal(), &mut work, Durability::Now);
            let error = dead.unwrap_err().to_string();
            assert!(error.contains("journal cannot be"), "{error}");
            work.groups.push(vec![Op::Vouch]);
        }
        assert!(opened.home.journal().failure().is_some());
        opened
            .home
            .journal()
            .await_room(JOURNAL, std::time::Duration::MAX);
        drop(work);
        drop(opened);
        medium.fail_after(u64::MAX, Errno::IO, false);
        assert!(matches!(open(&medium).found, Found::Crashed { .. }));
    }
}

/// Finds that somebody else has done the checkpoint, or that nobody has.
struct TooLate<'h>(Saying<'h>, bool);

impl CommitWork for TooLate<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        self.0.make(batch)
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        self.0.sync_slots()
    }

    fn appended(&mut self, frame: usize, seq: u64) {
        self.0.appended(frame, seq);
    }

    fn durable(&mut self, seq: u64) -> bool {
        self.0.durable(seq)
    }

    fn make_room(&mut self, frame_bytes: u64) -> Result<(), CommitError> {
        if self.1 {
            self.0.make_room(frame_bytes)?;
        }
        Err(CommitError::NoRoom)
    }
}

#[test]
fn room_counts_whoever_made_it_and_without_any_the_commit_ends() {
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let home = &opened.home;
    home.prepare_slots(SLOTS).unwrap();
    for is_made in [true, false] {
        let mut work = TooLate(Saying::nothing(home), is_made);
        for slot in 0..20 {
            let occupant = occupant(&volumes(1), 0, u64::from(slot));
            let op = full(home, &mut Random::new(1), occupant, slot);
            work.0.groups.push(vec![op]);
        }
        let result = commit::run(home.journal(), &mut work, Durability::Now);
        match is_made {
            true => result.unwrap(),
            false => assert!(matches!(result, Err(CommitError::NoRoom))),
        }
        assert!(home.journal().failure().is_none());
    }
}

#[test]
fn a_panic_in_a_commit_is_final_and_the_end_is_not_clean() {
    let (medium, expected) = closed(9);
    let opened = open(&medium);
    let home = &opened.home;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut work = Saying::nothing(home);
        work.panics = true;
        commit::run(home.journal(), &mut work, Durability::Now)
    }));
    assert!(panicked.is_err());
    let mut work = Saying::nothing(home);
    work.groups.push(vec![Op::Vouch]);
    let again = commit::run(home.journal(), &mut work, Durability::Now);
    assert!(matches!(again, Err(CommitError::Dead(_))));
    let mut all = expected.iter().copied();
    let ended = home.close(&opened.volumes, SLOTS, &mut all);
    assert!(matches!(ended, Err(OpenError::JournalFailed(_))));
    drop(work);
    drop(opened);
    assert!(matches!(open(&medium).found, Found::Crashed { .. }));
}

#[test]
fn ops_that_no_frame_has_room_for_are_too_long() {
    let mut batch = Batch::new(JOURNAL, JOURNAL / 2);
    let bytes = pool(&mut Random::new(1), 8 * 8192);
    let valid = Mask::span(0, 8);
    let op = Op::Slot(SlotOp {
        slot: SlotNumber(0),
        content: Content {
            occupant: occupant(&volumes(1), 0, 0),
            valid,
            dirty: valid,
            heat: 0,
        },
        sector_shift: 13,
        fresh: valid,
        inlined: valid,
        sums: &bytes[..64],
        bytes,
    });
    assert!(batch.push(&[op]).is_err() && batch.is_empty());
    let medium = MemoryMedium::default();
    assert_eq!(
        open(&medium).home.journal().longest_frame_bytes(),
        JOURNAL / 2
    );
}

/// What a scope says of itself: the groups that are to be committed.
struct Groups(Vec<Vec<Op<'static>>>);

impl commit::Scope for Groups {
    fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Waits for somebody else's checkpoint.
struct Waiting<'h>(Saying<'h>);

impl CommitWork for Waiting<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        self.0.make(batch)
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        self.0.sync_slots()
    }

    fn appended(&mut self, frame: usize, seq: u64) {
        self.0.appended(frame, seq);
    }

    fn durable(&mut self, seq: u64) -> bool {
        self.0.durable(seq)
    }

    fn make_room(&mut self, frame_bytes: u64) -> Result<(), CommitError> {
        let journal = self.0.home.journal();
        journal.await_room(frame_bytes, std::time::Duration::from_secs(60));
        Ok(())
    }
}

#[test]
fn many_commit_beside_a_thread_that_does_checkpoints() {
    const THREADS: u32 = 4;
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let (home, table) = (&opened.home, volumes(2));
    commit_volumes(home, &table);
    home.prepare_slots(SLOTS).unwrap();
    let token = commit::CommitToken::default();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let commit = |number: u32| {
        let mut random = Random::new(u64::from(number));
        let mut last = std::collections::BTreeMap::new();
        for _ in 0..150 {
            let slot = number + THREADS * random.below(u64::from(SLOTS / THREADS)) as u32;
            let block = random.below(1000);
            let op = full(home, &mut random, occupant(&table, 0, block), slot);
            last.insert(slot, op.clone());
            let committed = token.commit(Groups(vec![vec![op]]), |groups| {
                let mut work = Waiting(Saying::nothing(home));
                work.0.groups = groups.0;
                commit::run(home.journal(), &mut work, Durability::Now)
            });
            committed.unwrap();
        }
        last
    };
    let expected: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                if !(home.journal().is_half_full() && home.checkpoint().unwrap()) {
                    std::thread::yield_now();
                }
            }
        });
        let commit = &commit;
        let threads = (0..THREADS).map(|number| scope.spawn(move || commit(number)));
        let threads: Vec<_> = threads.collect();
        let joined: Vec<_> = threads.into_iter().map(|one| one.join()).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        joined.into_iter().flat_map(|last| last.unwrap()).collect()
    });
    drop(opened);
    let opened = open(&medium);
    let found = entries(&opened);
    assert!(expected.len() > 80);
    for (slot, op) in expected {
        let Op::Slot(op) = op else { unreachable!() };
        assert_eq!(found[slot as usize].content, Some(op.content));
        let mut bytes = [0; 4096];
        let offset = opened.home.shape().slot_offset(op.slot);
        opened.home.open_slots().read(offset, &mut bytes).unwrap();
        assert_eq!(bytes, op.bytes);
    }
}
