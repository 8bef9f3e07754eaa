//! Connecting to a server: TCP, by any of its host's addresses, and Unix sockets.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};

use super::transport::{is_timeout, too_slow};

/// How much a Unix socket is to hold, as far as the system allows: a large request goes in whole, and who sends it need
/// not be woken in the middle of it.
const UNIX_SEND_BYTES: usize = 1 << 20;
/// An idle TCP connection is probed after so long, and again so often.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// So long an address is tried at least, however many others there are.
const ONE_ADDRESS: Duration = Duration::from_secs(1);
/// The longest that the system takes for TCP_USER_TIMEOUT, an `int` of milliseconds: more than 24 days.
const LONGEST_UNCONFIRMED: Duration = Duration::from_millis(i32::MAX as u64);

/// How long a connection may take, and what it bears afterwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the handshake, too.
    pub(super) deadline: Instant,
    /// For so long TCP goes on with what the other side does not confirm.
    pub(super) unconfirmed: Duration,
}

/// Connects by the first of the host's addresses that answers.
pub(super) fn connect_tcp(host: &str, port: u16, limits: Limits) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let socket = connect_any(&addresses, limits.deadline)?;
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&keepalive)?;
    // It bounds the probes as well.
    options.set_tcp_user_timeout(Some(limits.unconfirmed.min(LONGEST_UNCONFIRMED)))?;
    Ok(socket)
}

/// Tries one address after the other. One that does not answer leaves time for those behind it.
fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = None;
    for (tried, address) in addresses.iter().enumerate() {
        let left = left(deadline)?;
        let others = (addresses.len() - tried) as u32;
        let share = (left / others).max(ONE_ADDRESS).min(left);
        match TcpStream::connect_timeout(address, share) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the host has no address")))
}

/// A Unix socket's `connect` waits while the server's queue is full, for as long as a send may
/// take.
pub(super) fn connect_unix(path: &Path, limits: Limits) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // What it holds otherwise will do.
    let _ = socket.set_send_buffer_size(UNIX_SEND_BYTES);
    socket.set_write_timeout(Some(left(limits.deadline)?))?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    connected.map_err(|error| match error {
        error if is_timeout(&error) => too_slow("accepts no connection"),
        error => error,
    })?;
    Ok(OwnedFd::from(socket).into())
}

/// What is left until the deadline; an error if nothing is.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(too_slow("does not finish the handshake in time"));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A socket that takes no further connection, and those that fill its queue.
    fn black_hole() -> (socket2::Socket, SocketAddr, Vec<socket2::Socket>) {
        let hole = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        hole.bind(&any.into()).unwrap();
        hole.listen(0).unwrap();
        let address = hole.local_addr().unwrap().as_socket().unwrap();
        let connect = || {
            let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let waits = Duration::from_millis(300);
            socket
                .connect_timeout(&address.into(), waits)
                .ok()
                .map(|()| socket)
        };
        let full = std::iter::from_fn(connect).take(16).collect();
        (hole, address, full)
    }

    #[test]
    fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        let (_hole, dead, _full) = black_hole();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(4);
        let socket = connect_any(&[dead, live], deadline).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), live);
        let error = connect_any(&[dead], Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn tcp_bears_silence_as_long_as_it_is_told() {
        const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let usual = Duration::from_secs(450);
        for (unconfirmed, is_borne) in [(usual, usual), (YEAR, LONGEST_UNCONFIRMED)] {
            let limits = Limits {
                deadline: Instant::now() + Duration::from_secs(20),
                unconfirmed,
            };
            let socket = connect_tcp("127.0.0.1", port, limits).unwrap();
            let options = SockRef::from(&socket);
            assert_eq!(options.tcp_user_timeout().unwrap(), Some(is_borne));
            assert!(options.keepalive().unwrap());
        }
    }
}
