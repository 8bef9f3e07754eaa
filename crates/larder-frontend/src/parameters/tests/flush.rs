//! Where a flush ends, and what bounds the data that it leaves behind.

use super::*;

const IN_CACHE: (&str, &str) = ("cache-flush", "cache");
const DIRECTORY: (&str, &str) = ("cache-dir", "/c");
const ORDERED: (&str, &str) = ("cache-writeback", "ordered");

#[test]
fn a_flush_ends_on_the_origin_unless_told_otherwise() {
    assert_eq!(given(&[]).unwrap().config.flush_to, FlushTo::Origin);
    for mode in ["writeback", "writethrough", "unsafe"] {
        let both = [("cache", mode), ("cache-flush", "origin")];
        let settings = given(&both).unwrap();
        assert_eq!(settings.config.flush_to, FlushTo::Origin);
        assert_eq!(settings.config.dirty_age, None);
        assert_eq!(settings.config.dirty_share_percent, None);
    }
}

#[test]
fn a_flush_ends_in_the_cache_where_there_is_a_directory_for_it() {
    for order in [[DIRECTORY, IN_CACHE], [IN_CACHE, DIRECTORY]] {
        let config = given(&order).unwrap().config;
        assert_eq!(config.flush_to, FlushTo::Cache);
        assert!(config.check().is_ok());
    }
    assert_eq!(
        message(&[IN_CACHE]),
        "cache-flush=cache: needs cache-dir=PATH, where flushed data is durable"
    );
}

#[test]
fn a_front_end_that_cannot_tell_origins_apart_needs_a_cache_id_for_that() {
    let blind = |given: &[(&str, &str)]| {
        let mut parameters = Parameters::new(Defaults {
            is_blind: true,
            ..Defaults::default()
        });
        for (name, value) in given {
            parameters
                .set(name, OsStr::new(value), &PlainParser)
                .unwrap();
        }
        parameters.finish().map_err(|error| error.to_string())
    };
    let told = blind(&[DIRECTORY, IN_CACHE]).unwrap_err();
    assert!(
        told.starts_with("cache-flush=cache: needs cache-id=TEXT"),
        "{told}"
    );
    assert!(blind(&[DIRECTORY, IN_CACHE, ("cache-id", "a")]).is_ok());
    assert!(blind(&[DIRECTORY]).is_ok());
}

#[test]
fn a_flush_ends_in_the_cache_in_writeback_mode_only() {
    for mode in ["writethrough", "unsafe"] {
        let mode = ("cache", mode);
        let told = format!(
            "cache-flush=cache: needs cache=writeback, not cache={}",
            mode.1
        );
        assert_eq!(message(&[DIRECTORY, mode, IN_CACHE]), told);
        assert_eq!(message(&[IN_CACHE, DIRECTORY, mode]), told);
        assert_eq!(message(&[IN_CACHE, mode]), told);
        assert!(given(&[mode, IN_CACHE, DIRECTORY, ("cache", "writeback")]).is_ok());
        assert!(given(&[mode, IN_CACHE, DIRECTORY, ("cache-flush", "origin")]).is_ok());
    }
}

#[test]
fn another_place_for_flushes_is_refused() {
    for text in ["", "Cache", "disk", "true", "writeback", "origin,cache"] {
        let expected = format!("cache-flush={text}: must be origin or cache");
        assert_eq!(message(&[DIRECTORY, ("cache-flush", text)]), expected);
    }
}

#[test]
fn what_flushes_leave_behind_is_bounded_by_age_and_share() {
    let config = given(&[DIRECTORY, IN_CACHE]).unwrap().config;
    assert_eq!(config.dirty_age, Some(Duration::from_secs(30)));
    assert_eq!(config.dirty_share_percent, Some(50));
    let with = |other| given(&[DIRECTORY, other, IN_CACHE]).unwrap().config;
    assert_eq!(with(("cache-dirty-age", "off")).dirty_age, None);
    let age = with(("cache-dirty-age", "7")).dirty_age;
    assert_eq!(age, Some(Duration::from_secs(7)));
    assert_eq!(
        with(("cache-dirty-share", "100")).dirty_share_percent,
        Some(100)
    );
}

#[test]
fn a_front_ends_own_age_stays_where_flushes_end_in_the_cache() {
    let mut parameters = Parameters::new(Defaults {
        dirty_age: Some(Duration::from_secs(5)),
        ..Defaults::default()
    });
    for (name, value) in [DIRECTORY, IN_CACHE] {
        parameters
            .set(name, OsStr::new(value), &PlainParser)
            .unwrap();
    }
    let config = parameters.finish().unwrap().config;
    assert_eq!(config.dirty_age, Some(Duration::from_secs(5)));
}

#[test]
fn the_origin_gets_flushes_in_order_only_where_that_is_asked_for() {
    let writeback = |parameters: &[(&str, &str)]| {
        let config = given(parameters).unwrap().config;
        assert!(config.check().is_ok());
        config.writeback
    };
    let unordered = ("cache-writeback", "unordered");
    assert_eq!(writeback(&[]), Writeback::Unordered);
    assert_eq!(writeback(&[unordered]), Writeback::Unordered);
    assert_eq!(writeback(&[DIRECTORY, IN_CACHE]), Writeback::Unordered);
    for order in [
        [DIRECTORY, IN_CACHE, ORDERED],
        [ORDERED, IN_CACHE, DIRECTORY],
    ] {
        assert_eq!(writeback(&order), Writeback::Ordered);
    }
    let last_counts = [DIRECTORY, IN_CACHE, ORDERED, unordered];
    assert_eq!(writeback(&last_counts), Writeback::Unordered);
}

#[test]
fn an_order_of_flushes_needs_flushes_in_the_cache() {
    let told = "cache-writeback=ordered: needs cache-flush=cache: without it the origin has every flush as soon as it returns";
    assert_eq!(message(&[ORDERED]), told);
    assert_eq!(message(&[DIRECTORY, ORDERED]), told);
    assert_eq!(
        message(&[ORDERED, ("cache-flush", "origin"), DIRECTORY]),
        told
    );
    assert_eq!(message(&[ORDERED, ("cache", "unsafe")]), told);
    // What flushes in the cache need comes first.
    assert_eq!(
        message(&[ORDERED, IN_CACHE]),
        "cache-flush=cache: needs cache-dir=PATH, where flushed data is durable"
    );
}

#[test]
fn another_order_is_refused() {
    for text in ["", "Ordered", "true", "writeback", "in order", "cache"] {
        let expected = format!("cache-writeback={text}: must be unordered or ordered");
        let parameters = [DIRECTORY, IN_CACHE, ("cache-writeback", text)];
        assert_eq!(message(&parameters), expected);
    }
}

#[test]
fn in_order_nothing_waits_for_a_share_and_what_was_not_flushed_has_an_age() {
    let with = |other| {
        given(&[DIRECTORY, IN_CACHE, ORDERED, other])
            .unwrap()
            .config
    };
    let config = with(("cache-max-size", "64M"));
    assert_eq!(config.dirty_share_percent, None);
    assert_eq!(config.dirty_age, Some(Duration::from_secs(30)));
    let age = with(("cache-dirty-age", "7")).dirty_age;
    assert_eq!(age, Some(Duration::from_secs(7)));
    assert_eq!(with(("cache-dirty-age", "off")).dirty_age, None);
    let share = ("cache-dirty-share", "20");
    assert_eq!(
        message(&[share, DIRECTORY, IN_CACHE, ORDERED]),
        "cache-dirty-share=20: must be left out with cache-writeback=ordered: the origin gets every flush at once in that mode"
    );
}

#[test]
fn a_dirty_share_is_1_to_100_percent_and_needs_nothing_else() {
    for (text, percent) in [("1", 1), ("50", 50), ("100", 100), ("0x14", 20)] {
        let settings = given(&[("cache-max-size", "1M"), ("cache-dirty-share", text)]).unwrap();
        assert_eq!(settings.config.dirty_share_percent, Some(percent));
        assert!(settings.config.check().is_ok() && settings.warnings.is_empty());
        assert_eq!(settings.config.flush_to, FlushTo::Origin);
    }
    for text in ["", "0", "101", "-5", "50%", "0.5", "off", "4294967296"] {
        let expected =
            format!("cache-dirty-share={text}: must be a whole number of percent, 1 to 100");
        assert_eq!(message(&[("cache-dirty-share", text)]), expected);
    }
}

#[test]
fn a_dirty_share_of_no_limit_is_warned_of() {
    let share = ("cache-dirty-share", "20");
    assert_eq!(
        given(&[share]).unwrap().warnings,
        ["cache-dirty-share=20: means nothing without cache-max-size"]
    );
    // What nobody typed is nobody's mistake.
    assert!(given(&[DIRECTORY, IN_CACHE]).unwrap().warnings.is_empty());
    let mut parameters = Parameters::new(Defaults {
        is_limited: true,
        ..Defaults::default()
    });
    parameters
        .set(share.0, OsStr::new(share.1), &PlainParser)
        .unwrap();
    assert!(parameters.finish().unwrap().warnings.is_empty());
}
