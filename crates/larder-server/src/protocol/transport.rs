//! The two halves of a connection, encrypted or not.
//!
//! One thread receives; any thread sends, one at a time. With TLS both halves share one session
//! behind a lock that is never held while a socket is waited for, so that a peer which does not
//! read cannot stop what it sends from being read. What the session itself has to say (alerts, key
//! updates) goes out with the next reply.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};

use super::prompt::Prompt;
use crate::stream::Stream;

/// How long a send may wait for the client before what is left is somebody else's.
pub(super) const BRIEFLY: Duration = Duration::from_millis(50);
/// How long a peer may take to notice that a connection has ended.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// Memory that is kept for what is left of a send.
const KEPT_BYTES: usize = 1 << 20;
/// What is encrypted before it is sent: it is kept beside what it was made of.
const ENCRYPTED_STEP_BYTES: usize = 1 << 20;
/// What is read from the socket at once when it is encrypted.
const ENCRYPTED_READ_BYTES: usize = 64 << 10;

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: Stream,
    tls: Option<TlsReceiver>,
    /// Until when everything must have been received, if there is a limit.
    deadline: Option<Instant>,
    prompt: Prompt,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Sender {
    stream: Stream,
    tls: Option<Arc<Mutex<ServerConnection>>>,
    /// What is left of a send, as the socket is to have it, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// Since when something is left and the client has taken nothing.
    stuck_since: Option<Instant>,
}

#[derive(Debug)]
struct TlsReceiver {
    session: Arc<Mutex<ServerConnection>>,
    /// Received and not yet taken by the session: from `start` to `end`.
    raw: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The halves of an unencrypted connection.
pub(crate) fn split(stream: Stream) -> (Receiver, Sender) {
    let receiver = Receiver {
        stream: stream.clone(),
        tls: None,
        deadline: None,
        prompt: Prompt::default(),
    };
    let sender = Sender {
        stream,
        tls: None,
        unsent: Vec::new(),
        sent: 0,
        stuck_since: None,
    };
    (receiver, sender)
}

/// Turns both halves to TLS, by the handshake that the client now begins.
pub(crate) fn start_tls(
    receiver: &mut Receiver,
    sender: &mut Sender,
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    while session.is_handshaking() {
        let result = session.complete_io(&mut Handshaking(receiver));
        result.map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}")))?;
    }
    let session = Arc::new(Mutex::new(session));
    receiver.tls = Some(TlsReceiver {
        session: Arc::clone(&session),
        raw: vec![0; ENCRYPTED_READ_BYTES].into_boxed_slice(),
        start: 0,
        end: 0,
    });
    sender.tls = Some(session);
    Ok(())
}

/// The socket during the TLS handshake, each read of which keeps to the deadline.
struct Handshaking<'r>(&'r mut Receiver);

impl Read for Handshaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive_raw(buffer)
    }
}

impl Write for Handshaking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.limit_send()?;
        (&self.0.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Receiver {
    /// From now on everything must be there within `limit`, or, without one, may take its time. Sends are bound by
    /// the same limit, each for itself.
    pub(crate) fn limit(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.deadline = limit.map(|limit| Instant::now() + limit);
        self.stream.set_write_timeout(limit)?;
        self.stream.set_read_timeout(limit)
    }

    /// Lets the next send take no longer than what is left of the limit.
    pub(crate) fn limit_send(&self) -> io::Result<()> {
        match self.time_left()? {
            Some(left) => self.stream.set_write_timeout(Some(left)),
            None => Ok(()),
        }
    }

    /// What is left until the deadline, if there is one; an error if that is nothing.
    fn time_left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }

    /// The same as [`Receiver::receive`] right after an answer: some clients ask again at once.
    pub(crate) fn receive_next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.tls.is_some() || self.deadline.is_some() {
            return self.receive(buffer);
        }
        let begun = Instant::now();
        let stream = &self.stream;
        let found = self.prompt.look(|| stream.read_now(buffer).transpose());
        let count = match found {
            Some(found) => found?,
            None => self.receive(buffer)?,
        };
        self.prompt.note(begun.elapsed());
        Ok(count)
    }

    /// Receives what there is, at least one byte; 0 at the end of the connection.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(tls) = &mut self.tls {
                if let Some(count) = tls.take_plaintext(buffer)? {
                    return Ok(count);
                }
                let mut raw = std::mem::take(&mut tls.raw);
                let received = self.receive_raw(&mut raw);
                if let Some(tls) = &mut self.tls {
                    tls.raw = raw;
                    (tls.start, tls.end) = (0, received?);
                    if tls.end == 0 {
                        return Ok(0);
                    }
                }
            } else {
                return self.receive_raw(buffer);
            }
        }
    }

    /// Fills the buffer. False at the end of the connection before the first byte; an end after it is an error.
    pub(crate) fn receive_exactly(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.receive(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn receive_raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(left) = self.time_left()? {
                self.stream.set_read_timeout(Some(left))?;
            }
            match (&self.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl TlsReceiver {
    /// What the session has for the reader, None if it needs more from the socket.
    fn take_plaintext(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut session = lock(&self.session);
        loop {
            match session.reader().read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end without the notice that TLS has for it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
            if self.start == self.end {
                return Ok(None);
            }
            let mut raw = &self.raw[self.start..self.end];
            let taken = session.read_tls(&mut raw)?;
            self.start += taken;
            let processed = session.process_new_packets();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if taken == 0 {
                return Ok(Some(0));
            }
        }
    }
}

impl Sender {
    /// Lets each send wait for the client only briefly.
    pub(crate) fn wait_briefly(&self) -> io::Result<()> {
        self.stream.set_write_timeout(Some(BRIEFLY))
    }

    /// Sends all of it, or fails when the socket's time is over.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.send_some(bytes)? {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends what can be sent before the socket's time is over. False if something is left, which
    /// [`Sender::send_rest`] must have sent before anything else is.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.send_by(write_waiting, bytes)
    }

    /// The same without waiting for the client at all.
    pub(crate) fn send_now(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.send_by(Stream::write_now, bytes)
    }

    fn send_by(&mut self, write: WriteSome, bytes: &[u8]) -> io::Result<bool> {
        match self.tls.clone() {
            None => {
                let sent = send_until_blocked(&self.stream, write, bytes)?;
                self.unsent.extend_from_slice(&bytes[sent..]);
                let is_sent = sent == bytes.len();
                self.take_note((!is_sent).then(Instant::now));
                Ok(is_sent)
            }
            Some(session) => {
                let mut is_sent = true;
                for step in bytes.chunks(ENCRYPTED_STEP_BYTES) {
                    self.encrypt(&session, step)?;
                    // What the client does not take has to be kept in any case.
                    is_sent = is_sent && self.send_rest_by(write)?;
                }
                Ok(is_sent)
            }
        }
    }

    /// Sends more of what is left. False if there is still some.
    pub(crate) fn send_rest(&mut self) -> io::Result<bool> {
        self.send_rest_by(write_waiting)
    }

    fn send_rest_by(&mut self, write: WriteSome) -> io::Result<bool> {
        let sent = send_until_blocked(&self.stream, write, &self.unsent[self.sent..])?;
        self.sent += sent;
        let since = self.stuck_since.filter(|_| sent == 0);
        if self.sent < self.unsent.len() {
            self.take_note(since.or_else(|| Some(Instant::now())));
            return Ok(false);
        }
        self.take_note(None);
        self.sent = 0;
        self.unsent.clear();
        self.unsent.shrink_to(KEPT_BYTES);
        Ok(true)
    }

    fn take_note(&mut self, stuck_since: Option<Instant>) {
        if self.stuck_since.is_some() != stuck_since.is_some() {
            self.stream.note_stuck(stuck_since.is_some());
        }
        self.stuck_since = stuck_since;
    }

    /// For how long the client has taken nothing of what is left.
    pub(crate) fn stuck_for(&self) -> Duration {
        self.stuck_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn encrypt(&mut self, session: &Mutex<ServerConnection>, bytes: &[u8]) -> io::Result<()> {
        let mut session = lock(session);
        let mut left = bytes;
        while !left.is_empty() {
            let taken = session.writer().write(left)?;
            left = &left[taken..];
            while session.wants_write() {
                session.write_tls(&mut self.unsent)?;
            }
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes, once what was sent has come to it.
    pub(crate) fn finish(&mut self) {
        if let Some(session) = self.tls.clone() {
            let mut session = lock(&session);
            session.send_close_notify();
            // The peer may be gone already.
            let _ = session.write_tls(&mut self.unsent);
            drop(session);
            let _ = self.send_rest();
        }
        self.stream.wait_until_taken(GOODBYE);
        self.stream.shutdown_write();
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// Writes some bytes to a socket, or fails with `WouldBlock`.
type WriteSome = fn(&Stream, &[u8]) -> io::Result<usize>;

fn write_waiting(mut stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

/// Sends until all is sent or the socket's time is over. How many bytes went out.
fn send_until_blocked(stream: &Stream, write: WriteSome, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match write(stream, &bytes[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// A session is whole after a panic too: each call leaves it so.
fn lock(session: &Mutex<ServerConnection>) -> MutexGuard<'_, ServerConnection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_counts_as_stuck_since_it_last_took_something() {
        let (ours, mut client) = UnixStream::pair().unwrap();
        let (receiver, mut sender) = split(Stream::unix(ours).unwrap());
        sender.wait_briefly().unwrap();
        assert!(sender.send_some(&[1; 10]).unwrap());
        assert_eq!(sender.stuck_since, None);
        assert!(!sender.send_some(&vec![2; 8 << 20]).unwrap());
        let first = sender.stuck_since.unwrap();
        assert!(!sender.send_rest().unwrap());
        assert_eq!(sender.stuck_since, Some(first));
        // Less than a socket holds.
        client.read_exact(&mut vec![0; 100 << 10]).unwrap();
        assert!(!sender.send_rest().unwrap());
        assert!(sender.stuck_since.unwrap() > first);
        let reading = std::thread::spawn(move || client.read_to_end(&mut Vec::new()).unwrap());
        while !sender.send_rest().unwrap() {}
        assert_eq!(sender.stuck_for(), Duration::ZERO);
        drop((sender, receiver));
        assert_eq!(reading.join().unwrap(), 10 + (8 << 20) - (100 << 10));
    }
}
