//! One export as clients see it: a name, an origin, what may be done, and a connection for each client.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use larder::{Connection, Error, ErrorKind, Origin};
use larder_frontend::Offer;
use larder_origins::Source;

use crate::ahead::Ahead;
use crate::keeper::{Keeper, Surroundings};
use crate::protocol::Common;
use crate::read_only::ReadOnly;

/// One export.
pub(crate) struct Export {
    description: String,
    offer: Offer,
    keeper: Arc<Keeper>,
    source: Box<dyn Source>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Export {
    /// Makes the export and its keeper.
    pub(crate) fn new(
        name: &str,
        description: String,
        source: Box<dyn Source>,
        surroundings: &Arc<Surroundings>,
    ) -> Result<Self, Error> {
        let origin = handle(&*source, surroundings.read_only)?;
        let mode = surroundings.cache.config().mode;
        let offer = Offer::new(mode, &origin.capabilities());
        Ok(Self {
            description,
            offer,
            keeper: Arc::new(Keeper::new(name, origin, surroundings)?),
            source,
        })
    }

    /// The name that clients ask for.
    pub(crate) fn name(&self) -> &str {
        self.keeper.name()
    }

    /// What it is, for people; may be empty.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// The size, which stays.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.keeper.connection().size()
    }

    /// Whether clients may change it.
    pub(crate) fn can_write(&self) -> bool {
        self.keeper.can_write()
    }

    /// Whether a flush on one connection covers what all had acknowledged.
    pub(crate) fn multi_conn(&self) -> bool {
        self.keeper.connection().multi_conn()
    }

    /// The cache's unit, in bytes.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.keeper.surroundings().cache.config().block_bytes
    }

    /// What clients may do.
    pub(crate) fn offer(&self) -> Offer {
        self.offer
    }

    /// Who keeps it when no client is there.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// A connection for one client.
    pub(crate) fn connect_client(&self) -> Result<ClientConnection, Error> {
        let origin = handle(&*self.source, self.keeper.surroundings().read_only)?;
        Ok(ClientConnection {
            connection: Arc::new(self.keeper.connect(origin)?),
            keeper: Arc::clone(&self.keeper),
            ahead: Ahead::default(),
        })
    }
}

/// A client's connection to its export. The client leaves when this is dropped.
pub(crate) struct ClientConnection {
    connection: Arc<Connection>,
    keeper: Arc<Keeper>,
    ahead: Ahead,
}

impl ClientConnection {
    /// Everything that was acknowledged to any client of the export is durable on return.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.keeper.flush_for(&self.connection)
    }

    /// Sees to it that somebody fetches what is due ahead of the client's reads.
    pub(crate) fn fetch_ahead_if_due(&self, common: &Common) {
        self.ahead.start_if_due(&self.connection, common);
    }
}

impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientConnection")
            .field(&self.connection)
            .finish()
    }
}

impl Deref for ClientConnection {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.keeper.disconnect(&self.connection);
    }
}

fn handle(source: &dyn Source, read_only: bool) -> Result<Arc<dyn Origin>, Error> {
    let origin = source.connect().map_err(|error: io::Error| {
        Error::with_source(ErrorKind::Origin, "connecting to the origin", error)
    })?;
    Ok(if read_only {
        Arc::new(ReadOnly(origin))
    } else {
        origin
    })
}

#[cfg(test)]
mod tests;
