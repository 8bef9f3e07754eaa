//! `struct nbdkit_filter`, in each of the layouts nbdkit has had since 1.30.
//!
//! nbdkit copies the structure out of the filter and checks only that `_api_version` is 6 and that
//! `_version` is its own version string. So the layout has to fit exactly. Sources:
//! nbdkit-filter.h of 1.32.5 (no `dump_plugin`) and of 1.42.3 (with it, since 1.36). Newer nbdkits
//! may copy more than is known here, which the padding is for: all of it NULL.

use std::ffi::{c_char, c_int, c_void};

use crate::raw::{
    Backend, Context, Exports, Extents, NextConfig, NextConfigComplete, NextDefaultExport,
    NextListExports, NextOpen, NextOps, NextPreconnect,
};
use crate::version::Version;

type Handle = *mut c_void;
type AskConnection = extern "C" fn(*mut NextOps, Handle) -> c_int;
type RangeRequest = extern "C" fn(*mut NextOps, Handle, u32, u64, u32, *mut c_int) -> c_int;

/// The members up to `thread_model`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) api_version: c_int,
    pub(crate) version: *const c_char,
    pub(crate) name: *const c_char,
    pub(crate) longname: *const c_char,
    pub(crate) description: *const c_char,
    pub(crate) load: extern "C" fn(),
    pub(crate) unload: extern "C" fn(),
    pub(crate) config:
        extern "C" fn(NextConfig, *mut Backend, *const c_char, *const c_char) -> c_int,
    pub(crate) config_complete: extern "C" fn(NextConfigComplete, *mut Backend) -> c_int,
    pub(crate) config_help: *const c_char,
    pub(crate) thread_model: extern "C" fn() -> c_int,
}

/// The members from `get_ready` on.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    pub(crate) get_ready: extern "C" fn(c_int) -> c_int,
    pub(crate) after_fork: extern "C" fn(*mut Backend) -> c_int,
    pub(crate) cleanup: extern "C" fn(*mut Backend),
    pub(crate) preconnect: extern "C" fn(NextPreconnect, *mut Backend, c_int) -> c_int,
    pub(crate) list_exports:
        extern "C" fn(NextListExports, *mut Backend, c_int, c_int, *mut Exports) -> c_int,
    pub(crate) default_export:
        extern "C" fn(NextDefaultExport, *mut Backend, c_int, c_int) -> *const c_char,
    pub(crate) open: extern "C" fn(NextOpen, *mut Context, c_int, *const c_char, c_int) -> Handle,
    pub(crate) close: extern "C" fn(Handle),
    pub(crate) prepare: extern "C" fn(*mut NextOps, Handle, c_int) -> c_int,
    pub(crate) finalize: AskConnection,
    pub(crate) get_size: extern "C" fn(*mut NextOps, Handle) -> i64,
    pub(crate) export_description: extern "C" fn(*mut NextOps, Handle) -> *const c_char,
    pub(crate) block_size:
        extern "C" fn(*mut NextOps, Handle, *mut u32, *mut u32, *mut u32) -> c_int,
    pub(crate) can_write: AskConnection,
    pub(crate) can_flush: AskConnection,
    pub(crate) is_rotational: AskConnection,
    pub(crate) can_trim: AskConnection,
    pub(crate) can_zero: AskConnection,
    pub(crate) can_fast_zero: AskConnection,
    pub(crate) can_extents: AskConnection,
    pub(crate) can_fua: AskConnection,
    pub(crate) can_multi_conn: AskConnection,
    pub(crate) can_cache: AskConnection,
    pub(crate) pread:
        extern "C" fn(*mut NextOps, Handle, *mut c_void, u32, u64, u32, *mut c_int) -> c_int,
    pub(crate) pwrite:
        extern "C" fn(*mut NextOps, Handle, *const c_void, u32, u64, u32, *mut c_int) -> c_int,
    pub(crate) flush: extern "C" fn(*mut NextOps, Handle, u32, *mut c_int) -> c_int,
    pub(crate) trim: RangeRequest,
    pub(crate) zero: RangeRequest,
    pub(crate) extents:
        extern "C" fn(*mut NextOps, Handle, u32, u64, u32, *mut Extents, *mut c_int) -> c_int,
    pub(crate) cache: RangeRequest,
}

/// Room for members that a newer nbdkit might add at the end.
type Padding = [*const c_void; 64];

/// 1.30 to 1.34.
#[repr(C)]
struct Since130 {
    head: Head,
    tail: Tail,
    padding: Padding,
}

/// 1.36 and newer.
#[repr(C)]
struct Since136 {
    head: Head,
    dump_plugin: extern "C" fn(),
    tail: Tail,
    padding: Padding,
}

/// Everything a layout is filled from.
#[derive(Clone, Copy)]
pub(crate) struct Members {
    pub(crate) head: Head,
    pub(crate) dump_plugin: extern "C" fn(),
    pub(crate) tail: Tail,
}

impl Members {
    /// The structure for that version, alive for the rest of the process.
    pub(crate) fn lay_out(self, version: &Version) -> *const c_void {
        let Self {
            head,
            dump_plugin,
            tail,
        } = self;
        let padding = [std::ptr::null(); 64];
        if version.has_dump_plugin() {
            let structure = Since136 {
                head,
                dump_plugin,
                tail,
                padding,
            };
            std::ptr::from_ref(Box::leak(Box::new(structure))).cast()
        } else {
            let structure = Since130 {
                head,
                tail,
                padding,
            };
            std::ptr::from_ref(Box::leak(Box::new(structure))).cast()
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// Offsets printed by a C program compiled against each header.
    #[test]
    fn offsets_are_those_of_the_headers() {
        assert_eq!(offset_of!(Since130, tail) + offset_of!(Tail, get_ready), 88);
        assert_eq!(offset_of!(Since130, tail) + offset_of!(Tail, cache), 320);
        assert_eq!(offset_of!(Since130, padding), 328);
        assert_eq!(offset_of!(Since136, dump_plugin), 88);
        assert_eq!(offset_of!(Since136, tail) + offset_of!(Tail, cache), 328);
        assert_eq!(offset_of!(Since136, padding), 336);
        assert_eq!(size_of::<NextOps>(), 22 * 8);
    }
}
