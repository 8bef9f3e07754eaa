//! What a process takes of the machine.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to let go of what it had for clients that have gone: its idle threads stay for 5 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one crowd may leave beyond others like it, in KiB.
const FURTHER_KIB: u64 = 2 << 10;

/// Memory, threads and descriptors at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory of its own that is in RAM, in KiB.
    pub rss_anon_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Usage {
    /// What the process takes now.
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let figure = line.and_then(|rest| rest.split_whitespace().next());
            figure.and_then(|text| text.parse().ok()).expect(name)
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
        Self {
            rss_anon_kib: figure("RssAnon:"),
            threads: figure("Threads:"),
            descriptors: descriptors.count() as u64,
        }
    }

    /// Waits until the process takes about as much as it did. Panics with the figures when it does not.
    pub fn wait_for_return(pid: u32, before: &Self, slack_kib: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(pid);
            if now.is_like(before, slack_kib) {
                return;
            }
            assert!(Instant::now() < deadline, "before {before:?}, now {now:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it is about what it was before: no more threads or descriptors, and not much more memory, of
    /// which an allocator keeps some.
    pub fn is_like(&self, before: &Self, slack_kib: u64) -> bool {
        self.threads <= before.threads
            && self.descriptors <= before.descriptors
            && self.rss_anon_kib <= before.rss_anon_kib + slack_kib
    }
}

/// Asserts of what a process took after each of several crowds that the later ones left nothing more there than the
/// first ones. Which of its free memory an allocator keeps differs from one to the next, so that the least counts.
pub fn assert_steady(crowds: &[Usage]) {
    let (first, later) = crowds.split_at(crowds.len() / 2);
    let first = first.iter().map(|usage| usage.rss_anon_kib).max();
    let later = later.iter().map(|usage| usage.rss_anon_kib).min();
    assert!(later <= first.map(|most| most + FURTHER_KIB), "{crowds:#?}");
}
