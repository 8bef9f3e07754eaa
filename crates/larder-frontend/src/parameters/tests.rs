//! Each parameter, right and wrong in every way, without nbdkit.

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::PlainParser;

mod flush;
mod survival;

fn given(parameters: &[(&str, &str)]) -> Result<Settings, String> {
    let mut all = Parameters::default();
    for (key, value) in parameters {
        all.set(key, OsStr::new(value), &PlainParser)
            .map_err(|error| error.to_string())?;
    }
    all.finish().map_err(|error| error.to_string())
}

fn message(parameters: &[(&str, &str)]) -> String {
    let message = given(parameters).expect_err("refused");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn defaults_are_the_original_filters() {
    let settings = given(&[]).unwrap();
    assert_eq!(settings.config.mode, Mode::Writeback);
    assert_eq!(settings.config.block_bytes, 64 << 10);
    assert_eq!(settings.config.max_size_bytes, None);
    assert_eq!(settings.config.high_threshold_percent, 95);
    assert_eq!(settings.config.low_threshold_percent, 80);
    assert_eq!(settings.config.cache_on_read, CacheOnRead::Never);
    assert_eq!(settings.config.dirty_age, None);
    assert_eq!(settings.config.dirty_share_percent, None);
    assert_eq!(settings.config.readahead_bytes, 0);
    assert!(!settings.config.background);
    assert_eq!(settings.config.cache_id, None);
    assert_eq!((settings.directory, settings.block_is_given), (None, false));
    assert_eq!(settings.exports, Exports::Separate);
    assert!(settings.warnings.is_empty());
}

#[test]
fn a_front_end_chooses_its_defaults() {
    let age = Duration::from_secs(30);
    let mut parameters = Parameters::new(Defaults {
        cache_on_read: CacheOnRead::Always,
        dirty_age: Some(age),
        readahead_bytes: 5 << 20,
        is_limited: false,
        is_blind: true,
    });
    let config = parameters.finish().unwrap().config;
    assert_eq!(config.cache_on_read, CacheOnRead::Always);
    assert_eq!(config.dirty_age, Some(age));
    assert_eq!(config.readahead_bytes, 5 << 20);
    for (name, value) in [
        ("cache-on-read", "false"),
        ("cache-dirty-age", "off"),
        ("cache-readahead", "off"),
    ] {
        parameters
            .set(name, OsStr::new(value), &PlainParser)
            .unwrap();
    }
    let config = parameters.finish().unwrap().config;
    assert_eq!(config.cache_on_read, CacheOnRead::Never);
    assert_eq!(config.dirty_age, None);
    assert_eq!(config.readahead_bytes, 0);
}

#[test]
fn cache_takes_its_three_modes_and_no_other() {
    for (word, meant) in [
        ("writeback", Mode::Writeback),
        ("writethrough", Mode::Writethrough),
        ("unsafe", Mode::Unsafe),
    ] {
        assert_eq!(given(&[("cache", word)]).unwrap().config.mode, meant);
    }
    for word in [
        "",
        "none",
        "Writeback",
        "write-back",
        " unsafe",
        "writeback,unsafe",
    ] {
        let expected = format!("cache={word}: must be writeback, writethrough or unsafe");
        assert_eq!(message(&[("cache", word)]), expected);
    }
}

#[test]
fn block_size_is_a_power_of_two_in_range() {
    for (text, bytes) in [
        ("4096", 4096),
        ("4K", 4096),
        ("1M", 1 << 20),
        ("2G", 1 << 31),
    ] {
        let settings = given(&[("cache-min-block-size", text)]).unwrap();
        assert_eq!(settings.config.block_bytes, bytes);
    }
    for text in [
        "", "0", "1", "2K", "4095", "4097", "12K", "4G", "8E", "junk", "-4096", "64KB",
    ] {
        let expected = format!(
            "cache-min-block-size={text}: must be a power of two from 4096 (4K) to 2147483648 (2G)"
        );
        assert_eq!(message(&[("cache-min-block-size", text)]), expected);
    }
}

#[test]
fn max_size_is_at_least_1m() {
    let settings = given(&[("cache-max-size", "1M")]).unwrap();
    assert_eq!(settings.config.max_size_bytes, Some(1 << 20));
    for text in ["", "0", "1", "1048575", "512K", "-1", "big", "9E"] {
        let expected = format!("cache-max-size={text}: must be a size of at least 1M");
        assert_eq!(message(&[("cache-max-size", text)]), expected);
    }
}

#[test]
fn readahead_is_off_or_a_size_in_range() {
    for (text, bytes) in [
        ("off", 0),
        ("64K", 64 << 10),
        ("8M", 8 << 20),
        ("64M", 64 << 20),
    ] {
        let settings = given(&[("cache-on-read", "true"), ("cache-readahead", text)]).unwrap();
        assert_eq!(settings.config.readahead_bytes, bytes);
        assert!(settings.warnings.is_empty());
        assert!(settings.config.check().is_ok());
    }
    for text in [
        "", "0", "4095", "64K ", "65M", "67108865", "-1", "on", "Off", "9E",
    ] {
        let expected = format!(
            "cache-readahead={text}: must be off or a size from 4096 (4K) to 67108864 (64M)"
        );
        assert_eq!(message(&[("cache-readahead", text)]), expected);
    }
}

#[test]
fn readahead_is_at_least_a_block_in_either_order() {
    let block = ("cache-min-block-size", "1M");
    let readahead = ("cache-readahead", "512K");
    for order in [[block, readahead], [readahead, block]] {
        let told = message(&order);
        assert!(
            told.starts_with("cache-readahead=512K: must be off or at least one block"),
            "{told}"
        );
        assert!(told.contains("1048576"), "{told}");
    }
    let mut settings = given(&[("cache-readahead", "64K")]).unwrap();
    assert!(settings.fit_file_system(64 << 10).is_ok());
    let told = settings.fit_file_system(128 << 10).unwrap_err().to_string();
    assert!(told.starts_with("cache-readahead=64K: must be"), "{told}");
    // What nobody typed is nobody's mistake.
    let mut parameters = Parameters::new(Defaults {
        readahead_bytes: 8 << 20,
        ..Defaults::default()
    });
    parameters
        .set("cache-min-block-size", OsStr::new("16M"), &PlainParser)
        .unwrap();
    let mut settings = parameters.finish().unwrap();
    assert!(settings.warnings.is_empty() && settings.fit_file_system(32 << 20).is_ok());
}

#[test]
fn a_readahead_that_never_happens_is_warned_of() {
    let readahead = ("cache-readahead", "1M");
    for (others, why) in [
        (vec![], "nothing is fetched ahead with cache-on-read=false"),
        (
            vec![
                ("cache-on-read", "true"),
                ("cache-max-size", "1M"),
                ("cache-min-block-size", "256K"),
            ],
            "nothing is fetched ahead into a cache of less than 8 blocks (cache-max-size)",
        ),
    ] {
        let mut all = others;
        all.push(readahead);
        let warnings = given(&all).unwrap().warnings;
        assert_eq!(warnings, [format!("cache-readahead=1M: {why}")]);
    }
    assert!(
        given(&[("cache-readahead", "off")])
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn max_size_is_at_least_a_block_in_either_order() {
    let block = ("cache-min-block-size", "2M");
    let size = ("cache-max-size", "1M");
    for order in [[block, size], [size, block]] {
        let told = message(&order);
        assert!(
            told.starts_with("cache-max-size=1M: must be at least one block"),
            "{told}"
        );
        assert!(told.contains("2097152"), "{told}");
    }
    assert!(given(&[block, ("cache-max-size", "2M")]).is_ok());
}

#[test]
fn max_size_is_at_least_a_block_of_the_file_system() {
    let mut settings = given(&[("cache-max-size", "1M")]).unwrap();
    settings.fit_file_system(4096).unwrap();
    assert_eq!(settings.config.block_bytes, 64 << 10);
    settings.fit_file_system(1 << 20).unwrap();
    assert_eq!(settings.config.block_bytes, 1 << 20);
    let told = settings.fit_file_system(2 << 20).unwrap_err().to_string();
    assert!(
        told.contains("cache-max-size=1M") && told.contains("2097152"),
        "{told}"
    );
}

#[test]
fn strange_file_systems_give_a_block_that_is_one() {
    for (reported, block) in [
        (0, 64 << 10),
        (512, 64 << 10),
        (100_000, 128 << 10),
        (u64::MAX, 1 << 31),
    ] {
        let mut settings = given(&[]).unwrap();
        settings.fit_file_system(reported).unwrap();
        assert_eq!(settings.config.block_bytes, block);
        assert!(settings.config.check().is_ok());
    }
}

#[test]
fn thresholds_are_whole_percents() {
    for name in ["cache-high-threshold", "cache-low-threshold"] {
        for text in ["", "0", "-5", "50%", "1.5", "half", "4294967296"] {
            let expected = format!("{name}={text}: must be a whole number of percent, 1 to 100");
            assert_eq!(message(&[(name, text)]), expected);
        }
    }
    let settings = given(&[
        ("cache-max-size", "1M"),
        ("cache-high-threshold", "0x50"),
        ("cache-low-threshold", "1"),
    ]);
    let config = settings.unwrap().config;
    assert_eq!(
        (config.low_threshold_percent, config.high_threshold_percent),
        (1, 80)
    );
}

#[test]
fn thresholds_are_compared_only_when_there_is_a_maximum() {
    let low = ("cache-low-threshold", "96");
    let high = ("cache-high-threshold", "70");
    let size = ("cache-max-size", "1M");
    assert!(given(&[low]).is_ok());
    assert!(given(&[high]).is_ok());
    assert_eq!(
        message(&[size, low]),
        "cache-low-threshold=96: must be less than cache-high-threshold, which is 95"
    );
    assert_eq!(
        message(&[high, size]),
        "cache-high-threshold=70: must be more than cache-low-threshold, which is 80"
    );
    assert_eq!(
        message(&[high, low, size]),
        "cache-low-threshold=96: must be less than cache-high-threshold, which is 70"
    );
    assert!(given(&[size, high, ("cache-low-threshold", "70")]).is_err());
    assert!(given(&[size, high, ("cache-low-threshold", "69")]).is_ok());
}

#[test]
fn a_front_end_that_always_has_a_maximum_compares_thresholds_always() {
    let mut parameters = Parameters::new(Defaults {
        is_limited: true,
        ..Defaults::default()
    });
    let low = OsStr::new("96");
    parameters
        .set("cache-low-threshold", low, &PlainParser)
        .unwrap();
    assert_eq!(
        parameters.finish().unwrap_err().to_string(),
        "cache-low-threshold=96: must be less than cache-high-threshold, which is 95"
    );
}

#[test]
fn a_front_ends_own_maximum_is_at_least_what_may_be_given() {
    for (block, bytes, least) in [("64K", (1 << 20) - 1, 1 << 20), ("4M", 100, 4 << 20)] {
        let mut settings = given(&[("cache-min-block-size", block)]).unwrap();
        assert_eq!(settings.limit_to(bytes), Err(least));
        assert_eq!(settings.limit_to(least), Ok(()));
        assert_eq!(settings.config.max_size_bytes, Some(least));
        assert!(settings.config.check().is_ok());
    }
    let mut settings = given(&[("cache-max-size", "2M")]).unwrap();
    assert_eq!(settings.limit_to(100), Ok(()));
    assert_eq!(settings.config.max_size_bytes, Some(2 << 20));
}

#[test]
fn more_than_100_percent_counts_as_100_and_is_told() {
    let settings = given(&[("cache-max-size", "1M"), ("cache-high-threshold", "120")]).unwrap();
    assert_eq!(settings.config.high_threshold_percent, 100);
    assert_eq!(
        settings.warnings,
        ["cache-high-threshold=120: more than 100 percent counts as 100"]
    );
    let both = [
        ("cache-max-size", "1M"),
        ("cache-high-threshold", "200"),
        ("cache-low-threshold", "150"),
    ];
    assert_eq!(
        message(&both),
        "cache-low-threshold=150: must be less than cache-high-threshold, which is 100"
    );
}

#[test]
fn cache_on_read_is_a_boolean_or_a_path() {
    for (text, meant) in [
        ("true", CacheOnRead::Always),
        ("on", CacheOnRead::Always),
        ("0", CacheOnRead::Never),
        ("/run/warm", CacheOnRead::WhileExists("/run/warm".into())),
        ("/", CacheOnRead::WhileExists("/".into())),
    ] {
        let settings = given(&[("cache-on-read", text)]).unwrap();
        assert_eq!(settings.config.cache_on_read, meant);
    }
    for text in ["", "maybe", "run/warm", "./warm", "~/warm", "2"] {
        let expected =
            format!("cache-on-read={text}: must be true, false or a path that begins with /");
        assert_eq!(message(&[("cache-on-read", text)]), expected);
    }
}

#[test]
fn a_path_need_not_be_utf8_but_words_must() {
    let mut parameters = Parameters::default();
    let path = OsStr::from_bytes(b"/run/\xff");
    parameters.set("cache-on-read", path, &PlainParser).unwrap();
    let config = parameters.finish().unwrap().config;
    assert_eq!(config.cache_on_read, CacheOnRead::WhileExists(path.into()));
    let words = spelling::NAMES.iter().filter(|name| **name != "cache-dir");
    for name in words {
        let refused = parameters.set(name, OsStr::from_bytes(b"\xff"), &PlainParser);
        assert!(refused.is_err(), "{name}");
    }
}

#[test]
fn exports_take_their_three_words() {
    let settings = given(&[("cache-exports", "connection")]).unwrap();
    assert_eq!(settings.exports, Exports::Connection);
    assert_eq!(
        message(&[("cache-exports", "all")]),
        "cache-exports=all: must be separate, shared or connection"
    );
}

#[test]
fn dirty_age_is_seconds_or_off() {
    let age = |text| {
        given(&[("cache-dirty-age", text)])
            .unwrap()
            .config
            .dirty_age
    };
    assert_eq!(age("off"), None);
    assert_eq!(age("1"), Some(Duration::from_secs(1)));
    assert_eq!(age("86400"), Some(Duration::from_secs(86_400)));
    for text in ["", "0", "-1", "OFF", "30s", "4294967296"] {
        let expected =
            format!("cache-dirty-age={text}: must be off or a number of seconds, at least 1");
        assert_eq!(message(&[("cache-dirty-age", text)]), expected);
    }
}

#[test]
fn what_is_given_twice_counts_as_given_last() {
    let settings = given(&[
        ("cache", "unsafe"),
        ("cache", "writethrough"),
        ("cache-dirty-age", "5"),
        ("cache-dirty-age", "off"),
        ("cache-high-threshold", "300"),
        ("cache-high-threshold", "90"),
    ]);
    let settings = settings.unwrap();
    assert_eq!(settings.config.mode, Mode::Writethrough);
    assert_eq!(settings.config.dirty_age, None);
    assert_eq!(settings.config.high_threshold_percent, 90);
    assert!(settings.warnings.is_empty());
}

#[test]
fn a_slip_in_a_name_is_told_the_name() {
    assert_eq!(
        message(&[("cache-max-sise", "4M")]),
        "cache-max-sise=4M: there is no such parameter; did you mean cache-max-size?"
    );
    let told = message(&[("cache-foo", "1")]);
    for name in spelling::NAMES {
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn a_message_stays_on_one_line() {
    let told = message(&[("cache", "write\nback\u{1b}[2J")]);
    assert!(!told.contains(char::is_control), "{told}");
}

#[test]
fn whatever_is_accepted_the_engine_accepts() {
    let sizes = ["1M", "2M", "4G"];
    let blocks = ["4K", "64K", "1M", "2G"];
    for size in sizes {
        for block in blocks {
            let both = [("cache-max-size", size), ("cache-min-block-size", block)];
            if let Ok(settings) = given(&both) {
                assert!(settings.config.check().is_ok(), "{both:?}");
            }
        }
    }
}
