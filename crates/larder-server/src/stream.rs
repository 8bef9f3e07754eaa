//! One client's socket, of either kind.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};

use crate::traffic::Traffic;

/// How long a silent TCP connection is left alone before it is asked whether it is alive.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it is asked then.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// How often it is asked whether the peer has what was sent.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A client's socket. Clones are the same socket, which is closed with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Stream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: Socket,
    /// Nothing more is read, even if there is something: shutting a TCP socket down for reading does not
    /// keep its peer from sending.
    is_over: AtomicBool,
    /// The client does not take what it is sent.
    is_stuck: AtomicBool,
    /// Where what goes through it is counted.
    traffic: OnceLock<Arc<Traffic>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn new(socket: Socket) -> Self {
        Self(Arc::new(Inner {
            socket,
            is_over: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            traffic: OnceLock::new(),
        }))
    }

    /// A TCP connection, set up for small replies that do not wait.
    pub(crate) fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        Ok(Self::new(Socket::Tcp(socket)))
    }

    /// A connection through a Unix socket.
    pub(crate) fn unix(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        Ok(Self::new(Socket::Unix(socket)))
    }

    /// Counts from now on what goes through it.
    pub(crate) fn count_in(&self, traffic: &Arc<Traffic>) {
        // One that is counted already stays where it is.
        let _ = self.0.traffic.set(Arc::clone(traffic));
    }

    fn received(&self, count: usize) -> usize {
        if let Some(traffic) = self.0.traffic.get() {
            traffic.receive(count);
        }
        count
    }

    fn sent(&self, count: usize) -> usize {
        if let Some(traffic) = self.0.traffic.get() {
            traffic.send(count);
        }
        count
    }

    /// How the client is called in a message.
    pub(crate) fn peer(&self) -> String {
        match &self.0.socket {
            Socket::Tcp(socket) => socket
                .peer_addr()
                .map_or_else(|_| "a client".to_owned(), |address| address.to_string()),
            Socket::Unix(_) => "a local client".to_owned(),
        }
    }

    /// Ends reading: a read that waits and every later one finds the end of the stream. What is written
    /// still goes out.
    pub(crate) fn shutdown_read(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.shutdown(Shutdown::Read);
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn shutdown_write(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends both directions at once, whoever waits for them.
    pub(crate) fn shutdown_both(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        self.shutdown(Shutdown::Both);
    }

    /// Whether reading has been ended from here.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::SeqCst)
    }

    /// Notes whether the client takes what it is sent.
    pub(crate) fn note_stuck(&self, is_stuck: bool) {
        self.0.is_stuck.store(is_stuck, Ordering::SeqCst);
    }

    /// Whether something waits for the client to take it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.0.is_stuck.load(Ordering::SeqCst)
    }

    /// Waits until the peer's system has all that was sent, at most so long. A TCP connection that is closed while more
    /// comes in is reset, and what has not arrived by then is lost. Through a Unix socket it has arrived at once.
    pub(crate) fn wait_until_taken(&self, most: Duration) {
        let Socket::Tcp(socket) = &self.0.socket else {
            return;
        };
        let deadline = Instant::now() + most;
        while unsent_bytes(socket).is_ok_and(|bytes| bytes > 0) && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether the client sends nothing more, although what it has sent before may not have been read yet.
    pub(crate) fn has_hung_up(&self) -> bool {
        let mut watched = [PollFd::new(self, PollFlags::RDHUP)];
        let found = poll(&mut watched, Some(&Timespec::default()));
        found.is_ok_and(|count| count > 0)
    }

    fn shutdown(&self, how: Shutdown) {
        // One that the client has left already is as ended as it can be.
        let _ = match &self.0.socket {
            Socket::Tcp(socket) => socket.shutdown(how),
            Socket::Unix(socket) => socket.shutdown(how),
        };
    }

    /// Writes what the socket takes at once; an error of kind `WouldBlock` if that is nothing.
    pub(crate) fn write_now(&self, data: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(self.sent(rustix::net::send(self, data, flags)?))
    }

    /// Reads what is there; None if that is nothing.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_over() {
            return Ok(Some(0));
        }
        match rustix::net::recv(self, buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(Some(self.received(count))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How long one read may wait; None for ever.
    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.0.socket {
            Socket::Tcp(socket) => socket.set_read_timeout(timeout),
            Socket::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// How long one write may wait; None for ever.
    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.0.socket {
            Socket::Tcp(socket) => socket.set_write_timeout(timeout),
            Socket::Unix(socket) => socket.set_write_timeout(timeout),
        }
    }
}

/// What the peer's system has not acknowledged yet (tcp(7), SIOCOUTQ, which is the same as TIOCOUTQ).
#[expect(unsafe_code, reason = "there is no safe way to ask")]
fn unsent_bytes(socket: &TcpStream) -> rustix::io::Result<i32> {
    const SIOCOUTQ: u32 = 0x5411;
    // SAFETY: the request writes one int, and does nothing else.
    unsafe {
        let getter = rustix::ioctl::Getter::<SIOCOUTQ, i32>::new();
        rustix::ioctl::ioctl(socket, getter)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over() {
            return Ok(0);
        }
        Ok(self.received(rustix::io::read(self, buffer)?))
    }
}

impl Write for &Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(self.sent(rustix::io::write(self, data)?))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_goes_through_is_counted_both_ways() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (stream, traffic) = (Stream::unix(ours).unwrap(), Arc::default());
        stream.count_in(&traffic);
        theirs.write_all(&[1; 30]).unwrap();
        assert_eq!((&stream).read(&mut [0; 10]).unwrap(), 10);
        assert_eq!(stream.read_now(&mut [0; 5]).unwrap(), Some(5));
        (&stream).write_all(&[2; 7]).unwrap();
        assert_eq!(stream.write_now(&[2; 3]).unwrap(), 3);
        let moved = traffic.moved();
        assert_eq!((moved.received, moved.sent), (15, 10));
    }

    #[test]
    fn what_was_sent_arrives_though_more_comes_in_at_the_end() {
        for _ in 0..30 {
            check_that_all_arrives();
        }
    }

    fn check_that_all_arrives() {
        const COUNT: usize = 256 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let client = client.unwrap();
        // It takes little at a time.
        client.set_recv_buffer_size(8 << 10).unwrap();
        client
            .connect(&listener.local_addr().unwrap().into())
            .unwrap();
        let mut client = TcpStream::from(client);
        let stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
        SockRef::from(&stream)
            .set_send_buffer_size(1 << 20)
            .unwrap();
        (&stream).write_all(&vec![7; COUNT]).unwrap();
        stream.shutdown_read();
        thread::scope(|scope| {
            scope.spawn(|| {
                stream.wait_until_taken(Duration::from_secs(30));
                stream.shutdown_write();
            });
            let mut received = Vec::new();
            let mut piece = [0; 4 << 10];
            loop {
                // A request that is not heard any more. The connection may have ended by then.
                let _ = client.write(&[1; 28]);
                match client.read(&mut piece) {
                    Ok(count) if count > 0 => received.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            assert_eq!(received.len(), COUNT);
        });
    }

    #[test]
    fn nothing_is_read_after_the_end_though_it_keeps_coming() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
        client.write_all(&[1; 1000]).unwrap();
        stream.shutdown_read();
        assert_eq!((&stream).read(&mut [0; 10]).unwrap(), 0);
        (&stream).write_all(b"reply").unwrap();
        let mut reply = [0; 5];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"reply");
    }
}
