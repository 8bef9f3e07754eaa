//! Where clients come in: Unix sockets, TCP, or sockets that a service manager made.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use larder::Log;

use crate::cleanup::Cleanup;
use crate::settings::SocketSettings;
use crate::stream::Stream;

mod activation;
mod address;
mod tcp;
mod unix;

pub(crate) use activation::inherited;
pub(crate) use address::ListenAddress;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;

/// One socket that clients connect to. It does not block.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP, with the host by which clients reach it.
    Tcp(TcpListener, Host),
    /// A Unix socket and where it is.
    Unix(UnixListener, Place),
}

/// How a host is called in a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) String);

/// Where a client would have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Host and port.
    Tcp(Host, u16),
    /// An absolute path.
    Unix(PathBuf),
    /// Something that has no URI, in words.
    Other(String),
}

impl Listener {
    /// The next client. `WouldBlock` if there is none.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener, _) => Stream::tcp(listener.accept()?.0),
            Self::Unix(listener, _) => Stream::unix(listener.accept()?.0),
        }
    }

    /// Where clients find it. None for a socket that cannot be asked.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Tcp(listener, host) => {
                let port = listener.local_addr().ok()?.port();
                Some(Place::Tcp(host.clone(), port))
            }
            Self::Unix(_, place) => Some(place.clone()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Host {
    /// The host a client on this machine uses for a socket bound to `address`.
    pub(crate) fn of(address: &SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            return Self("localhost".to_owned());
        }
        match address {
            SocketAddr::V4(address) => Self(address.ip().to_string()),
            // An address of one link needs its number, or its name (RFC 6874).
            SocketAddr::V6(address) if address.scope_id() > 0 => {
                Self(format!("[{}%25{}]", address.ip(), address.scope_id()))
            }
            SocketAddr::V6(address) => Self(format!("[{}]", address.ip())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opens every address. What has to be removed at the end is noted in `cleanup`. An error is one
/// line that names the address.
pub(crate) fn open(
    addresses: &[ListenAddress],
    socket: SocketSettings,
    cleanup: &Cleanup,
    log: &dyn Log,
) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            ListenAddress::Unix(path) => listeners.push(unix::listen(path, socket, cleanup)?),
            ListenAddress::Tcp { host, port } => listeners.extend(tcp::listen(host, *port, log)?),
        }
    }
    Ok(listeners)
}
