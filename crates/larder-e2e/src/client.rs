//! A small synchronous NBD client: several requests in flight, every form of replies, block status, export lists.
//!
//! An error that the server answered with is an [`io::Error`] with the errno of the NBD protocol,
//! which is Linux's. Other errors mean that the connection is lost. An answer that does not come
//! within a minute is an error too: a test never hangs.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use handshake::Handshake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use wire::Command;

mod handshake;
mod reply;
mod wire;

pub use handshake::Export;
pub use reply::{Extent, Reply};
pub use wire::{Flags, Form};

const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_OF_POLL: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// Names a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(u64);

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    command: Command,
    flags: Flags,
    offset: u64,
    length: u32,
    payload: Vec<u8>,
}

impl Request {
    /// Reads.
    #[must_use]
    pub fn read(offset: u64, length: u64) -> Self {
        Self::new(Command::Read, Flags::NONE, offset, length)
    }

    /// Writes.
    #[must_use]
    pub fn write(offset: u64, payload: &[u8], flags: Flags) -> Self {
        let mut request = Self::new(Command::Write, flags, offset, payload.len() as u64);
        request.payload = payload.to_vec();
        request
    }

    /// Writes zeros; a hole may come of it unless the flags say otherwise.
    #[must_use]
    pub fn zero(offset: u64, length: u64, flags: Flags) -> Self {
        Self::new(Command::WriteZeroes, flags, offset, length)
    }

    /// Trims.
    #[must_use]
    pub fn trim(offset: u64, length: u64, flags: Flags) -> Self {
        Self::new(Command::Trim, flags, offset, length)
    }

    /// Fetches into the cache.
    #[must_use]
    pub fn cache(offset: u64, length: u64) -> Self {
        Self::new(Command::Cache, Flags::NONE, offset, length)
    }

    /// Flushes.
    #[must_use]
    pub fn flush() -> Self {
        Self::new(Command::Flush, Flags::NONE, 0, 0)
    }

    /// Asks for the block status.
    #[must_use]
    pub fn block_status(offset: u64, length: u64) -> Self {
        Self::new(Command::BlockStatus, Flags::NONE, offset, length)
    }

    fn new(command: Command, flags: Flags, offset: u64, length: u64) -> Self {
        Self {
            command,
            flags,
            offset,
            length: u32::try_from(length).expect("a request under 4 GiB"),
            payload: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    command: Command,
    offset: u64,
    length: usize,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    export: Export,
    form: Form,
    next_cookie: u64,
    in_flight: HashMap<Cookie, InFlight>,
    partial: HashMap<Cookie, Reply>,
    finished: HashMap<Cookie, io::Result<Reply>>,
}

impl Client {
    /// Connects to the default export. Panics when that fails.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        Self::connect_to(socket, "")
    }

    /// Connects to an export. Panics when that fails.
    #[must_use]
    pub fn connect_to(socket: &Path, export: &str) -> Self {
        Self::try_connect_to(socket, export)
            .unwrap_or_else(|e| panic!("connecting to export {export:?}: {e}"))
    }

    /// Connects to an export.
    ///
    /// # Errors
    /// The server refuses the export, or is not there.
    pub fn try_connect_to(socket: &Path, export: &str) -> io::Result<Self> {
        Self::try_connect_in_form(socket, export, Form::Structured)
    }

    /// Connects to an export, and agrees on that form.
    ///
    /// # Errors
    /// The server refuses the export or the form, or is not there.
    pub fn try_connect_in_form(socket: &Path, export: &str, form: Form) -> io::Result<Self> {
        let stream = connect(socket)?;
        let export = Handshake::begin(&stream)?.go(export, form)?;
        Ok(Self::new(stream, export, form))
    }

    /// Connects to an export in the way of old clients, which gives simple replies only and no block
    /// status.
    ///
    /// # Errors
    /// The server refuses by closing the connection, or is not there.
    pub fn try_connect_by_name(socket: &Path, export: &str) -> io::Result<Self> {
        let stream = connect(socket)?;
        let export = Handshake::begin(&stream)?.export_name(export)?;
        Ok(Self::new(stream, export, Form::Simple))
    }

    fn new(stream: UnixStream, export: Export, form: Form) -> Self {
        Self {
            stream,
            export,
            form,
            next_cookie: 0,
            in_flight: HashMap::new(),
            partial: HashMap::new(),
            finished: HashMap::new(),
        }
    }

    /// The names of the exports that a server lists.
    ///
    /// # Errors
    /// The server refuses, or is not there.
    pub fn list_exports(socket: &Path) -> io::Result<Vec<String>> {
        Handshake::begin(&connect(socket)?)?.list()
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Whether it can be asked for the block status.
    #[must_use]
    pub fn has_block_status(&self) -> bool {
        self.form != Form::Simple
    }

    /// Sends a request and does not wait for its answer.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn submit(&mut self, request: &Request) -> io::Result<Cookie> {
        self.next_cookie += 1;
        let cookie = Cookie(self.next_cookie);
        let is_extended = self.form == Form::Extended;
        let flags = match is_extended && request.command == Command::Write {
            true => request.flags | Flags::PAYLOAD_LEN,
            false => request.flags,
        };
        let mut message = Vec::with_capacity(32 + request.payload.len());
        message.extend_from_slice(&self.form.request_magic().to_be_bytes());
        message.extend_from_slice(&flags.bits().to_be_bytes());
        message.extend_from_slice(&(request.command as u16).to_be_bytes());
        message.extend_from_slice(&cookie.0.to_be_bytes());
        message.extend_from_slice(&request.offset.to_be_bytes());
        match is_extended {
            true => message.extend_from_slice(&u64::from(request.length).to_be_bytes()),
            false => message.extend_from_slice(&request.length.to_be_bytes()),
        }
        message.extend_from_slice(&request.payload);
        let in_flight = InFlight {
            command: request.command,
            offset: request.offset,
            length: request.length as usize,
        };
        self.in_flight.insert(cookie, in_flight);
        self.send(&message)?;
        Ok(cookie)
    }

    /// Sends a message. What the server sends meanwhile is taken, so that both cannot wait for each
    /// other with full buffers.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut rest = message;
        while !rest.is_empty() {
            let watched = PollFlags::IN | PollFlags::OUT;
            let mut watched = [PollFd::new(&self.stream, watched)];
            if poll(&mut watched, Some(&PATIENCE_OF_POLL))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let ready = watched[0].revents();
            if ready.contains(PollFlags::IN) {
                self.receive()?;
                continue;
            }
            match send(
                &self.stream,
                rest,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits for the answer to one request; answers to others are kept.
    ///
    /// # Errors
    /// The server answered with an error, or the connection is lost.
    pub fn wait(&mut self, cookie: Cookie) -> io::Result<Reply> {
        loop {
            if let Some(result) = self.finished.remove(&cookie) {
                return result;
            }
            self.receive()?;
        }
    }

    /// Waits until there is an answer to any request that was not waited for yet.
    ///
    /// # Errors
    /// The connection is lost. What the server answered with is told apart.
    pub fn wait_for_any(&mut self) -> io::Result<(Cookie, io::Result<Reply>)> {
        loop {
            if let Some(&cookie) = self.finished.keys().next() {
                return Ok((cookie, self.wait(cookie)));
            }
            self.receive()?;
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The server answered with an error, or the connection is lost.
    pub fn call(&mut self, request: &Request) -> io::Result<Reply> {
        let cookie = self.submit(request)?;
        self.wait(cookie)
    }

    /// Reads.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn read(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        Ok(self.call(&Request::read(offset, length))?.data)
    }

    /// Writes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn write(&mut self, offset: u64, payload: &[u8]) -> io::Result<()> {
        self.call(&Request::write(offset, payload, Flags::NONE))?;
        Ok(())
    }

    /// Writes, and asks for it to be durable.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn write_fua(&mut self, offset: u64, payload: &[u8]) -> io::Result<()> {
        self.call(&Request::write(offset, payload, Flags::FUA))?;
        Ok(())
    }

    /// Writes zeros, and allows a hole.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.call(&Request::zero(offset, length, Flags::NONE))?;
        Ok(())
    }

    /// Trims.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.call(&Request::trim(offset, length, Flags::NONE))?;
        Ok(())
    }

    /// Fetches into the cache.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn cache(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.call(&Request::cache(offset, length))?;
        Ok(())
    }

    /// Flushes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.call(&Request::flush())?;
        Ok(())
    }

    /// The extents of a range, from its beginning; the server may answer for less than asked.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn block_status(&mut self, offset: u64, length: u64) -> io::Result<Vec<Extent>> {
        Ok(self.call(&Request::block_status(offset, length))?.extents)
    }

    /// The extents of a whole range, asking as often as it takes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn extents_of(&mut self, offset: u64, length: u64) -> io::Result<Vec<Extent>> {
        let end = offset + length;
        let mut extents: Vec<Extent> = Vec::new();
        let mut position = offset;
        while position < end {
            for extent in self.block_status(position, end - position)? {
                let length = extent.length.min(end - position);
                extents.push(Extent { length, ..extent });
                position += length;
            }
        }
        Ok(extents)
    }

    /// Leaves as the protocol wants it. The server may take its time to close.
    pub fn disconnect(mut self) {
        self.say_goodbye();
    }

    /// Leaves, and waits until the server has closed the connection. What it does at the end of
    /// one it may have done by then, or not: nbdkits differ.
    pub fn disconnect_and_wait(mut self) {
        self.say_goodbye();
        while self.receive().is_ok() {}
    }

    /// Some servers close only when they see that nothing more can come.
    fn say_goodbye(&mut self) {
        let _ = self.submit(&Request::new(Command::Disconnect, Flags::NONE, 0, 0));
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
