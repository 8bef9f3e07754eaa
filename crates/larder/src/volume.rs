//! A volume: one export as clients see it, with its own content, size and dirty state.

use std::sync::Arc;

use crate::connection::Connection;
use crate::{Error, Origin};

/// One export as clients see it.
pub struct Volume {}

impl Volume {
    /// The name it was made with.
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// Joins a client to the volume through its own connection to the origin.
    pub fn connect(self: &Arc<Self>, _origin: Arc<dyn Origin>) -> Result<Connection, Error> {
        unimplemented!()
    }
}
