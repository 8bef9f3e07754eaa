//! Memory of large requests goes back to the system when they are done.
//!
//! glibc maps a large buffer for itself and unmaps it when it is freed, but only until one has been freed: from
//! then on buffers of that size come from its arenas, of which there are several for each processor, and
//! much of them stays there (mallopt(3), M_MMAP_THRESHOLD). That goes up to 32 MiB, as much as the largest payload, so a
//! few clients could make the server large for good. A threshold that was set stays as it is.

/// Buffers from this size on are mapped for themselves.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 1 << 20;

/// Has buffers of large requests given back. Called before there are other threads.
pub(crate) fn give_back_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(
            unsafe_code,
            reason = "the allocator of the C library has no other interface"
        )]
        // SAFETY: mallopt changes a figure of the allocator and touches no memory of ours. Where it fails,
        // everything stays as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}
