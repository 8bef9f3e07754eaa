//! The NBD protocol, from the greeting to the end of a connection.

mod budget;
mod contexts;
mod execute;
mod handshake;
mod in_flight;
mod input;
mod options;
mod output;
mod prompt;
mod replies;
mod reply_buffer;
mod service;
mod session;
mod terms;
mod tls;
mod transport;
mod workers;

#[cfg(test)]
pub(crate) use budget::Budget;
pub(crate) use budget::{Charge, Common};
pub(crate) use service::Service;
pub(crate) use tls::{TlsPolicy, TlsSettings};
