//! How sizes are written: as they may be typed if that is short, else rounded.

use indicatif::BinaryBytes;

/// A size as it may be typed, such as `64M`, if it is a whole number of something.
pub(super) fn size(bytes: u64) -> String {
    for (shift, suffix) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        let unit = 1 << shift;
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{suffix}", bytes >> shift);
        }
    }
    BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_sizes_are_written_as_they_are_typed() {
        assert_eq!(size(64 << 20), "64M");
        assert_eq!(size(1536 << 20), "1536M");
        assert_eq!(size(4096), "4K");
        assert_eq!(size((1 << 30) + 1), "1.00 GiB");
    }
}
