//! The NBD protocol, from the greeting to the end of a connection.

use std::sync::Arc;
use std::time::Duration;

use larder::Log;

use crate::exports::Exports;
use crate::stream::Stream;

mod tls;

pub(crate) use tls::{TlsPolicy, TlsSettings};

/// What connections are served.
pub(crate) struct Service {
    /// What can be had.
    pub(crate) exports: Arc<Exports>,
    /// Encryption, where it is offered.
    pub(crate) tls: Option<TlsSettings>,
    /// How long a client may take to choose its export.
    pub(crate) handshake_timeout: Duration,
    /// Where errors are told.
    pub(crate) log: Arc<dyn Log>,
}

impl Service {
    /// Serves one connection until it ends, on the calling thread.
    pub(crate) fn serve(&self, stream: Stream) {
        drop(stream);
    }
}
