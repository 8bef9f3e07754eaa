//! Who uses a queue in this process.

use std::io;
use std::sync::{Arc, Weak};

use crate::clock::Clock;
use crate::survival;
use crate::volume::Volume;

/// Whose it is.
pub(crate) struct User {
    /// The volume, which the directory must know to be changed before anything is sent. None for who has told it.
    volume: Option<Weak<Volume>>,
    pub(super) clock: Arc<dyn Clock>,
    /// How many requests are in flight may follow from the machine's time.
    pub(super) uses_threads: bool,
}

impl User {
    /// A volume of the engine.
    pub(crate) fn volume(volume: &Arc<Volume>) -> Self {
        let store = volume.store();
        Self {
            volume: Some(Arc::downgrade(volume)),
            clock: Arc::clone(&store.clock),
            uses_threads: store.config.background,
        }
    }

    /// Whoever sees to it himself that the directory knows.
    pub(super) fn telling_nobody(clock: Arc<dyn Clock>) -> Self {
        Self {
            volume: None,
            clock,
            uses_threads: true,
        }
    }

    /// Before anything is sent: the directory knows that the origin is not what it was.
    pub(super) fn announce(&self) -> io::Result<()> {
        let Some(volume) = &self.volume else {
            return Ok(());
        };
        let Some(volume) = volume.upgrade() else {
            return Err(io::Error::other("the volume has ended"));
        };
        if volume.kept.is_changed() {
            return Ok(());
        }
        survival::revoke(&volume, &[]).map_err(|error| io::Error::other(error.to_string()))
    }
}
