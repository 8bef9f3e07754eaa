//! What only block devices have: their own commands, and others of the machine who use them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

use super::disk;
use super::lock::{PATIENCE, PAUSE};

/// `BLKROGET` of linux/fs.h, `_IO(0x12, 94)`.
const READ_ONLY_GET: Opcode = opcode::none(0x12, 94);

/// `BLKDISCARD` of linux/fs.h, `_IO(0x12, 119)`.
const DISCARD: Opcode = opcode::none(0x12, 119);

/// Whether the device refuses writes: opening it for writing succeeds even then.
pub(super) fn is_read_only(device: &File) -> io::Result<bool> {
    // SAFETY: BLKROGET writes one int to the pointer that it is given (block/ioctl.c).
    #[allow(unsafe_code, reason = "a device command without a safe wrapper")]
    let read_only = unsafe { ioctl(device, Getter::<READ_ONLY_GET, i32>::new()) }?;
    Ok(read_only != 0)
}

/// Tells the device that the range, of whole logical blocks, is no longer wanted.
pub(super) fn discard(device: &File, range: &Range<u64>) -> Result<(), Errno> {
    let argument = [range.start, range.end - range.start];
    // SAFETY: BLKDISCARD reads two u64, offset and length in bytes, from the pointer that it is
    // given, and writes nothing to this process's memory (block/ioctl.c).
    #[allow(unsafe_code, reason = "a device command without a safe wrapper")]
    unsafe {
        ioctl(device, Setter::<DISCARD, [u64; 2]>::new(argument))
    }
}

/// Claims the device for as long as the file that is returned is open: no mount, swap, other device or server
/// can have it, or a part of it, or all of which it is a part, whatever their nodes are. EBUSY is somebody
/// who has. Our own handles open it beside the claim, which is not theirs: what needs it has to go through the
/// file that holds it (`truncate_bdev_range` of block/bdev.c). Who only looks for partitions or has just let go
/// of it is waited for.
pub(super) fn claim(device: &File) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::open(disk::proc_path(device), flags, Mode::empty()) {
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            opened => return opened.map(File::from),
        }
    }
}

/// What a zeroed or discarded part of a device is made of.
///
/// The kernel demands whole logical blocks. Whole pages besides: it drops the page cache of the
/// range first, and not every kernel keeps writes out until the device is done. A write to other
/// bytes of a page could read that page back before the zeros are there, so that it would show the
/// old bytes from then on.
pub(super) fn granularity_bytes(device: &File) -> io::Result<u64> {
    let logical_block_bytes = rustix::fs::ioctl_blksszget(device)?;
    let page_bytes = rustix::param::page_size() as u64;
    Ok(page_bytes.max(logical_block_bytes.into()))
}
