//! What fails in runs of the engine, one at a time.

use larder_testing::When;
use larder_testing::crash::{CallKind, MediumFault};

/// Where flushes end on the origin.
pub(super) fn faults_of_origin(flushes_fail: bool) -> Vec<MediumFault> {
    let mut faults = faults();
    if flushes_fail {
        faults.push(MediumFault::origin(0, CallKind::Sync));
    }
    faults
}

/// Where they end in the directory.
pub(super) fn faults_of_cache(flushes_fail: bool) -> Vec<MediumFault> {
    let mut faults = faults();
    faults.extend(faults_of_tables());
    faults.push(MediumFault::origin(0, CallKind::Write).when(When::Always));
    faults.push(MediumFault::origin(1, CallKind::Write).when(When::Chance(50)));
    faults.push(MediumFault::origin(1, CallKind::Read).when(When::Chance(50)));
    if flushes_fail {
        faults.push(MediumFault::origin(0, CallKind::Sync));
        faults.push(MediumFault::origin(1, CallKind::Sync).when(When::Always));
    }
    faults
}

/// Where the origin gets one after the other: half of them are an origin that takes nothing for a while, so that much is queued.
pub(super) fn faults_of_order() -> Vec<MediumFault> {
    let mut faults = faults();
    faults.extend(faults_of_tables());
    // In the life that makes it, it is opened by its first name.
    for queue in ["queue-0.new", "queue-0", "queue-1.new", "queue-1"] {
        faults.extend([
            MediumFault::file(queue, CallKind::Write, When::Nth(1)),
            MediumFault::file(queue, CallKind::Write, When::Chance(10)).errno(libc::ENOSPC),
            MediumFault::file(queue, CallKind::Sync, When::Nth(1)),
            MediumFault::file(queue, CallKind::Sync, When::Nth(2)),
            MediumFault::file(queue, CallKind::Read, When::Nth(2)),
        ]);
    }
    for _ in 0..4 {
        faults.extend(later_faults_of_order());
    }
    faults
}

/// What may fail while what was queued in an earlier life is sent.
pub(super) fn later_faults_of_order() -> Vec<MediumFault> {
    let reset = |fault: MediumFault| fault.errno(libc::ECONNRESET);
    vec![
        MediumFault::origin(0, CallKind::Write).when(When::Always),
        MediumFault::origin(1, CallKind::Write).when(When::Chance(50)),
        MediumFault::origin(0, CallKind::Sync),
        MediumFault::origin(1, CallKind::Sync).when(When::Always),
        reset(MediumFault::origin(0, CallKind::Sync)),
        reset(MediumFault::origin(1, CallKind::Sync)).when(When::Chance(50)),
    ]
}

fn faults() -> Vec<MediumFault> {
    vec![
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("journal", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(libc::ENOSPC),
        MediumFault::file("sums", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Read, When::Nth(2)),
        MediumFault::origin(1, CallKind::Write),
    ]
}

fn faults_of_tables() -> Vec<MediumFault> {
    let file = |name, kind, number| MediumFault::file(name, kind, When::Nth(number));
    vec![
        file("map", CallKind::Write, 1),
        file("map", CallKind::Sync, 1),
        file("sums", CallKind::Sync, 1),
        file("superblock.new", CallKind::Sync, 1),
        file("superblock.new", CallKind::Write, 1),
        file("superblock", CallKind::Sync, 2),
    ]
}
