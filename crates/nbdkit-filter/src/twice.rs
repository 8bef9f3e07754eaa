//! Refusing to be in one chain twice: there is one instance, so both places would share it.
//!
//! The same file is loaded once by the loader, so its second `filter_init` meets the mark that the
//! first one left. A copy under another path has marks of its own; so each filter exports its mark
//! under one symbol, and a new one looks through all loaded libraries for a mark with its name.
//!
//! What is exported is a pointer to the mark. nbdkit loads with RTLD_GLOBAL (server/main.c), so a
//! filter's own use of an exported symbol may end up at another filter's; its own mark it
//! therefore knows by a name that is not exported.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// What [`register!`](crate::register) exports: a name, and whether that filter is in the chain.
#[repr(C)]
#[derive(Debug)]
pub struct Mark {
    magic: [u8; 16],
    name: Name,
    taken: AtomicBool,
}

#[repr(transparent)]
#[derive(Debug)]
struct Name(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Name {}

/// Tells a mark from a symbol that only happens to have its name, and its layout from later ones.
const MAGIC: [u8; 16] = *b"nbdkit-filter-1\0";

/// The symbol under which marks are exported.
const SYMBOL: &CStr = c"nbdkit_filter_mark";

impl Mark {
    /// The mark of a filter that is not in the chain yet.
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            magic: MAGIC,
            name: Name(name.as_ptr()),
            taken: AtomicBool::new(false),
        }
    }

    fn name(&self) -> &CStr {
        // SAFETY: `new` took it from a constant of a library that is loaded.
        unsafe { CStr::from_ptr(self.name.0) }
    }

    /// Takes a place in the chain; false if this filter or a copy of it has one.
    pub(crate) fn take(&'static self) -> bool {
        let mut libraries: Vec<CString> = Vec::new();
        // SAFETY: the callback has the right type, and the vector outlives the call.
        unsafe {
            libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut libraries).cast());
        }
        let copied = libraries
            .iter()
            .any(|library| self.has_a_copy_in_use(library));
        !copied && !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Whether that library exports another mark with this name, in use.
    fn has_a_copy_in_use(&self, library: &CStr) -> bool {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        // SAFETY: RTLD_NOLOAD loads nothing, it only finds what is there.
        let library = unsafe { libc::dlopen(library.as_ptr(), flags) };
        if library.is_null() {
            return false;
        }
        // SAFETY: the handle is open and the name a C string.
        let symbol = unsafe { libc::dlsym(library, SYMBOL.as_ptr()) }.cast::<*const Mark>();
        let in_use = !symbol.is_null() && {
            // SAFETY: this crate's macro exports the symbol, a pointer to a constant.
            let other = unsafe { *symbol };
            // SAFETY: the magic is read first, and the rest only if it says that the layout is
            // this one.
            !std::ptr::eq(other, self) && unsafe { (*other).magic } == MAGIC
                // SAFETY: as above.
                && unsafe { &*other }.is_in_use_as(self.name())
        };
        // SAFETY: gives back what dlopen counted.
        unsafe { libc::dlclose(library) };
        in_use
    }

    fn is_in_use_as(&self, name: &CStr) -> bool {
        self.taken.load(Ordering::Acquire) && self.name() == name
    }
}

/// Notes the names of all loaded libraries; the main program has none.
unsafe extern "C" fn visit(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    libraries: *mut c_void,
) -> c_int {
    // SAFETY: `take` passes a vector of this type; the loader passes a valid object.
    let (libraries, object) = unsafe { (&mut *libraries.cast::<Vec<CString>>(), &*object) };
    if !object.dlpi_name.is_null() {
        // SAFETY: the name is a C string.
        let name = unsafe { CStr::from_ptr(object.dlpi_name) };
        if !name.is_empty() {
            libraries.push(name.to_owned());
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once() {
        static MARK: Mark = Mark::new(c"unit-test");
        assert!(MARK.take());
        assert!(!MARK.take());
    }
}
