//! Keeping the filter's library in memory until the process ends.
//!
//! nbdkit unloads its filters before it exits. Threads of its own may end only after that, and run
//! what Rust's standard library has registered for the end of a thread: code of the filter. So the library
//! must not be unmapped, whatever `dlclose` is told.

use std::ffi::c_void;

/// Marks the library that contains `address` as never to be unmapped. Without success nothing is
/// different from before.
pub(crate) fn keep_loaded(address: *const c_void) {
    // SAFETY: all members of a Dl_info may be zero.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about, and `found` is there to be filled.
    let known = unsafe { libc::dladdr(address, &raw mut found) } != 0;
    if !known || found.dli_fname.is_null() {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the name is the loader's own; RTLD_NOLOAD loads nothing. The handle is kept on purpose.
    unsafe { libc::dlopen(found.dli_fname, flags) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_may_be_asked_about() {
        keep_loaded(std::ptr::null());
        keep_loaded(keep_loaded as *const c_void);
    }
}
