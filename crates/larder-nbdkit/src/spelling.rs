//! Whose a parameter is: ours, ours misspelt, or something for the filters and the plugin below.
//!
//! No filter or plugin that comes with nbdkit has a parameter that begins with `cache-` or `cache_`
//! except the filter this one replaces, so such a name that nobody knows is a mistake, and a
//! mistake must not end in a cache that does something else than what was asked for: a script
//! plugin accepts any parameter. Names elsewhere are left alone unless they are one slip away from
//! one of ours; `cachemode` (nocache), `cow-on-cache` (cow) and the like go on down.

use larder_frontend::spelling::{NAMES, PREFIX, meant, normal};

/// Whether the parameter `key` is for the next filter or the plugin.
pub(crate) fn is_for_next(key: &str) -> bool {
    !NAMES.contains(&key) && !normal(key).starts_with(PREFIX) && meant(key).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_ours() {
        for name in NAMES {
            assert!(!is_for_next(name), "{name}");
        }
    }

    #[test]
    fn slips_in_our_names_are_ours() {
        for typed in [
            "cahce-max-size",
            "cache_max_size",
            "cachemax-size",
            "cahce",
            "CACHE",
        ] {
            assert!(!is_for_next(typed), "{typed}");
        }
    }

    #[test]
    fn an_unknown_name_under_our_prefix_is_nobodys() {
        for typed in ["cache-foo", "cache_", "cache-compression", "cache-é"] {
            assert!(!is_for_next(typed), "{typed}");
        }
    }

    #[test]
    fn names_of_others_go_on_down() {
        for theirs in [
            "",
            "file",
            "dir",
            "size",
            "path",
            "url",
            "cert",
            "cookie",
            "cow-on-cache",
            "cow-block-size",
            "cachemode",
            "caches",
            "cached",
            "cacheextents",
            "cacheinfo",
            "blocksize-preferred",
            "case",
            "care",
            "readahead",
            "error-pread",
            "export",
            "delay-cache",
            "error-cache-rate",
            "retry-delay",
            "origin-cache-max-size",
        ] {
            assert!(is_for_next(theirs), "{theirs}");
        }
    }
}
