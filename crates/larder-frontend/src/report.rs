//! The wording of what an operator is told. Each front end puts its own name before it.

use std::io;

use larder::{Config, Found, StatsSnapshot};

/// The text, changed only where it would break a log's line.
pub fn one_line(text: &str) -> String {
    if text.contains(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

/// What the system says of an error, without the number that Rust adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// An error in one line, without the numbers that Rust adds to what the system says.
pub fn plain(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut plain = String::new();
    let mut rest = &text[..];
    while let Some((before, after)) = rest.split_once(" (os error ") {
        plain.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    one_line(&plain)
}

/// All figures in one line of `key=value`, where flushes end, and in which order the origin gets them.
pub fn stats_line(stats: &StatsSnapshot, config: &Config) -> String {
    // Taken apart so that a new figure cannot be forgotten here.
    let StatsSnapshot {
        hits,
        misses,
        pass_through_reads,
        no_room_reads,
        writes,
        no_room_writes,
        origin_read_bytes,
        origin_write_bytes,
        dirty_bytes,
        oldest_dirty_ms,
        reclaimed,
        reclaim_writebacks,
        writeback_errors,
        room_waits,
        fetch_waits,
        readahead_bytes,
        readahead_used_bytes,
        bad_clean_sectors,
        queued_bytes,
        queued_flushes,
        sent_flushes,
        slots_used,
    } = stats;
    format!(
        "stats: hits={hits} misses={misses} pass_through_reads={pass_through_reads} \
         no_room_reads={no_room_reads} writes={writes} no_room_writes={no_room_writes} \
         origin_read_bytes={origin_read_bytes} origin_write_bytes={origin_write_bytes} \
         dirty_bytes={dirty_bytes} oldest_dirty_ms={oldest_dirty_ms} reclaimed={reclaimed} \
         reclaim_writebacks={reclaim_writebacks} writeback_errors={writeback_errors} \
         room_waits={room_waits} fetch_waits={fetch_waits} readahead_bytes={readahead_bytes} \
         readahead_used_bytes={readahead_used_bytes} bad_clean_sectors={bad_clean_sectors} \
         queued_bytes={queued_bytes} queued_flushes={queued_flushes} sent_flushes={sent_flushes} \
         slots_used={slots_used} flush_to={} writeback={}",
        config.flush_to.name(),
        config.writeback.name()
    )
}

/// What a cache directory held at the start.
pub fn found(found: Found) -> String {
    match found {
        Found::Made => "new".to_owned(),
        Found::Kept { blocks } => format!("{} found", some_blocks(blocks)),
        Found::Crashed { blocks: 0 } => "nothing kept after a crash".to_owned(),
        Found::Crashed { blocks } => format!("{} found after a crash", some_blocks(blocks)),
    }
}

fn some_blocks(count: u64) -> String {
    match count {
        1 => "1 block".to_owned(),
        _ => format!("{count} blocks"),
    }
}

#[cfg(test)]
mod tests {
    use larder::{FlushTo, Writeback};

    use super::*;

    #[test]
    fn every_figure_is_a_pair() {
        let stats = StatsSnapshot {
            hits: 7,
            slots_used: 9,
            ..StatsSnapshot::default()
        };
        let config = Config {
            flush_to: FlushTo::Cache,
            writeback: Writeback::Ordered,
            ..Config::default()
        };
        let line = stats_line(&stats, &config);
        let pairs = line.strip_prefix("stats: ").expect("the prefix");
        assert_eq!(pairs.split(' ').count(), 24);
        assert!(pairs.split(' ').all(|pair| pair.split('=').count() == 2));
        assert!(pairs.starts_with("hits=7 "));
        assert!(pairs.ends_with(" slots_used=9 flush_to=cache writeback=ordered"));
        let line = stats_line(&stats, &Config::default());
        assert!(line.ends_with(" flush_to=origin writeback=unordered"));
    }

    #[test]
    fn a_reason_is_the_systems_own_words() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(reason(&error), "No such file or directory");
        assert_eq!(reason(&io::Error::other("why")), "why");
    }

    #[test]
    fn an_error_is_told_without_numbers() {
        let error = |text: &str| plain(&io::Error::other(text.to_owned()));
        assert_eq!(
            error("lock: No such file (os error 2): give one (os error 13)\n"),
            "lock: No such file: give one\\n"
        );
        assert_eq!(error("nothing of it"), "nothing of it");
        assert_eq!(error("cut (os error "), "cut");
    }

    #[test]
    fn what_was_found_is_told_in_words() {
        for (what, told) in [
            (Found::Made, "new"),
            (Found::Kept { blocks: 0 }, "0 blocks found"),
            (Found::Kept { blocks: 1 }, "1 block found"),
            (Found::Crashed { blocks: 7 }, "7 blocks found after a crash"),
            (Found::Crashed { blocks: 0 }, "nothing kept after a crash"),
        ] {
            assert_eq!(found(what), told);
        }
    }
}
