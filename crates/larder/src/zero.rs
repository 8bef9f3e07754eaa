//! Zero requests: a change of state for whole sectors, a write for the rest.

use rustix::io::Errno;

use crate::client::Client;
use crate::config::Mode;
use crate::origin::ZeroOptions;
use crate::sector::Piece;
use crate::volume::{MAX_ZERO_RANGES, Volume};
use crate::zero_map::{Phase, ZeroRange};
use crate::{Error, ErrorKind, Fua, survival, through, write, writeback};

/// The whole sectors of a range; the parts before and after are its edges.
struct Split {
    start: u64,
    whole_start: u64,
    whole_end: u64,
    end: u64,
}

fn split(volume: &Volume, offset: u64, length: u64) -> Split {
    let geometry = volume.geometry();
    let end = offset + length;
    let whole_start = geometry.align_up(offset, volume.size()).min(end);
    let whole_end = if end == volume.size() {
        end
    } else {
        geometry.align_down(end)
    };
    Split {
        start: offset,
        whole_start,
        whole_end: whole_end.max(whole_start),
        end,
    }
}

impl Split {
    fn has_edges(&self) -> bool {
        self.start < self.whole_start || self.whole_end < self.end
    }

    fn has_whole(&self) -> bool {
        self.whole_start < self.whole_end
    }

    fn edges(&self) -> impl Iterator<Item = (u64, u64)> {
        [(self.start, self.whole_start), (self.whole_end, self.end)]
            .into_iter()
            .filter(|(start, end)| start < end)
    }
}

/// The whole sectors of a range, in bytes, if it has any.
pub(crate) fn whole_sectors(volume: &Volume, offset: u64, length: u64) -> Option<(u64, u64)> {
    let split = split(volume, offset, length);
    split
        .has_whole()
        .then_some((split.whole_start, split.whole_end))
}

/// Does what a client's zero request means in the cache's mode.
pub(crate) fn zero(
    client: &Client,
    offset: u64,
    length: u64,
    options: ZeroOptions,
) -> Result<(), Error> {
    let volume = &*client.volume;
    let mode = client.store().config.mode;
    let split = split(volume, offset, length);
    let options = ZeroOptions {
        // It is a promise that nothing in the directory keeps: the origin has it for good before the answer.
        fua: options.fua || volume.flushes_to_cache(),
        ..options
    };
    if options.fast && split.has_edges() {
        return Err(not_fast("a part of a sector must be written"));
    }
    // Nothing in the directory says that something is zero: the origin does.
    let is_through = options.fua || volume.flushes_to_cache();
    if mode == Mode::Writethrough || (mode == Mode::Writeback && is_through) {
        return zero_through(client, &split, options);
    }
    if volume.zero_ranges() >= MAX_ZERO_RANGES {
        client
            .store()
            .trace(|| format!("zero {length} bytes at {offset}: too many ranges, through"));
        return zero_through(
            client,
            &split,
            ZeroOptions {
                fua: true,
                ..options
            },
        );
    }
    for (start, end) in split.edges() {
        write::write_cached(client, start, &vec![0; (end - start) as usize])?;
    }
    client
        .store()
        .trace(|| format!("zero {length} bytes at {offset}: kept as state"));
    set_zero(volume, split.whole_start, split.whole_end, options.may_trim);
    Ok(())
}

fn not_fast(why: &str) -> Error {
    Error::new(ErrorKind::NotSupported, format!("fast zero: {why}"))
}

/// Ranges of more blocks than this are made zero as a whole, but for the blocks that are known.
const MANY_BLOCKS: u64 = 256;

/// Makes whole sectors zero by state.
pub(crate) fn set_zero(volume: &Volume, start: u64, end: u64, may_trim: bool) {
    let geometry = volume.geometry();
    let directory = &volume.store().directory;
    let range = |start, end| ZeroRange {
        start,
        end,
        may_trim,
        phase: Phase::Dirty,
    };
    if (end - start) / geometry.block_bytes() > MANY_BLOCKS {
        return set_zero_many(volume, range(start, end));
    }
    for piece in geometry.pieces(start, end - start) {
        let base = geometry.base(piece.number);
        let range = range(base + piece.start, base + piece.end);
        let insert = || volume.with_zeros(|zeros| zeros.insert(range));
        if !volume.index().if_unknown(piece.number, directory, insert) {
            set_zero_known(volume, &piece, range);
        }
    }
}

fn set_zero_many(volume: &Volume, range: ZeroRange) {
    let mut known = Vec::new();
    volume.between_known(range.start, range.end, |gaps, found| {
        known = found.to_vec();
        volume.with_zeros(|zeros| {
            for &(start, end) in gaps {
                zeros.insert(ZeroRange {
                    start,
                    end,
                    ..range
                });
            }
        });
    });
    for piece in known {
        let base = volume.geometry().base(piece.number);
        let (start, end) = (base + piece.start, base + piece.end);
        set_zero_known(
            volume,
            &piece,
            ZeroRange {
                start,
                end,
                ..range
            },
        );
    }
}

fn set_zero_known(volume: &Volume, piece: &Piece, range: ZeroRange) {
    let pin = volume.pin(piece.number);
    let mut state = pin.latch();
    let whole = volume.geometry().whole(piece, volume.size());
    state.changed(whole);
    state.drop_sectors(whole);
    volume.with_zeros(|zeros| zeros.insert(range));
}

/// Zeros the origin, then has the cache follow.
fn zero_through(client: &Client, split: &Split, options: ZeroOptions) -> Result<(), Error> {
    let capabilities = client.attached.capabilities;
    if options.fast && !(capabilities.zero && capabilities.fast_zero) {
        return Err(not_fast("the origin has none"));
    }
    for (start, end) in split.edges() {
        let zeros = vec![0; (end - start) as usize];
        match client.volume.flushes_to_cache() {
            true => write::write(client, start, &zeros, options.fua)?,
            false => through::write(client, start, &zeros, options.fua)?,
        }
    }
    if !split.has_whole() {
        return Ok(());
    }
    let (start, end) = (split.whole_start, split.whole_end);
    let volume = &*client.volume;
    let _range = volume.ranges.lock(start, end);
    let _guard = volume.poison_on_panic();
    client.check_poison()?;
    survival::revoke(volume, &[(start, end)])?;
    let failures_before = volume.durability.all_failures();
    match zero_durably(client, start, end, options) {
        Ok(()) => {
            let forget = || through::forget(client, start, end);
            through::following(client, (start, end), options.fua, failures_before, forget);
            through::followed_durably(client, (start, end), options.fua)
        }
        // An answer, not a failure.
        Err(cause)
            if options.fast && cause.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
        {
            Err(not_fast("the origin's would not be"))
        }
        Err(cause) => {
            let context = format!("zero of {} bytes at {start} on the origin", end - start);
            Err(through::refused(client, (start, end), context, cause))
        }
    }
}

fn zero_durably(
    client: &Client,
    start: u64,
    end: u64,
    options: ZeroOptions,
) -> std::io::Result<()> {
    let attached = &client.attached;
    if !options.fua {
        return writeback::zero_origin(attached, start, end, options);
    }
    let each = attached.capabilities.fua == Fua::Native;
    client.volume.durably(attached, || {
        let asked = ZeroOptions {
            fua: each,
            ..options
        };
        writeback::zero_origin(attached, start, end, asked)?;
        if each { Ok(()) } else { attached.flush() }
    })
}
