//! Faults put in on purpose, to show that the tests see them. Without the feature `planted-bugs`
//! there are none, and the checks compile to nothing.

/// A fault that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A fetch stores what it got without looking whether the sectors changed meanwhile.
    FetchCommitsBlindly,
    /// Origin writes of one range are not kept in order.
    WritebacksSwapped,
    /// Block status looks at the cache after it has asked the origin.
    ExtentsAfterOrigin,
    /// A sector that the origin has not flushed is evicted.
    WrittenIsEvicted,
    /// What the origin lost with a connection is not written again.
    LossIsForgotten,
    /// The journal is not synced.
    SyncLeftOut,
    /// The journal's tail moves before the tables that stand for what it had are durable.
    TailMovedEarly,
    /// Recovery writes the bytes of frames as it meets them, whoever has the slot in the end.
    FoldInOnePhase,
    /// A frame is followed whatever the frame before it was.
    ChainIgnored,
    /// The origin is asked to change what the directory still lists.
    RevokeLeftOut,
    /// What leaves its slot is not noted for the directory.
    GoneForgotten,
    /// What was found again is used without being compared with its checksums.
    VerifyLeftOut,
    /// What is on its way to the origin is listed.
    ListedWhileWriting,
    /// What only the slot has of a promise is overwritten there.
    InSlotIsOverwritten,
    /// A checkpoint takes frames whose bytes may have been overwritten in their slots.
    FreezeLeftOut,
    /// The slots are synced before the freeze looks at what has changed.
    FrozenAfterSync,
    /// What was written since it was recorded is not recorded again.
    ChangedForgotten,
    /// A slot is said to be empty that holds another block's promise by now.
    EmptyOverSealed,
    /// A dirty block is recorded with its clean sectors.
    SealListsClean,
    /// A block is recorded as clean before the origin has flushed it.
    UndirtyBeforeFlush,
    /// A slot is given away that the directory still calls dirty.
    SlotFreedSealed,
    /// A flush does not wait for what was said ahead of it.
    ForeseenIsNotAwaited,
    /// What overwrites a promise is in the slot before the journal has it.
    RedoNotAwaited,
    /// The journal gets what is overwritten rather than what overwrites it.
    RedoSaysTheOld,
    /// What has gone past the cache leaves an older promise in the directory.
    ThroughKeepsRecord,
    /// Two epochs are sent at once.
    QueueEpochsMerged,
    /// The next epoch is begun before the queue durably begins with it.
    QueueHeadNotSynced,
    /// The queue goes on beginning with what has been sent as long as there is more to send.
    QueueHeadLate,
    /// The queue begins behind an epoch before the origin has flushed it.
    QueueFreedEarly,
    /// Reads ask the origin for what is queued.
    QueueReadsThrough,
    /// A flush does not sync the queue.
    QueueSyncLeftOut,
    /// What has been sent is forgotten with whatever is newer.
    QueueForgetsNewer,
    /// What is found in a queue is not written once more.
    QueueNotWrittenAgain,
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a bug in the whole process, or with `None` takes it out.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    let code = bug.map_or(0, |bug| bug as u8 + 1);
    PLANTED.store(code, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8 + 1
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}
