//! How much memory the server may use.

use std::fs;
use std::path::Path;

use rustix::process::Resource;

const CGROUPS: &str = "/sys/fs/cgroup";

/// The machine's memory, or what the process's control group may use of it, in bytes.
pub(super) fn bytes() -> u64 {
    let found = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "shorter on 32-bit machines")]
    let machine = u64::from(found.totalram).saturating_mul(u64::from(found.mem_unit.max(1)));
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    of_cgroups(&membership, |path| fs::read_to_string(path).ok()).min(machine)
}

/// Whether addresses are rationed (`ulimit -v`).
pub(super) fn is_address_space_limited() -> bool {
    rustix::process::getrlimit(Resource::As).current.is_some()
}

/// The lowest limit of the group and of those it is in. Version 2 (cgroups(7)) has them all in one tree, version 1
/// one for memory alone.
fn of_cgroups(membership: &str, read: impl Fn(&Path) -> Option<String>) -> u64 {
    let mut lowest = u64::MAX;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (CGROUPS.to_owned(), "memory.max"),
            "memory" => (format!("{CGROUPS}/memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = read(&Path::new(&root).join(group).join(file));
            let limit = limit.and_then(|text| text.trim().parse().ok());
            lowest = lowest.min(limit.unwrap_or(u64::MAX));
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let read = |path: &Path| match path.to_str() {
            Some("/sys/fs/cgroup/a/b/memory.max") => Some("max\n".to_owned()),
            Some("/sys/fs/cgroup/a/memory.max") => Some("1000\n".to_owned()),
            Some("/sys/fs/cgroup/memory/c/memory.limit_in_bytes") => Some("500\n".to_owned()),
            _ => None,
        };
        assert_eq!(of_cgroups("0::/a/b\n", read), 1000);
        assert_eq!(of_cgroups("3:cpu:/x\n2:memory:/c\n0::/a/b\n", read), 500);
        assert_eq!(of_cgroups("0::/\n", read), u64::MAX);
        assert_eq!(of_cgroups("nonsense", read), u64::MAX);
    }

    #[test]
    fn some_memory_is_found() {
        assert!((1 << 20..u64::MAX).contains(&bytes()));
    }
}
