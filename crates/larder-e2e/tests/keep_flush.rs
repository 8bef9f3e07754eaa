//! Flushes that end in the cache's directory: where that is told, and what becomes of what the origin does not get.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs;

use keep::{BOTH, Front, Kept, LIMIT};
use larder_e2e::{
    Client, EvalDisk, Exit, Larder, MIB, Nbdkit, Scratch, Server, assert_same_bytes, read_file,
};

const IN_CACHE: &str = "cache-flush=cache";
const ORDERED: &str = "cache-writeback=ordered";
const ID: &str = "cache-id=golden";

#[test]
fn where_flushes_end_is_told_at_the_start_and_with_the_figures() {
    let kept = Kept::new();
    for front in BOTH {
        let life = |parameters: &[&str]| kept.live(front, parameters, &kept.content).output;
        for (said, flush_to) in [(life(&[]), "origin"), (life(&[IN_CACHE, ID]), "cache")] {
            let figure = format!(" flush_to={flush_to} writeback=unordered");
            let stats = said.lines().find(|line| line.contains("stats: "));
            assert!(stats.unwrap().ends_with(&figure), "{said}");
            assert!(!said.contains("in order"), "{said}");
            let is_told = match front {
                Front::Filter => said.contains(&format!("flush to {flush_to}, ")),
                Front::Server => said.contains("flushed to the cache") == (flush_to == "cache"),
            };
            assert!(is_told, "{said}");
        }
        let said = kept.live(front, &[IN_CACHE, ORDERED, ID], &kept.content);
        let said = said.output;
        let stats = said.lines().find(|line| line.contains("stats: "));
        assert!(
            stats
                .unwrap()
                .ends_with(" flush_to=cache writeback=ordered"),
            "{said}"
        );
        let told = match front {
            Front::Filter => "flush to cache, in order, ",
            Front::Server => ", flushed to the cache, in order, ",
        };
        assert!(said.contains(told), "{said}");
    }
}

/// Over an origin that takes no writes while there is a file `fault`.
fn start_over_a_failing_origin(kept: &Kept, front: Front) -> (Server, Option<Server>) {
    let fault = format!("error-pwrite-file={}", kept.scratch.path("fault").display());
    let failing = |nbdkit: Nbdkit| {
        let always = ["error-pwrite-rate=100%", &fault];
        nbdkit.below("error").parameters(always).file(&kept.image)
    };
    let parameters = [LIMIT, IN_CACHE, ID, &kept.parameter()];
    match front {
        Front::Filter => {
            let filter = failing(Nbdkit::larder(&kept.scratch)).parameters(parameters);
            (filter.start(), None)
        }
        Front::Server => {
            let origin = failing(Nbdkit::bare(&kept.scratch)).start();
            let server = Larder::serve(&kept.scratch)
                .origin(origin.uri())
                .parameters(parameters);
            (server.start(), Some(origin))
        }
    }
}

/// Writes what the origin does not take, and ends. What the disk has then.
fn live_over_a_failing_origin(kept: &Kept, front: Front) -> (Exit, Vec<u8>) {
    fs::write(kept.scratch.path("fault"), "").unwrap();
    let (server, _origin) = start_over_a_failing_origin(kept, front);
    let mut client = Client::connect(server.socket());
    client.write(MIB, &[7; 8192]).unwrap();
    client.disconnect_and_wait();
    server.terminate();
    let mut expected = kept.content.clone();
    expected[MIB as usize..][..8192].fill(7);
    (server.wait_for_exit(), expected)
}

#[test]
fn what_an_origin_does_not_take_at_the_end_is_told_as_kept() {
    for front in BOTH {
        let kept = Kept::new();
        let (exit, _) = live_over_a_failing_origin(&kept, front);
        let said = &exit.output;
        let told = |line: &str| {
            line.contains("kept in the cache directory")
                && line.ends_with(&format!(": 8192 bytes at {MIB}"))
        };
        assert!(said.lines().any(told), "{said}");
        assert!(!said.contains("lost"), "{said}");
        assert_eq!(exit.code, i32::from(front == Front::Server), "{said}");
        assert_same_bytes("the origin", &read_file(&kept.image), &kept.content);
    }
}

#[test]
fn the_next_start_goes_on_with_what_an_origin_did_not_take() {
    for front in BOTH {
        let kept = Kept::new();
        let (_, expected) = live_over_a_failing_origin(&kept, front);
        let (server, origin) = start_over_a_failing_origin(&kept, front);
        kept.check(&server, &expected);
        fs::remove_file(kept.scratch.path("fault")).unwrap();
        // Somebody who may write has to come, for the filter to have somebody to write through.
        Client::connect(server.socket()).disconnect_and_wait();
        server.stop();
        drop(origin);
        assert_same_bytes("the origin", &read_file(&kept.image), &expected);
    }
}

#[test]
fn a_directory_with_what_the_origin_does_not_have_is_refused_without_flushes_in_the_cache() {
    for front in BOTH {
        let kept = Kept::new();
        let (_, expected) = live_over_a_failing_origin(&kept, front);
        fs::remove_file(kept.scratch.path("fault")).unwrap();
        for parameters in [
            &[ID][..],
            &[ID, "cache=writethrough"],
            &[ID, "cache=unsafe"],
        ] {
            let told = kept.refusal(front, parameters);
            let path = kept.directory.display().to_string();
            for word in [&*path, IN_CACHE, "larder drain"] {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
        let (server, _origin) = start_over_a_failing_origin(&kept, front);
        kept.check(&server, &expected);
    }
}

#[test]
fn what_was_flushed_is_not_given_to_another_disk() {
    let other = "cache-id=another";
    let kept = Kept::new();
    live_over_a_failing_origin(&kept, Front::Server);
    let told = kept.refusal(Front::Server, &[IN_CACHE, other]);
    assert!(told.contains("larder drain"), "{told}");
    let kept = Kept::new();
    let (_, expected) = live_over_a_failing_origin(&kept, Front::Filter);
    fs::remove_file(kept.scratch.path("fault")).unwrap();
    let server = kept.start(Front::Filter, &[IN_CACHE, other]);
    assert!(Client::try_connect_to(server.socket(), "").is_err());
    let exit = server.stop();
    assert!(exit.output.contains("larder drain"), "{}", exit.output);
    assert_same_bytes("the origin", &read_file(&kept.image), &kept.content);
    kept.live(Front::Filter, &[IN_CACHE, ID], &expected);
}

#[test]
fn an_origin_that_cannot_tell_what_it_is_needs_a_cache_id() {
    let kept = Kept::new();
    let origin = Nbdkit::bare(&kept.scratch).file(&kept.image).start();
    let told = Larder::serve(&kept.scratch)
        .origin(origin.uri())
        .parameters([LIMIT, IN_CACHE, &kept.parameter()])
        .refusal();
    assert!(told.contains("cache-flush=cache needs cache-id"), "{told}");
}

#[test]
fn the_last_client_that_leaves_a_server_leaves_what_a_kill_does_not_lose() {
    let kept = Kept::new();
    let server = kept.start(Front::Server, &[IN_CACHE]);
    let mut client = Client::connect(server.socket());
    client.write(MIB, &[7; 8192]).unwrap();
    client.disconnect_and_wait();
    server.kill();
    let server = kept.start(Front::Server, &[IN_CACHE]);
    let mut expected = kept.content.clone();
    expected[MIB as usize..][..8192].fill(7);
    kept.check(&server, &expected);
    server.stop();
    assert_same_bytes("the origin", &read_file(&kept.image), &expected);
}

#[test]
fn flush_and_fua_are_offered_over_a_plugin_without() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable();
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameters([LIMIT, IN_CACHE, ID, &directory])
        .start();
    let mut client = Client::connect(server.socket());
    assert!(client.export().can_flush() && client.export().can_fua());
    client.write(0, &[7; 4096]).unwrap();
    client.flush().unwrap();
    client.write_fua(8192, &[8; 4096]).unwrap();
    client.disconnect_and_wait();
    server.stop();
    // The end takes everything to the plugin.
    assert_eq!(disk.volatile()[..4096], [7; 4096]);
    assert_eq!(disk.volatile()[8192..12288], [8; 4096]);
}
