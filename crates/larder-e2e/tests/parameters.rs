//! Parameters: every wrong one is refused with a line that helps, before anything is served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;

use larder_e2e::{
    CacheFile, Client, FilterUnderTest, KIB, MIB, Mount, Nbdkit, Scratch, assert_filled,
};

/// Starts a server with these parameters; returns its exit status and what it said.
fn try_to_start(parameters: &[&str]) -> (Option<i32>, String) {
    let scratch = Scratch::new();
    let output = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .parameters(parameters)
        .try_to_start();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Asserts that the parameters are refused with status 1 and one line, which has all of `words`.
fn assert_refused(parameters: &[&str], words: &[&str]) {
    let (status, said) = try_to_start(parameters);
    assert_eq!(status, Some(1), "{parameters:?}: {said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{parameters:?}: {said}");
    let helpful = |line: &&&str| words.iter().all(|word| line.contains(word));
    assert!(
        lines.iter().find(helpful).is_some(),
        "{parameters:?}: no line has all of {words:?}:\n{said}"
    );
}

fn assert_accepted(parameters: &[&str]) {
    let (status, said) = try_to_start(parameters);
    assert_eq!(status, Some(0), "{parameters:?}: {said}");
}

/// Each value is refused, by a line that has the parameter and the value.
fn assert_values_refused(name: &str, values: &[&str]) {
    for value in values {
        assert_refused(&[&format!("{name}={value}")], &[name, value]);
    }
}

#[test]
fn a_wrong_mode_is_refused_with_the_three_choices() {
    for value in ["", "none", "write-back", "WRITEBACK", "writeback ", "true"] {
        let parameter = format!("cache={value}");
        assert_refused(
            &[&parameter],
            &["cache", value, "writeback", "writethrough", "unsafe"],
        );
    }
}

#[test]
fn a_wrong_block_size_is_refused() {
    assert_values_refused(
        "cache-min-block-size",
        &[
            "",
            "foo",
            "0",
            "1",
            "512",
            "2048",
            "4095",
            "4097",
            "5000",
            "65535",
            "96K",
            "-1",
            "-4096",
            "4G",
            "8E",
            "64KB",
            "99999999999999999999",
            "64K64K",
            "9999E",
        ],
    );
}

#[test]
fn right_block_sizes_are_accepted() {
    for value in ["4096", "4K", "4k", "64K", "1M", "2097152", "2G"] {
        assert_accepted(&[&format!("cache-min-block-size={value}")]);
    }
}

#[test]
fn a_wrong_maximum_size_is_refused() {
    assert_values_refused(
        "cache-max-size",
        &[
            "", "foo", "0", "1", "4096", "1023K", "1048575", "-1", "-1M", "1MB", "9999E",
        ],
    );
}

#[test]
fn a_block_larger_than_the_maximum_size_is_refused() {
    let [block, max] = ["cache-min-block-size=2M", "cache-max-size=1M"];
    assert_refused(&[block, max], &["cache-max-size"]);
    assert_refused(&[max, block], &["cache-max-size"]);
    assert_accepted(&["cache-min-block-size=1M", "cache-max-size=1M"]);
}

#[test]
fn wrong_thresholds_are_refused() {
    for name in ["cache-high-threshold", "cache-low-threshold"] {
        assert_values_refused(name, &["", "foo", "-1", "1.5", "80%", "99999999999"]);
    }
}

#[test]
fn thresholds_in_the_wrong_order_are_refused() {
    for (low, high) in [
        ("0", "95"),
        ("95", "95"),
        ("96", "95"),
        ("80", "0"),
        ("80", "80"),
        ("100", "100"),
        ("100", "150"),
        ("120", "150"),
    ] {
        assert_refused(
            &[
                "cache-max-size=4M",
                &format!("cache-low-threshold={low}"),
                &format!("cache-high-threshold={high}"),
            ],
            &["threshold", if high == "0" { high } else { low }],
        );
    }
}

#[test]
fn thresholds_are_checked_against_the_defaults() {
    assert_refused(
        &["cache-max-size=4M", "cache-high-threshold=80"],
        &["threshold", "80"],
    );
    assert_refused(
        &["cache-max-size=4M", "cache-low-threshold=95"],
        &["threshold", "95"],
    );
    assert_accepted(&["cache-max-size=4M", "cache-high-threshold=81"]);
    assert_accepted(&["cache-max-size=4M", "cache-low-threshold=94"]);
}

#[test]
fn thresholds_do_not_matter_without_a_maximum_size() {
    assert_accepted(&["cache-high-threshold=50", "cache-low-threshold=60"]);
}

/// As in the original: a threshold of nothing is never right.
#[test]
fn a_threshold_of_zero_is_refused_with_and_without_a_maximum_size() {
    for name in ["cache-low-threshold", "cache-high-threshold"] {
        let zero = format!("{name}=0");
        assert_refused(&[&zero], &[name, "0"]);
        assert_refused(&["cache-max-size=4M", &zero], &[name, "0"]);
    }
}

#[test]
fn a_threshold_above_100_counts_as_100_with_a_warning() {
    let parameters = ["cache-max-size=4M", "cache-high-threshold=150"];
    let (status, said) = try_to_start(&parameters);
    assert_eq!(status, Some(0), "{said}");
    let warned = said
        .lines()
        .any(|line| line.contains("cache-high-threshold") && line.contains("150"));
    assert!(warned, "{said:?}");
}

#[test]
fn a_wrong_cache_on_read_is_refused() {
    assert_values_refused(
        "cache-on-read",
        &["", "maybe", "2", "tru", "relative/path", "./relative"],
    );
}

#[test]
fn all_spellings_of_a_boolean_are_accepted() {
    for value in [
        "true", "false", "1", "0", "t", "f", "yes", "no", "Y", "on", "OFF", "/path",
    ] {
        assert_accepted(&[&format!("cache-on-read={value}")]);
    }
}

#[test]
fn wrong_cache_exports_are_refused_with_the_three_choices() {
    for value in ["", "both", "Separate", "true"] {
        let words = ["cache-exports", value, "separate", "shared", "connection"];
        assert_refused(&[&format!("cache-exports={value}")], &words);
    }
    for value in ["separate", "shared", "connection"] {
        assert_accepted(&[&format!("cache-exports={value}")]);
    }
}

#[test]
fn a_wrong_dirty_age_is_refused() {
    assert_values_refused(
        "cache-dirty-age",
        &["", "-1", "soon", "never", "30x", "99999999999999999999"],
    );
    for value in ["off", "1", "30"] {
        assert_accepted(&[&format!("cache-dirty-age={value}")]);
    }
}

#[test]
fn a_wrong_dirty_share_is_refused() {
    assert_values_refused(
        "cache-dirty-share",
        &["", "0", "101", "-1", "50%", "0.5", "off", "4294967296"],
    );
    for value in ["1", "50", "100"] {
        assert_accepted(&["cache-max-size=4M", &format!("cache-dirty-share={value}")]);
    }
}

#[test]
fn a_dirty_share_without_a_maximum_size_is_warned_of() {
    let (status, said) = try_to_start(&["cache-dirty-share=20"]);
    assert_eq!(status, Some(0), "{said}");
    let words = ["warning: ", "cache-dirty-share=20", "cache-max-size"];
    assert!(words.iter().all(|word| said.contains(word)), "{said:?}");
}

#[test]
fn a_wrong_place_for_flushes_is_refused_with_both_choices() {
    for value in ["", "disk", "Cache", "true"] {
        let parameter = format!("cache-flush={value}");
        assert_refused(&[&parameter], &["cache-flush", value, "origin", "cache"]);
    }
    assert_accepted(&["cache-flush=origin"]);
}

#[test]
fn a_wrong_order_of_flushes_is_refused_with_both_choices() {
    for value in ["", "true", "Ordered", "cache"] {
        let parameter = format!("cache-writeback={value}");
        let words = ["cache-writeback", value, "unordered or ordered"];
        assert_refused(&[&parameter], &words);
    }
    assert_accepted(&["cache-writeback=unordered"]);
}

#[test]
fn misspelt_parameters_stop_the_server_by_name() {
    for name in [
        "cache-max-sise",
        "cache-minimum-block-size",
        "cache-onread",
        "cashe",
        "cache-flsh",
        "cache-write-back",
    ] {
        assert_refused(&[&format!("{name}=4M")], &[name]);
    }
}

#[test]
fn the_last_of_two_values_counts() {
    assert_accepted(&["cache-max-size=2M", "cache-max-size=4M"]);
    assert_refused(
        &["cache-min-block-size=4K", "cache-min-block-size=3K"],
        &["cache-min-block-size", "3K"],
    );
}

#[test]
fn the_plugins_own_parameters_pass() {
    assert_accepted(&["allocator=malloc"]);
    assert_refused(&["allocator=foo"], &["foo"]);
}

#[test]
fn help_describes_every_parameter() {
    let scratch = Scratch::new();
    let help = Nbdkit::larder(&scratch)
        .plugin("memory", ["1M"])
        .print("--help");
    for parameter in [
        "cache=",
        "cache-flush=",
        "cache-writeback=",
        "cache-min-block-size=",
        "cache-max-size=",
        "cache-high-threshold=",
        "cache-low-threshold=",
        "cache-on-read=",
        "cache-exports=",
        "cache-dirty-age=",
        "cache-dirty-share=",
        "cache-readahead=",
        "cache-dir=",
        "cache-id=",
        "filter: cache",
    ] {
        assert!(help.contains(parameter), "no {parameter} in:\n{help}");
    }
}

#[test]
fn dump_plugin_works_and_shows_the_version_where_nbdkit_asks_filters() {
    let scratch = Scratch::new();
    let dump = Nbdkit::larder(&scratch)
        .plugin("memory", ["1M"])
        .print("--dump-plugin");
    assert!(dump.contains("name=memory"), "{dump}");
    if FilterUnderTest::nbdkit_version() >= (1, 36) {
        let version = env!("CARGO_PKG_VERSION");
        let shown = dump
            .lines()
            .any(|line| line.contains("larder") && line.contains(version));
        assert!(shown, "{dump}");
    }
}

#[test]
fn verbose_tells_what_happens_to_each_block() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .parameter("cache-on-read=true")
        .verbose()
        .start();
    let mut client = Client::connect(server.socket());
    client.read(3 * 64 * KIB, 4096).unwrap();
    client.read(3 * 64 * KIB, 4096).unwrap();
    client.write(5 * 64 * KIB, &[1; 4096]).unwrap();
    drop(client);
    let exit = server.stop();
    let of_block = |block: u64| {
        let offset = block * 64 * KIB;
        let lines = exit.output.lines().filter(|line| {
            line.contains("cache: ")
                && (line.contains(&format!("block {block}"))
                    || line.contains(&format!("{offset}"))
                    || line.contains(&format!("{offset:#x}")))
        });
        lines.count()
    };
    assert!(of_block(3) >= 2, "{}", exit.output);
    assert!(of_block(5) >= 1, "{}", exit.output);
    let stats = exit.stats();
    assert_eq!(stats.value("hits"), 1);
    assert_eq!(stats.value("misses"), 1);
    assert_eq!(stats.value("writes"), 1);
}

#[test]
fn without_verbose_nothing_is_said() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["16M"]).start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.read(0, 4096).unwrap();
    client.flush().unwrap();
    drop(client);
    assert_eq!(server.stop().output, "");
}

#[test]
fn being_loaded_twice_is_refused() {
    let scratch = Scratch::new();
    let output = Nbdkit::larder(&scratch)
        .below(&FilterUnderTest::argument())
        .plugin("memory", ["1M"])
        .try_to_start();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("once") || said.contains("twice"), "{said}");
}

#[test]
fn the_cache_file_is_unlinked_under_tmpdir() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["16M"]).start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 1 << 20]).unwrap();
    let files = server.cache_files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].allocated_bytes() >= MIB);
    let left = fs::read_dir(server.tmpdir()).unwrap().count();
    assert_eq!(left, 0, "nothing is to be seen in {:?}", server.tmpdir());
}

#[test]
fn without_tmpdir_the_cache_file_is_under_var_tmp() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .without_tmpdir()
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 1 << 20]).unwrap();
    let files = CacheFile::of_process(server.pid(), Path::new("/var/tmp"));
    assert_eq!(files.len(), 1, "{files:?}");
}

/// Asserts that nbdkit refuses this TMPDIR, in one line with the path and the reason.
fn assert_tmpdir_refused(directory: &Path, reason: &str) {
    let scratch = Scratch::new();
    let output = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .tmpdir(directory)
        .try_to_start();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let path = directory.display().to_string();
    let helpful = |line: &str| line.contains(&path) && line.contains(reason);
    assert!(said.lines().any(helpful), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_tmpdir_that_does_not_exist_is_refused() {
    let scratch = Scratch::new();
    assert_tmpdir_refused(&scratch.path("missing"), "No such file or directory");
}

#[test]
fn a_tmpdir_that_is_no_directory_is_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "").unwrap();
    assert_tmpdir_refused(&scratch.path("file"), "Not a directory");
}

#[test]
fn a_tmpdir_that_cannot_be_written_is_refused() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("read-only");
    let mount = Mount::read_only_tmpfs(&directory);
    assert_tmpdir_refused(&directory, "Read-only file system");
    mount.unmount();
}

#[test]
fn every_good_parameter_at_once_is_accepted_and_works() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .parameters([
            "cache=writeback",
            "cache-min-block-size=8K",
            "cache-max-size=2M",
        ])
        .parameters(["cache-high-threshold=90", "cache-low-threshold=50"])
        .parameters(["cache-on-read=/nowhere", "cache-exports=shared"])
        .parameter("cache-dirty-age=5")
        .start();
    let mut client = Client::connect(server.socket());
    client.write(12_345, &[1; 3 << 20]).unwrap();
    client.flush().unwrap();
    assert_filled(
        "what was written",
        &client.read(12_345, 3 * MIB).unwrap(),
        1,
    );
}
