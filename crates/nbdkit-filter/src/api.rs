//! nbdkit's own functions, found at run time.
//!
//! They live in the nbdkit executable, and a filter finds them when it is loaded. Looking them up
//! with `dlsym`, instead of leaving them to the linker, keeps this crate's own tests linkable,
//! works whatever flags a filter is linked with, and names what is missing.
//!
//! Invariant: inside nbdkit the table is filled before any callback runs. Outside (unit tests) it
//! is empty: logging goes to standard error and everything else fails with ENOSYS.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::raw::{Exports, Extents, RawExport, RawExtent};

/// Declares the table and how to fill it: one line per function, all of them in every nbdkit
/// since 1.30.
macro_rules! functions {
    ($($name:ident / $symbol:literal: $type:ty;)*) => {
        pub(crate) struct Api {
            $(pub(crate) $name: $type,)*
        }

        impl Api {
            fn find() -> std::result::Result<Self, &'static CStr> {
                Ok(Self {
                    // SAFETY: the symbols are nbdkit's, and the types are those its header gives.
                    $($name: unsafe {
                        std::mem::transmute::<*mut c_void, $type>(look_up($symbol)?)
                    },)*
                })
            }
        }
    };
}

functions! {
    error / c"nbdkit_error": unsafe extern "C" fn(*const c_char, ...);
    debug / c"nbdkit_debug": unsafe extern "C" fn(*const c_char, ...);
    parse_size / c"nbdkit_parse_size": unsafe extern "C" fn(*const c_char) -> i64;
    parse_bool / c"nbdkit_parse_bool": unsafe extern "C" fn(*const c_char) -> c_int;
    parse_unsigned / c"nbdkit_parse_unsigned":
        unsafe extern "C" fn(*const c_char, *const c_char, *mut c_uint) -> c_int;
    absolute_path / c"nbdkit_absolute_path": unsafe extern "C" fn(*const c_char) -> *mut c_char;
    real_path / c"nbdkit_realpath": unsafe extern "C" fn(*const c_char) -> *mut c_char;
    strdup_intern / c"nbdkit_strdup_intern": unsafe extern "C" fn(*const c_char) -> *const c_char;
    extents_new / c"nbdkit_extents_new": unsafe extern "C" fn(u64, u64) -> *mut Extents;
    extents_free / c"nbdkit_extents_free": unsafe extern "C" fn(*mut Extents);
    extents_count / c"nbdkit_extents_count": unsafe extern "C" fn(*const Extents) -> usize;
    get_extent / c"nbdkit_get_extent": unsafe extern "C" fn(*const Extents, usize) -> RawExtent;
    add_extent / c"nbdkit_add_extent": unsafe extern "C" fn(*mut Extents, u64, u64, u32) -> c_int;
    exports_new / c"nbdkit_exports_new": unsafe extern "C" fn() -> *mut Exports;
    exports_free / c"nbdkit_exports_free": unsafe extern "C" fn(*mut Exports);
    exports_count / c"nbdkit_exports_count": unsafe extern "C" fn(*const Exports) -> usize;
    get_export / c"nbdkit_get_export": unsafe extern "C" fn(*const Exports, usize) -> RawExport;
    add_export / c"nbdkit_add_export":
        unsafe extern "C" fn(*mut Exports, *const c_char, *const c_char) -> c_int;
}

static API: OnceLock<Api> = OnceLock::new();

/// Fills the table; fails with the name of what is missing.
pub(crate) fn connect() -> std::result::Result<(), &'static CStr> {
    if API.get().is_none() {
        // Somebody else having set it in between is as good.
        let _ = API.set(Api::find()?);
    }
    Ok(())
}

pub(crate) fn get() -> Option<&'static Api> {
    API.get()
}

pub(crate) fn need() -> Result<&'static Api> {
    get().ok_or_else(|| Error::new(libc::ENOSYS, "not loaded by nbdkit"))
}

fn look_up(symbol: &'static CStr) -> std::result::Result<*mut c_void, &'static CStr> {
    // SAFETY: the name is a C string; the default scope holds the main program's symbols.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    if address.is_null() {
        return Err(symbol);
    }
    Ok(address)
}

/// The error of the C function that has just failed and has logged why.
pub(crate) fn last_error() -> Error {
    Error::from_errno(
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    )
}

/// Takes over a string that a C function allocated, or its error.
///
/// # Safety
///
/// `text` is NULL or a C string from malloc that nobody else frees.
pub(crate) unsafe fn take_string(text: *mut c_char) -> Result<CString> {
    if text.is_null() {
        return Err(last_error());
    }
    // SAFETY: as the caller promises.
    let copy = unsafe { CStr::from_ptr(text) }.to_owned();
    // SAFETY: as the caller promises.
    unsafe { libc::free(text.cast()) };
    Ok(copy)
}

/// Adds to a list of extents that nbdkit keeps alive.
pub(crate) fn add_extent(list: *mut Extents, offset: u64, length: u64, kind: u32) -> Result<()> {
    // SAFETY: lists come from nbdkit or `OwnedExtents`, and their owners keep them alive.
    match unsafe { (need()?.add_extent)(list, offset, length, kind) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// The first byte after what the list covers, if it covers anything.
pub(crate) fn end_of_extents(list: *mut Extents) -> Option<u64> {
    let api = get()?;
    // SAFETY: as in `add_extent`.
    let last = unsafe { (api.extents_count)(list) }.checked_sub(1)?;
    // SAFETY: as in `add_extent`, and the index is below the count.
    let last = unsafe { (api.get_extent)(list, last) };
    Some(last.offset + last.length)
}

/// A list of extents of our own.
#[derive(Debug)]
pub(crate) struct OwnedExtents {
    list: *mut Extents,
}

impl OwnedExtents {
    /// An empty list for the bytes from `start` to before `end`.
    pub(crate) fn new(start: u64, end: u64) -> Result<Self> {
        // SAFETY: any numbers may be passed.
        let list = unsafe { (need()?.extents_new)(start, end) };
        if list.is_null() {
            return Err(last_error());
        }
        Ok(Self { list })
    }

    pub(crate) fn pointer(&self) -> *mut Extents {
        self.list
    }

    pub(crate) fn to_vec(&self) -> Vec<Extent> {
        let Some(api) = get() else { return Vec::new() };
        // SAFETY: the list is ours and alive.
        let count = unsafe { (api.extents_count)(self.list) };
        (0..count)
            // SAFETY: the list is ours and alive, the index below its count.
            .map(|index| Extent::from_raw(unsafe { (api.get_extent)(self.list, index) }))
            .collect()
    }
}

impl Drop for OwnedExtents {
    fn drop(&mut self) {
        if let Some(api) = get() {
            // SAFETY: the list is ours and nobody has it after this.
            unsafe { (api.extents_free)(self.list) };
        }
    }
}
