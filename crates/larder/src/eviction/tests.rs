use super::*;

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
    assert_eq!(eviction.queues.check().len(), 4);
}
