//! The harness passes a cache that is right, and catches one that makes a mistake.

mod shim;

use larder_testing::Kind;
use larder_testing::model::{Case, Violation, run};
use shim::{Mistake, Shim};

fn judge(case: &Case, mistake: Mistake) -> Result<(), Violation> {
    // The simple cache makes up for no losses.
    let case = Case {
        losses: 0,
        ..case.clone()
    };
    run(&case, &|case, _file, _clock, _log| {
        Ok(Box::new(Shim::new(case.config.mode, mistake)))
    })
}

/// Runs writeback cases until one is caught.
fn caught(mistake: Mistake, change: impl Fn(&mut Case)) -> Option<Violation> {
    (0..60).find_map(|round| {
        let mut case = Case::from_seed(round * 3);
        change(&mut case);
        judge(&case, mistake).err()
    })
}

fn assert_caught(mistake: Mistake, told: &str, change: impl Fn(&mut Case)) {
    match caught(mistake, change) {
        Some(violation) => assert!(violation.message.contains(told), "{violation}"),
        None => panic!("{mistake:?} was not caught"),
    }
}

fn without_faults(case: &mut Case) {
    case.origin_faults = 0;
}

#[test]
fn a_cache_that_is_right_passes() {
    for seed in 0..18 {
        let outcome = judge(&Case::from_seed(seed), Mistake::None);
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

#[test]
fn a_flush_that_stops_at_the_origin_is_caught() {
    assert_caught(
        Mistake::FlushStopsAtTheOrigin,
        "durable after",
        without_faults,
    );
}

#[test]
fn a_flush_that_forgets_is_caught() {
    assert_caught(Mistake::FlushForgetsAUnit, "durable after", without_faults);
}

#[test]
fn a_failed_flush_forgotten_is_caught() {
    assert_caught(Mistake::FailedFlushIsForgotten, "durable after", |case| {
        case.origin_faults = 30;
        case.faulty_kinds = vec![Kind::Flush];
    });
}

#[test]
fn fua_ignored_is_caught() {
    assert_caught(Mistake::FuaIsIgnored, "wrong", without_faults);
}

#[test]
fn a_forgetful_disconnect_is_caught() {
    assert_caught(
        Mistake::DisconnectForgets,
        "last disconnect",
        without_faults,
    );
}

#[test]
fn extents_that_forget_the_cache_are_caught() {
    assert_caught(
        Mistake::ExtentsForgetTheCache,
        "zero extent",
        without_faults,
    );
}

#[test]
fn a_fetch_that_commits_blindly_is_caught() {
    assert_caught(Mistake::FetchCommitsBlindly, "wrong", without_faults);
}

#[test]
fn a_partial_write_that_clears_the_rest_is_caught() {
    assert_caught(Mistake::PartialWriteClearsTheRest, "wrong", without_faults);
}

#[test]
fn a_failed_fua_that_loses_its_neighbours_is_caught() {
    assert_caught(Mistake::FailedFuaLosesNeighbours, "wrong", |case| {
        case.origin_faults = 15;
        case.faulty_kinds = vec![Kind::Write];
    });
}

#[test]
fn a_request_past_the_end_is_caught() {
    assert_caught(Mistake::AsksPastTheEnd, "past the end", without_faults);
}
