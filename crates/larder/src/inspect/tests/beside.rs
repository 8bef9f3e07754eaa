//! Looking at a directory that somebody is busy with: whatever is seen of it, nothing that is whole is called damaged.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::making::ALL;
use super::*;
use crate::directory::SlotNumber;

const SLOTS: u32 = 6;

/// Long enough that the journal goes around several times.
const TIME: Duration = Duration::from_secs(2);

/// Who keeps the rules: what is recorded as dirty is not written in place before the journal has it.
struct Busy {
    user: User,
    random: Random,
    /// What each slot holds, if it is recorded as dirty.
    dirty: [Option<Put>; SLOTS as usize],
}

impl Busy {
    fn new(medium: &MemoryMedium) -> Self {
        let user = User::open_with(medium, 512 << 10);
        user.say(&[volume(0)]);
        Self {
            user,
            random: Random(3),
            dirty: [None; SLOTS as usize],
        }
    }

    fn new_content(&mut self, slot: u32, dirty: Mask) -> Put {
        Put {
            dirty,
            content: self.random.below(256) as u8,
            ..clean(slot, 0, self.random.below(16) as u64)
        }
    }

    fn step(&mut self) {
        let slot = self.random.below(SLOTS as usize) as u32;
        let known = self.dirty[slot as usize];
        let chance = self.random.below(8);
        let Some(known) = known else {
            return self.change_clean(slot, chance);
        };
        match chance {
            // Written back: recorded as clean.
            0 | 1 => {
                let put = Put {
                    dirty: Mask::EMPTY,
                    inlined: Mask::EMPTY,
                    ..known
                };
                self.user.say(&[self.user.put(put)]);
                self.dirty[slot as usize] = None;
            }
            // Written to: held until the journal has it.
            _ => {
                let put = Put {
                    inlined: ALL,
                    content: self.random.below(256) as u8,
                    ..known
                };
                self.user.say(&[self.user.put(put)]);
                self.user.apply(put);
                self.dirty[slot as usize] = Some(put);
            }
        }
    }

    fn change_clean(&mut self, slot: u32, chance: usize) {
        match chance {
            0 => self.user.say(&[Op::Empty(SlotNumber(slot))]),
            // Written in place, and nothing is said of it yet.
            1 => {
                let put = self.new_content(slot, Mask::EMPTY);
                self.user.put(put);
            }
            2 => {
                let put = self.new_content(slot, Mask::EMPTY);
                self.user.say(&[self.user.put(put)]);
            }
            _ => {
                let put = self.new_content(slot, ALL);
                self.user.say(&[self.user.put(put)]);
                self.dirty[slot as usize] = Some(put);
            }
        }
    }

    fn run(&mut self, is_done: &AtomicBool) {
        for step in 1_u64.. {
            self.step();
            if step.is_multiple_of(30) {
                self.user.checkpoint();
            }
            if is_done.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_micros(300));
        }
    }
}

#[test]
fn what_a_busy_user_has_is_never_called_damaged() {
    let medium = MemoryMedium::default();
    let mut busy = Busy::new(&medium);
    let is_done = AtomicBool::new(false);
    let (mut scrubs, mut checked) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| busy.run(&is_done));
        let begin = Instant::now();
        let mut failed = None;
        while begin.elapsed() < TIME && failed.is_none() {
            match scrub(&medium, &mut |_| {}) {
                Ok(found) if found.bad_dirty.is_empty() => checked += found.checked_sectors,
                other => failed = Some(other),
            }
            scrubs += 1;
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
    assert!(
        scrubs > 10 && checked > 100,
        "{scrubs} scrubs, {checked} sectors"
    );
    // Not that it sees nothing.
    let dirty = busy.dirty.iter().flatten().last();
    let slot = dirty.expect("a dirty one").slot;
    busy.user.checkpoint();
    busy.user.write_sector(slot, 0, &[255; 512]);
    busy.user.write_sector(slot, 1, &[254; 512]);
    assert_eq!(scrub(&medium, &mut |_| {}).unwrap().bad_dirty.len(), 1);
}
