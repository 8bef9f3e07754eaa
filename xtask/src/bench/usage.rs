//! What a server has used, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;

use crate::failure::Failure;

/// What a process and its children have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// User and system time since it started; of children that have ended, if it has waited for them.
    pub(super) cpu_seconds: f64,
    /// The most that was resident at one time, files that are mapped included.
    pub(super) peak_bytes: u64,
    /// What is resident and has no file behind it.
    pub(super) anonymous_bytes: u64,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self, Failure> {
        let stats = all_stats();
        if !stats.contains_key(&process) {
            return Err(Failure::new(format!(
                "process {process} has ended before its use of the processor was read"
            )));
        }
        let mut usage = Self::default();
        for (member, stat) in &stats {
            if is_within(*member, process, &stats) {
                let status = fs::read_to_string(format!("/proc/{member}/status"));
                let status = status.unwrap_or_default();
                usage.cpu_seconds += stat.ticks as f64 / ticks_per_second();
                usage.peak_bytes += bytes_in(&status, "VmHWM:");
                usage.anonymous_bytes += bytes_in(&status, "RssAnon:");
            }
        }
        Ok(usage)
    }
}

/// What is used of a line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system, its own and its children's.
    ticks: u64,
}

impl Stat {
    /// The program's name may have spaces and parentheses; what follows its last one is numbers.
    fn parse(line: &str) -> Option<Self> {
        let (_, after_name) = line.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks.sum::<Result<u64, _>>().ok()?,
        })
    }
}

fn all_stats() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stat = |entry: fs::DirEntry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((process, Stat::parse(&line)?))
    };
    entries.filter_map(stat).collect()
}

/// Whether a process is this one or comes from it.
fn is_within(mut process: u32, ancestor: u32, stats: &BTreeMap<u32, Stat>) -> bool {
    while process != ancestor {
        match stats.get(&process) {
            Some(stat) if stat.parent != process => process = stat.parent,
            _ => return false,
        }
    }
    true
}

/// A figure of `/proc/PID/status`, which counts in kibibytes.
fn bytes_in(status: &str, name: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    status.lines().find_map(value).unwrap_or(0_u64) << 10
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_program_is_called() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 10 20 3 4 20 0 1 0 5 6 7";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 37));
        assert_eq!(Stat::parse("42 (short) S 7"), None);
    }

    #[test]
    fn a_grandchild_belongs_to_the_tree_and_a_stranger_does_not() {
        let stat = |parent| Stat { parent, ticks: 0 };
        let stats = [
            (1, stat(0)),
            (5, stat(1)),
            (6, stat(5)),
            (7, stat(6)),
            (8, stat(1)),
        ];
        let stats = BTreeMap::from(stats);
        assert!(is_within(7, 5, &stats));
        assert!(!is_within(8, 5, &stats));
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t 4 kB\n";
        assert_eq!(bytes_in(status, "VmHWM:"), 2 << 20);
        assert_eq!(bytes_in(status, "RssFile:"), 0);
    }

    #[test]
    fn this_process_has_used_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.anonymous_bytes > 0 && usage.peak_bytes >= usage.anonymous_bytes);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
