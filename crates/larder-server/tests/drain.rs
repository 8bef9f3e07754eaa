//! `larder drain`, from the command line to what is on an origin, in a file or gone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/cache_directory.rs"]
mod cache_directory;
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;
use std::time::UNIX_EPOCH;

use cache_directory::{Slot, Volume, flip, make};
use common::{Scratch, output, refusal};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

const SIZE: u64 = 1 << 20;
/// What an untouched origin holds.
const UNTOUCHED: u8 = 0xee;

fn volume(name: &'static str) -> Volume {
    Volume {
        name,
        cache_id: "",
        size: SIZE,
        version: None,
        is_changed: false,
        zeros: Vec::new(),
    }
}

fn slot(volume: u32, block: u64, dirty: u128) -> Option<Slot> {
    Some(Slot {
        volume,
        block,
        valid: 0xff,
        dirty,
    })
}

/// Two exports: one with two dirty blocks and zeros, one with a single dirty sector.
fn crashed(scratch: &Scratch, name: &str) -> String {
    let disk = Volume {
        zeros: vec![(8192, 12288)],
        ..volume("disk")
    };
    let slots = [
        slot(0, 3, 0b0011_0000),
        slot(0, 10, 0b1),
        slot(0, 0, 0),
        slot(1, 0, 0b1000_0000),
    ];
    make(&scratch.path(name), false, &[disk, volume("data")], &slots);
    scratch.text(name)
}

/// What the origin of "disk" holds in the end.
fn expected() -> Vec<u8> {
    let mut bytes = vec![UNTOUCHED; SIZE as usize];
    bytes[8192..12288].fill(0);
    for sector in [28, 29, 80] {
        bytes[sector * 512..][..512].fill(sector as u8);
    }
    bytes
}

fn origin(scratch: &Scratch, name: &str) -> String {
    fs::write(scratch.path(name), vec![UNTOUCHED; SIZE as usize]).unwrap();
    scratch.text(name)
}

/// What was printed by a command that ended with that status, and what it had to complain of.
fn told(output: Output, status: i32) -> (String, String) {
    let complaint = String::from_utf8(output.stderr).unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(status), "{told}{complaint}");
    (told, complaint)
}

/// What was printed by a command to which all went well.
fn printed(arguments: &[&str]) -> String {
    let (told, complaint) = told(output(arguments), 0);
    assert_eq!(complaint, "");
    told
}

/// Bytes of an export that only the directory has: data and zeros.
fn held(directory: &str, name: &str) -> Option<(u64, u64)> {
    let found: Value = serde_json::from_str(&printed(&["inspect", "--json", directory])).unwrap();
    assert_eq!(found["state"], "clean");
    let volumes = found["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == name)?;
    let bytes = |key: &str| volume[key].as_u64().unwrap();
    Some((bytes("dirty_bytes"), bytes("zero_bytes")))
}

#[test]
fn what_was_written_is_on_the_origin_and_not_dirty_any_more() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let disk = origin(&scratch, "disk.img");
    let text = printed(&["drain", &directory, &format!("disk={disk}")]);
    let expected_text = format!(
        "\"disk\": 1.50 KiB of written data and 4.00 KiB of zeros is on {disk}\n\
         \"data\": 512 B of written data is still only here: give its origin, too\n"
    );
    assert_eq!(text, expected_text);
    assert!(fs::read(&disk).unwrap() == expected());
    assert_eq!(held(&directory, "disk"), Some((0, 0)));
    assert_eq!(held(&directory, "data"), Some((512, 0)));
    // What is clean is there still, and as it was written.
    let whole = printed(&["scrub", &directory]);
    assert!(whole.ends_with("what was checked is as it was written\n"));
    let again = printed(&["drain", &directory, &format!("disk={disk}")]);
    assert!(again.starts_with("\"disk\": its origin has everything that was written\n"));
}

#[test]
fn several_exports_go_to_their_origins_at_once() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let (disk, data) = (origin(&scratch, "disk.img"), origin(&scratch, "data.img"));
    let origins = [format!("disk={disk}"), format!("data={data}")];
    let text = printed(&["drain", &directory, &origins[0], &origins[1]]);
    assert_eq!(text.lines().count(), 2);
    let mut bytes = vec![UNTOUCHED; SIZE as usize];
    bytes[7 * 512..8 * 512].fill(7);
    assert!(fs::read(&data).unwrap() == bytes);
    assert_eq!(held(&directory, "data"), Some((0, 0)));
}

#[test]
fn what_is_damaged_is_named_and_stays_and_all_else_is_written() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    flip(Path::new(&directory), 1, 17);
    let disk = origin(&scratch, "disk.img");
    let arguments = ["drain", &*directory, &format!("disk={disk}")];
    let (text, complaint) = told(output(&arguments), 1);
    assert!(
        text.starts_with("\"disk\": 1.00 KiB of written data and 4.00 KiB of zeros is on "),
        "{text}"
    );
    assert_eq!(
        complaint,
        format!(
            "larder: cache directory '{directory}': \"disk\": 512 bytes at 40960 are still only in the cache: \
             it does not fit its checksum\n"
        )
    );
    assert_eq!(held(&directory, "disk"), Some((512, 0)));
    let mut bytes = expected();
    bytes[40960..][..512].fill(UNTOUCHED);
    assert!(fs::read(&disk).unwrap() == bytes);
}

#[test]
fn what_only_the_cache_has_is_copied_to_a_sparse_file_with_a_list() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    flip(Path::new(&directory), 1, 17);
    let copy = scratch.text("copy.img");
    let arguments = ["drain", "--output", &copy, "--export", "disk", &directory];
    let (text, complaint) = told(output(&arguments), 1);
    assert!(
        text.starts_with(&format!(
            "\"disk\": 1.00 KiB of written data and 4.00 KiB of zeros is in {copy}, at the places that {copy}.json names"
        )),
        "{text}"
    );
    assert!(
        complaint.contains("512 bytes at 40960 are not in the file: it does not fit"),
        "{complaint}"
    );
    let mut bytes = vec![0; SIZE as usize];
    for sector in [28, 29] {
        bytes[sector * 512..][..512].fill(sector as u8);
    }
    assert!(fs::read(&copy).unwrap() == bytes);
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < SIZE / 2);
    let list = fs::read_to_string(format!("{copy}.json")).unwrap();
    let expected = include_str!("tools/drain.json").replace("DIRECTORY", &directory);
    assert_eq!(list, expected);
    assert_eq!(held(&directory, "disk"), Some((1536, 4096)), "it is kept");
    assert_eq!(
        refusal(&arguments),
        format!("{copy}: it is there already: name a new file")
    );
}

#[test]
fn what_is_discarded_is_gone_with_its_export() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    assert_eq!(
        refusal(&["drain", "--discard", &directory]),
        format!(
            "cache directory '{directory}': several exports were written to, \"disk\", \"data\": \
             name one with --export, for --discard"
        )
    );
    let text = printed(&["drain", "--discard", "--export=disk", &directory]);
    assert_eq!(
        text,
        "\"disk\": discarded 1.50 KiB of written data and 4.00 KiB of zeros\n"
    );
    assert_eq!(held(&directory, "disk"), None);
    let text = printed(&["drain", "--discard", &directory]);
    assert_eq!(text, "\"data\": discarded 512 B of written data\n");
    let text = printed(&["drain", "--discard", &directory]);
    assert_eq!(text, "the origins have everything that was written\n");
}

/// An origin that is known by its inode, which is another one's.
#[test]
fn another_origin_is_refused_and_written_only_by_force() {
    let scratch = Scratch::new();
    let known = Volume {
        version: Some(("inode 5, made at 7.000000000", "yesterday")),
        is_changed: true,
        ..volume("")
    };
    make(&scratch.path("cache"), true, &[known], &[slot(0, 3, 1)]);
    let directory = scratch.text("cache");
    let disk = origin(&scratch, "disk.img");
    let line = refusal(&["drain", &directory, &disk]);
    let begin = format!(
        "cache directory '{directory}': volume \"\" was written for another origin: the origin was 'inode 5, made at 7.000000000', and is 'inode "
    );
    assert!(line.starts_with(&begin), "{line}");
    assert!(line.contains("with --force it is written"), "{line}");
    assert!(
        fs::read(&disk)
            .unwrap()
            .iter()
            .all(|byte| *byte == UNTOUCHED)
    );
    assert_eq!(held(&directory, ""), Some((512, 0)));
    let text = printed(&["drain", "--force", &directory, &disk]);
    assert!(text.ends_with("; the export is forgotten\n"), "{text}");
    assert_eq!(fs::read(&disk).unwrap()[24 * 512], 24);
    assert_eq!(held(&directory, ""), None);
}

/// As the origin of a server that was killed while it wrote.
#[test]
fn a_change_that_may_be_anybodys_is_told_of() {
    let scratch = Scratch::new();
    let disk = origin(&scratch, "disk.img");
    let found = fs::metadata(&disk).unwrap();
    let made = found.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let (seconds, rest) = (made.as_secs(), made.subsec_nanos());
    let file = format!("inode {}, made at {seconds}.{rest:09}", found.ino());
    let known = Volume {
        version: Some((file.leak(), "yesterday")),
        is_changed: true,
        ..volume("")
    };
    make(&scratch.path("cache"), true, &[known], &[slot(0, 3, 1)]);
    let directory = scratch.text("cache");
    let (text, complaint) = told(output(&["drain", &directory, &disk]), 0);
    assert!(text.contains("512 B of written data is on "), "{text}");
    let begin =
        "larder: warning: \"\": the origin's version was 'yesterday', and is '1048576 bytes, ";
    assert!(complaint.starts_with(begin), "{complaint}");
    assert!(complaint.contains("if anybody else has changed it since"));
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert_eq!(fs::read(&disk).unwrap()[24 * 512], 24);
}

#[test]
fn the_operators_own_name_tells_an_origin_that_cannot_say_who_it_is() {
    let scratch = Scratch::new();
    let named = Volume {
        cache_id: "rack 7",
        ..volume("")
    };
    make(&scratch.path("cache"), true, &[named], &[slot(0, 3, 1)]);
    let directory = scratch.text("cache");
    let disk = origin(&scratch, "disk.img");
    let line = refusal(&["drain", &directory, &disk]);
    assert!(
        line.ends_with(
            "with the cache-id 'rack 7', and nothing else tells which one it is: if it is this one, say so with --cache-id"
        ),
        "{line}"
    );
    let line = refusal(&["drain", "--cache-id=rack 8", &directory, &disk]);
    assert!(
        line.contains("cache-id was 'rack 7', and is 'rack 8' now"),
        "{line}"
    );
    printed(&["drain", "--cache-id=rack 7", &directory, &disk]);
    assert_eq!(held(&directory, ""), Some((0, 0)));
}

#[test]
fn what_cannot_be_drained_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let directory = crashed(&scratch, "cache");
    let disk = origin(&scratch, "disk.img");
    let refused = |arguments: &[&str], told: &str| {
        let line = refusal(&[&["drain"], arguments].concat());
        assert!(line.contains(told), "{line}");
    };
    refused(
        &[&directory, &disk],
        "it has no export \"\": it has \"disk\", \"data\"",
    );
    let missing = scratch.text("missing");
    refused(
        &[&missing, &disk],
        "No such file or directory: give the directory",
    );
    refused(
        &[&directory, &format!("disk={missing}")],
        "no such file; an origin is ",
    );
    let empty = scratch.text("empty");
    fs::create_dir(&empty).unwrap();
    refused(&[&empty, &disk], "it is empty: give the directory");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "nothing is made");
    let short = scratch.text("short.img");
    fs::write(&short, [0; 512]).unwrap();
    refused(
        &[&directory, &format!("disk={short}")],
        "the origin's size was 1048576, and is 512 now",
    );
    let lock = fs::File::open(scratch.path("cache/lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(&[&directory, &format!("disk={disk}")], "it is in use (pid ");
    drop(lock);
    assert_eq!(held(&directory, "disk"), Some((1536, 4096)));
}

#[test]
fn what_is_typed_wrong_ends_with_another_status() {
    let example = "larder drain /var/cache/larder nbd://storage/disk, for example";
    for (arguments, right) in [
        (&["drain"][..], &*format!("no directory given: {example}")),
        (
            &["drain", "/d"],
            &format!("no origin given: {example}; or --output=FILE, or --discard"),
        ),
        (
            &["drain", "--discard", "/d", "/dev/sdb"],
            "an origin, --output and --discard are three ways: one at a time",
        ),
        (
            &["drain", "--discard", "--output=f", "/d"],
            "an origin, --output and --discard are three ways: one at a time",
        ),
        (
            &["drain", "--export=a", "/d", "a=/dev/sdb"],
            "--export goes with --discard and --output: an origin is given as NAME=ORIGIN",
        ),
        (
            &["drain", "--output=f", "--export=a", "--export=b", "/d"],
            "--export: one file holds one export",
        ),
        (
            &["drain", "/d", "memory:1M"],
            "memory:1048576: what is written to memory is gone when this ends",
        ),
        (
            &["drain", "/d", "a=/dev/sdb", "a=/dev/sdc"],
            "export \"a\": there are two of that name; give each its own, as NAME=ORIGIN",
        ),
        (
            &["drain", "--origin-timeout=0", "/d", "/dev/sdb"],
            "origin-timeout=0: must be a whole number of seconds, at least 1",
        ),
        (
            &["drain", "--origin-tls-ca=/no/such", "/d", "/dev/sdb"],
            "origin-tls-ca=/no/such: has no effect without an nbds://, nbds+unix://, https:// or http:// origin",
        ),
        (
            &["drain", "--discrad", "/d"],
            "--discrad: there is no such option; did you mean --discard? (larder drain --help tells more)",
        ),
    ] {
        let (text, line) = told(output(arguments), 2);
        assert_eq!(line, format!("larder: {right}\n"));
        assert_eq!(text, "");
    }
}

#[test]
fn help_tells_what_the_exit_status_means() {
    let text = printed(&["drain", "--help"]);
    assert!(
        text.contains("exit status is 1 if something is left"),
        "{text}"
    );
}
