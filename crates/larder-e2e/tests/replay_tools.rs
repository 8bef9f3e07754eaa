//! `larder replay` with the traces of real tools.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::process::Command;

use larder_e2e::{Larder, Scratch, output_of, run};

/// What `larder replay --json` says, as text: the fields that a test looks for are on lines of their own.
fn replayed(arguments: &[&str]) -> String {
    let mut command = Command::new(Larder::program());
    command.args(["replay", "--json", "--cache-max-size=1M"]);
    let output = output_of(command.args(arguments));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

fn field(json: &str, name: &str) -> u64 {
    let start = format!("\"{name}\": ");
    let line = json
        .lines()
        .find_map(|line| line.trim().strip_prefix(&start));
    let value = line.unwrap_or_else(|| panic!("no {name} in {json}"));
    value.trim_end_matches(',').parse().unwrap()
}

#[test]
fn an_iolog_that_fio_wrote_has_all_its_requests() {
    let scratch = Scratch::new();
    let log = scratch.path("log");
    let log_text = log.to_str().unwrap();
    run(
        "fio",
        [
            "--name=job",
            "--rw=randrw",
            "--rwmixread=60",
            "--bs=4k",
            "--size=4M",
            "--fsync=50",
            &format!("--filename={}", scratch.path("disk").display()),
            &format!("--write_iolog={log_text}"),
            &format!("--output={}", scratch.path("output").display()),
        ],
    );
    let text = fs::read_to_string(&log).unwrap();
    let count = |action: &str| text.lines().filter(|line| line.contains(action)).count() as u64;
    let json = replayed(&[log_text]);
    assert_eq!(field(&json, "reads"), count(" read "));
    assert_eq!(field(&json, "writes"), count(" write "));
    assert_eq!(field(&json, "requests"), 1024);
    let bytes = field(&json, "read_bytes") + field(&json, "written_bytes");
    assert_eq!(bytes, 4 << 20);
}

/// One event of `struct blk_io_trace`, as blktrace writes it.
struct Event {
    time_ns: u64,
    sequence: u32,
    sector: u64,
    action: u32,
    minor: u32,
}

const READ: u32 = 1;
const WRITE: u32 = 1 << 1;
const QUEUE: u32 = 1 << 4;
const COMPLETE: u32 = 1 << 7;
const DISCARD: u32 = 1 << 13;

impl Event {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0x6561_7407u32.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.time_ns.to_le_bytes());
        bytes.extend(self.sector.to_le_bytes());
        bytes.extend(16384u32.to_le_bytes());
        bytes.extend(self.action.to_le_bytes());
        bytes.extend(77u32.to_le_bytes());
        bytes.extend((8u32 << 20 | self.minor).to_le_bytes());
        bytes.extend([0; 8]);
        bytes
    }
}

/// blkparse is the judge of what the events mean: its text and the file must come to the same.
#[test]
fn the_text_of_blkparse_says_what_the_file_says() {
    let scratch = Scratch::new();
    let mut bytes = Vec::new();
    for at in 0..600u32 {
        let (kind, minor) = match at % 7 {
            0..4 => (READ, 0),
            4 | 5 => (WRITE, 16),
            _ => (WRITE | DISCARD, 0),
        };
        for (later, category, what) in [(0, QUEUE, 1), (1, COMPLETE, 8)] {
            let event = Event {
                time_ns: u64::from(at) * 1000 + later,
                sequence: at * 2 + later as u32 + 1,
                sector: u64::from(at * 37 % 50) * 128,
                action: (kind | category) << 16 | what,
                minor,
            };
            bytes.extend(event.bytes());
        }
    }
    fs::write(scratch.path("sda.blktrace.0"), bytes).unwrap();
    let text = output_of(
        Command::new("blkparse")
            .args(["-i", "sda"])
            .current_dir(scratch.path(".")),
    );
    assert!(text.status.success());
    fs::write(scratch.path("text"), text.stdout).unwrap();
    let of_file = replayed(&[scratch.path("sda").to_str().unwrap()]);
    let of_text = replayed(&[scratch.path("text").to_str().unwrap()]);
    // All but the name.
    let figures = |json: &str| json[json.find("\"requests\"").unwrap()..].to_owned();
    assert_eq!(figures(&of_file), figures(&of_text));
    assert_eq!(field(&of_file, "requests"), 600);
    assert_eq!(field(&of_file, "trims"), 85);
    assert_eq!(field(&of_file, "volumes"), 2);
}
