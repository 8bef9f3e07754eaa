//! Each bug that can be planted in what makes a cache survive is caught by the crash simulator within a bounded number of crashes.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

mod engine_crash;

use engine_crash::sweep;
use larder::planted::{Bug, plant};
use larder_testing::crash::Tally;

/// What a bug may take to be caught.
const CRASHES_TO_CATCH: u64 = 5_000;

const BUGS: [Bug; 6] = [
    Bug::RevokeLeftOut,
    Bug::GoneForgotten,
    Bug::VerifyLeftOut,
    Bug::ListedWhileWriting,
    Bug::SyncLeftOut,
    Bug::TailMovedEarly,
];

/// After how many crashes it is caught, if it is.
fn caught(bug: Bug) -> Option<u64> {
    plant(Some(bug));
    let mut tally = Tally::default();
    let mut found = None;
    for seed in 0.. {
        match sweep(seed, 1) {
            Ok(more) => tally = tally.and(more),
            Err((more, violation)) => {
                tally = tally.and(more);
                println!(
                    "{bug:?}, {} crashes, seed {seed}: {violation}",
                    tally.crashes
                );
                found = Some(tally.crashes);
                break;
            }
        }
        if tally.crashes > CRASHES_TO_CATCH {
            break;
        }
    }
    plant(None);
    found.filter(|crashes| *crashes <= CRASHES_TO_CATCH)
}

/// One after the other: they are planted in the whole process.
#[test]
fn every_bug_is_caught() {
    let passed: Vec<Bug> = BUGS
        .into_iter()
        .filter(|&bug| caught(bug).is_none())
        .collect();
    assert!(passed.is_empty(), "not caught: {passed:?}");
}
