//! A cache in a directory is found again by the next start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keep::{BOTH, Front, Kept, LIMIT, SIZE, assert_warm, read_all};
use larder_e2e::{
    Client, Larder, Nbdkit, Random, Scratch, assert_same_bytes, output_of, random_file, read_at,
    read_file, wait_within,
};

#[test]
fn after_a_restart_the_filter_does_not_ask_the_plugin() {
    let kept = Kept::new();
    let id = ["cache-id=golden"];
    let server = kept.start(Front::Filter, &id);
    let mut expected = kept.content.clone();
    let bytes = Random::new(2).bytes(100_000);
    let mut client = Client::connect(server.socket());
    client.write(77_777, &bytes).unwrap();
    client.flush().unwrap();
    client.disconnect_and_wait();
    expected[77_777..177_777].copy_from_slice(&bytes);
    kept.check(&server, &expected);
    server.stop();
    let server = kept.start(Front::Filter, &id);
    kept.check(&server, &expected);
    assert_eq!(server.plugin_log().calls_of("Read"), []);
    assert_warm(&server.stop());
}

#[test]
fn after_a_restart_the_server_does_not_ask_an_nbd_origin_that_a_cache_id_vouches_for() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let content = random_file(&image, SIZE, 1);
    let origin = Nbdkit::bare(&scratch).logged().file(&image).start();
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let life = || {
        let server = Larder::serve(&scratch)
            .origin(origin.uri())
            .parameters([LIMIT, &directory, "cache-id=golden"])
            .verbose()
            .start();
        assert_same_bytes("the disk", &read_all(&server), &content);
        server.stop();
        origin.plugin_log().calls_of("Read").len()
    };
    let asked = life();
    assert!(asked > 0);
    assert_eq!(life(), asked, "the second life asked nothing more");
}

#[test]
fn a_file_needs_no_cache_id_where_the_server_serves_it_and_writes_to_it() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    assert_warm(&kept.live(Front::Server, &[], &kept.content));
    let server = kept.start(Front::Server, &[]);
    let mut expected = kept.content.clone();
    let bytes = Random::new(2).bytes(300_001);
    expected[12_345..312_346].copy_from_slice(&bytes);
    let mut client = Client::connect(server.socket());
    client.write(12_345, &bytes).unwrap();
    client.disconnect_and_wait();
    server.stop();
    assert_same_bytes("the file", &read_file(&kept.image), &expected);
    // Our own writes have changed the file.
    assert_warm(&kept.live(Front::Server, &[], &expected));
    assert_warm(&kept.live(Front::Server, &[], &expected));
}

#[test]
fn many_lives_end_with_the_right_disk() {
    for front in BOTH {
        let kept = Kept::new();
        let mut expected = kept.content.clone();
        let mut random = Random::new(Random::seed_or(1));
        for life in 0..8 {
            let server = kept.start(front, &["cache-id=golden", "cache-min-block-size=16K"]);
            kept.check(&server, &expected);
            let mut client = Client::connect(server.socket());
            for _ in 0..20 {
                let length = random.between(1, 100_000);
                let offset = random.below(SIZE - length);
                let range = offset as usize..(offset + length) as usize;
                if random.one_in(4) {
                    client.zero(offset, length).unwrap();
                    expected[range].fill(0);
                } else {
                    let bytes = random.bytes(length);
                    client.write(offset, &bytes).unwrap();
                    expected[range].copy_from_slice(&bytes);
                }
            }
            client.disconnect_and_wait();
            server.stop();
            let what = format!("the file after life {life}");
            assert_same_bytes(&what, &read_file(&kept.image), &expected);
        }
    }
}

#[test]
fn a_block_size_that_is_left_out_is_the_directorys_and_another_one_is_refused() {
    for front in BOTH {
        let kept = Kept::new();
        let id = "cache-id=golden";
        kept.warm(front, &[id, "cache-min-block-size=4K"]);
        assert_warm(&kept.live(front, &[id], &kept.content));
        let before = kept.files();
        let told = kept.refusal(front, &[id, "cache-min-block-size=128K"]);
        for word in [&*kept.directory.display().to_string(), "4096", "131072"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        // Only who asked is noted.
        for (path, bytes) in kept.files() {
            let is_same = before.get(&path) == Some(&bytes) || path.ends_with("lock");
            assert!(is_same, "{} was changed", path.display());
        }
        assert_warm(&kept.live(front, &[id, "cache-min-block-size=4K"], &kept.content));
    }
}

#[test]
fn a_smaller_limit_than_before_is_kept_and_the_data_is_right() {
    for front in BOTH {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        let content = random_file(&image, 48 << 20, 3);
        let kept = Kept {
            directory: scratch.path("cache"),
            image,
            content,
            scratch,
        };
        let id = "cache-id=golden";
        kept.warm(front, &[id, "cache-max-size=96M"]);
        for limit in [32, 96] {
            let parameter = format!("cache-max-size={limit}M");
            let server = kept.start(front, &[id, &parameter]);
            kept.check(&server, &kept.content);
            let files = fs::read_dir(&kept.directory).unwrap();
            let taken = files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512);
            let taken: u64 = taken.sum();
            assert!(taken <= limit << 20, "{taken} of {limit} MiB");
            server.stop();
        }
    }
}

#[test]
fn each_export_is_found_by_its_name() {
    let scratch = Scratch::new();
    let images = scratch.make_dir("images");
    let contents = ["a", "b"].map(|name| random_file(&images.join(name), SIZE, name.len() as u64));
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    for life in 0..2 {
        let server = Nbdkit::larder(&scratch)
            .plugin("file", [format!("dir={}", images.display())])
            .parameters(["cache-on-read=true", LIMIT, &directory, "cache-id=golden"])
            .verbose()
            .start();
        for (name, content) in ["a", "b"].iter().zip(&contents) {
            let bytes = keep::read_export(server.socket(), name);
            assert_same_bytes(name, &bytes, content);
        }
        let exit = server.stop();
        if life > 0 {
            assert_warm(&exit);
        }
    }
}

#[test]
fn the_server_tells_where_the_cache_is_and_what_was_found() {
    let kept = Kept::new();
    let place = kept.directory.display();
    for found in ["new", "65 blocks found"] {
        let server = kept.start(Front::Server, &[]);
        let line = format!("larder: cache: {place} ({found})");
        let output = server.output();
        assert!(output.lines().any(|told| told == line), "{output}");
        kept.check(&server, &kept.content);
        server.stop();
    }
}

#[test]
fn the_directory_is_made_for_its_owner_alone_where_only_it_is_missing() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &[]);
        let mode = fs::metadata(&kept.directory).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        for (path, _) in kept.files() {
            let mode = fs::metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }
}

/// A path that means the same from here.
fn relative(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    up.join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_relative_path_means_the_same_after_nbdkit_has_gone_into_the_background() {
    let kept = Kept::new();
    let pid_file = kept.scratch.path("pid");
    let directory = format!("cache-dir={}", relative(&kept.directory).display());
    let nbdkit = Nbdkit::larder(&kept.scratch).file(&kept.image).parameters([
        LIMIT,
        "cache-on-read=true",
        &directory,
    ]);
    // It is the process that serves whose number the lock tells: the one with the threads.
    let script = format!(
        "/usr/bin/python3 -m nbd -u \"$uri\" -c 'assert h.pread(512, 0) != bytes(512)' && \
         pid=$(cut -d' ' -f2 {lock}) && grep -q larder-maintain /proc/$pid/task/*/comm && echo $pid > {pid}",
        lock = kept.directory.join("lock").display(),
        pid = pid_file.display(),
    );
    let output = nbdkit.run_captive(&script);
    assert!(output.status.success(), "{output:?}");
    assert!(!read_at(&pid_file, 0, 1).is_empty());
    assert!(kept.directory.join("superblock").exists());
}

#[test]
fn without_a_cache_id_the_filter_starts_cold_and_says_why() {
    let kept = Kept::new();
    kept.warm(Front::Filter, &[]);
    let bytes = [7; 4096];
    larder_e2e::write_at(&kept.image, 8192, &bytes);
    let mut changed = kept.content.clone();
    changed[8192..12_288].copy_from_slice(&bytes);
    let exit = kept.live(Front::Filter, &[], &changed);
    keep::assert_dropped(&exit, "cache-id");
}

#[test]
fn without_a_cache_id_what_is_cached_stays_for_the_next_client_of_the_same_start() {
    let kept = Kept::new();
    let server = kept.start(Front::Filter, &[]);
    kept.check(&server, &kept.content);
    let asked = server.plugin_log().calls_of("Read").len();
    kept.check(&server, &kept.content);
    assert_eq!(server.plugin_log().calls_of("Read").len(), asked);
    let exit = server.stop();
    assert!(!exit.output.contains("warning: "), "{}", exit.output);
}

#[test]
fn every_thread_model_keeps_its_cache() {
    for serialized in ["requests", "all-requests", "connections"] {
        let kept = Kept::new();
        let serialize = format!("serialize={serialized}");
        let life = || {
            let parameters = ["cache-id=golden", &serialize];
            kept.filter(&parameters).below("noparallel").start()
        };
        let server = life();
        kept.check(&server, &kept.content);
        server.stop();
        let server = life();
        kept.check(&server, &kept.content);
        assert_warm(&server.stop());
    }
}

#[test]
fn what_unsafe_mode_kept_from_the_plugin_is_not_found_again() {
    for front in BOTH {
        let kept = Kept::new();
        let parameters = ["cache=unsafe", "cache-id=golden"];
        let server = kept.start(front, &parameters);
        kept.check(&server, &kept.content);
        let mut client = Client::connect(server.socket());
        client.write(5000, &[9; 100_000]).unwrap();
        client.disconnect_and_wait();
        server.stop();
        let exit = kept.live(front, &parameters, &kept.content);
        assert_eq!(exit.code, 0);
    }
}

#[test]
fn writethrough_keeps_its_cache_too() {
    for front in BOTH {
        let kept = Kept::new();
        let parameters = ["cache=writethrough", "cache-id=golden"];
        let server = kept.start(front, &parameters);
        let mut client = Client::connect(server.socket());
        client.write(5000, &[9; 100_000]).unwrap();
        client.flush().unwrap();
        client.disconnect_and_wait();
        let mut expected = kept.content.clone();
        expected[5000..105_000].fill(9);
        kept.check(&server, &expected);
        server.stop();
        assert_warm(&kept.live(front, &parameters, &expected));
    }
}

#[test]
fn a_kill_costs_nothing_that_had_been_there_before() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &["cache-id=golden"]);
        let server = kept.start(front, &["cache-id=golden"]);
        kept.check(&server, &kept.content);
        server.kill();
        assert_warm(&kept.live(front, &["cache-id=golden"], &kept.content));
    }
}

#[test]
fn a_kill_costs_what_was_changed_just_before_and_not_much_more() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &["cache-id=golden"]);
        let server = kept.start(front, &["cache-id=golden"]);
        let mut client = Client::connect(server.socket());
        let mut expected = kept.content.clone();
        for block in [3, 30] {
            let offset = block * (64 << 10) + 100;
            client.write(offset, &[7; 1000]).unwrap();
            expected[offset as usize..offset as usize + 1000].fill(7);
        }
        client.flush().unwrap();
        client.write(50 * (64 << 10), &[9; 100]).unwrap();
        server.kill();
        let exit = kept.live(front, &["cache-id=golden"], &expected);
        let asked = exit.stats().value("origin_read_bytes");
        assert!(asked <= 4 * (64 << 10), "{asked}");
    }
}

#[test]
fn what_has_rested_for_a_while_outlives_a_kill() {
    let kept = Kept::new();
    let server = kept.start(Front::Server, &[]);
    kept.check(&server, &kept.content);
    let everything = format!("\"cached_bytes\": {SIZE}");
    wait_within(
        Duration::from_secs(60),
        "the directory tells of everything",
        || {
            let mut inspect = Command::new(Larder::program());
            let inspect = inspect.args(["inspect", "--json"]).arg(&kept.directory);
            String::from_utf8_lossy(&output_of(inspect).stdout).contains(&everything)
        },
    );
    server.kill();
    let server = kept.start(Front::Server, &[]);
    let output = server.output();
    let found = "(65 blocks found after a crash)";
    assert!(output.contains(found), "{output}");
    kept.check(&server, &kept.content);
    assert_warm(&server.stop());
}

#[test]
fn a_start_of_nbdkit_that_fails_costs_nothing() {
    let kept = Kept::new();
    let id = ["cache-id=golden"];
    kept.warm(Front::Filter, &id);
    // The directory is open by the time that nbdkit finds that it cannot listen there.
    let taken = format!("--unix={}", kept.image.display());
    let output = kept.filter(&id).flag(&taken).try_to_start();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    assert_warm(&kept.live(Front::Filter, &id, &kept.content));
}
