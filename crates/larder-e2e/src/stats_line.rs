//! The figures that the filter prints at its end when `-D cache.verbose=1` asks for them.

use std::collections::HashMap;

/// One `stats: hits=1 misses=2 ...` line.
#[derive(Debug)]
pub struct StatsLine {
    line: String,
    values: HashMap<String, u64>,
}

impl StatsLine {
    /// The last stats line in a server's output. Panics without one.
    #[must_use]
    pub fn last_in(output: &str) -> Self {
        let line = output
            .lines()
            .rev()
            .find(|line| line.contains("stats: ") && line.contains("hits="))
            .unwrap_or_else(|| panic!("no stats line in the server's output"));
        let values = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
            .collect();
        Self {
            line: line.to_owned(),
            values,
        }
    }

    /// One figure. Panics when the line does not have it.
    #[must_use]
    pub fn value(&self, key: &str) -> u64 {
        *self
            .values
            .get(key)
            .unwrap_or_else(|| panic!("no {key}= in {:?}", self.line))
    }

    /// Asserts that less than 1 % of the requests found no room in the cache.
    pub fn assert_few_pass_throughs(&self) {
        let no_room = self.value("no_room_reads") + self.value("no_room_writes");
        let all = no_room
            + ["hits", "misses", "pass_through_reads", "writes"]
                .iter()
                .map(|key| self.value(key))
                .sum::<u64>();
        assert!(all > 0, "nothing was counted: {:?}", self.line);
        assert!(
            no_room * 100 < all,
            "{no_room} of {all} requests found no room: {:?}",
            self.line
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: &str = "nbdkit: debug: cache: stats: hits=90 misses=8 pass_through_reads=0 \
                       no_room_reads=0 writes=1000 no_room_writes=2";
    const MANY: &str = "stats: hits=9 misses=0 pass_through_reads=0 no_room_reads=1 writes=0 \
                        no_room_writes=0";

    #[test]
    fn few_pass_throughs_are_accepted() {
        StatsLine::last_in(FEW).assert_few_pass_throughs();
    }

    #[test]
    #[should_panic(expected = "1 of 10 requests found no room")]
    fn many_pass_throughs_are_not() {
        StatsLine::last_in(MANY).assert_few_pass_throughs();
    }
}
