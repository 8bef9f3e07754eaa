//! `larder drain`, `larder inspect` and `larder scrub` on a directory in which something is queued for its origin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "common/cache_directory.rs"]
mod cache_directory;
mod common;
#[path = "common/queue_file.rs"]
mod queue_file;

use std::fs;
use std::path::Path;
use std::process::Output;

use cache_directory::{Volume, make};
use common::{Scratch, output, refusal};
use queue_file::{Change, make_queue};
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

/// Two exports, and two flushes of the first: 1 KiB, then a half of that again and zeros.
fn queued(scratch: &Scratch) -> String {
    let path = scratch.path("cache");
    make(&path, true, &[volume("disk"), volume("data")], &[]);
    let first = [Change::Data(4096, vec![1; 1024])];
    let second = [Change::Data(4608, vec![2; 512]), Change::Zeros(8192, 4096)];
    make_queue(&path, 0, &[&first, &second]);
    scratch.text("cache")
}

fn expected() -> Vec<u8> {
    let mut bytes = vec![UNTOUCHED; SIZE as usize];
    bytes[4096..4608].fill(1);
    bytes[4608..5120].fill(2);
    bytes[8192..12288].fill(0);
    bytes
}

fn told(output: Output, status: i32) -> (String, String) {
    let complaint = String::from_utf8(output.stderr).unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(status), "{told}{complaint}");
    (told, complaint)
}

fn printed(arguments: &[&str]) -> String {
    let (told, complaint) = told(output(arguments), 0);
    assert_eq!(complaint, "");
    told
}

/// What is told of the first export.
fn inspected(directory: &str) -> Value {
    let found = printed(&["inspect", "--json", "--ranges", directory]);
    let found: Value = serde_json::from_str(&found).unwrap();
    found["volumes"][0].clone()
}

#[test]
fn what_is_queued_is_told_and_checked() {
    let scratch = Scratch::new();
    let directory = queued(&scratch);
    let disk = inspected(&directory);
    let figure = |key: &str| disk[key].as_u64().unwrap();
    assert_eq!((figure("dirty_bytes"), figure("zero_bytes")), (1024, 4096));
    assert_eq!(
        (figure("queued_bytes"), figure("queued_flushes")),
        (1536, 2)
    );
    assert_eq!(disk["dirty_ranges"].as_array().unwrap().len(), 2);
    let text = printed(&["inspect", &directory]);
    assert!(
        text.contains("\"disk\" has 1.50 KiB queued for its origin, in 2 flushes\n"),
        "{text}"
    );
    let text = printed(&["scrub", &directory]);
    assert!(
        text.contains("checked 5 frames (20.00 KiB) of what is queued for origins\n"),
        "{text}"
    );
}

#[test]
fn what_is_queued_is_brought_to_its_origin() {
    let scratch = Scratch::new();
    let directory = queued(&scratch);
    let disk = scratch.text("disk.img");
    fs::write(&disk, vec![UNTOUCHED; SIZE as usize]).unwrap();
    let text = printed(&["drain", &directory, &format!("disk={disk}")]);
    let done = format!("\"disk\": 1.00 KiB of written data and 4.00 KiB of zeros is on {disk}\n");
    assert_eq!(text, done);
    assert!(fs::read(&disk).unwrap() == expected());
    let left = inspected(&directory);
    assert_eq!(
        (&left["dirty_bytes"], &left["queued_flushes"]),
        (&0.into(), &0.into())
    );
    let again = printed(&["drain", &directory, &format!("disk={disk}")]);
    assert!(again.contains("its origin has everything"), "{again}");
}

#[test]
fn what_is_queued_is_copied_and_discarded() {
    let scratch = Scratch::new();
    let directory = queued(&scratch);
    let copy = scratch.text("copy.img");
    printed(&["drain", "--output", &copy, &directory]);
    let mut bytes = expected();
    let untouched = bytes.iter_mut().filter(|byte| **byte == UNTOUCHED);
    untouched.for_each(|byte| *byte = 0);
    assert!(fs::read(&copy).unwrap() == bytes);
    assert_eq!(inspected(&directory)["queued_flushes"], 2, "it is kept");
    let text = printed(&["drain", "--discard", &directory]);
    let done = "\"disk\": discarded 1.00 KiB of written data and 4.00 KiB of zeros\n";
    assert_eq!(text, done);
    assert_eq!(inspected(&directory)["name"], "data");
    assert!(!Path::new(&directory).join("queue-0").exists());
}

/// Flips a bit of what was queued first.
fn spoil(directory: &str) {
    let path = Path::new(directory).join("queue-0");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192 + 500] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_queue_is_told_refused_and_given_up_with_its_export() {
    let scratch = Scratch::new();
    let directory = queued(&scratch);
    spoil(&directory);
    let (text, _) = told(output(&["scrub", &directory]), 1);
    let damaged =
        "DAMAGED, and no origin has it: what is queued of \"disk\": queue-0: frame 1 is damaged";
    assert!(text.contains(damaged), "{text}");
    let (text, _) = told(output(&["scrub", "--json", &directory]), 1);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["bad_queues"][0]["volume"], "disk");
    let disk = scratch.text("disk.img");
    fs::write(&disk, vec![UNTOUCHED; SIZE as usize]).unwrap();
    let line = refusal(&["drain", &directory, &format!("disk={disk}")]);
    assert!(line.contains("queue-0: frame 1 is damaged"), "{line}");
    assert!(
        line.ends_with("or give up what it held of that export, and the export with it: --discard"),
        "{line}"
    );
    let text = printed(&["drain", "--discard", &directory]);
    assert!(
        text.starts_with("\"disk\": discarded with all that was queued for its origin, whatever that was: queue-0: frame 1"),
        "{text}"
    );
    assert_eq!(inspected(&directory)["name"], "data");
    let text = printed(&["drain", "--discard", &directory]);
    assert_eq!(text, "the origins have everything that was written\n");
}

#[test]
fn a_queue_of_no_export_is_given_up_by_itself() {
    let scratch = Scratch::new();
    let directory = queued(&scratch);
    let path = Path::new(&directory);
    fs::remove_file(path.join("queue-0")).unwrap();
    make_queue(path, 5, &[&[Change::Zeros(0, 4096)]]);
    let line = refusal(&["inspect", &directory]);
    assert!(line.contains("queue-5 holds what was flushed"), "{line}");
    let text = printed(&["drain", "--discard", &directory]);
    assert!(
        text.starts_with("discarded a queue, and what it held for some origin: queue-5 "),
        "{text}"
    );
    assert!(!path.join("queue-5").exists());
    assert_eq!(inspected(&directory)["name"], "disk");
}
