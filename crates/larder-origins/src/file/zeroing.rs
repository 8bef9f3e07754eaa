//! Zeros and trims, in the cheapest way that there is.
//!
//! | | a hole will do | no hole |
//! |---|---|---|
//! | file | punch a hole, else zero the range | zero the range |
//! | device | the same, by its own commands | zero the range |
//! | memory | punch a hole | punch a hole |
//!
//! What is not supported is remembered. Where nothing is left, zeros are written, unless it has to
//! be fast. A request that fails with ENOTSUP has changed nothing.
//!
//! Nothing is fast on a device: where it lacks a command, the kernel writes the zeros itself, and
//! before it finds that it may not, it has dropped what was written to the range and not yet synced
//! (`blkdev_fallocate` of block/fops.c). That is right only if zeros take its place in any case.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use larder::ZeroOptions;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::device;
use super::disk::{Kind, Lack};
use super::handle::Handle;

/// Zeros are written in pieces of at most this.
const PIECE_BYTES: u64 = 1 << 20;

/// What became of an attempt.
enum Attempt {
    Done,
    /// Another way has to be found.
    Refused,
}

impl Handle {
    /// Makes the range read as zeros.
    pub(super) fn zero_range(
        &self,
        offset: u64,
        length: u64,
        options: ZeroOptions,
    ) -> io::Result<()> {
        if options.fast && !self.disk.kind.zeroes_fast() {
            return Err(Errno::NOTSUP.into());
        }
        let range = offset..offset + length;
        let whole = self.whole_units(&range);
        if !whole.is_empty() {
            self.zero_whole_units(&whole, options)?;
        }
        self.write_zeros(range.start..whole.start)?;
        self.write_zeros(whole.end..range.end)
    }

    /// Gives the range back to the file system or device, as far as that is possible. A trim is
    /// advice, so that one which nothing came of is no error.
    pub(super) fn trim_range(&self, offset: u64, length: u64) -> io::Result<()> {
        let whole = self.whole_units(&(offset..offset + length));
        if whole.is_empty() {
            return Ok(());
        }
        match self.disk.kind {
            Kind::Device { .. } => {
                attempt(&self.disk.discard, || {
                    device::discard(self.commanded(), &whole)
                })?;
            }
            Kind::File | Kind::Memory => {
                self.punch(&whole)?;
            }
        }
        Ok(())
    }

    fn zero_whole_units(&self, range: &Range<u64>, options: ZeroOptions) -> io::Result<()> {
        let (by_hole, by_zeroing) = match self.disk.kind {
            Kind::Memory => (true, false),
            Kind::File | Kind::Device { .. } => (options.may_trim, true),
        };
        if by_hole && let Attempt::Done = self.punch(range)? {
            return Ok(());
        }
        if by_zeroing && let Attempt::Done = self.zero_without_hole(range)? {
            return Ok(());
        }
        if options.fast {
            return Err(Errno::NOTSUP.into());
        }
        self.write_zeros(range.clone())
    }

    fn punch(&self, range: &Range<u64>) -> io::Result<Attempt> {
        attempt(&self.disk.punch, || {
            self.fallocate(FallocateFlags::PUNCH_HOLE, range)
        })
    }

    fn zero_without_hole(&self, range: &Range<u64>) -> io::Result<Attempt> {
        attempt(&self.disk.zero_range, || {
            self.fallocate(FallocateFlags::ZERO_RANGE, range)
        })
    }

    /// Never makes the file longer.
    fn fallocate(&self, flags: FallocateFlags, range: &Range<u64>) -> Result<(), Errno> {
        let flags = flags | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(
            self.commanded(),
            flags,
            range.start,
            range.end - range.start,
        )
    }

    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let zeros = vec![0; (range.end - range.start).min(PIECE_BYTES) as usize];
        let mut at = range.start;
        while at < range.end {
            let piece = &zeros[..(range.end - at).min(PIECE_BYTES) as usize];
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// The part of the range that a file system or device can zero or trim by itself: all of a
    /// file's, whole units of a device's.
    fn whole_units(&self, range: &Range<u64>) -> Range<u64> {
        match self.disk.kind {
            Kind::Device { granularity_bytes } => whole_units(range, granularity_bytes),
            Kind::File | Kind::Memory => range.clone(),
        }
    }
}

/// The range, shrunk to multiples of `unit`; empty, at its end, if there are none.
fn whole_units(range: &Range<u64>, unit: u64) -> Range<u64> {
    let end = range.end - range.end % unit;
    match range.start.checked_next_multiple_of(unit) {
        Some(start) if start < end => start..end,
        _ => range.end..range.end,
    }
}

/// Tries an operation that may be lacking.
fn attempt(lack: &Lack, operation: impl Fn() -> Result<(), Errno>) -> io::Result<Attempt> {
    if lack.known() {
        return Ok(Attempt::Refused);
    }
    match rustix::io::retry_on_intr(operation) {
        Ok(()) => Ok(Attempt::Done),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::NOTTY) => {
            lack.remember();
            Ok(Attempt::Refused)
        }
        // Of this range or at this moment only, as when a device's pages are in use elsewhere.
        Err(Errno::INVAL | Errno::BUSY) => Ok(Attempt::Refused),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_units_are_left_of_a_range() {
        for (range, whole) in [
            (0..4096, 0..4096),
            (1..4096, 4096..4096),
            (1..8192, 4096..8192),
            (0..8191, 0..4096),
            (4095..8193, 4096..8192),
            (100..200, 200..200),
            (4000..5000, 5000..5000),
            (u64::MAX - 5..u64::MAX, u64::MAX..u64::MAX),
        ] {
            assert_eq!(whole_units(&range, 4096), whole, "{range:?}");
        }
    }
}
