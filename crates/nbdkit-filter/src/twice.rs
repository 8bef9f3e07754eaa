//! Refusing to be in one chain twice: there is one instance, so both places would share it.
//!
//! The same file is loaded once by the loader, so its second `filter_init` meets the mark that the
//! first one left. A copy under another path has marks of its own; so each filter exports its mark
//! under one symbol, and a new one looks through all loaded libraries for a mark with its name.

use std::ffi::{CStr, c_char, c_int, c_void};
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
        let mut search = Search {
            own: self,
            found: false,
        };
        // SAFETY: the callback has the right type, and `search` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
        !search.found && !self.taken.swap(true, Ordering::AcqRel)
    }
}

struct Search {
    own: &'static Mark,
    found: bool,
}

unsafe extern "C" fn visit(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    search: *mut c_void,
) -> c_int {
    // SAFETY: `take` passes a search; the loader passes a valid object.
    let (search, object) = unsafe { (&mut *search.cast::<Search>(), &*object) };
    if object.dlpi_name.is_null() {
        return 0;
    }
    // SAFETY: the name is a C string. RTLD_NOLOAD loads nothing, it only finds what is there.
    let library = unsafe { libc::dlopen(object.dlpi_name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return 0;
    }
    // SAFETY: the handle is open and the name a C string.
    let mark = unsafe { libc::dlsym(library, SYMBOL.as_ptr()) }.cast::<Mark>();
    if !mark.is_null() && !std::ptr::eq(mark, search.own) {
        // SAFETY: the symbol is exported by this crate's macro; the magic is read first, and the
        // rest only if it says that the layout is this one.
        let is_mark = unsafe { (*mark).magic } == MAGIC;
        // SAFETY: as above.
        if is_mark && unsafe { &*mark }.is_in_use_as(search.own.name()) {
            search.found = true;
        }
    }
    // SAFETY: gives back what dlopen counted.
    unsafe { libc::dlclose(library) };
    0
}

impl Mark {
    fn is_in_use_as(&self, name: &CStr) -> bool {
        self.taken.load(Ordering::Acquire) && self.name() == name
    }
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
