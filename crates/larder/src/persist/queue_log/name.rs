//! What the files of queues are called.

use crate::directory::VolumeNumber;

const PREFIX: &str = "queue-";

/// What is being made has this behind its name.
const NEW_SUFFIX: &str = ".new";

/// The file of that volume's queue.
pub(crate) fn file_name(volume: VolumeNumber) -> String {
    format!("{PREFIX}{}", volume.0)
}

/// What it is called until it is whole for the first time.
pub(super) fn new_file_name(volume: VolumeNumber) -> String {
    file_name(volume) + NEW_SUFFIX
}

/// The volume whose queue has that name.
pub(crate) fn volume_of(name: &str) -> Option<VolumeNumber> {
    let volume = VolumeNumber(name.strip_prefix(PREFIX)?.parse().ok()?);
    // Each has one name.
    (file_name(volume) == name).then_some(volume)
}

/// Whether it is the name of a queue that is being made, or was.
pub(crate) fn is_new(name: &str) -> bool {
    let volume = name.strip_suffix(NEW_SUFFIX).and_then(volume_of);
    volume.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_volume_has_one_name() {
        for number in [0, 7, 10, u32::MAX] {
            let volume = VolumeNumber(number);
            assert_eq!(volume_of(&file_name(volume)), Some(volume));
            assert!(is_new(&new_file_name(volume)));
        }
        assert_eq!(file_name(VolumeNumber(12)), "queue-12");
        for other in [
            "queue-",
            "queue-01",
            "queue-+1",
            "queue-4294967296",
            "queue-1 ",
            "queue-1.new",
        ] {
            assert_eq!(volume_of(other), None, "{other}");
        }
        assert!(!is_new("queue-1") && !is_new("queue-01.new") && !is_new("superblock.new"));
    }
}
