//! `larder replay`, from the command line to what is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::fs::File;
use std::process::{Command, Output, Stdio};

use common::{Scratch, larder, output, refusal};
use serde_json::Value;

/// Reads of 64 KiB each, of blocks with these numbers.
fn reads(blocks: impl IntoIterator<Item = u64>) -> String {
    let line = |block| format!("0,R,{},65536\n", block * 65536);
    blocks.into_iter().map(line).collect()
}

/// A loop over 20 blocks, twice, which 15 blocks of LRU never hit.
fn a_loop() -> String {
    reads((0..40).map(|at| at % 20))
}

fn printed(output: Output) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(told, "");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["replay", "--json"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    serde_json::from_str(&printed(output(&arguments))).unwrap()
}

fn close(value: &Value, expected: f64) -> bool {
    (value.as_f64().unwrap() - expected).abs() < 1e-9
}

#[test]
fn misses_are_told_as_they_can_be_counted_by_hand() {
    let scratch = Scratch::new();
    let trace = scratch.text("loop.csv");
    fs::write(&trace, a_loop()).unwrap();
    let found = json(&[
        "--cache-max-size=2M,1M",
        "--cache-high-threshold=100",
        "--cache-low-threshold=99",
        &trace,
    ]);
    assert_eq!(found["reads"], 40);
    assert_eq!(found["footprint_blocks"], 20);
    let sizes = found["sizes"].as_array().unwrap();
    // 1M holds 15 blocks, see cache-max-size; 2M holds them all.
    assert_eq!(sizes[0]["blocks"], 15);
    assert!(close(&sizes[0]["lru_miss_ratio"], 1.0), "{sizes:?}");
    // The optimum ends the first round with blocks 0 to 13 and 19, and misses the five others once more.
    assert!(
        close(&sizes[0]["optimum_miss_ratio"], 25.0 / 40.0),
        "{sizes:?}"
    );
    assert!(
        sizes[0]["miss_ratio"].as_f64() >= Some(25.0 / 40.0),
        "{sizes:?}"
    );
    for ratio in ["miss_ratio", "lru_miss_ratio", "optimum_miss_ratio"] {
        assert!(close(&sizes[1][ratio], 0.5), "{ratio}: {sizes:?}");
    }
    assert_eq!(sizes[1]["origin_read_bytes"], 20 * 65536);
}

#[test]
fn sizes_are_found_where_none_are_given_and_a_size_is_recommended() {
    let scratch = Scratch::new();
    let trace = scratch.text("trace.csv");
    // Everything is used twice, far apart; a few blocks all the time.
    let blocks = (0..2000).flat_map(|at| [at % 1000, at % 10 + 5000]);
    fs::write(&trace, reads(blocks)).unwrap();
    let text = printed(output(&["replay", &trace]));
    assert!(
        text.contains("4,000 requests to 1 volume: 4,000 reads"),
        "{text}"
    );
    assert!(text.contains("4,000 uses of 1,010 blocks of 64K"), "{text}");
    let sizes: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.ends_with('M'))
        .collect();
    assert_eq!(
        sizes,
        ["1M", "2M", "4M", "8M", "16M", "32M", "64M", "128M"],
        "{text}"
    );
    assert!(text.contains("everything fits into"), "{text}");
    let without = printed(output(&["replay", "--no-optimum", &trace]));
    assert!(
        text.lines().any(|line| line.contains("lru optimum")),
        "{text}"
    );
    assert!(
        !without.lines().any(|line| line.contains("lru optimum")),
        "{without}"
    );
}

/// What comes through a pipe, compressed, is the same as the file.
#[test]
fn standard_input_and_gzip_make_no_difference() {
    let scratch = Scratch::new();
    let trace = scratch.text("loop.csv");
    fs::write(&trace, a_loop()).unwrap();
    let expected = printed(output(&["replay", &trace]));
    let gzip = Command::new("gzip").args(["-k", &trace]).status();
    assert!(gzip.expect("gzip, of the package gzip").success());
    let compressed = format!("{trace}.gz");
    assert_eq!(printed(output(&["replay", &compressed])), expected);
    let mut cat = Command::new("cat")
        .arg(&compressed)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let piped = larder(&["replay", "-"])
        .stdin(cat.stdout.take().unwrap())
        .env("TMPDIR", scratch.path("."))
        .output()
        .unwrap();
    assert!(cat.wait().unwrap().success());
    assert_eq!(printed(piped), expected);
    let file = larder(&["replay", "--format=csv", "-"])
        .stdin(File::open(&trace).unwrap())
        .output()
        .unwrap();
    assert_eq!(printed(file), expected);
}

#[test]
fn the_plot_has_a_line_for_each_policy() {
    let scratch = Scratch::new();
    let (trace, plot) = (scratch.text("loop.csv"), scratch.text("misses.svg"));
    fs::write(&trace, a_loop()).unwrap();
    printed(output(&["replay", "--plot", &plot, &trace]));
    let svg = fs::read_to_string(&plot).unwrap();
    for text in ["<svg", "loop.csv", "Larder", "LRU", "optimum", "1 MiB"] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
}

/// Trims drop blocks, and each file of an iolog is a volume of its own.
#[test]
fn volumes_are_apart_and_trims_drop() {
    let scratch = Scratch::new();
    let trace = scratch.text("iolog");
    let lines = "fio version 2 iolog\n/a add\n/b add\n/a open\n/b open\n\
                 /a read 0 65536\n/b read 0 65536\n/a write 0 65536\n/a trim 0 65536\n\
                 /a read 0 65536\n/b read 0 65536\n";
    fs::write(&trace, lines).unwrap();
    let found = json(&["--cache-max-size=1M", &trace]);
    assert_eq!((&found["volumes"], &found["trims"]), (&2.into(), &1.into()));
    assert_eq!(found["footprint_blocks"], 2);
    for ratio in ["miss_ratio", "lru_miss_ratio", "optimum_miss_ratio"] {
        assert!(close(&found["sizes"][0][ratio], 3.0 / 5.0), "{found}");
    }
}

/// One event of `struct blk_io_trace`: a read of 64 KiB that is queued.
fn event(time_ns: u64, block: u64, process: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0x6561_7407u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(time_ns.to_le_bytes());
    bytes.extend((block * 128).to_le_bytes());
    bytes.extend(65536u32.to_le_bytes());
    bytes.extend(((1u32 | 1 << 4) << 16 | 1).to_le_bytes());
    bytes.extend(process.to_le_bytes());
    bytes.extend((8u32 << 20).to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

#[test]
fn the_name_that_blktrace_was_given_stands_for_all_its_files() {
    let scratch = Scratch::new();
    let of_processor = |first: u64| -> Vec<u8> {
        let times = (first..40).step_by(2);
        times.flat_map(|time| event(time, time % 20, 1)).collect()
    };
    fs::write(scratch.path("sda.blktrace.0"), of_processor(0)).unwrap();
    fs::write(scratch.path("sda.blktrace.1"), of_processor(1)).unwrap();
    let all = json(&["--cache-max-size=1M", &scratch.text("sda")]);
    assert_eq!(all["reads"], 40);
    // In the order of time it is a loop over 20 blocks, of which LRU keeps none.
    assert!(close(&all["sizes"][0]["lru_miss_ratio"], 1.0), "{all}");
    let one = json(&["--cache-max-size=1M", &scratch.text("sda.blktrace.0")]);
    assert_eq!(one["reads"], 20);
    assert!(close(&one["sizes"][0]["lru_miss_ratio"], 0.5), "{one}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let damaged = scratch.text("damaged.csv");
    fs::write(&damaged, format!("{}7,R,x,512\n", reads(0..9))).unwrap();
    let nothing = scratch.text("nothing.csv");
    fs::write(&nothing, "0,T,0,65536\n").unwrap();
    let other = scratch.text("other");
    fs::write(&other, "no trace\n").unwrap();
    for (arguments, told) in [
        (
            &[][..],
            "no trace given: larder replay trace.csv.gz, for example",
        ),
        (
            &[&*damaged],
            &*format!("{damaged}: line 10: '7,R,x,512': must be ts_us,op,"),
        ),
        (
            &[&*nothing],
            &format!("{nothing}: there is no read and no write in it"),
        ),
        (
            &[&*other],
            &format!("{other}: line 1: 'no trace': is no trace that is known: "),
        ),
        (
            &["--format=fio", &*damaged],
            &format!("{damaged}: line 1: '0,R,0,65536': must be 'fio version 2 iolog' or"),
        ),
        (&["/no/such"], "/no/such: No such file or directory"),
        (
            &["--format=tar", "x"],
            "format=tar: must be csv, blktrace or fio",
        ),
        (
            &["--cache-max-size=4M,1K", "x"],
            "cache-max-size=1K: must be a size of at least 1M",
        ),
        (
            &["--cache-max-size=1M", "--cache-min-block-size=2M", "x"],
            "cache-max-size=1M: must be at least one block",
        ),
        (
            &["--cache-low-threshold=95", "x"],
            "cache-low-threshold=95: must be less than cache-high-threshold, which is 95",
        ),
        (
            &["--plot=/no/such/plot.svg", "x"],
            "plot=/no/such/plot.svg: must be in a directory that exists",
        ),
    ] {
        let arguments: Vec<&str> = ["replay"].iter().chain(arguments).copied().collect();
        let message = refusal(&arguments);
        assert!(message.starts_with(told), "{arguments:?}: {message}");
    }
}
