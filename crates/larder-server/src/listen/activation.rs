//! Sockets that a service manager made and hands over (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

use larder_frontend::report::{one_line, reason};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{Host, Listener, Place};

/// The sockets that came with the process. Empty if none did. Called once: they are ours then.
pub(crate) fn inherited() -> Result<Vec<Listener>, String> {
    let descriptors =
        sd_notify::listen_fds().map_err(|error| format!("LISTEN_FDS: {}", reason(&error)))?;
    descriptors
        .map(|descriptor| listener(own(descriptor), descriptor))
        .collect()
}

#[expect(
    unsafe_code,
    reason = "descriptors that are ours by a promise in the environment"
)]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: LISTEN_PID names this process, so the service manager left the descriptor open for it,
    // nothing else here knows of it, and it has just been used for fcntl(2) without an error.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn listener(socket: OwnedFd, number: RawFd) -> Result<Listener, String> {
    let wrong = |what: &str| format!("LISTEN_FDS: descriptor {number} {what}");
    let failed = |error: io::Error| wrong(&format!("cannot be used: {}", reason(&error)));
    let listens = sockopt::socket_acceptconn(&socket);
    let kind = sockopt::socket_type(&socket);
    if listens != Ok(true) || kind != Ok(SocketType::STREAM) {
        return Err(wrong(
            "is not a stream socket that listens (Accept=no is needed)",
        ));
    }
    let family = sockopt::socket_domain(&socket).map_err(|error| failed(error.into()))?;
    if family == AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        return Ok(Listener::Unix(listener, place(&address)));
    }
    if family == AddressFamily::INET || family == AddressFamily::INET6 {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true).map_err(failed)?;
        let host = Host::of(&listener.local_addr().map_err(failed)?);
        return Ok(Listener::Tcp(listener, host));
    }
    Err(wrong("is neither a TCP nor a Unix socket"))
}

fn place(address: &SocketAddr) -> Place {
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => Place::Unix(path.to_owned()),
        (None, Some(name)) => {
            let name = one_line(&String::from_utf8_lossy(name));
            Place::Other(format!("the abstract Unix socket @{name}"))
        }
        (None, None) => Place::Other("a Unix socket without a name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_stream_sockets_that_listen_will_do() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(listener(tcp.into(), 3), Ok(Listener::Tcp(..))));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listener(udp.into(), 3).is_err());
        let (end, _other) = UnixStream::pair().unwrap();
        let told = listener(end.into(), 4).expect_err("refused");
        assert!(
            told.starts_with("LISTEN_FDS: descriptor 4 is not"),
            "{told}"
        );
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(listener(file.into(), 3).is_err());
    }
}
