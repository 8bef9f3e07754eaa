//! What several unit tests need.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder::cache_file::TemporaryFile;
use larder::{
    Cache, Capabilities, Config, Extent, Log, Mode, Origin, RequestLimits, SystemClock, ZeroOptions,
};
use larder_frontend::{CacheDirectory, Parameters, PlainParser};
use larder_origins::Source;

/// A directory of a test's own, removed when the test ends. Its path is short, since Unix socket
/// addresses are.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/larder-unit-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A disk in memory that tells whether it was written and flushed, and fails where a test says so.
#[derive(Debug)]
pub(crate) struct Disk {
    bytes: Mutex<Vec<u8>>,
    pub(crate) flushes: AtomicU32,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) is_broken: AtomicBool,
    /// The next flush fails, and none after it.
    pub(crate) has_lost: AtomicBool,
    pub(crate) is_read_only: bool,
}

impl Disk {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(vec![0; bytes]),
            flushes: AtomicU32::new(0),
            bytes_read: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            is_read_only: false,
        })
    }

    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.bytes.lock().unwrap()[offset]
    }
}

/// The source of a disk.
#[derive(Debug)]
pub(crate) struct DiskSource(pub(crate) Arc<Disk>);

impl Source for DiskSource {
    fn connect(&self) -> io::Result<Arc<dyn Origin>> {
        Ok(Arc::new(DiskOrigin(Arc::clone(&self.0))))
    }
}

struct DiskOrigin(Arc<Disk>);

impl Origin for DiskOrigin {
    fn size(&self) -> u64 {
        self.0.bytes.lock().unwrap().len() as u64
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: !self.0.is_read_only,
            flush: true,
            multi_conn: true,
            parallel: true,
            ..Capabilities::default()
        }
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits::default()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len() as u64;
        self.0.bytes_read.fetch_add(length, Ordering::SeqCst);
        let start = offset as usize;
        buffer.copy_from_slice(&self.0.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8], _fua: bool) -> io::Result<()> {
        assert!(!self.0.is_read_only);
        if self.0.is_broken.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::IO.into());
        }
        let start = offset as usize;
        self.0.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flushes.fetch_add(1, Ordering::SeqCst);
        match self.0.has_lost.swap(false, Ordering::SeqCst) {
            true => Err(rustix::io::Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn zero(&self, _offset: u64, _length: u64, _options: ZeroOptions) -> io::Result<()> {
        unreachable!("not offered")
    }

    fn trim(&self, _offset: u64, _length: u64, _fua: bool) -> io::Result<()> {
        unreachable!("not offered")
    }

    fn extents(&self, _offset: u64, _length: u64, _one: bool) -> io::Result<Vec<Extent>> {
        unreachable!("not offered")
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Told {
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Log for Told {
    fn error(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }

    fn warning(&self, message: &str) {
        self.error(message);
    }

    fn debug(&self, _message: &str) {}
}

/// One in a directory, where flushes end.
pub(crate) fn durable_cache(directory: &Path, log: Arc<dyn Log>) -> Arc<Cache> {
    let mut parameters = Parameters::default();
    for (name, value) in [
        ("cache-dir", directory.as_os_str()),
        ("cache-flush", "cache".as_ref()),
        ("cache-max-size", "64M".as_ref()),
        ("cache-id", "disk".as_ref()),
    ] {
        parameters.set(name, value, &PlainParser).unwrap();
    }
    let settings = parameters.finish().unwrap();
    let medium = CacheDirectory::open(directory).unwrap().medium;
    let home = CacheDirectory::home(directory, Arc::new(medium), &settings).unwrap();
    let config = Config {
        background: true,
        ..settings.config
    };
    Cache::open(config, home, Arc::new(SystemClock::default()), log).unwrap()
}

/// A cache that does nothing by itself.
pub(crate) fn cache(mode: Mode, log: Arc<dyn Log>) -> Arc<Cache> {
    let file = TemporaryFile::create_in(&std::env::temp_dir()).unwrap();
    let config = Config {
        mode,
        background: true,
        ..Config::default()
    };
    Cache::new(
        config,
        Box::new(file),
        Arc::new(SystemClock::default()),
        log,
    )
    .unwrap()
}
