//! What the tests of a cache that survives share: a disk, a directory for its cache, and both front ends.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, each of which needs a part of this"
)]

pub mod database;
mod disk;
pub mod files;
pub mod fio;
mod rounds;
mod unit;
mod writer;

pub use disk::{Below, Disk, FlushTo};
pub use rounds::RoundWriter;
pub use writer::{Moments, REGION, Writer};

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use larder_e2e::{
    Client, Exit, Larder, MIB, Nbdkit, Scratch, Server, assert_same_bytes, random_file, read_file,
    run,
};

/// Large enough for every test, and small enough to be made quickly.
pub const LIMIT: &str = "cache-max-size=64M";

/// What the disk of a test has.
pub const SIZE: u64 = 4 * MIB + 1237;

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The filter, over nbdkit's file plugin.
    Filter,
    /// `larder serve`, over the file itself.
    Server,
}

pub const BOTH: [Front; 2] = [Front::Filter, Front::Server];

/// A disk and the place of its cache.
pub struct Kept {
    pub scratch: Scratch,
    pub image: PathBuf,
    pub directory: PathBuf,
    /// What the disk held at first.
    pub content: Vec<u8>,
}

impl Kept {
    /// A disk of random bytes. The directory is not there yet.
    pub fn new() -> Self {
        Self::in_scratch(Scratch::new())
    }

    pub fn in_scratch(scratch: Scratch) -> Self {
        let image = scratch.path("image");
        let content = random_file(&image, SIZE, 1);
        Self {
            directory: scratch.path("cache"),
            image,
            content,
            scratch,
        }
    }

    /// The filter, to be given more.
    pub fn filter(&self, parameters: &[&str]) -> Nbdkit {
        Nbdkit::larder(&self.scratch)
            .logged()
            .file(&self.image)
            .parameters(["cache-on-read=true", LIMIT, &self.parameter()])
            .parameters(parameters)
            .verbose()
    }

    /// The server, to be given more.
    pub fn server(&self, parameters: &[&str]) -> Larder {
        Larder::serve(&self.scratch)
            .file(&self.image)
            .parameters([LIMIT, &self.parameter()])
            .parameters(parameters)
            .verbose()
    }

    /// `cache-dir=`...
    pub fn parameter(&self) -> String {
        format!("cache-dir={}", self.directory.display())
    }

    /// Starts a server.
    pub fn start(&self, front: Front, parameters: &[&str]) -> Server {
        match front {
            Front::Filter => self.filter(parameters).start(),
            Front::Server => self.server(parameters).start(),
        }
    }

    /// Asserts that it does not start, with status 1. Returns what it said, without what nbdkit says with `-v`.
    pub fn refusal(&self, front: Front, parameters: &[&str]) -> String {
        let output = match front {
            Front::Filter => self.filter(parameters).try_to_start(),
            Front::Server => self.server(parameters).try_to_start(),
        };
        refusal_in(&output)
    }

    /// One life of a server in which everything is read.
    pub fn warm(&self, front: Front, parameters: &[&str]) {
        let server = self.start(front, parameters);
        self.check(&server, &self.content);
        server.stop();
    }

    /// One life of a server in which everything is read, which has to be `content`.
    pub fn live(&self, front: Front, parameters: &[&str], content: &[u8]) -> Exit {
        let server = self.start(front, parameters);
        self.check(&server, content);
        server.stop()
    }

    /// Reads everything.
    pub fn check(&self, server: &Server, content: &[u8]) {
        assert_same_bytes("the disk", &read_all(server), content);
    }

    /// The same disk with a copy of the directory, to be spoilt.
    pub fn copy(&self) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.path("cache");
        let paths = [&self.directory, &directory].map(|path| path.display().to_string());
        run("cp", ["-a", "--sparse=always", &paths[0], &paths[1]]);
        Self {
            directory,
            image: self.image.clone(),
            content: self.content.clone(),
            scratch,
        }
    }

    /// One life in which everything is copied. None if the directory was refused.
    pub fn copied(&self, front: Front, parameters: &[&str]) -> Option<Vec<u8>> {
        let copy = self.scratch.path("copy");
        let command = format!("nbdcopy \"$uri\" {}", copy.display());
        let output = match front {
            Front::Filter => self.filter(parameters).run_captive(&command),
            Front::Server => self.server(parameters).run_captive(&command),
        };
        if copy.exists() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{said}");
            let bytes = read_file(&copy);
            fs::remove_file(&copy).unwrap();
            assert!(output.status.success() || !bytes.is_empty(), "{output:?}");
            return Some(bytes);
        }
        let told = refusal_in(&output);
        let place = self.directory.display().to_string();
        assert!(told.contains(&place), "{told}");
        None
    }

    /// Everything in the directory, by name.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let files = entries.map(|entry| {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        });
        files.collect()
    }
}

/// What a server said that was to refuse to start. The lines that are only for who debugs it are left out.
pub fn refusal_in(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let lines = said.lines().filter(|line| !line.contains(": debug: "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 1, "one line, not:\n{said}");
    assert!(!lines[0].contains("(os error"), "{said}");
    lines[0].to_owned()
}

/// All of the default export, through a client that leaves afterwards.
pub fn read_all(server: &Server) -> Vec<u8> {
    read_export(server.socket(), "")
}

/// All of an export.
pub fn read_export(socket: &Path, export: &str) -> Vec<u8> {
    let mut client = Client::connect_to(socket, export);
    let size = client.export().size;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let offset = bytes.len() as u64;
        let length = (size - offset).min(MIB);
        bytes.extend(client.read(offset, length).expect("a read"));
    }
    client.disconnect_and_wait();
    bytes
}

/// Whether the origin was not asked for any data.
pub fn assert_warm(exit: &Exit) {
    let asked = exit.stats().value("origin_read_bytes");
    assert_eq!(asked, 0, "the origin was asked:\n{}", exit.output);
}

/// Whether the origin was asked for everything, and somebody was told why.
pub fn assert_dropped(exit: &Exit, why: &str) {
    let asked = exit.stats().value("origin_read_bytes");
    assert!(
        asked >= SIZE,
        "{asked} bytes were asked for:\n{}",
        exit.output
    );
    let warned = |line: &str| line.contains("warning: ") && line.contains(why);
    assert!(exit.output.lines().any(warned), "{}", exit.output);
}
