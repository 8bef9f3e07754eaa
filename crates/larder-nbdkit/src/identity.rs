//! How a volume is known: which clients share one content.
//!
//! Nothing tells a filter whether a plugin looks at the export name. Two names for one disk are two
//! caches that do not know of each other's writes, one name for two disks mixes them; so the user
//! says which it is, and names that look like one disk are pointed out once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Mutex, PoisonError};

/// The name of the volume of an export. Names are UTF-8, as the protocol wants them, but nobody has
/// checked; two different ones stay different here whatever their bytes are.
pub(crate) fn volume_name(export_name: &CStr) -> String {
    /// Begins what stands for a name that is not UTF-8.
    const MARK: char = '\u{fffd}';
    match export_name.to_str() {
        Ok(name) if !name.starts_with(MARK) => name.to_owned(),
        _ => format!("{MARK}{}", export_name.to_bytes().escape_ascii()),
    }
}

/// The names seen so far and their sizes, to find two names that look like one disk.
#[derive(Debug, Default)]
pub(crate) struct SeenNames {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// A plugin that ignores names takes any; what clients can make up must not fill the memory.
    bytes_by_name: HashMap<String, u64>,
    warned: bool,
}

/// Names beyond this many are not remembered.
const MOST_NAMES: usize = 1024;

impl SeenNames {
    /// Notes that the export `name` has `size_bytes`. The first time that another name had as
    /// many, that name is returned.
    pub(crate) fn twin(&self, name: &str, size_bytes: u64) -> Option<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.warned || size_bytes == 0 {
            return None;
        }
        let twin = seen
            .bytes_by_name
            .iter()
            .find(|(other, size)| *other != name && **size == size_bytes)
            .map(|(other, _)| other.clone());
        seen.warned = twin.is_some();
        if seen.bytes_by_name.len() < MOST_NAMES {
            seen.bytes_by_name.insert(name.to_owned(), size_bytes);
        }
        twin
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_export_names_are_different_volumes() {
        assert_eq!(volume_name(c""), "");
        assert_eq!(volume_name(c"disk/\u{e9}"), "disk/\u{e9}");
        let names = [c"\xff", c"\xfe", c"\\xff", c"\u{fffd}\\xff", c"\u{fffd}"];
        let distinct: HashSet<String> = names.into_iter().map(volume_name).collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn a_second_name_of_equal_size_is_found_once() {
        let names = SeenNames::default();
        assert_eq!(names.twin("a", 1 << 20), None);
        assert_eq!(names.twin("a", 1 << 20), None);
        assert_eq!(names.twin("b", 2 << 20), None);
        assert_eq!(names.twin("c", 1 << 20), Some("a".to_owned()));
        assert_eq!(names.twin("d", 1 << 20), None);
    }

    #[test]
    fn empty_exports_are_not_alike() {
        let names = SeenNames::default();
        assert_eq!(names.twin("a", 0), None);
        assert_eq!(names.twin("b", 0), None);
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let names = SeenNames::default();
        for number in 0..5000_u64 {
            names.twin(&number.to_string(), number);
        }
        let seen = names.seen.lock().expect("not poisoned");
        assert_eq!(seen.bytes_by_name.len(), MOST_NAMES);
    }
}
