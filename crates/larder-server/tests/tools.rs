//! `larder inspect` and `larder scrub`, from the command line to what is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/cache_directory.rs"]
mod cache_directory;
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::time::SystemTime;

use cache_directory::{Slot, Volume, flip, make, superblock};
use common::{Scratch, output, refusal};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

/// Two volumes: one with three blocks, of which one is dirty in a part; one with zeros and a last sector that its end cuts.
fn volumes() -> [Volume; 2] {
    [
        Volume {
            name: "disk",
            cache_id: "",
            size: 1 << 20,
            version: Some(("device 8, inode 5", "size 1048576")),
            is_changed: true,
            zeros: Vec::new(),
        },
        Volume {
            name: "data \"two\"",
            cache_id: "rack 7",
            size: 4096 + 700,
            version: None,
            is_changed: false,
            zeros: vec![(512, 2048), (3072, 3584)],
        },
    ]
}

fn slots() -> [Option<Slot>; 5] {
    let of_disk = |block, dirty| {
        Some(Slot {
            volume: 0,
            block,
            valid: 0xff,
            dirty,
        })
    };
    let last = Slot {
        volume: 1,
        block: 1,
        valid: 0b11,
        dirty: 0b10,
    };
    [
        of_disk(0, 0),
        None,
        of_disk(3, 0b0011_0000),
        Some(last),
        of_disk(255, 0),
    ]
}

/// A directory of that name in the scratch directory.
fn closed(scratch: &Scratch, name: &str) -> String {
    make(&scratch.path(name), true, &volumes(), &slots());
    scratch.text(name)
}

fn crashed(scratch: &Scratch, name: &str) -> String {
    make(&scratch.path(name), false, &volumes(), &slots());
    scratch.text(name)
}

/// What was printed, by a command that ended with that status and had nothing to complain of.
fn printed(output: Output, status: i32) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{told}");
    assert_eq!(told, "");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(output(arguments), 0)).unwrap()
}

/// All files: content, and when they were changed.
fn everything(path: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let files = fs::read_dir(path).unwrap().map(Result::unwrap);
    let file = |file: fs::DirEntry| {
        let changed = file.metadata().unwrap().modified().unwrap();
        let name = file.file_name().into_string().unwrap();
        (name, (fs::read(file.path()).unwrap(), changed))
    };
    files.map(file).collect()
}

#[test]
fn what_a_directory_holds_is_told_in_a_line_for_each_volume() {
    let scratch = Scratch::new();
    let directory = closed(&scratch, "cache");
    let before = everything(Path::new(&directory));
    let text = printed(output(&["inspect", &directory]), 0);
    let expected = "\
state    closed
format   1.0, cache 01020304-0506-4708-890a-0b0c0d0e0f10
slots    4 used of 5, 4.00 KiB each
journal  0 B used of 64.00 KiB, in 0 frames
session  2, generation 7
files    superblock 8.00 KiB, journal 68.00 KiB, map 4.31 KiB, map.copy 4.31 KiB, sums 4.31 KiB, volumes 8.00 KiB, slots 1.02 MiB

       size      sector    blocks      cached       dirty       zeros  volume
   1.00 MiB       512 B         3   12.00 KiB    1.00 KiB         0 B  \"disk\", version device 8, inode 5; size 1048576 (written to since)
   4.68 KiB       512 B         1       700 B       188 B    2.00 KiB  \"data \\\"two\\\"\", cache-id \"rack 7\"
";
    assert_eq!(text, expected);
    assert_eq!(everything(Path::new(&directory)), before);
}

#[test]
fn what_the_origin_does_not_have_is_named_if_asked_for() {
    let scratch = Scratch::new();
    let directory = closed(&scratch, "cache");
    let text = printed(output(&["inspect", "--ranges", &directory]), 0);
    let expected = "
\"disk\" has what the origin does not have:
  1024 bytes at 14336

\"data \\\"two\\\"\" has what the origin does not have:
  1536 bytes at 512, zeros
  512 bytes at 3072, zeros
  188 bytes at 4608
";
    assert!(text.ends_with(expected), "{text}");
}

/// Programs rely on these keys.
#[test]
fn the_json_of_inspect_is_as_it_always_was() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let text = printed(output(&["inspect", "--json", "--ranges", &directory]), 0);
    let expected = include_str!("tools/inspect.json").replace("DIRECTORY", &directory);
    assert_eq!(text, expected);
    let without = json(&["inspect", "--json", &directory]);
    assert!(without["volumes"][0].get("dirty_ranges").is_none());
}

#[test]
fn the_json_of_scrub_is_as_it_always_was() {
    let scratch = Scratch::new();
    let directory = closed(&scratch, "cache");
    let path = scratch.path("cache");
    flip(&path, 2, 4 * 512 + 9);
    flip(&path, 0, 0);
    let text = printed(output(&["scrub", "--json", &directory]), 1);
    let expected = include_str!("tools/scrub.json").replace("DIRECTORY", &directory);
    assert_eq!(text, expected);
}

#[test]
fn damage_of_what_the_origin_has_is_counted_and_no_failure() {
    let scratch = Scratch::new();
    let directory = closed(&scratch, "cache");
    let whole = printed(output(&["scrub", &directory]), 0);
    assert_eq!(
        whole,
        "checked 26 sectors (12.68 KiB)\nwhat was checked is as it was written\n"
    );
    flip(&scratch.path("cache"), 4, 4095);
    let before = everything(Path::new(&directory));
    let damaged = printed(output(&["scrub", &directory]), 0);
    assert_eq!(
        damaged,
        "checked 26 sectors (12.68 KiB)\n\
         1 bad sector (512 B) of what the origin has too: damaged; it is read from the origin again\n"
    );
    assert_eq!(everything(Path::new(&directory)), before);
}

#[test]
fn damage_of_what_only_the_cache_has_is_named_and_a_failure() {
    let scratch = Scratch::new();
    for directory in [closed(&scratch, "a"), crashed(&scratch, "b")] {
        flip(Path::new(&directory), 3, 512);
        let text = printed(output(&["scrub", &directory]), 1);
        assert_eq!(
            text,
            "checked 26 sectors (12.68 KiB)\n\
             DAMAGED, and the origin does not have it: \"data \\\"two\\\"\", 188 bytes at 4608\n"
        );
    }
}

#[test]
fn a_directory_that_was_not_closed_is_told_as_that() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let text = printed(output(&["inspect", &directory]), 0);
    assert!(
        text.starts_with("state    not closed: the next start recovers it\n"),
        "{text}"
    );
    flip(Path::new(&directory), 0, 0);
    let text = printed(output(&["scrub", &directory]), 0);
    assert!(
        text.contains("written shortly before the end, or damaged"),
        "{text}"
    );
}

#[test]
fn a_damaged_copy_of_the_superblock_is_told() {
    let scratch = Scratch::new();
    let directory = closed(&scratch, "cache");
    let path = scratch.path("cache/superblock");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let text = printed(output(&["inspect", &directory]), 0);
    let warning = "warning  one of the superblock's two copies is damaged";
    assert!(text.contains(warning), "{text}");
}

#[test]
fn a_directory_that_somebody_has_locked_is_looked_at_beside_him() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let lock = fs::File::open(scratch.path("cache/lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let text = printed(output(&["inspect", &directory]), 0);
    let in_use = "state    in use (pid 4711 started 2026-01-02 03:04:05 UTC); \
                  this is what a start would find after a kill\n";
    assert!(text.starts_with(in_use), "{text}");
    let found = json(&["inspect", "--json", &directory]);
    assert_eq!(found["state"], "in-use");
    assert_eq!(found["user"], "pid 4711 started 2026-01-02 03:04:05 UTC");
    assert_eq!(json(&["scrub", "--json", &directory])["state"], "in-use");
    flip(Path::new(&directory), 0, 0);
    let text = printed(output(&["scrub", &directory]), 0);
    assert!(
        text.contains("written since by whoever has the directory open"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_looked_at_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let refused = |directory: &str, told: &str| {
        for tool in ["inspect", "scrub"] {
            let line = refusal(&[tool, directory]);
            assert_eq!(line, format!("cache directory '{directory}': {told}"));
        }
    };
    let give = "give the directory that was given as cache-dir";
    let missing = scratch.text("missing");
    refused(&missing, &format!("No such file or directory: {give}"));
    let file = scratch.text("file");
    fs::write(&file, "").unwrap();
    refused(&file, &format!("it is no directory: {give}"));
    let empty = scratch.text("empty");
    fs::create_dir(&empty).unwrap();
    refused(&empty, &format!("it is empty: {give}"));
    fs::write(scratch.path("empty/notes"), "").unwrap();
    let foreign = "it holds \"notes\", which is no file of a Larder cache";
    refused(&empty, &format!("{foreign}: {give}"));
    let newer = closed(&scratch, "newer");
    let page = superblock(2, true, 5, 64);
    fs::write(
        scratch.path("newer/superblock"),
        [&page[..], &page[..]].concat(),
    )
    .unwrap();
    let told =
        "superblock is of format 2.0, and this program knows formats up to 1.0: use a newer one";
    refused(&newer, told);
    let cut = closed(&scratch, "cut");
    let slots = fs::File::options()
        .write(true)
        .open(scratch.path("cut/slots"))
        .unwrap();
    slots.set_len(1 << 20).unwrap();
    refused(
        &cut,
        "slots was cut: it has 1048576 bytes instead of 1069056",
    );
    fs::remove_file(scratch.path("cut/map")).unwrap();
    refused(
        &cut,
        "map is missing: put it back, the cache is of no use without it",
    );
    let link = closed(&scratch, "link");
    fs::remove_file(scratch.path("link/map")).unwrap();
    symlink("map.copy", scratch.path("link/map")).unwrap();
    refused(
        &link,
        "map cannot be opened: Too many levels of symbolic links",
    );
}

#[test]
fn what_is_typed_wrong_ends_with_another_status() {
    for (arguments, told) in [
        (
            &["inspect"][..],
            "no directory given: larder inspect /var/cache/larder, for example",
        ),
        (
            &["scrub"],
            "no directory given: larder scrub /var/cache/larder, for example",
        ),
        (
            &["inspect", "--json=maybe", "/"],
            "json=maybe: must be true or false",
        ),
        (
            &["scrub", "--ranges", "/"],
            "--ranges: there is no such option (larder scrub --help tells more)",
        ),
    ] {
        let output = output(arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(line, format!("larder: {told}\n"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_tells_what_the_exit_status_means() {
    for tool in ["inspect", "scrub"] {
        let text = printed(output(&[tool, "--help"]), 0);
        assert!(
            text.contains("Nothing is written") && text.contains("exit status"),
            "{text}"
        );
    }
}
