//! The names of the parameters, and what a name that is nearly one of them meant.

/// The parameters of the cache.
pub const NAMES: [&str; 14] = [
    "cache",
    "cache-flush",
    "cache-writeback",
    "cache-min-block-size",
    "cache-max-size",
    "cache-high-threshold",
    "cache-low-threshold",
    "cache-on-read",
    "cache-exports",
    "cache-dirty-age",
    "cache-dirty-share",
    "cache-readahead",
    "cache-dir",
    "cache-id",
];

/// What every name but the shortest begins with.
pub const PREFIX: &str = "cache-";

/// Words that tell what somebody meant when the letters do not. The first that is there counts.
const HINTS: [(&str, &str); 21] = [
    ("flush", "cache-flush"),
    ("sync", "cache-flush"),
    ("ratio", "cache-dirty-share"),
    ("dirty", "cache-dirty-age"),
    ("order", "cache-writeback"),
    ("mode", "cache"),
    ("write", "cache"),
    ("unsafe", "cache"),
    ("block", "cache-min-block-size"),
    ("high", "cache-high-threshold"),
    ("low", "cache-low-threshold"),
    ("size", "cache-max-size"),
    ("ahead", "cache-readahead"),
    ("read", "cache-on-read"),
    ("export", "cache-exports"),
    ("age", "cache-dirty-age"),
    ("dir", "cache-dir"),
    ("path", "cache-dir"),
    ("folder", "cache-dir"),
    ("ident", "cache-id"),
    ("uuid", "cache-id"),
];

/// Slips that are forgiven in a name that begins like one of ours.
const FAR: usize = 3;
/// Slips that are forgiven in a name that begins like nobody's.
const NEAR: usize = 2;

/// The name with the letters and signs that the parameters use, as far as that is a matter of case.
pub fn normal(key: &str) -> String {
    key.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The parameter that somebody meant who typed `key`, which is none.
pub fn meant(key: &str) -> Option<&'static str> {
    let key = normal(key);
    let (short, long) = NAMES.split_at(1);
    if key.starts_with(PREFIX) {
        return nearest(&key, long, FAR).or_else(|| hinted(&key));
    }
    if let Some(name) = nearest(&key, long, NEAR) {
        return Some(name);
    }
    // So short a name has many honest neighbours; only a slip that adds nothing counts.
    nearest(&key, short, 1).filter(|name| key.len() <= name.len())
}

/// The one of `names` that somebody meant who typed `key`, which is none of them.
pub fn near<'n>(key: &str, names: &[&'n str]) -> Option<&'n str> {
    let names = names
        .iter()
        .filter(|name| key.len() > NEAR && name.len() > NEAR);
    let names: Vec<&str> = names.copied().collect();
    nearest(&normal(key), &names, NEAR)
}

fn hinted(key: &str) -> Option<&'static str> {
    HINTS
        .into_iter()
        .find_map(|(word, name)| key.contains(word).then_some(name))
}

/// The name that is fewest slips away, at most `forgiven`, and fewer where little but the prefix is in it: of `cache-id`
/// two slips leave nothing.
fn nearest<'n>(key: &str, names: &[&'n str], forgiven: usize) -> Option<&'n str> {
    let forgiven_in = |name: &str| match name.strip_prefix(PREFIX) {
        Some(own) => forgiven.min(own.len().div_ceil(3)),
        None => forgiven,
    };
    names
        .iter()
        .map(|&name| (slips(key.as_bytes(), name.as_bytes()), name))
        .filter(|(slips, name)| *slips <= forgiven_in(name))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// The least number of slips (a letter missing, added or wrong, or two swapped) between two names.
fn slips(typed: &[u8], meant: &[u8]) -> usize {
    let mut two_above = vec![0; meant.len() + 1];
    let mut above: Vec<usize> = (0..=meant.len()).collect();
    for (row, letter) in typed.iter().enumerate() {
        let mut current = vec![row + 1; meant.len() + 1];
        for (column, wanted) in meant.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != wanted);
            let mut least = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && typed[row - 1] == *wanted && meant[column - 1] == *letter;
            if swapped {
                least = least.min(two_above[column - 1] + 1);
            }
            current[column + 1] = least;
        }
        two_above = std::mem::replace(&mut above, current);
    }
    above[meant.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_in_our_names_find_the_name() {
        for (typed, meant) in [
            ("cache-max-sise", "cache-max-size"),
            ("cache_max_size", "cache-max-size"),
            ("cache.max.size", "cache-max-size"),
            ("Cache-Max-Size", "cache-max-size"),
            ("cache-maxsize", "cache-max-size"),
            ("cache-size", "cache-max-size"),
            ("cachemax-size", "cache-max-size"),
            ("cahce-max-size", "cache-max-size"),
            ("ache-max-size", "cache-max-size"),
            ("cache-min-blocksize", "cache-min-block-size"),
            ("cache-block-size", "cache-min-block-size"),
            ("cache-hi-threshold", "cache-high-threshold"),
            ("cache-high", "cache-high-threshold"),
            ("cache-low-treshold", "cache-low-threshold"),
            ("cache-on-reads", "cache-on-read"),
            ("cache-read", "cache-on-read"),
            ("cache-export", "cache-exports"),
            ("cache-dirtyage", "cache-dirty-age"),
            ("cache-read-ahead", "cache-readahead"),
            ("cache-readahed", "cache-readahead"),
            ("cache-prefetch-ahead", "cache-readahead"),
            ("cache-dirty", "cache-dirty-age"),
            ("cache-dirty-ratio", "cache-dirty-share"),
            ("cache-dirtyshare", "cache-dirty-share"),
            ("cacheflush", "cache-flush"),
            ("cache_flush", "cache-flush"),
            ("cache-flsh", "cache-flush"),
            ("cache-flush-to", "cache-flush"),
            ("cache-fsync", "cache-flush"),
            ("cache-write-back", "cache-writeback"),
            ("cache_writeback", "cache-writeback"),
            ("cache-writebak", "cache-writeback"),
            ("cache-write-order", "cache-writeback"),
            ("cache-ordered", "cache-writeback"),
            ("cache-directory", "cache-dir"),
            ("cache-dri", "cache-dir"),
            ("cache_dir", "cache-dir"),
            ("cachedir", "cache-dir"),
            ("cache-path", "cache-dir"),
            ("cache-ids", "cache-id"),
            ("cache-identity", "cache-id"),
            ("cacheid", "cache-id"),
            ("cache_mode", "cache"),
            ("cache-writethrough", "cache"),
            ("cache-write", "cache"),
            ("cahce", "cache"),
            ("cach", "cache"),
            ("CACHE", "cache"),
        ] {
            assert_eq!(super::meant(typed), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_name_like_none_of_ours_meant_none() {
        for typed in [
            "cache-foo",
            "cache_",
            "cache-compression",
            "cache-é",
            "cached",
            "caches",
            "file",
            "dir",
            "id",
            "",
        ] {
            assert_eq!(meant(typed), None, "{typed}");
        }
    }

    #[test]
    fn slips_are_counted_both_ways() {
        assert_eq!(slips(b"", b"cache"), 5);
        assert_eq!(slips(b"cache", b""), 5);
        assert_eq!(slips(b"cache", b"cache"), 0);
        assert_eq!(slips(b"cahce", b"cache"), 1);
        assert_eq!(slips(b"sache", b"cache"), 1);
        assert_eq!(slips(b"cachee", b"cache"), 1);
    }
}
