//! The directory in which a cache survives, and what does not go with it.

use std::path::Path;

use super::*;

#[test]
fn a_cache_directory_is_a_path_that_stays_the_same() {
    let directory = |text| given(&[("cache-dir", text)]).unwrap().directory.unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(directory("/var/cache/disk"), Path::new("/var/cache/disk"));
    assert_eq!(directory("cache"), here.join("cache"));
    assert_eq!(directory("./~"), here.join("~"));
    let mut parameters = Parameters::default();
    let name = OsStr::from_bytes(b"/run/\xff");
    parameters.set("cache-dir", name, &PlainParser).unwrap();
    assert_eq!(parameters.finish().unwrap().directory.unwrap(), name);
}

#[test]
fn a_cache_directory_that_cannot_be_is_refused() {
    assert_eq!(
        message(&[("cache-dir", "")]),
        "cache-dir=: must be the path of a directory"
    );
    for text in ["~", "~/cache", "~me/cache"] {
        assert_eq!(
            message(&[("cache-dir", text)]),
            format!(
                "cache-dir={text}: must be a path; no shell has replaced the ~ here, \
                 and one that is a name is typed ./~"
            )
        );
    }
}

#[test]
fn a_cache_id_is_a_text_and_needs_a_directory() {
    let directory = ("cache-dir", "/c");
    let longest = "i".repeat(4096);
    for text in ["golden 2026-11", "\u{e4}", " ", &longest] {
        for order in [
            [directory, ("cache-id", text)],
            [("cache-id", text), directory],
        ] {
            let config = given(&order).unwrap().config;
            assert_eq!(config.cache_id.as_deref(), Some(text));
            assert!(config.check().is_ok());
        }
    }
    for text in ["", &format!("{longest}i")] {
        assert_eq!(
            message(&[directory, ("cache-id", text)]),
            format!("cache-id={text}: must be a text of 1 to 4096 bytes in UTF-8")
        );
    }
    assert_eq!(
        message(&[("cache-id", "golden")]),
        "cache-id=golden: has no effect without cache-dir=PATH"
    );
}

#[test]
fn what_a_cache_directory_cannot_keep_is_refused_in_either_order() {
    let directory = ("cache-dir", "/c");
    for (other, told) in [
        (
            ("cache-exports", "connection"),
            "cache-exports=connection: must be separate or shared with cache-dir: \
             nothing can be kept of volumes that end with their connections",
        ),
        (
            ("cache-min-block-size", "16M"),
            "cache-min-block-size=16M: must be at most 8388608 (8M) with cache-dir",
        ),
        (
            ("cache-max-size", "33554431"),
            "cache-max-size=33554431: must be at least 32M with cache-dir",
        ),
    ] {
        assert_eq!(message(&[directory, other]), told);
        assert_eq!(message(&[other, directory]), told);
        assert!(given(&[other]).is_ok());
    }
    for other in [
        ("cache-exports", "shared"),
        ("cache-min-block-size", "8M"),
        ("cache-max-size", "32M"),
        ("cache", "unsafe"),
    ] {
        assert!(given(&[directory, other]).is_ok(), "{other:?}");
    }
}

#[test]
fn the_directorys_file_system_decides_the_block_too() {
    let mut settings = given(&[("cache-dir", "/c")]).unwrap();
    settings.fit_file_system(1 << 20).unwrap();
    assert_eq!(settings.config.block_bytes, 1 << 20);
    assert!(!settings.block_is_given);
    let told = settings.fit_file_system(16 << 20).unwrap_err().to_string();
    assert_eq!(
        told,
        "cache-dir=/c: a block may have at most 8388608 bytes (8M) here, \
         and its file system has blocks of 16777216"
    );
    let block = ("cache-min-block-size", "64K");
    assert!(given(&[block]).unwrap().block_is_given);
    let readahead = [("cache-dir", "/c"), ("cache-readahead", "64K")];
    let mut settings = given(&readahead).unwrap();
    let told = settings.fit_file_system(128 << 10).unwrap_err().to_string();
    assert!(
        told.contains("the block size of cache-dir's file system"),
        "{told}"
    );
}

#[test]
fn a_cache_that_was_there_may_have_blocks_that_are_too_large_to_fetch_ahead() {
    let readahead = [("cache-dir", "/c"), ("cache-readahead", "64K")];
    let settings = given(&readahead).unwrap();
    assert_eq!(settings.warning_of_block(64 << 10), None);
    assert_eq!(
        settings.warning_of_block(1 << 20).as_deref(),
        Some(
            "cache-readahead=64K: nothing is fetched ahead: \
             a block of this cache is 1048576 bytes"
        )
    );
    let settings = given(&[("cache-dir", "/c")]).unwrap();
    assert_eq!(settings.warning_of_block(1 << 20), None);
}

#[test]
fn a_front_ends_own_maximum_leaves_a_directory_room_for_its_books() {
    let mut settings = given(&[("cache-dir", "/c")]).unwrap();
    assert_eq!(settings.limit_to(5 << 20), Err(32 << 20));
    assert_eq!(settings.limit_to(32 << 20), Ok(()));
}
