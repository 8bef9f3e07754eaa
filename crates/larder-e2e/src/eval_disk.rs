//! Disks made of shell scripts, with nbdkit's eval plugin: every capability by choice.

use std::path::{Path, PathBuf};

use crate::image::{read_file, sparse_file};
use crate::scratch::Scratch;

/// A disk in two files: `volatile` has all that was written, `durable` what was flushed. A flush
/// that fails loses what was not yet durable, as a real disk's cache does.
#[derive(Clone, Debug)]
pub struct EvalDisk {
    size: u64,
    volatile: PathBuf,
    durable: PathBuf,
    flush_fault: PathBuf,
    methods: Vec<(String, String)>,
}

impl EvalDisk {
    /// A read-only disk: nothing but `get_size` and `pread`, which may run in parallel.
    #[must_use]
    pub fn read_only(scratch: &Scratch, size: u64) -> Self {
        let volatile = scratch.path("volatile");
        let durable = scratch.path("durable");
        sparse_file(&volatile, size);
        sparse_file(&durable, size);
        let mut disk = Self {
            size,
            flush_fault: scratch.path("flush-fault"),
            methods: Vec::new(),
            volatile,
            durable,
        };
        disk.set("get_size", "stat -Lc %s \"$volatile\"");
        disk.set(
            "pread",
            "dd if=\"$volatile\" skip=$4 count=$3 iflag=count_bytes,skip_bytes bs=64K",
        );
        disk.set("thread_model", "echo parallel");
        disk
    }

    /// Adds `pwrite`.
    #[must_use]
    pub fn writable(self) -> Self {
        self.with(
            "pwrite",
            "dd of=\"$volatile\" seek=$4 conv=notrunc oflag=seek_bytes bs=64K",
        )
    }

    /// Adds `flush`, which fails while [`EvalDisk::flush_fault`] exists, and forgets.
    #[must_use]
    pub fn flushable(self) -> Self {
        self.with(
            "flush",
            "if [ -e \"$flush_fault\" ]; then
                cp \"$durable\" \"$volatile\"; echo EIO the disk lost it >&2; exit 1
             fi
             cp \"$volatile\" \"$durable\"",
        )
    }

    /// Adds or replaces a method. The scripts see `$volatile`, `$durable` and `$flush_fault`.
    #[must_use]
    pub fn with(mut self, method: &str, script: &str) -> Self {
        self.set(method, script);
        self
    }

    fn set(&mut self, method: &str, script: &str) {
        self.methods.retain(|(name, _)| name != method);
        self.methods.push((method.to_owned(), script.to_owned()));
    }

    /// The eval plugin's parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<String> {
        let files = format!(
            "volatile='{}'; durable='{}'; flush_fault='{}'\n",
            self.volatile.display(),
            self.durable.display(),
            self.flush_fault.display()
        );
        self.methods
            .iter()
            .map(|(method, script)| format!("{method}={files}{script}"))
            .collect()
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All that was written.
    #[must_use]
    pub fn volatile(&self) -> Vec<u8> {
        read_file(&self.volatile)
    }

    /// The file with all that was written.
    #[must_use]
    pub fn volatile_path(&self) -> &Path {
        &self.volatile
    }

    /// What was flushed.
    #[must_use]
    pub fn durable(&self) -> Vec<u8> {
        read_file(&self.durable)
    }

    /// While this path exists, flushes fail.
    #[must_use]
    pub fn flush_fault(&self) -> &Path {
        &self.flush_fault
    }
}
