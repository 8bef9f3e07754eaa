//! Callbacks that serve clients' requests. A failure always carries a positive errno.

use std::ffi::{c_int, c_void};
use std::slice;

use super::with;
use crate::capabilities::ZeroOptions;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::extent::ExtentList;
use crate::log;
use crate::raw::{self, Extents, NextOps};

/// 0, or -1 with the reason logged and the errno handed over.
fn answer(result: Result<()>, errno: *mut c_int) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            log::failure(&error);
            // SAFETY: nbdkit passes a number to be filled.
            unsafe { *errno = error.errno() };
            -1
        }
    }
}

pub(super) extern "C" fn pread<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    buffer: *mut c_void,
    count: u32,
    offset: u64,
    _flags: u32,
    errno: *mut c_int,
) -> c_int {
    // SAFETY: nbdkit passes a buffer of `count` bytes that nobody else uses meanwhile.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), count as usize) };
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("pread", handle, |connection, next| {
            connection.pread(next, buffer, offset)
        })
    };
    answer(result, errno)
}

pub(super) extern "C" fn pwrite<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    data: *const c_void,
    count: u32,
    offset: u64,
    flags: u32,
    errno: *mut c_int,
) -> c_int {
    // SAFETY: nbdkit passes `count` bytes that nobody changes meanwhile.
    let data = unsafe { slice::from_raw_parts(data.cast::<u8>(), count as usize) };
    let fua = flags & raw::FLAG_FUA != 0;
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("pwrite", handle, |connection, next| {
            connection.pwrite(next, data, offset, fua)
        })
    };
    answer(result, errno)
}

pub(super) extern "C" fn flush<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    _flags: u32,
    errno: *mut c_int,
) -> c_int {
    // SAFETY: the handle came from `open`.
    answer(unsafe { with::<C, _>("flush", handle, C::flush) }, errno)
}

pub(super) extern "C" fn trim<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    count: u32,
    offset: u64,
    flags: u32,
    errno: *mut c_int,
) -> c_int {
    let fua = flags & raw::FLAG_FUA != 0;
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("trim", handle, |connection, next| {
            connection.trim(next, count, offset, fua)
        })
    };
    answer(result, errno)
}

pub(super) extern "C" fn zero<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    count: u32,
    offset: u64,
    flags: u32,
    errno: *mut c_int,
) -> c_int {
    let options = ZeroOptions::from_raw(flags);
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("zero", handle, |connection, next| {
            connection.zero(next, count, offset, options)
        })
    };
    answer(
        result.map_err(|error| allowed_of_zero(error, options)),
        errno,
    )
}

/// nbdkit takes "not supported" only for fast zeroing and aborts on it otherwise.
fn allowed_of_zero(error: Error, options: ZeroOptions) -> Error {
    // On Linux EOPNOTSUPP is the same number.
    let unsupported = error.errno() == libc::ENOTSUP;
    if options.fast || !unsupported {
        return error;
    }
    Error::new(libc::EIO, format!("zero: not supported: {error}"))
}

pub(super) extern "C" fn extents<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    count: u32,
    offset: u64,
    flags: u32,
    extents: *mut Extents,
    errno: *mut c_int,
) -> c_int {
    let one = flags & raw::FLAG_REQ_ONE != 0;
    // SAFETY: nbdkit passes a list for this request.
    let mut list = unsafe { ExtentList::new(extents, offset) };
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("extents", handle, |connection, next| {
            connection.extents(next, count, offset, one, &mut list)
        })
    };
    let result = result.and_then(|()| match list.is_empty() {
        true => Err(Error::new(libc::EIO, "extents: the filter told none")),
        false => Ok(()),
    });
    answer(result, errno)
}

pub(super) extern "C" fn cache<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    count: u32,
    offset: u64,
    _flags: u32,
    errno: *mut c_int,
) -> c_int {
    // SAFETY: the handle came from `open`.
    let result = unsafe {
        with::<C, _>("cache", handle, |connection, next| {
            connection.cache(next, count, offset)
        })
    };
    answer(result, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fast_zero_may_be_unsupported() {
        let fast = ZeroOptions {
            fast: true,
            ..ZeroOptions::default()
        };
        let error = Error::from_errno(libc::EOPNOTSUPP);
        assert_eq!(allowed_of_zero(error.clone(), fast), error);
        let slow = allowed_of_zero(error, ZeroOptions::default());
        assert_eq!(slow.errno(), libc::EIO);
        let error = Error::from_errno(libc::ENOSPC);
        assert_eq!(
            allowed_of_zero(error.clone(), ZeroOptions::default()),
            error
        );
    }
}
