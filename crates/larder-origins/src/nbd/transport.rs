//! Bytes to and from a server: TCP and Unix sockets, plain or with TLS.
//!
//! Until the handshake is over there is one [`Channel`] with a deadline. Then it is split into a
//! [`Sender`] and a [`Receiver`], which two threads use at once. With TLS both share its state,
//! behind a lock that is never held while the socket is read or written: so either direction may
//! be full without stopping the other. What TLS itself wants to send is sent with the next
//! request: only the sender writes.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::address::NbdServer;
use super::connect::{Limits, connect_tcp, connect_unix, left};
use super::sync::lock;

/// How often a sender that makes no headway looks at its deadline.
const SEND_TICK: Duration = Duration::from_millis(250);
/// How often who is in the middle of a reply looks whether that has its time.
const RECEIVE_TICK: Duration = Duration::from_millis(250);
/// The longest piece that is encrypted at once.
const TLS_PIECE_BYTES: usize = 256 << 10;
const TLS_RECEIVE_BYTES: usize = 64 << 10;
/// The longest piece that is sent at once: a call returns only when all of it is taken or nothing more is.
const PIECE_BYTES: usize = 1 << 20;

/// Until when something is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) deadline: Instant,
    /// What is in its middle at the deadline goes on for so long at most, unless the server has taken nothing of it
    /// for as long already: without the rest, the connection is of no use to anybody.
    pub(super) patience: Duration,
}

impl Until {
    /// No later.
    pub(super) fn just(deadline: Instant) -> Self {
        Self {
            deadline,
            patience: Duration::ZERO,
        }
    }

    /// Whether so little time is left that one may find the connection full through no fault of the server.
    fn is_close(self) -> bool {
        self.deadline.saturating_duration_since(Instant::now()) < self.patience
    }

    /// An error if it is over, for what has made headway then.
    fn check(self, headway: Instant) -> io::Result<()> {
        match self.is_over(headway) {
            true => Err(too_slow("takes no more requests in time")),
            false => Ok(()),
        }
    }

    fn is_over(self, headway: Instant) -> bool {
        let now = Instant::now();
        now >= self
            .deadline
            .max(headway.min(self.deadline) + self.patience)
    }
}

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
    fn connect(server: &NbdServer, limits: Limits) -> io::Result<Self> {
        match server {
            NbdServer::Tcp(host, port) => connect_tcp(host, *port, limits).map(Self::Tcp),
            NbdServer::Unix(path) => connect_unix(path, limits).map(Self::Unix),
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

    /// Sends all of the slices, or gives up.
    fn send_all(&self, mut slices: &mut [IoSlice<'_>], until: Until) -> io::Result<()> {
        let mut headway = Instant::now();
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.send_some(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    IoSlice::advance_slices(&mut slices, bytes);
                    headway = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if !is_timeout(&error) => return Err(error),
                Err(_) => {}
            }
            if !slices.is_empty() {
                until.check(headway)?;
            }
        }
        Ok(())
    }

    /// Sends a piece of the slices, of which there are two at most.
    fn send_some(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut piece = [IoSlice::new(&[]), IoSlice::new(&[])];
        let mut left = PIECE_BYTES;
        for (part, slice) in piece.iter_mut().zip(slices) {
            *part = IoSlice::new(&slice[..slice.len().min(left)]);
            left -= part.len();
        }
        match self {
            Self::Tcp(socket) => (&*socket).write_vectored(&piece),
            Self::Unix(socket) => (&*socket).write_vectored(&piece),
        }
    }

    /// Waits until the socket is ready, or until then: false if it is not.
    fn wait(&self, flags: PollFlags, until: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // Too long for the system is for ever.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut descriptors = [PollFd::new(self, flags)];
            match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
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

pub(super) fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the server {what}"))
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
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
            .send_all(&mut [IoSlice::new(bytes)], Until::just(self.deadline))?;
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

    pub(super) fn connect(server: &NbdServer, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::connect(server, limits)?,
            tls: None,
            deadline: limits.deadline,
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
    /// Whether the server takes something, for which one waits whose time is nearly over.
    pub(super) fn is_ready(&self, until: Until) -> io::Result<bool> {
        match until.is_close() {
            true => self.socket.wait(PollFlags::OUT, Some(until.deadline)),
            false => Ok(true),
        }
    }

    /// Sends a header and its payload. After an error the connection is of no use.
    pub(super) fn send(&mut self, header: &[u8], payload: &[u8], until: Until) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            let mut slices = [IoSlice::new(header), IoSlice::new(payload)];
            return self.socket.send_all(&mut slices, until);
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
                .send_all(&mut [IoSlice::new(&encrypted)], until)?;
            if pieces.len() > 0 {
                until.check(Instant::now())?;
            }
            encrypted.clear();
        }
    }

    /// Says that nothing follows.
    pub(super) fn finish(&mut self, until: Until) -> io::Result<()> {
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
        self.socket.send_all(&mut [IoSlice::new(&encrypted)], until)
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
        match self.can_wait() {
            true => self.socket.wait(PollFlags::IN, until),
            false => Ok(true),
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
