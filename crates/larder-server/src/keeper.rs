//! Who keeps an export when no client is there.
//!
//! The *keeper* of an export is an engine connection of its own that is in use from the start. It keeps
//! the size as it was, lets background work write back while no client is there, and writes back
//! when the last client that could have written has left, and at the end.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder::{Cache, Connection, Error, ErrorKind, FlushTo, Log, Mode, Origin, Volume, Writeback};
use larder_frontend::leftovers::in_short;
use larder_frontend::report::one_line;

/// What is said of data that could not be written back while the server goes on.
const STILL_HERE: &str = "not written to the origin yet, and kept";

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

/// The keeper of one export.
pub(crate) struct Keeper {
    name: String,
    can_write: bool,
    connection: Connection,
    volume: Arc<Volume>,
    /// Clients that may write.
    writers: Mutex<usize>,
    /// What no client has heard yet: an origin tells of a loss once, and told the keeper.
    untold: Mutex<Option<String>>,
    surroundings: Arc<Surroundings>,
}

impl Keeper {
    /// The keeper of the export `name`, with a handle of its own.
    pub(crate) fn new(
        name: &str,
        origin: Arc<dyn Origin>,
        surroundings: &Arc<Surroundings>,
    ) -> Result<Self, Error> {
        let volume = surroundings.cache.volume(name);
        let can_write = origin.capabilities().write;
        let connection = volume.connect(origin)?;
        // A connection counts from its first request on.
        connection.read(0, &mut [])?;
        Ok(Self {
            name: name.to_owned(),
            can_write,
            connection,
            volume,
            writers: Mutex::new(0),
            untold: Mutex::default(),
            surroundings: Arc::clone(surroundings),
        })
    }

    /// The export's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether clients may change the export.
    pub(crate) fn can_write(&self) -> bool {
        self.can_write
    }

    /// The keeper's own connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What is around it.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// A client's connection, through a handle of its own.
    pub(crate) fn connect(&self, origin: Arc<dyn Origin>) -> Result<Connection, Error> {
        let connection = self.volume.connect(origin)?;
        if self.can_write {
            *lock(&self.writers) += 1;
        }
        self.surroundings.client_came();
        Ok(connection)
    }

    /// A client leaves. If it was the last that may write, what it left dirty is written back.
    pub(crate) fn disconnect(&self, connection: &Connection) {
        if let Err(error) = connection.disconnect() {
            self.tell(&error);
        }
        if self.can_write {
            let mut writers = lock(&self.writers);
            *writers -= 1;
            let is_last = *writers == 0;
            drop(writers);
            if is_last {
                self.left_alone();
            }
        }
        self.surroundings.client_left();
    }

    /// A client's flush, which fails once if the origin told the keeper of a loss when no client was there to hear it:
    /// whoever wrote may have left without a flush, and others count on this one.
    pub(crate) fn flush_for(&self, connection: &Connection) -> Result<(), Error> {
        let flushed = connection.flush();
        let is_written_through = self.surroundings.cache.config().mode == Mode::Writethrough;
        if is_written_through && flushed.as_ref().err().is_some_and(is_loss) {
            // Each handle is told of a loss once: the keeper's must not hear of this one later, as if it were news.
            // An origin that is silent is not asked again.
            let _ = self.connection.flush();
        }
        flushed.and(self.tell_untold())
    }

    fn tell_untold(&self) -> Result<(), Error> {
        // Waits for a flush of the keeper's that is under way.
        match lock(&self.untold).take() {
            Some(message) => Err(Error::new(ErrorKind::Origin, message)),
            None => Ok(()),
        }
    }

    /// Writes everything back at the end, and fails also if a loss was told to no client.
    pub(crate) fn write_back(&self) -> Result<(), Error> {
        self.flush_if_needed().and(self.tell_untold())
    }

    /// Does what a flush does, where that is what the mode promises: everything is written back, or durable in the cache's
    /// directory where flushes end there. In writethrough mode the origin is flushed if
    /// something was written since the last flush: an origin that has lost its connection tells so by a flush, and if every client
    /// has left without one, the cache would keep what the origin has lost. And a queue for the origin may have what is not dirty, and not durable
    /// before a flush either.
    fn flush_if_needed(&self) -> Result<(), Error> {
        let config = self.surroundings.cache.config();
        let is_needed = match config.mode {
            Mode::Writeback => self.volume.is_dirty() || config.writeback == Writeback::Ordered,
            Mode::Writethrough => self.volume.has_unflushed(),
            Mode::Unsafe => false,
        };
        if self.can_write && is_needed {
            self.connection.flush()
        } else {
            Ok(())
        }
    }

    /// Writes everything back, wherever flushes end, and leaves: a cache directory is closed only once nobody is
    /// connected. What could not be written is told by range, by the engine.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        let written = match self.surroundings.cache.config().mode {
            // Whoever leaves last writes back.
            Mode::Writeback => Ok(()),
            Mode::Writethrough | Mode::Unsafe => self.write_back(),
        };
        self.connection.disconnect().and(written)
    }

    /// The last client that could have written has left.
    fn left_alone(&self) {
        if (self.surroundings.is_ending)() {
            return;
        }
        let mut untold = lock(&self.untold);
        let Err(error) = self.flush_if_needed() else {
            return;
        };
        let cache = &self.surroundings.cache;
        if cache.config().mode == Mode::Writethrough {
            *untold = Some(format!("before this client came: {error}"));
        }
        drop(untold);
        self.tell(&error);
        if cache.config().flush_to == FlushTo::Cache {
            // It was not about the origin, or only because a queue for it is full: it is to get it later in any case.
            return;
        }
        let leftovers = cache.leftovers();
        let own = leftovers.iter().filter(|left| left.volume == self.name);
        for message in own.flat_map(|left| in_short(STILL_HERE, left)) {
            self.surroundings.log.error(&message);
        }
    }

    fn tell(&self, error: &Error) {
        let message = one_line(&format!("export \"{}\": {error}", self.name));
        self.surroundings.log.error(&message);
    }
}

/// Whether it tells of a lost connection (see [`larder::Origin::flush`]).
fn is_loss(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
