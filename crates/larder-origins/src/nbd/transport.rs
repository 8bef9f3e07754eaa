//! Bytes to and from a server: TCP and Unix sockets, plain or with TLS.
//!
//! Until the handshake is over there is one [`Channel`] with a deadline. Then it is split into a
//! [`Sender`] and a [`Receiver`], which two threads use at once. With TLS both share its state,
//! behind a lock that is never held while the socket is read or written: so either direction may
//! be full without stopping the other. What TLS itself wants to send is sent with the next
//! request: only the sender writes.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};

use super::address::NbdServer;
use super::sync::lock;

/// How often a sender that makes no headway looks at its deadline.
const SEND_TICK: Duration = Duration::from_millis(250);
/// How often who is in the middle of a reply looks whether that has its time.
const RECEIVE_TICK: Duration = Duration::from_millis(250);
/// How much a Unix socket is to hold, as far as the system allows: a large request goes in whole, and who sends it need
/// not be woken in the middle of it.
const UNIX_SEND_BYTES: usize = 1 << 20;
/// The longest piece that is encrypted at once.
const TLS_PIECE_BYTES: usize = 256 << 10;
const TLS_RECEIVE_BYTES: usize = 64 << 10;
/// An idle TCP connection is probed after so long, and again so often.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// A socket. Its methods may be called by several threads at once.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Socket {
    fn connect(server: &NbdServer, deadline: Instant) -> io::Result<Self> {
        match server {
            NbdServer::Tcp(host, port) => connect_tcp(host, *port, deadline).map(Self::Tcp),
            NbdServer::Unix(path) => connect_unix(path, deadline).map(Self::Unix),
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(timeout),
            Self::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_write_timeout(timeout),
            Self::Unix(socket) => socket.set_write_timeout(timeout),
        }
    }

    /// Sends all of the slices. A send that makes no headway is given up at the deadline.
    fn send_all(&self, mut slices: &mut [IoSlice<'_>], deadline: Instant) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let sent = match self {
                Self::Tcp(socket) => (&*socket).write_vectored(slices),
                Self::Unix(socket) => (&*socket).write_vectored(slices),
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => IoSlice::advance_slices(&mut slices, bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
                Err(error) if is_timeout(&error) => return Err(too_slow("takes no more requests")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => (&*socket).read(buffer),
            Self::Unix(socket) => (&*socket).read(buffer),
        }
    }

    fn shut_down(&self) {
        // It fails only where the other side was faster.
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE)
                    .with_interval(KEEPALIVE)
                    .with_retries(KEEPALIVE_PROBES);
                let options = SockRef::from(&socket);
                options.set_tcp_keepalive(&keepalive)?;
                options.set_tcp_user_timeout(Some(KEEPALIVE * (1 + KEEPALIVE_PROBES)))?;
                return Ok(socket);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the host has no address")))
}

/// A Unix socket's `connect` waits while the server's queue is full, for as long as a send may
/// take.
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // What it holds otherwise will do.
    let _ = socket.set_send_buffer_size(UNIX_SEND_BYTES);
    socket.set_write_timeout(Some(left(deadline)?))?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    connected.map_err(|error| match error {
        error if is_timeout(&error) => too_slow("accepts no connection"),
        error => error,
    })?;
    Ok(OwnedFd::from(socket).into())
}

/// What is left until the deadline; an error if nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(too_slow("does not finish the handshake in time"));
    }
    Ok(left)
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the server {what}"))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// A socket until a deadline.
struct Timed<'a> {
    socket: &'a Socket,
    deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.receive(buffer).map_err(|error| match error {
            error if is_timeout(&error) => too_slow("does not finish the handshake in time"),
            error => error,
        })
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket
            .send_all(&mut [IoSlice::new(bytes)], self.deadline)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection during its handshake. Reads and writes end at the deadline.
pub(super) struct Channel {
    socket: Socket,
    tls: Option<ClientConnection>,
    deadline: Instant,
}

impl Channel {
    /// As after a handshake, for tests.
    #[cfg(test)]
    pub(super) fn over(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            tls: None,
            deadline: Instant::now(),
        }
    }

    pub(super) fn connect(server: &NbdServer, deadline: Instant) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::connect(server, deadline)?,
            tls: None,
            deadline,
        })
    }

    /// Goes on with TLS.
    pub(super) fn start_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        let mut timed = Timed {
            socket: &self.socket,
            deadline: self.deadline,
        };
        while tls.is_handshaking() {
            tls.complete_io(&mut timed)?;
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// Ends the handshake: no deadline any more.
    pub(super) fn split(self) -> io::Result<(Sender, Receiver, Closer)> {
        // With TLS, bytes may be here that the socket does not show: who receives waits in it.
        let tick = self.tls.is_none().then_some(RECEIVE_TICK);
        self.socket.set_read_timeout(tick)?;
        self.socket.set_write_timeout(Some(SEND_TICK))?;
        let socket = Arc::new(self.socket);
        let tls = self.tls.map(|tls| Arc::new(Mutex::new(tls)));
        let clock = Arc::new(Clock::new());
        let sender = Sender {
            socket: Arc::clone(&socket),
            tls: tls.clone(),
        };
        let receiver = Receiver {
            socket: Arc::clone(&socket),
            clock: Arc::clone(&clock),
            tls: tls.map(|tls| TlsReceiver {
                tls,
                encrypted: vec![0; TLS_RECEIVE_BYTES].into_boxed_slice(),
                start: 0,
                end: 0,
            }),
        };
        Ok((sender, receiver, Closer { socket, clock }))
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut timed = Timed {
            socket: &self.socket,
            deadline: self.deadline,
        };
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut timed).read(buffer),
            None => timed.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut timed = Timed {
            socket: &self.socket,
            deadline: self.deadline,
        };
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut timed).write(bytes),
            None => timed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut timed = Timed {
            socket: &self.socket,
            deadline: self.deadline,
        };
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut timed).flush(),
            None => Ok(()),
        }
    }
}

/// When bytes last came.
#[derive(Debug)]
struct Clock {
    start: Instant,
    last_ms: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    fn tick(&self) {
        let now_ms = self.start.elapsed().as_millis() as u64;
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// Ends a connection from outside, and tells when it was last alive.
#[derive(Debug)]
pub(super) struct Closer {
    socket: Arc<Socket>,
    clock: Arc<Clock>,
}

impl Closer {
    /// Both directions end: whoever reads or writes gets an end or an error.
    pub(super) fn close(&self) {
        self.socket.shut_down();
    }

    /// When bytes last came.
    pub(super) fn last_received(&self) -> Instant {
        self.clock.last()
    }
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Arc<Socket>,
    tls: Option<Arc<Mutex<ClientConnection>>>,
}

impl Sender {
    /// Sends a header and its payload. After an error the connection is of no use.
    pub(super) fn send(
        &mut self,
        header: &[u8],
        payload: &[u8],
        deadline: Instant,
    ) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            let mut slices = [IoSlice::new(header), IoSlice::new(payload)];
            return self.socket.send_all(&mut slices, deadline);
        };
        let mut encrypted = Vec::new();
        let mut header = Some(header);
        let mut pieces = payload.chunks(TLS_PIECE_BYTES);
        loop {
            let piece = pieces.next();
            if header.is_none() && piece.is_none() {
                return Ok(());
            }
            {
                let mut tls = lock(tls);
                if let Some(header) = header.take() {
                    tls.writer().write_all(header)?;
                }
                tls.writer().write_all(piece.unwrap_or_default())?;
                while tls.wants_write() {
                    tls.write_tls(&mut encrypted)?;
                }
            }
            self.socket
                .send_all(&mut [IoSlice::new(&encrypted)], deadline)?;
            encrypted.clear();
        }
    }

    /// Says that nothing follows.
    pub(super) fn finish(&mut self, deadline: Instant) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        let mut encrypted = Vec::new();
        {
            let mut tls = lock(tls);
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut encrypted)?;
            }
        }
        self.socket
            .send_all(&mut [IoSlice::new(&encrypted)], deadline)
    }
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: Arc<Socket>,
    clock: Arc<Clock>,
    tls: Option<TlsReceiver>,
}

#[derive(Debug)]
struct TlsReceiver {
    tls: Arc<Mutex<ClientConnection>>,
    encrypted: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Receiver {
    /// Whether it can be waited for bytes without receiving any.
    pub(super) fn can_wait(&self) -> bool {
        self.tls.is_none()
    }

    /// Waits for a byte, until then; false if none has come. The end of the connection counts as one. Without
    /// [`Receiver::can_wait`] true at once.
    pub(super) fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        if !self.can_wait() {
            return Ok(true);
        }
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // Too long for the system is for ever.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut descriptors = [PollFd::new(&*self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.tls {
            None => self.socket.receive(buffer),
            Some(receiver) => receiver.read(&self.socket, buffer),
        };
        if matches!(read, Ok(1..)) {
            self.clock.tick();
        }
        read
    }
}

impl TlsReceiver {
    fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            {
                let mut tls = lock(&self.tls);
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
                if self.start < self.end {
                    let mut encrypted = &self.encrypted[self.start..self.end];
                    self.start += tls.read_tls(&mut encrypted)?;
                    tls.process_new_packets().map_err(io::Error::other)?;
                    continue;
                }
            }
            let received = socket.receive(&mut self.encrypted)?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (self.start, self.end) = (0, received);
        }
    }
}
