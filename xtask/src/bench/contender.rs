//! Who is measured.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// A bare server that copies between memory and its socket, and does nothing else.
    Ceiling,
    /// `larder serve`.
    Serve,
    /// nbdkit without a cache. Where the disk is slow, this is the origin asked directly.
    Bare,
    /// nbdkit with a filter of its own that does nothing: what any filter costs.
    Idle,
    /// nbdkit with its own cache filter.
    Stock,
    /// nbdkit with Larder's filter.
    Filter,
    /// `larder serve` with a cache directory.
    ServeKept,
    /// nbdkit with Larder's filter and a cache directory.
    FilterKept,
    /// The same, and flushes end there.
    ServeDurable,
    /// The same of Larder's filter.
    FilterDurable,
    /// A file, to which fio writes itself.
    File,
    QemuNbd,
    QemuStorageDaemon,
    NbdServer,
    /// What both of Larder's front ends have in common, without a server around it.
    Engine,
}

impl Contender {
    /// Whether its cache is in a directory that survives.
    pub(super) const fn is_kept(self) -> bool {
        matches!(self, Self::ServeKept | Self::FilterKept) || self.is_durable()
    }

    /// Whether a flush ends in that directory.
    pub(super) const fn is_durable(self) -> bool {
        matches!(self, Self::ServeDurable | Self::FilterDurable)
    }

    /// The same without a directory: which column of the summary it belongs to.
    pub(super) const fn front(self) -> Self {
        match self {
            Self::ServeKept | Self::ServeDurable => Self::Serve,
            Self::FilterKept | Self::FilterDurable => Self::Filter,
            other => other,
        }
    }

    /// How it is started, for a reader who doubts that this is fair.
    pub(super) const fn settings(self) -> &'static str {
        match self {
            Self::Ceiling => {
                "`crates/larder-server/examples/ceiling.rs`: copies between its memory and the socket, many \
                 requests a receive and a send; no cache, no file"
            }
            Self::Serve => {
                "`larder serve ORIGIN`, all parameters as they come; the origin is the image, or an nbdkit of its own \
                 where requests are delayed or counted"
            }
            Self::Bare => {
                "`nbdkit file IMAGE`, in row 18 too; other delayed rows: `--filter=delay memory 64G`"
            }
            Self::Idle => "`nbdkit --filter=nofilter file IMAGE`",
            Self::Stock => "bare nbdkit with `--filter=cache cache-on-read=true`",
            Self::Filter => "the same with Larder's filter in the place of `cache`",
            Self::ServeKept => {
                "`larder serve` with `--cache-dir=DIRECTORY --cache-id=benchmark`, an empty one on the same file system as the image"
            }
            Self::FilterKept => {
                "Larder's filter with `cache-dir=DIRECTORY cache-id=benchmark`, likewise"
            }
            Self::ServeDurable => "the same with `--cache-flush=cache`",
            Self::FilterDurable => "the same with `cache-flush=cache`",
            Self::File => {
                "`fio --ioengine=psync` on a file that has been written before, on the same file system as caches and images"
            }
            Self::QemuNbd => {
                "`qemu-nbd --shared=16` of `copy-on-read` over a qcow2 overlay, on the same file system as the image; \
                 write-back caching and `aio=threads`, as qemu has them unless told otherwise"
            }
            Self::QemuStorageDaemon => {
                "`qemu-storage-daemon`, the same overlay, `aio=io_uring`, the export in an iothread of its own"
            }
            Self::NbdServer => "`nbd-server` over the image, `splice = true`; it has no cache",
            Self::Engine => "the engine in a process of its own, called directly",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ceiling => "ceiling",
            Self::Serve => "larder serve",
            Self::Bare => "bare nbdkit",
            Self::Idle => "idle filter",
            Self::Stock => "C filter",
            Self::Filter => "Larder's filter",
            Self::ServeKept => "larder serve, cache-dir",
            Self::FilterKept => "Larder's filter, cache-dir",
            Self::ServeDurable => "larder serve, cache-flush",
            Self::FilterDurable => "Larder's filter, cache-flush",
            Self::File => "file",
            Self::QemuNbd => "qemu-nbd",
            Self::QemuStorageDaemon => "qemu-storage-daemon",
            Self::NbdServer => "nbd-server",
            Self::Engine => "Larder's engine",
        })
    }
}
