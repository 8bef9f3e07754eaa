//! nbdkit's C declarations, written by hand: types, flags, and the table of `next` functions.
//!
//! Source: nbdkit-filter.h and nbdkit-common.h of 1.32.5 and 1.42.3, which agree on everything
//! here. The table of `next` functions is what it has been since 1.30. No header is needed to
//! build, and nothing here is resolved by the linker: see `api.rs`.

use std::ffi::{c_char, c_int, c_void};

pub(crate) const API_VERSION: c_int = 6;

pub(crate) const FLAG_MAY_TRIM: u32 = 1 << 0;
pub(crate) const FLAG_FUA: u32 = 1 << 1;
pub(crate) const FLAG_REQ_ONE: u32 = 1 << 2;
pub(crate) const FLAG_FAST_ZERO: u32 = 1 << 3;

pub(crate) const EXTENT_HOLE: u32 = 1 << 0;
pub(crate) const EXTENT_ZERO: u32 = 1 << 1;

/// An object of nbdkit's that is only ever seen behind a pointer.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        #[derive(Debug)]
        pub(crate) struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque!(Backend Context Extents Exports);

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RawExtent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) kind: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RawExport {
    pub(crate) name: *mut c_char,
    pub(crate) description: *mut c_char,
}

pub(crate) type NextConfig =
    unsafe extern "C" fn(*mut Backend, *const c_char, *const c_char) -> c_int;
pub(crate) type NextConfigComplete = unsafe extern "C" fn(*mut Backend) -> c_int;
pub(crate) type NextPreconnect = unsafe extern "C" fn(*mut Backend, c_int) -> c_int;
pub(crate) type NextListExports = unsafe extern "C" fn(*mut Backend, c_int, *mut Exports) -> c_int;
pub(crate) type NextDefaultExport = unsafe extern "C" fn(*mut Backend, c_int) -> *const c_char;
pub(crate) type NextOpen = unsafe extern "C" fn(*mut Context, c_int, *const c_char) -> c_int;

/// A question to the next layer that is answered with a number or -1.
pub(crate) type Ask = unsafe extern "C" fn(*mut NextOps) -> c_int;
/// A request for a range of the next layer that carries no data.
pub(crate) type RangeCall = unsafe extern "C" fn(*mut NextOps, u32, u64, u32, *mut c_int) -> c_int;

/// `struct nbdkit_next_ops`. Instances belong to nbdkit and are longer than this.
#[repr(C)]
pub(crate) struct NextOps {
    pub(crate) prepare: Ask,
    pub(crate) finalize: Ask,
    pub(crate) get_size: unsafe extern "C" fn(*mut NextOps) -> i64,
    pub(crate) export_description: unsafe extern "C" fn(*mut NextOps) -> *const c_char,
    pub(crate) block_size:
        unsafe extern "C" fn(*mut NextOps, *mut u32, *mut u32, *mut u32) -> c_int,
    pub(crate) can_write: Ask,
    pub(crate) can_flush: Ask,
    pub(crate) is_rotational: Ask,
    pub(crate) can_trim: Ask,
    pub(crate) can_zero: Ask,
    pub(crate) can_fast_zero: Ask,
    pub(crate) can_extents: Ask,
    pub(crate) can_fua: Ask,
    pub(crate) can_multi_conn: Ask,
    pub(crate) can_cache: Ask,
    pub(crate) pread:
        unsafe extern "C" fn(*mut NextOps, *mut c_void, u32, u64, u32, *mut c_int) -> c_int,
    pub(crate) pwrite:
        unsafe extern "C" fn(*mut NextOps, *const c_void, u32, u64, u32, *mut c_int) -> c_int,
    pub(crate) flush: unsafe extern "C" fn(*mut NextOps, u32, *mut c_int) -> c_int,
    pub(crate) trim: RangeCall,
    pub(crate) zero: RangeCall,
    pub(crate) extents:
        unsafe extern "C" fn(*mut NextOps, u32, u64, u32, *mut Extents, *mut c_int) -> c_int,
    pub(crate) cache: RangeCall,
}
