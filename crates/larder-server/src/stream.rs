//! A client's socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

macro_rules! either {
    ($self:ident, $socket:ident => $action:expr) => {
        match $self {
            Stream::Tcp($socket) => $action,
            Stream::Unix($socket) => $action,
        }
    };
}

impl Stream {
    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        either!(self, socket => socket.set_read_timeout(limit))
    }
    pub(crate) fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        either!(self, socket => socket.set_write_timeout(limit))
    }
    pub(crate) fn shutdown_write(&self) {
        let _ = either!(self, socket => socket.shutdown(Shutdown::Write));
    }
    pub(crate) fn shutdown_both(&self) {
        let _ = either!(self, socket => socket.shutdown(Shutdown::Both));
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => (&*socket).read(buffer))
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, socket => (&*socket).write(bytes))
    }
    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        either!(self, socket => (&*socket).write_vectored(parts))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
