use super::*;

#[test]
fn victims_leave_in_lru_order_once_each() {
    let mut eviction = Eviction::new(Some(4));
    for slot in 0..4 {
        eviction.inserted(slot, u64::from(slot));
    }
    eviction.touched(0);
    eviction.removed(2);
    eviction.removed(99);
    let victims: Vec<u32> = std::iter::from_fn(|| eviction.victim()).collect();
    assert_eq!(victims, [1, 3, 0]);
    assert!(eviction.is_empty());
}

#[test]
fn a_victim_handed_back_does_not_hide_the_others() {
    let mut eviction = Eviction::new(Some(4));
    for slot in 0..4 {
        eviction.inserted(slot, u64::from(slot));
    }
    for _ in 0..100 {
        let dirty = eviction.victim().unwrap();
        eviction.reinserted(dirty, u64::from(dirty), false);
    }
    assert_eq!(eviction.links.walk(&eviction.parked).len(), 4);
    let victims: std::collections::BTreeSet<u32> =
        std::iter::from_fn(|| eviction.victim()).collect();
    assert_eq!(victims.len(), 4);
}
