//! Small pieces that go into a file in the order of their places: neighbours are written at once.

use std::io;

use super::shape::PAGE_BYTES;
use crate::medium::MediumFile;

/// The most that is written at once, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// What has been put and not been written yet.
pub(super) struct Runs<'f> {
    file: &'f dyn MediumFile,
    start: u64,
    bytes: Vec<u8>,
}

impl<'f> Runs<'f> {
    pub(super) fn new(file: &'f dyn MediumFile) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Puts bytes at a place that lies behind what was put before.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_next = offset == self.start + self.bytes.len() as u64;
        if !is_next || self.bytes.len() + bytes.len() > MOST_BYTES {
            self.write()?;
            self.start = offset;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.file.write(self.start, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Writes the rest.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.write()
    }
}

/// Makes a file say `bytes` from `offset` on. Of pages that say so already nothing is written.
pub(super) fn update(file: &dyn MediumFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut found = vec![0; bytes.len()];
    if file.read(offset, &mut found).is_err() {
        // What cannot be read can perhaps be written.
        return file.write(offset, bytes);
    }
    let pages = bytes.chunks(PAGE_BYTES as usize);
    let mut changed = Runs::new(file);
    for (at, (page, found)) in pages.zip(found.chunks(PAGE_BYTES as usize)).enumerate() {
        if page != found {
            changed.put(offset + at as u64 * PAGE_BYTES, page)?;
        }
    }
    changed.finish()
}
