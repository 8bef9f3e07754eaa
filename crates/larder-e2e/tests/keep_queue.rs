//! A cache directory with a queue for an origin that gets flushes in order: what becomes of it at the end, and who may start with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs;

use keep::{BOTH, Front, Kept, LIMIT};
use larder_e2e::{
    Client, EvalDisk, Exit, Larder, MIB, Nbdkit, Scratch, Server, assert_same_bytes, read_file,
    wait_until,
};

const IN_CACHE: &str = "cache-flush=cache";
const ORDERED: &str = "cache-writeback=ordered";
const ID: &str = "cache-id=golden";

/// Over an origin that takes no writes while there is a file `fault`.
struct Faulty {
    kept: Kept,
    front: Front,
    expected: Vec<u8>,
}

impl Faulty {
    fn new(front: Front) -> Self {
        let kept = Kept::new();
        Self {
            expected: kept.content.clone(),
            kept,
            front,
        }
    }

    fn start(&self, order: &[&str]) -> (Server, Option<Server>) {
        let kept = &self.kept;
        let fault = format!("error-pwrite-file={}", kept.scratch.path("fault").display());
        let failing = |nbdkit: Nbdkit| {
            let always = ["error-pwrite-rate=100%", &fault];
            nbdkit.below("error").parameters(always).file(&kept.image)
        };
        let directory = kept.parameter();
        let parameters = [LIMIT, IN_CACHE, ID, &directory];
        let parameters = parameters.iter().chain(order);
        match self.front {
            Front::Filter => {
                let filter = failing(Nbdkit::larder(&kept.scratch)).parameters(parameters);
                (filter.verbose().start(), None)
            }
            Front::Server => {
                let origin = failing(Nbdkit::bare(&kept.scratch)).start();
                let server = Larder::serve(&kept.scratch)
                    .origin(origin.uri())
                    .parameters(parameters);
                (server.verbose().start(), Some(origin))
            }
        }
    }

    /// Writes what the origin does not take, and ends.
    fn live_in_vain(&mut self, order: &[&str]) -> Exit {
        fs::write(self.kept.scratch.path("fault"), "").unwrap();
        let (server, _origin) = self.start(order);
        let mut client = Client::connect(server.socket());
        for round in 1..=3 {
            client.write(MIB, &[round; 8192]).unwrap();
            client.flush().unwrap();
        }
        client.disconnect_and_wait();
        server.terminate();
        self.expected[MIB as usize..][..8192].fill(3);
        let exit = server.wait_for_exit();
        fs::remove_file(self.kept.scratch.path("fault")).unwrap();
        assert_same_bytes(
            "the origin",
            &read_file(&self.kept.image),
            &self.kept.content,
        );
        exit
    }

    fn refusal(&self, parameters: &[&str]) -> String {
        let told = self.kept.refusal(self.front, parameters);
        let path = self.kept.directory.display().to_string();
        assert!(told.contains(&path), "{told}");
        told
    }
}

#[test]
fn what_an_origin_does_not_take_at_the_end_stays_queued_and_is_told() {
    for front in BOTH {
        let exit = Faulty::new(front).live_in_vain(&[ORDERED]);
        let said = &exit.output;
        let told = |line: &str| {
            line.contains("kept in the cache directory")
                && line.ends_with(&format!(": 8192 bytes at {MIB}"))
        };
        assert!(said.lines().any(told), "{said}");
        assert!(!said.contains("lost"), "{said}");
        assert_eq!(exit.code, i32::from(front == Front::Server), "{said}");
        let stats = exit.stats();
        assert_eq!(stats.value("dirty_bytes"), 0);
        assert!(stats.value("queued_bytes") >= 3 * 8192);
        assert!(stats.value("queued_flushes") >= 3);
        assert_eq!(stats.value("sent_flushes"), 0);
    }
}

#[test]
fn the_next_start_sends_what_is_queued() {
    for front in BOTH {
        let mut faulty = Faulty::new(front);
        faulty.live_in_vain(&[ORDERED]);
        let (server, origin) = faulty.start(&[ORDERED]);
        // Somebody who may write has to come, for the filter to have somebody to write through.
        faulty.kept.check(&server, &faulty.expected);
        let stats = server.stop().stats();
        drop(origin);
        assert!(stats.value("sent_flushes") >= 3);
        assert_eq!(stats.value("queued_flushes"), 0);
        assert_eq!(stats.value("queued_bytes"), 0);
        let image = read_file(&faulty.kept.image);
        assert_same_bytes("the origin", &image, &faulty.expected);
        // Nothing is queued any more: any mode will do.
        faulty.kept.live(front, &[ID], &faulty.expected);
    }
}

#[test]
fn the_last_client_that_leaves_a_server_leaves_what_a_kill_does_not_lose() {
    let mut faulty = Faulty::new(Front::Server);
    fs::write(faulty.kept.scratch.path("fault"), "").unwrap();
    let (server, origin) = faulty.start(&[ORDERED]);
    let mut client = Client::connect(server.socket());
    client.write(MIB, &[7; 8192]).unwrap();
    client.disconnect_and_wait();
    server.kill();
    drop(origin);
    let (server, _origin) = faulty.start(&[ORDERED]);
    faulty.expected[MIB as usize..][..8192].fill(7);
    faulty.kept.check(&server, &faulty.expected);
}

#[test]
fn a_directory_with_something_queued_is_refused_without_order() {
    for front in BOTH {
        let mut faulty = Faulty::new(front);
        faulty.live_in_vain(&[ORDERED]);
        for parameters in [
            &[ID][..],
            &[ID, "cache=unsafe"],
            &[ID, IN_CACHE],
            &[ID, IN_CACHE, "cache-writeback=unordered"],
        ] {
            let told = faulty.refusal(parameters);
            assert!(told.contains(ORDERED), "{told}");
            assert!(told.contains("larder drain"), "{told}");
        }
        let (server, _origin) = faulty.start(&[ORDERED]);
        faulty.kept.check(&server, &faulty.expected);
    }
}

#[test]
fn a_directory_with_dirty_data_is_refused_with_order() {
    for front in BOTH {
        let mut faulty = Faulty::new(front);
        faulty.live_in_vain(&[]);
        let told = faulty.refusal(&[ID, IN_CACHE, ORDERED]);
        assert!(told.contains("cache-writeback=unordered"), "{told}");
        assert!(told.contains("larder drain"), "{told}");
        let (server, _origin) = faulty.start(&[]);
        faulty.kept.check(&server, &faulty.expected);
    }
}

#[test]
fn what_is_queued_is_not_given_to_another_disk() {
    let other = "cache-id=another";
    let mut faulty = Faulty::new(Front::Server);
    faulty.live_in_vain(&[ORDERED]);
    let told = faulty
        .kept
        .refusal(Front::Server, &[IN_CACHE, ORDERED, other]);
    assert!(told.contains("larder drain"), "{told}");
    let mut faulty = Faulty::new(Front::Filter);
    faulty.live_in_vain(&[ORDERED]);
    let kept = &faulty.kept;
    let server = kept.start(Front::Filter, &[IN_CACHE, ORDERED, other]);
    assert!(Client::try_connect_to(server.socket(), "").is_err());
    let exit = server.stop();
    assert!(exit.output.contains("larder drain"), "{}", exit.output);
    assert_same_bytes("the origin", &read_file(&kept.image), &kept.content);
    kept.live(Front::Filter, &[IN_CACHE, ORDERED, ID], &faulty.expected);
}

#[test]
fn a_start_that_only_sends_what_is_queued_knows_the_file_as_its_own() {
    let kept = Kept::new();
    let parameters = [IN_CACHE, ORDERED];
    let mut expected = kept.content.clone();
    let server = kept.start(Front::Server, &parameters);
    let mut client = Client::connect(server.socket());
    for round in 1..=50 {
        client.write(MIB, &[round; 65_536]).unwrap();
        client.flush().unwrap();
    }
    expected[MIB as usize..][..65_536].fill(50);
    server.kill();
    let server = kept.start(Front::Server, &parameters);
    wait_until("everything is sent", || read_file(&kept.image) == expected);
    server.kill();
    let exit = kept.live(Front::Server, &parameters, &expected);
    // After a kill that is all that can be said of another version.
    let warnings = exit
        .output
        .lines()
        .filter(|line| line.contains("warning: "));
    let mut others =
        warnings.filter(|line| !line.contains("taken for what the cache itself wrote"));
    assert_eq!(others.next(), None, "{}", exit.output);
}

#[test]
fn an_export_for_whose_queue_there_is_no_room_is_refused() {
    let kept = Kept::new();
    let paths = ["a", "b", "c"].map(|name| {
        let path = kept.scratch.path(name);
        fs::copy(&kept.image, &path).unwrap();
        format!("{name}={}", path.display())
    });
    let directory = kept.parameter();
    let serve = |count: usize| {
        let server =
            Larder::serve(&kept.scratch).parameters([LIMIT, IN_CACHE, ORDERED, &directory]);
        paths[..count].iter().fold(server, Larder::origin)
    };
    serve(2).start().stop();
    let told = serve(3).refusal();
    for words in ["'c'", "cache-writeback=ordered", "cache-max-size"] {
        assert!(told.contains(words), "{told}");
    }
    serve(2).start().stop();
}

/// The file is another one, under the same name, between two lives of the server.
#[test]
fn what_is_queued_is_not_sent_to_a_file_that_somebody_has_changed() {
    let kept = Kept::new();
    let parameters = [IN_CACHE, ORDERED];
    let server = kept.start(Front::Server, &parameters);
    let mut client = Client::connect(server.socket());
    // More than can have been sent when it is killed.
    for round in 0..50 {
        client.write(round % 7 * 65_536, &[7; 65_536]).unwrap();
        client.flush().unwrap();
    }
    server.kill();
    let replaced = kept.scratch.path("replaced");
    fs::write(&replaced, &kept.content).unwrap();
    fs::rename(&replaced, &kept.image).unwrap();
    let told = kept.refusal(Front::Server, &parameters);
    assert!(told.contains("larder drain"), "{told}");
    assert_same_bytes("the file", &read_file(&kept.image), &kept.content);
}

#[test]
fn an_origin_that_cannot_flush_is_refused() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable();
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameters([LIMIT, IN_CACHE, ORDERED, ID, &directory])
        .start();
    assert!(Client::try_connect_to(server.socket(), "").is_err());
    let said = server.stop().output;
    assert!(
        said.contains("cache-writeback=ordered needs an origin that can flush"),
        "{said}"
    );
}
