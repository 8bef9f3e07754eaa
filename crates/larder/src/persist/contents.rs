//! What a directory is, by the names in it: a cache, one that was never finished, nothing yet, or somebody else's.

use super::header::Role;
use super::queue_log;
use super::superblock;

/// The file that is locked while the directory is in use.
pub(crate) const LOCK_FILE_NAME: &str = "lock";

/// What file systems put into their root by themselves.
const OF_THE_FILE_SYSTEM: [&[u8]; 1] = [b"lost+found"];

/// What a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing: a cache can be made here.
    Empty,
    /// A cache whose making was not finished, unless its journal was used: then its superblock was lost.
    Unfinished,
    Cache,
    /// It holds something that is not a cache's, such as this.
    Foreign(Vec<u8>),
}

impl Contents {
    /// By the names in a directory, without those that every directory has.
    pub(crate) fn of<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let mut is_empty = true;
        let mut is_cache = false;
        let mut foreign: Option<&[u8]> = None;
        for name in names {
            is_cache |= name == superblock::FILE_NAME.as_bytes();
            match is_ours(name) {
                true => is_empty = false,
                false if OF_THE_FILE_SYSTEM.contains(&name) => {}
                // The same one whatever the order.
                false => foreign = Some(foreign.map_or(name, |other| other.min(name))),
            }
        }
        match foreign {
            _ if is_cache => Self::Cache,
            Some(name) => Self::Foreign(name.to_vec()),
            None if is_empty => Self::Empty,
            None => Self::Unfinished,
        }
    }
}

fn is_ours(name: &[u8]) -> bool {
    let others = [
        LOCK_FILE_NAME,
        superblock::FILE_NAME,
        superblock::NEW_FILE_NAME,
    ];
    let roles = Role::ALL.into_iter().map(Role::file_name);
    let is_queue = |name: &str| queue_log::volume_of(name).is_some() || queue_log::is_new(name);
    roles.chain(others).any(|ours| ours.as_bytes() == name)
        || std::str::from_utf8(name).is_ok_and(is_queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Contents {
        Contents::of(names.iter().map(|name| name.as_bytes()))
    }

    #[test]
    fn a_directory_is_what_its_names_say() {
        assert_eq!(of(&[]), Contents::Empty);
        assert_eq!(of(&["lost+found"]), Contents::Empty);
        assert_eq!(of(&["lock"]), Contents::Unfinished);
        assert_eq!(of(&["map", "superblock.new"]), Contents::Unfinished);
        assert_eq!(of(&["superblock", "lock", "journal"]), Contents::Cache);
        assert_eq!(of(&["queue-1", "queue-12.new"]), Contents::Unfinished);
        assert_eq!(of(&["superblock", "queue-1"]), Contents::Cache);
        assert_eq!(of(&["notes", "superblock"]), Contents::Cache);
        let foreign = |name: &str| Contents::Foreign(name.as_bytes().to_vec());
        assert_eq!(of(&["b.txt", "a.txt"]), foreign("a.txt"));
        assert_eq!(of(&["journal", "map", "work"]), foreign("work"));
        assert_eq!(of(&["journal", "queue-01"]), foreign("queue-01"));
    }
}
