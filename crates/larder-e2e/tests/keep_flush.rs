//! Flushes that end in the cache's directory: where that is told, and what becomes of what the origin does not get.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs;

use keep::{BOTH, Front, Kept, LIMIT};
use larder_e2e::{
    Client, EvalDisk, Larder, MIB, Nbdkit, Scratch, Server, assert_same_bytes, read_file,
};

const IN_CACHE: &str = "cache-flush=cache";
const ID: &str = "cache-id=golden";

#[test]
fn where_flushes_end_is_told_at_the_start_and_with_the_figures() {
    let kept = Kept::new();
    for front in BOTH {
        let life = |parameters: &[&str]| kept.live(front, parameters, &kept.content).output;
        for (said, flush_to) in [(life(&[]), "origin"), (life(&[IN_CACHE, ID]), "cache")] {
            let figure = format!(" flush_to={flush_to}");
            let stats = said.lines().find(|line| line.contains("stats: "));
            assert!(stats.unwrap().ends_with(&figure), "{said}");
            let is_told = match front {
                Front::Filter => said.contains(&format!("flush to {flush_to}, ")),
                Front::Server => said.contains("flushed to the cache") == (flush_to == "cache"),
            };
            assert!(is_told, "{said}");
        }
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

#[test]
fn what_an_origin_does_not_take_at_the_end_is_told_as_kept() {
    for front in BOTH {
        let kept = Kept::new();
        fs::write(kept.scratch.path("fault"), "").unwrap();
        let (server, _origin) = start_over_a_failing_origin(&kept, front);
        let mut client = Client::connect(server.socket());
        client.write(MIB, &[7; 8192]).unwrap();
        client.disconnect_and_wait();
        server.terminate();
        let exit = server.wait_for_exit();
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
