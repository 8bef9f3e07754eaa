//! Where the bytes of a trace come from.
//!
//! A trace is read more than once. What can be read only once, such as a pipe, is first copied into
//! a file without a name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use larder::CacheFile;
use larder::cache_file::TemporaryFile;

use crate::error::TraceError;

/// The bytes that a copy is made with at once.
const COPY_BYTES: usize = 1 << 18;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes of a trace, which can be read again.
#[derive(Clone, Debug)]
pub struct Source {
    /// What messages call it.
    name: String,
    bytes: Bytes,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Copy {
        file: Arc<TemporaryFile>,
        length: u64,
    },
}

impl Source {
    /// A file. If it cannot be read twice, it is copied into a file in `directory`, compressed or
    /// not as it is.
    ///
    /// # Errors
    /// The system's, with the name.
    pub fn open(path: &Path, directory: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let failed = |error| TraceError::io(&name, &error);
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Self::copy(&name, file, directory);
        }
        Ok(Self {
            name,
            bytes: Bytes::File(Arc::new(file)),
        })
    }

    /// What can be read only once, copied into a file in `directory`.
    ///
    /// # Errors
    /// The system's, with the name.
    pub fn copy(name: &str, mut reader: impl Read, directory: &Path) -> Result<Self, TraceError> {
        let failed = |error| TraceError::io(name, &error);
        let file = TemporaryFile::create_in(directory).map_err(|error| {
            let directory = directory.display();
            TraceError::new(name, &format!("cannot be copied to {directory}: {error}"))
        })?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut length = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            file.write(length, &buffer[..count]).map_err(failed)?;
            length += count as u64;
        }
        let file = Arc::new(file);
        Ok(Self {
            name: name.to_owned(),
            bytes: Bytes::Copy { file, length },
        })
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// All bytes from the start; those of a gzip file are what it was made from.
    pub(crate) fn read(&self) -> Result<Box<dyn BufRead + Send>, TraceError> {
        let failed = |error| TraceError::io(&self.name, &error);
        let from_start = Cursor {
            bytes: self.bytes.clone(),
            at: 0,
        };
        let mut reader = BufReader::with_capacity(COPY_BYTES, from_start);
        let beginning = reader.fill_buf().map_err(failed)?;
        if beginning.starts_with(&GZIP_MAGIC) {
            let decoder = MultiGzDecoder::new(reader);
            return Ok(Box::new(BufReader::with_capacity(COPY_BYTES, decoder)));
        }
        Ok(Box::new(reader))
    }
}

/// A place in a source of its own, so that several can read at once.
struct Cursor {
    bytes: Bytes,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &self.bytes {
            Bytes::File(file) => file.read_at(buffer, self.at)?,
            Bytes::Copy { file, length } => {
                let count = (length - self.at).min(buffer.len() as u64) as usize;
                file.read(self.at, &mut buffer[..count])?;
                count
            }
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn all(source: &Source) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        source.read().expect("a reader").read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn copy(bytes: &[u8]) -> Source {
        Source::copy("x", bytes, &std::env::temp_dir()).expect("a copy")
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    }

    #[test]
    fn bytes_can_be_read_again() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let source = copy(&bytes);
        for _ in 0..2 {
            assert_eq!(all(&source).expect("read"), bytes);
        }
    }

    #[test]
    fn gzip_is_known_by_its_content_and_may_have_several_members() {
        let mut compressed = gzip(b"one\n");
        compressed.extend(gzip(b"two\n"));
        assert_eq!(all(&copy(&compressed)).expect("read"), b"one\ntwo\n");
        assert_eq!(all(&copy(b"\x1f")).expect("read"), b"\x1f");
        assert_eq!(all(&copy(b"")).expect("read"), b"");
        compressed.truncate(compressed.len() - 3);
        assert!(all(&copy(&compressed)).is_err());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let refused = Source::open(Path::new("/no/such.csv"), Path::new("/tmp"));
        let message = refused.expect_err("refused").to_string();
        assert_eq!(message, "/no/such.csv: No such file or directory");
    }
}
