//! `larder inspect` and `larder scrub` beside the servers whose directories they look at, and afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keep::{BOTH, Kept, SIZE, assert_warm};
use larder_e2e::{Client, Larder, Random, output_of};

const ID: [&str; 1] = ["cache-id=golden"];

fn tool(kept: &Kept, tool: &str) -> Output {
    let mut command = Command::new(Larder::program());
    output_of(command.args([tool, "--json"]).arg(&kept.directory))
}

/// What it prints, which has to be a success: the fields that a test looks for are on lines of their own.
fn told(kept: &Kept, name: &str) -> String {
    let output = tool(kept, name);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a field, the first of that name, as it is printed.
fn field(json: &str, name: &str) -> String {
    let start = format!("\"{name}\": ");
    let line = json
        .lines()
        .find_map(|line| line.trim().strip_prefix(&start));
    let value = line.unwrap_or_else(|| panic!("no {name} in {json}"));
    value.trim_end_matches(',').trim_matches('"').to_owned()
}

#[test]
fn who_has_a_directory_open_is_told_and_what_is_left_when_he_has_gone() {
    for front in BOTH {
        let kept = Kept::new();
        let server = kept.start(front, &ID);
        kept.check(&server, &kept.content);
        let beside = told(&kept, "inspect");
        assert_eq!(field(&beside, "state"), "in-use", "{front:?}");
        let user = field(&beside, "user");
        let pid = format!("pid {} started ", server.pid());
        assert!(user.starts_with(&pid), "{front:?}: {user}, and not {pid}");
        assert_eq!(field(&told(&kept, "scrub"), "state"), "in-use");
        server.stop();
        let after = told(&kept, "inspect");
        assert_eq!(field(&after, "state"), "clean");
        assert_eq!(field(&after, "user"), "null");
        assert_eq!(field(&after, "cached_bytes"), SIZE.to_string());
        assert_eq!(field(&after, "cache_id"), "golden");
        let scrubbed = told(&kept, "scrub");
        assert_eq!(field(&scrubbed, "checked_bytes"), SIZE.to_string());
        assert_eq!(field(&scrubbed, "bad_clean_sectors"), "0");
        // Nothing of that kept anybody from it.
        assert_warm(&kept.live(front, &ID, &kept.content));
    }
}

/// Both tools all the time, while a server starts, is written to, and ends.
#[test]
fn looking_disturbs_nobody_and_sees_no_damage() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &ID);
        let mut expected = kept.content.clone();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            for name in ["inspect", "scrub"] {
                let (kept, is_done) = (&kept, &is_done);
                scope.spawn(move || {
                    while !is_done.load(Ordering::Relaxed) {
                        told(kept, name);
                    }
                });
            }
            let mut random = Random::new(5);
            for _ in 0..5 {
                let server = kept.start(front, &ID);
                let mut client = Client::connect(server.socket());
                for _ in 0..20 {
                    let length = random.between(1, 50_000);
                    let offset = random.below(SIZE - length);
                    let bytes = random.bytes(length);
                    client.write(offset, &bytes).unwrap();
                    expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                    client.flush().unwrap();
                }
                client.disconnect_and_wait();
                kept.check(&server, &expected);
                server.stop();
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(field(&told(&kept, "scrub"), "bad_clean_sectors"), "0");
    }
}
