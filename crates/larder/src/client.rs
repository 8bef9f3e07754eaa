//! What a request needs to know: its volume, and its own connection to the origin.

use std::sync::Arc;

use crate::attached::Attached;
use crate::config::{CacheOnRead, Mode};
use crate::readahead::Readahead;
use crate::store::Store;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// One client, as requests see it.
pub(crate) struct Client {
    pub volume: Arc<Volume>,
    pub attached: Arc<Attached>,
    pub readahead: Readahead,
}

impl Client {
    pub(crate) fn store(&self) -> &Store {
        self.volume.store()
    }

    /// Whether a flush on any one connection covers what all of them had acknowledged.
    pub(crate) fn multi_conn(&self) -> bool {
        match self.store().config.mode {
            Mode::Unsafe => true,
            Mode::Writethrough => self.attached.capabilities.multi_conn,
            // A flush writes back everything through its own connection and flushes that. One
            // that cannot write needs another's, which only parallel origins allow.
            Mode::Writeback => {
                self.attached.capabilities.write || self.attached.capabilities.parallel
            }
        }
    }

    /// Whether misses are to be stored. Asked on a miss only: it may look at a file system.
    pub(crate) fn stores_misses(&self) -> bool {
        match &self.store().config.cache_on_read {
            CacheOnRead::Never => false,
            CacheOnRead::Always => true,
            CacheOnRead::WhileExists(path) => path.exists(),
        }
    }

    /// Fails if the volume is poisoned. Asked again after every wait.
    pub(crate) fn check_poison(&self) -> Result<(), Error> {
        if self.volume.is_poisoned() {
            return Err(Error::new(
                ErrorKind::Poisoned,
                format!(
                    "volume '{}' answers nothing any more after a panic",
                    self.volume.name()
                ),
            ));
        }
        Ok(())
    }
}
