//! Sparse memory, for trying things out: gone when the server ends.
//!
//! It is an anonymous file (`memfd_create`), so that everything it does is what the file origin
//! does: a page takes memory once it is written to, zeros and trims give it back, extents report
//! holes, and where memory runs out a write fails with ENOSPC instead of ending the process.

use rustix::fs::MemfdFlags;

use crate::file::FileSource;
use crate::{Address, OpenError, Options, Source};

/// Memory of so many bytes, at most 2^63-1.
pub(crate) fn open(bytes: u64, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    let name = Address::Memory(bytes).to_string();
    let made = rustix::fs::memfd_create("larder-memory", MemfdFlags::CLOEXEC)
        .and_then(|fd| rustix::fs::ftruncate(&fd, bytes).map(|()| fd));
    let fd = made.map_err(|errno| {
        OpenError::new(format!(
            "{name}: memory of that size cannot be had: {errno}"
        ))
    })?;
    let source = FileSource::memory(fd.into(), bytes, name, !options.read_only);
    Ok(Box::new(source))
}
