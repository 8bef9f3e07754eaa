//! The version string in the main program's read-only memory.

use std::ffi::{c_int, c_void};

use super::{Support, Version};

/// The version, if exactly one string in the main program can be it.
pub(super) fn find() -> Option<Version> {
    let mut found = Vec::new();
    // SAFETY: the callback has the right type, and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut found).cast()) };
    one_of(found)
}

fn one_of(mut found: Vec<Version>) -> Option<Version> {
    found.dedup();
    match found.len() {
        1 => found.pop(),
        _ => None,
    }
}

/// Looks through the first object, which is the main program (dl_iterate_phdr(3)), and stops.
unsafe extern "C" fn visit(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: `find` passes a vector of this type; the loader passes a valid object.
    let (found, object) = unsafe { (&mut *found.cast::<Vec<Version>>(), &*object) };
    for index in 0..usize::from(object.dlpi_phnum) {
        // SAFETY: there are `dlpi_phnum` headers.
        let header = unsafe { &*object.dlpi_phdr.add(index) };
        let readable = header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R;
        if header.p_type != libc::PT_LOAD || !readable || header.p_filesz == 0 {
            continue;
        }
        let start = object.dlpi_addr as usize + header.p_vaddr as usize;
        // SAFETY: the loader has mapped this segment's file content, readable, and it stays; as
        // it cannot be written, nothing changes it.
        let bytes =
            unsafe { std::slice::from_raw_parts(start as *const u8, header.p_filesz as usize) };
        found.extend(candidates(bytes));
    }
    1
}

/// Whole strings, from NUL to NUL, that are versions this crate could serve.
fn candidates(bytes: &[u8]) -> impl Iterator<Item = Version> {
    bytes
        .split(|&byte| byte == 0)
        .filter(|text| text.len() >= "1.0.0".len() && text[0].is_ascii_digit())
        .filter_map(Version::parse)
        .filter(|version| version.support() != Support::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(bytes: &[u8]) -> Option<String> {
        let version = one_of(candidates(bytes).collect())?;
        Some(version.text().to_str().unwrap().to_owned())
    }

    #[test]
    fn one_string_is_the_version() {
        let found = find_in(b"\0nbdkit\0%s\0" as &[u8]);
        assert_eq!(found, None);
        let found = find_in(b"\0nbdkit\0" as &[u8]);
        assert_eq!(found, None);
        let memory = [
            b"nbdkit\0".as_slice(),
            b"1.32.5\0",
            b"0.0.0.0\0",
            b"tls 1.2.3.\x01\0",
        ];
        assert_eq!(find_in(&memory.concat()).as_deref(), Some("1.32.5"));
    }

    #[test]
    fn two_different_strings_are_none() {
        assert_eq!(find_in(b"1.32.5\x001.40.1\0"), None);
        assert_eq!(find_in(b"1.32.5\x001.32.5\0").as_deref(), Some("1.32.5"));
    }

    #[test]
    fn looking_through_this_program_is_safe() {
        let _ = find();
    }
}
