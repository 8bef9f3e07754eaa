//! What a row of the table is: what is measured, of whom, and what must come out.

use super::contender::Contender;
use super::directory::Place;
use super::fio::Load;
use super::measurement::Unit;

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// What others call it by.
    pub(super) number: &'static str,
    pub(super) name: &'static str,
    /// A sentence or two for those who read the table.
    pub(super) what: &'static str,
    /// Where caches and images are.
    pub(super) place: Place,
    pub(super) work: Work,
    pub(super) contenders: &'static [Contender],
    pub(super) bounds: &'static [Bound],
}

#[derive(Debug)]
pub(super) enum Work {
    /// Requests, counted.
    Load {
        disk: Disk<'static>,
        warm: Warm,
        load: Load,
        cache: Cache,
    },
    /// Every block of a disk that is larger than the cache is written once, then looked for on the origin.
    Overwrite,
    /// A flush of what was written before.
    Flush,
    /// Small writes with a flush after each, of a part of a slow disk that has been read before.
    Commits,
    /// Zero requests, one after another.
    Zero,
    /// Hits on one connection, misses on another.
    HitsBesideMisses,
    /// Hits with little cached, and with much.
    Growth,
    /// A disk image is fetched over HTTP through these filters of nbdkit.
    Conversion { filters: &'static [&'static str] },
    /// A command of this workspace that measures by itself and prints JSON.
    Command(&'static Figure),
}

/// Where a command's figure is.
#[derive(Debug)]
pub(super) struct Figure {
    /// For cargo.
    pub(super) arguments: &'static [&'static str],
    /// Whether the directory with the traces is its last argument.
    pub(super) takes_traces: bool,
    /// A JSON pointer. What else is a number beside it is told too.
    pub(super) pointer: &'static str,
    pub(super) unit: Unit,
}

/// What is served.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disk<'d> {
    /// The image of random bytes.
    Image,
    /// The same, with its origin's requests counted.
    Counted,
    /// The file that is made anew for each contender.
    Target,
    /// Zeros, of which each request takes so long.
    Delayed { milliseconds: u32 },
    /// So many bytes of zeros.
    Zeros { bytes: u64 },
    /// What a web server has there; nbdkit with these filters above its curl plugin.
    Web {
        url: &'d str,
        filters: &'static [&'static str],
    },
}

/// Size of a disk whose requests are delayed: few of them meet a block that an earlier one has fetched.
pub(super) const DELAYED_BYTES: u64 = 64 << 30;

/// What has been asked for before the measurement begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warm {
    Nothing,
    /// All of the disk, once.
    Everything,
    /// The load itself, for as long as it is measured afterwards.
    Same,
}

/// How a cache is limited, and what it may do ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// By nothing but the place.
    Unlimited,
    /// To a sixteenth of the image.
    Sixteenth,
    /// Unlimited, with Larder's readahead.
    Readahead,
}

/// How many blocks of the origin do not hold what was written to them: a detail.
pub(super) const LOST: &str = "blocks lost";

/// What a contender must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// `of` is at least so many times as fast as `than`.
    Times {
        of: Contender,
        at_least: f64,
        than: Contender,
        /// The row in which `than` was measured, if it is another.
        in_row: Option<&'static str>,
    },
    /// The figure itself.
    AtMost { of: Contender, most: f64 },
    /// The figure itself.
    AtLeast { of: Contender, least: f64 },
    /// What is measured beside the figure, in every round.
    DetailAtMost {
        of: Contender,
        detail: &'static str,
        most: f64,
    },
    /// The same, and not as much.
    DetailBelow {
        of: Contender,
        detail: &'static str,
        limit: f64,
    },
    /// The figure is below what is measured beside it.
    BelowDetail { of: Contender, detail: &'static str },
}

impl Bound {
    pub(super) const fn times(of: Contender, at_least: f64, than: Contender) -> Self {
        Self::Times {
            of,
            at_least,
            than,
            in_row: None,
        }
    }

    /// Compared with itself in another row.
    pub(super) const fn of_its_row(of: Contender, at_least: f64, row: &'static str) -> Self {
        Self::Times {
            of,
            at_least,
            than: of,
            in_row: Some(row),
        }
    }

    /// Nothing that was written is missing.
    pub(super) const fn keeps(of: Contender) -> Self {
        Self::DetailAtMost {
            of,
            detail: LOST,
            most: 0.0,
        }
    }

    pub(super) const fn of(&self) -> Contender {
        match self {
            Self::Times { of, .. }
            | Self::AtMost { of, .. }
            | Self::AtLeast { of, .. }
            | Self::DetailAtMost { of, .. }
            | Self::DetailBelow { of, .. }
            | Self::BelowDetail { of, .. } => *of,
        }
    }

    pub(super) const fn in_row(&self) -> Option<&'static str> {
        match self {
            Self::Times { in_row, .. } => *in_row,
            _ => None,
        }
    }
}

impl Work {
    pub(super) const fn unit(&self) -> Unit {
        match self {
            Self::Load { .. } | Self::Overwrite | Self::Commits => Unit::RequestsPerSecond,
            Self::Flush | Self::Zero | Self::Conversion { .. } => Unit::Seconds,
            Self::HitsBesideMisses => Unit::P99Microseconds,
            Self::Growth => Unit::Share,
            Self::Command(figure) => figure.unit,
        }
    }

    /// A command has rounds of its own.
    pub(super) const fn rounds(&self, wanted: usize) -> usize {
        match self {
            Self::Command(_) => 1,
            _ => wanted,
        }
    }
}

impl Row {
    /// A quick run leaves out what takes minutes, and the disk.
    pub(super) fn is_quick(&self) -> bool {
        self.place == Place::Memory && !matches!(self.work, Work::Command(_))
    }
}
