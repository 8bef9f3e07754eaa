//! What the origin does not have when a cache ends, and what becomes of it.

use std::fmt::Write;

use larder::{Cache, FlushTo, Leftover, Mode};

/// Ranges that one message names; a log line has its limits.
const RANGES_PER_MESSAGE: usize = 32;
/// Ranges that are named while nothing is lost; more of them help nobody.
const RANGES_TO_NAME: usize = 64;

/// What becomes of what the origin does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes, as `cache=unsafe` says.
    Discarded,
    /// It goes, and should not.
    Lost,
    /// The next start finds it in the cache's directory.
    Kept,
    /// The next start finds what was flushed.
    KeptAsFlushed,
}

impl Fate {
    /// In a cache that ends now.
    pub fn of(cache: &Cache) -> Self {
        let config = cache.config();
        match (config.mode, config.flush_to) {
            (Mode::Unsafe, _) => Self::Discarded,
            (_, FlushTo::Origin) => Self::Lost,
            (_, FlushTo::Cache) if cache.keeps_leftovers() => Self::Kept,
            (_, FlushTo::Cache) => Self::KeptAsFlushed,
        }
    }

    /// The errors at the end about what did not reach the origin, which the front end calls `origin`, though it
    /// should have: what is lost is named by every range.
    pub fn errors(self, leftovers: &[Leftover], origin: &str) -> Vec<String> {
        let what = match self {
            Self::Discarded => return Vec::new(),
            Self::Lost => format!("lost, never written to {origin}"),
            Self::Kept => format!(
                "not written to {origin}, kept in the cache directory, where the next start goes on with it"
            ),
            Self::KeptAsFlushed => format!(
                "not written to {origin}, kept in the cache directory as far as it was flushed, lost otherwise"
            ),
        };
        let by_range = match self {
            Self::Kept => in_short,
            _ => by_range,
        };
        leftovers
            .iter()
            .flat_map(|left| by_range(&what, left))
            .collect()
    }

    /// The warning at the end about data that `cache=unsafe` kept from the origin. None where there is none.
    pub fn warning(self, leftovers: &[Leftover], origin: &str) -> Option<String> {
        let bytes: u64 = leftovers.iter().map(bytes).sum();
        (self == Self::Discarded && bytes > 0).then(|| {
            format!(
                "{bytes} bytes that were not written to {origin} are discarded, as cache=unsafe says"
            )
        })
    }
}

/// Messages that name every range of a volume; `what` says what is the matter with them.
pub fn by_range(what: &str, leftover: &Leftover) -> Vec<String> {
    let chunks = leftover.ranges.chunks(RANGES_PER_MESSAGE);
    chunks
        .map(|ranges| message(what, &leftover.volume, ranges))
        .collect()
}

/// The same, of which many ranges are summed up.
pub fn in_short(what: &str, leftover: &Leftover) -> Vec<String> {
    let named = leftover.ranges.iter().take(RANGES_TO_NAME);
    let named = Leftover {
        volume: leftover.volume.clone(),
        ranges: named.copied().collect(),
    };
    let mut messages = by_range(what, &named);
    if leftover.ranges.len() > RANGES_TO_NAME {
        messages.push(format!(
            "... and {} more ranges; together {} bytes",
            leftover.ranges.len() - RANGES_TO_NAME,
            bytes(leftover)
        ));
    }
    messages
}

fn message(what: &str, volume: &str, ranges: &[(u64, u64)]) -> String {
    let mut message = format!("{what}, export \"{}\":", volume.escape_debug());
    for (index, (offset, length)) in ranges.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing into a string does not fail.
        let _ = write!(message, "{comma} {length} bytes at {offset}");
    }
    message
}

fn bytes(leftover: &Leftover) -> u64 {
    leftover.ranges.iter().map(|(_, length)| length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leftover(volume: &str, ranges: &[(u64, u64)]) -> Leftover {
        Leftover {
            volume: volume.to_owned(),
            ranges: ranges.to_vec(),
        }
    }

    fn many(count: u64) -> Leftover {
        let ranges: Vec<_> = (0..count).map(|index| (index * 1024, 512)).collect();
        leftover("a", &ranges)
    }

    #[test]
    fn what_was_lost_is_named_by_range() {
        let leftovers = [leftover("a", &[(0, 512), (4096, 8192)])];
        let said = Fate::Lost.errors(&leftovers, "the plugin");
        assert_eq!(
            said,
            ["lost, never written to the plugin, export \"a\": \
              512 bytes at 0, 8192 bytes at 4096"]
        );
    }

    #[test]
    fn many_ranges_make_several_messages_and_none_is_left_out() {
        for fate in [Fate::Lost, Fate::KeptAsFlushed] {
            let said = fate.errors(&[many(100)], "the origin");
            assert_eq!(said.len(), 4);
            let named: usize = said.iter().map(|line| line.matches(" at ").count()).sum();
            assert_eq!(named, 100);
        }
    }

    #[test]
    fn what_is_kept_is_no_loss_and_is_told_in_short() {
        let said = Fate::Kept.errors(&[many(1)], "the plugin");
        assert_eq!(
            said,
            [
                "not written to the plugin, kept in the cache directory, where the next start goes on with it, \
              export \"a\": 512 bytes at 0"
            ]
        );
        let said = Fate::Kept.errors(&[many(100)], "the plugin");
        assert_eq!(said.len(), 3);
        assert_eq!(said[2], "... and 36 more ranges; together 51200 bytes");
        let said = Fate::KeptAsFlushed.errors(&[many(1)], "the plugin");
        assert_eq!(
            said,
            [
                "not written to the plugin, kept in the cache directory as far as it was flushed, lost otherwise, \
              export \"a\": 512 bytes at 0"
            ]
        );
    }

    #[test]
    fn unsafe_mode_tells_only_how_much() {
        let leftovers = [leftover("a", &[(0, 512)]), leftover("b", &[(0, 1024)])];
        assert!(Fate::Discarded.errors(&leftovers, "the origin").is_empty());
        assert_eq!(
            Fate::Discarded.warning(&leftovers, "the plugin").as_deref(),
            Some(
                "1536 bytes that were not written to the plugin are discarded, \
                 as cache=unsafe says"
            )
        );
        for fate in [Fate::Lost, Fate::Kept, Fate::KeptAsFlushed] {
            assert_eq!(fate.warning(&leftovers, "the origin"), None);
        }
    }

    #[test]
    fn nothing_left_is_nothing_said() {
        for fate in [Fate::Lost, Fate::Kept, Fate::KeptAsFlushed] {
            assert!(fate.errors(&[], "the origin").is_empty());
        }
        let none = [leftover("a", &[])];
        assert_eq!(Fate::Discarded.warning(&none, "the origin"), None);
    }
}
