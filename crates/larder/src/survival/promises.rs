//! What a cache directory has that the origins do not: whether this life of the cache can take it over.

use crate::config::{Config, FlushTo, Writeback};
use crate::directory::SlotNumber;
use crate::sector::{BlockNumber, Mask};
use crate::{Error, ErrorKind};

/// A block that was found with something that its origin does not have.
pub(super) struct Promise {
    /// Which of the volumes that were found.
    pub volume: usize,
    pub block: BlockNumber,
    pub slot: SlotNumber,
    pub dirty: Mask,
}

/// All of them.
pub(super) struct Promises {
    pub kept: Vec<Promise>,
    /// How many are in slots above the limit.
    pub beyond: u64,
    /// How many are of no place that their volume has.
    pub nowhere: u64,
}

const WAYS_OUT: &str = "use it with cache-flush=cache and cache-writeback=unordered, or end that first: 'larder drain DIR ORIGIN' writes it back, \
     'larder drain --output FILE DIR' saves it to a file, 'larder drain --discard DIR' forgets it";

impl Promises {
    /// Before anything is written: refuses what cannot be kept. `needless` are slots whose blocks were found in another slot too.
    pub(super) fn check(
        &self,
        config: &Config,
        needless: &[SlotNumber],
        path: &str,
    ) -> Result<(), Error> {
        let blocks = self.kept.len() as u64 + self.beyond + self.nowhere;
        let refuse = |why: &str| {
            let message = format!(
                "cache directory '{path}': {blocks} of its blocks hold what was flushed into it and has not reached the origin: {why}"
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        let is_kept = config.flush_to == FlushTo::Cache && config.writeback == Writeback::Unordered;
        if blocks > 0 && !is_kept {
            return refuse(WAYS_OUT);
        }
        if self.beyond > 0 {
            return refuse(
                "use it with at least the cache-max-size that it had, until that is written back ('larder drain DIR ORIGIN' does it too)",
            );
        }
        if self.nowhere > 0 {
            return refuse("and some of them lie beyond the end of their volume: it is damaged");
        }
        let is_needless = |promise: &Promise| needless.contains(&promise.slot);
        if !needless.is_empty() && self.kept.iter().any(is_needless) {
            return refuse("and it has some of them twice: it is damaged");
        }
        Ok(())
    }
}
