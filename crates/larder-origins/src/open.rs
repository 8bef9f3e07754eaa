//! From an address to a source.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Address, Source, file, http, memory, nbd};

/// How origins are opened and used.
#[derive(Clone)]
pub struct Options {
    /// Nothing will be written: a source that cannot be written to will do.
    pub read_only: bool,
    /// How long a request to an origin that does not answer is tried again, from its beginning.
    pub timeout: Duration,
    /// Headers that go with every request to the HTTP server that is opened: name and value.
    pub http_headers: Vec<(String, String)>,
    /// Certificate authorities (PEM) that are trusted besides the system's, for NBD and HTTP over TLS.
    pub tls_ca: Option<PathBuf>,
    /// Where reconnections and the like are told.
    pub log: Arc<dyn larder::Log>,
}

impl fmt::Debug for Options {
    /// Headers may hold credentials and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("read_only", &self.read_only)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Why an origin cannot be opened: one line that names it and says what would be right.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    /// The error with this line.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// Opens an origin.
pub fn open(address: &Address, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    match address {
        Address::Memory(bytes) => memory::open(*bytes, options),
        Address::File(path) => file::open(path, options),
        Address::Nbd(address) => nbd::open(address, options),
        Address::Http(http) => http::open(http, options),
    }
}
