//! Copying a disk out of a web server, as virt-v2v does, and the time it takes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::contender::Contender;
use super::directory::Directory;
use super::file_system;
use super::process;
use super::programs::Programs;
use super::web_server::WebServer;
use crate::failure::Failure;
use crate::run::output;

/// For the shell of whoever serves `$uri`.
const CONVERT: &str = "exec qemu-img convert -f raw -O raw \"$uri\" \"$COPY\"";
/// What virt-v2v has around the curl plugin, beneath the cache.
const BELOW: [&str; 2] = ["--filter=cacheextents", "--filter=retry"];
const CACHE: [&str; 2] = ["cache-on-read=true", "cache-max-size=1G"];

pub(super) struct Conversion<'d> {
    directory: &'d Directory,
    web_server: WebServer,
    image: PathBuf,
}

impl<'d> Conversion<'d> {
    /// Makes the image and serves it.
    pub(super) fn prepare(directory: &'d Directory) -> Result<Self, Failure> {
        let files = directory.make("www")?;
        let image = files.join("disk.img");
        file_system::make(&image, directory)?;
        let web_server = WebServer::start(directory, &files)?;
        Ok(Self {
            directory,
            web_server,
            image,
        })
    }

    /// Seconds from the start of the server to the end of the copy, which must be the same.
    pub(super) fn run(&self, contender: Contender, programs: &Programs) -> Result<f64, Failure> {
        let copy = self.directory.path().join("copy");
        let mut command = self.command(contender, programs);
        command.env("COPY", &copy);
        let started = Instant::now();
        output(&mut command)?;
        let seconds = started.elapsed().as_secs_f64();
        let is_same = is_same(&self.image, &copy).map_err(|e| Failure::at(&copy, &e))?;
        fs::remove_file(&copy).map_err(|e| Failure::at(&copy, &e))?;
        match is_same {
            true => Ok(seconds),
            false => Err(Failure::new(format!(
                "the copy through {contender} differs from the image"
            ))),
        }
    }

    fn command(&self, contender: Contender, programs: &Programs) -> Command {
        let url = self.web_server.url("disk.img");
        if contender == Contender::Serve {
            let mut command = process::command(&programs.larder, self.directory);
            command
                .arg("serve")
                .args(CACHE.map(|parameter| format!("--{parameter}")));
            command.args([&url, "--run", CONVERT]);
            return command;
        }
        let mut command = process::command("nbdkit", self.directory);
        command.args(["--unix", "-"]);
        let cache = match contender {
            Contender::Stock => Some("cache".to_owned()),
            Contender::Filter => Some(programs.filter.display().to_string()),
            _ => None,
        };
        command.args(cache.iter().map(|filter| format!("--filter={filter}")));
        command.args(BELOW).arg("curl").arg(format!("url={url}"));
        command.args(CACHE.iter().filter(|_| cache.is_some()));
        command.args(["--run", CONVERT]);
        command
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
