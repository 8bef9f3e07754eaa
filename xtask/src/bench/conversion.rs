//! Copying a disk out of a web server, as virt-v2v does, and the time it takes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::contender::Contender;
use super::directory::{Directory, Place};
use super::file_system;
use super::lab::Lab;
use super::measurement::Measurement;
use super::row::Disk;
use super::server::{Server, Setup};
use super::web_server::WebServer;
use crate::failure::Failure;
use crate::run::output;

const LIMIT_BYTES: u64 = 1 << 30;

pub(super) struct Conversion<'l> {
    directory: &'l Directory,
    url: String,
    filters: &'static [&'static str],
    image: PathBuf,
    _web_server: WebServer,
}

impl<'l> Conversion<'l> {
    /// Makes the image and serves it.
    pub(super) fn prepare(filters: &'static [&'static str], lab: &'l Lab) -> Result<Self, Failure> {
        let directory = lab.directory(Place::Memory);
        let files = directory.make("www")?;
        let image = files.join("disk.img");
        file_system::make(&image, lab.scale.files_bytes, directory)?;
        let web_server = WebServer::start(directory, &files)?;
        Ok(Self {
            directory,
            url: web_server.url("disk.img"),
            filters,
            image,
            _web_server: web_server,
        })
    }

    /// Seconds from the start of the server to the end of the copy, which must be the same.
    pub(super) fn run(&self, contender: Contender, lab: &Lab) -> Result<Measurement, Failure> {
        let copy = self.directory.path().join("copy");
        let disk = Disk::Web {
            url: &self.url,
            filters: self.filters,
        };
        let mut setup = Setup::new(disk, Place::Memory);
        setup.limit_bytes = Some(LIMIT_BYTES);
        setup.has_readahead = true;
        let started = Instant::now();
        let server = Server::start(contender, &setup, lab)?;
        let measurement = server.measured(|| {
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", "raw", server.uri()]);
            output(command.arg(&copy))?;
            Ok(Measurement {
                figure: started.elapsed().as_secs_f64(),
                ..Measurement::default()
            })
        })?;
        let is_same = is_same(&self.image, &copy).map_err(|e| Failure::at(&copy, &e))?;
        fs::remove_file(&copy).map_err(|e| Failure::at(&copy, &e))?;
        match is_same {
            true => Ok(measurement),
            false => Err(Failure::new(format!(
                "the copy through {contender} differs from the image"
            ))),
        }
    }
}

/// Compares two files byte for byte.
fn is_same(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut others) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut ours)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut others[..count])?;
        if ours[..count] != others[..count] {
            return Ok(false);
        }
    }
}
