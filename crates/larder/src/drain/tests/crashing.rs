//! The directory fails, or everything ends, at each call that changes something. What a crash does to what was not synced is the
//! crash simulator's business (`larder-testing`).

use rustix::io::Errno;

use super::*;

/// From the change after so many on nothing more reaches the directory. Whether it came to its end.
fn drained_until(medium: &MemoryMedium, origin: &TestOrigin, changes: u64, many: bool) -> bool {
    medium.fail_after(changes, Errno::IO, many);
    let Ok(mut drain) = Drain::open(Arc::new(medium.clone()), "pid 13") else {
        return false;
    };
    let asked = WriteBack::default();
    match drain.write_back(0, origin, &asked, &mut |_| {}) {
        Ok(done) => assert_eq!(done.left, []),
        Err(error) => {
            assert_eq!(error.kind(), DrainErrorKind::System);
            assert_eq!(origin.calls(), [], "refused after something was written");
        }
    }
    drain.close().is_ok()
}

/// At every moment the directory has what the origin does not have, and it can be drained again.
fn nothing_is_lost(medium: &MemoryMedium, origin: &TestOrigin) {
    let now = MemoryMedium::of(&medium.image());
    let mut sparse = Sparse(origin.durable());
    let drain = open(&now);
    let done = drain.export(0, &mut sparse, &mut |_| {}).unwrap();
    assert_eq!(done.left, []);
    for zeros in done.ranges.iter().filter(|range| range.is_zero) {
        let (start, length) = (zeros.start as usize, zeros.length as usize);
        sparse.0[start..start + length].fill(0);
    }
    assert!(sparse.0 == expected());
    drop(drain);
    write_back(&now, origin, false).unwrap();
    assert_eq!(origin.durable(), expected());
    let held = held(&now);
    assert_eq!((held.dirty_bytes, held.zero_bytes), (0, 0));
    let scrub = crate::inspect::scrub(&now, &mut |_| {}).unwrap();
    assert_eq!(scrub.bad_clean_sectors, 0);
}

#[test]
fn nothing_is_lost_whichever_call_is_the_last() {
    for make in [crashed, closed] {
        for many in [true, false] {
            let mut changes = 0;
            loop {
                let (medium, origin) = (make(), origin());
                let has_ended = drained_until(&medium, &origin, changes, many);
                nothing_is_lost(&medium, &origin);
                if has_ended && medium.changes() <= changes {
                    break;
                }
                changes += 1;
            }
            assert!(changes > 20, "{changes}");
        }
    }
}
