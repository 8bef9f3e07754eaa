//! TCP ports for servers that have to be told one.

use std::net::{Ipv4Addr, TcpListener};

use crate::failure::Failure;

/// A port of this machine that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| Failure::new(format!("no free TCP port: {e}")))
}
