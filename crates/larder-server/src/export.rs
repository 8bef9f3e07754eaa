//! One export: an origin, its volume in the cache, and the clients that use it.
//!
//! Each export has a *keeper*, an engine connection of its own that is in use from the start. It keeps
//! the size as it was, lets background work write back while no client is there, and writes back
//! when the last client that could have written has left, and at the end.

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder::{Cache, Connection, Error, ErrorKind, Log, Mode, Origin, RequestLimits};
use larder_frontend::Offer;
use larder_frontend::report::one_line;
use larder_origins::Source;

use crate::read_only::ReadOnly;
use crate::unwritten;

/// What is called when a client has left and none is there any more, on any export.
pub(crate) type OnLastClient = Box<dyn Fn() + Send + Sync>;

/// What an export needs from around it.
pub(crate) struct Surroundings {
    /// The cache of all exports.
    pub(crate) cache: Arc<Cache>,
    /// Where errors are told.
    pub(crate) log: Arc<dyn Log>,
    /// Nothing is written to any origin.
    pub(crate) read_only: bool,
    /// The clients of all exports.
    clients: Mutex<usize>,
    on_last_client: OnLastClient,
    /// The end has begun, and whoever ends the server writes everything back.
    is_ending: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Surroundings {
    pub(crate) fn new(
        cache: Arc<Cache>,
        log: Arc<dyn Log>,
        read_only: bool,
        on_last_client: OnLastClient,
        is_ending: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        Self {
            cache,
            log,
            read_only,
            clients: Mutex::new(0),
            on_last_client,
            is_ending,
        }
    }

    fn client_came(&self) {
        *lock(&self.clients) += 1;
    }

    fn client_left(&self) {
        let mut clients = lock(&self.clients);
        *clients -= 1;
        let is_last = *clients == 0;
        drop(clients);
        if is_last {
            (self.on_last_client)();
        }
    }
}

/// One export.
pub(crate) struct Export {
    name: String,
    description: String,
    can_write: bool,
    offer: Offer,
    limits: RequestLimits,
    keeper: Connection,
    source: Box<dyn Source>,
    volume: Arc<larder::Volume>,
    /// Clients that may write.
    writers: Mutex<usize>,
    surroundings: Arc<Surroundings>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// Makes the export and its keeper.
    pub(crate) fn new(
        name: String,
        description: String,
        source: Box<dyn Source>,
        surroundings: &Arc<Surroundings>,
    ) -> Result<Self, Error> {
        let volume = surroundings.cache.volume(&name);
        let origin = handle(&*source, surroundings.read_only)?;
        let mode = surroundings.cache.config().mode;
        let capabilities = origin.capabilities();
        let limits = origin.limits();
        let keeper = volume.connect(origin)?;
        // A connection counts from its first request on.
        keeper.read(0, &mut [])?;
        Ok(Self {
            name,
            description,
            can_write: capabilities.write,
            offer: Offer::new(mode, &capabilities),
            limits,
            keeper,
            source,
            volume,
            writers: Mutex::new(0),
            surroundings: Arc::clone(surroundings),
        })
    }

    /// The name that clients ask for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is, for people; may be empty.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// The size, which stays.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.keeper.size()
    }

    /// Whether clients may change it.
    pub(crate) fn can_write(&self) -> bool {
        self.can_write
    }

    /// Whether a flush on one connection covers what all had acknowledged.
    pub(crate) fn multi_conn(&self) -> bool {
        self.keeper.multi_conn()
    }

    /// The cache's unit, in bytes.
    pub(crate) fn block_bytes(&self) -> u64 {
        self.surroundings.cache.config().block_bytes
    }

    /// What clients may do.
    pub(crate) fn offer(&self) -> Offer {
        self.offer
    }

    /// What the origin asks of requests.
    pub(crate) fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// A connection for one client.
    pub(crate) fn connect_client(self: &Arc<Self>) -> Result<ClientConnection, Error> {
        let origin = handle(&*self.source, self.surroundings.read_only)?;
        let connection = self.volume.connect(origin)?;
        if self.can_write {
            *lock(&self.writers) += 1;
        }
        self.surroundings.client_came();
        Ok(ClientConnection {
            connection,
            export: Arc::clone(self),
        })
    }

    /// Writes everything back, where that is what the mode promises.
    pub(crate) fn write_back(&self) -> Result<(), Error> {
        let is_writeback = self.surroundings.cache.config().mode == Mode::Writeback;
        if !is_writeback || !self.can_write || !self.volume.is_dirty() {
            return Ok(());
        }
        self.keeper.flush()
    }

    /// The last client that could have written has left.
    fn left_alone(&self) {
        if (self.surroundings.is_ending)() {
            return;
        }
        let Err(error) = self.write_back() else {
            return;
        };
        let log = &self.surroundings.log;
        log.error(&one_line(&format!("export \"{}\": {error}", self.name)));
        let leftovers = self.surroundings.cache.leftovers();
        let own = leftovers.iter().filter(|left| left.volume == self.name);
        for message in own.flat_map(unwritten::still_here) {
            log.error(&message);
        }
    }
}

/// A client's connection to its export. It leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    connection: Connection,
    export: Arc<Export>,
}

impl Deref for ClientConnection {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        let surroundings = &self.export.surroundings;
        if let Err(error) = self.connection.disconnect() {
            surroundings.log.error(&error.to_string());
        }
        if self.export.can_write {
            let mut writers = lock(&self.export.writers);
            *writers -= 1;
            let is_last = *writers == 0;
            drop(writers);
            if is_last {
                self.export.left_alone();
            }
        }
        surroundings.client_left();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
