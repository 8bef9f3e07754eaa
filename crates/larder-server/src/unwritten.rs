//! How data that its origin does not have is told, by range.

use larder::Leftover;
use larder_frontend::report::by_range;

/// Ranges that are named while nothing is lost yet; more of them help nobody.
const RANGES_TO_NAME: usize = 64;

/// Messages about data that could not be written back, and is kept.
pub(crate) fn still_here(leftover: &Leftover) -> Vec<String> {
    let named = Leftover {
        volume: leftover.volume.clone(),
        ranges: leftover
            .ranges
            .iter()
            .copied()
            .take(RANGES_TO_NAME)
            .collect(),
    };
    let mut messages = by_range("not written to the origin yet, and kept", &named);
    if leftover.ranges.len() > RANGES_TO_NAME {
        let bytes: u64 = leftover.ranges.iter().map(|(_, length)| length).sum();
        messages.push(format!(
            "... and {} more ranges; together {bytes} bytes",
            leftover.ranges.len() - RANGES_TO_NAME
        ));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ranges_are_summed_up() {
        let leftover = |count: u64| Leftover {
            volume: "a".to_owned(),
            ranges: (0..count).map(|index| (index * 1024, 512)).collect(),
        };
        assert_eq!(
            still_here(&leftover(1)),
            ["not written to the origin yet, and kept, export \"a\": 512 bytes at 0"]
        );
        let said = still_here(&leftover(100));
        assert_eq!(said.len(), 3);
        assert_eq!(said[2], "... and 36 more ranges; together 51200 bytes");
    }
}
