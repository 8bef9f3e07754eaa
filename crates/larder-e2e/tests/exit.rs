//! How the server's process ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use larder_e2e::{Client, FilterUnderTest, Nbdkit, Scratch, run, wait_until};

const O_NONBLOCK: i32 = 0o4000;

/// A pipe by name into which nothing more can be written until somebody reads.
fn full_pipe(path: &Path) -> File {
    run("mkfifo", [path]);
    let mut pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .unwrap();
    loop {
        match pipe.write(&[b' '; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return pipe,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

/// A thread of nbdkit's may end later than the filter is unloaded, and then runs what the filter's
/// language has registered for the ends of threads. (It was seen in serialised thread models, about
/// once in a hundred exits.)
///
/// The two filters in front are unloaded after the filter under test, the stats filter last; it
/// cannot finish as long as nobody reads its figures: time to look.
#[test]
fn regression_the_filter_stays_in_memory_when_it_is_unloaded() {
    let scratch = Scratch::new();
    let figures = scratch.path("figures");
    let mut pipe = full_pipe(&figures);
    let server = Nbdkit::larder(&scratch)
        .above("noextents")
        .above("stats")
        .below("noparallel")
        .plugin("memory", ["1M"])
        .parameter("serialize=connections")
        .parameter(&format!("statsfile={}", figures.display()))
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.disconnect_and_wait();

    let maps = format!("/proc/{}/maps", server.pid());
    let is_mapped = |name: &str| fs::read_to_string(&maps).unwrap().contains(name);
    assert!(is_mapped("nbdkit-noextents-filter.so"));
    server.terminate();
    wait_until("all but the stats filter are unloaded", || {
        !is_mapped("nbdkit-noextents-filter.so")
    });
    let filter = FilterUnderTest::argument();
    let name = Path::new(&filter).file_name().unwrap().to_str().unwrap();
    assert!(is_mapped(name), "{name} is no longer mapped");

    let mut read = vec![0; 1 << 20];
    wait_until("the figures are out", || {
        let _ = pipe.read(&mut read);
        !Path::new(&maps).exists() || fs::read_to_string(&maps).is_ok_and(|m| m.is_empty())
    });
    assert_eq!(server.wait_for_exit().code, 0);
}
