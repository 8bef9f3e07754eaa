//! The servers that are measured, and what they serve, all in memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::run::run;

const IMAGE_MIB: usize = 256;

/// A directory in memory, with an image of random bytes in it; removed when dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Result<Self, Failure> {
        let path = PathBuf::from(format!("/dev/shm/larder-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| Failure::at(&path, &e))?;
        let directory = Self(path);
        let image = directory.image();
        fill(&image).map_err(|e| Failure::at(&image, &e))?;
        Ok(directory)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.0.join("image")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fill(image: &Path) -> std::io::Result<()> {
    let mut random = File::open("/dev/urandom")?;
    let mut file = File::create(image)?;
    let mut mebibyte = vec![0; 1 << 20];
    for _ in 0..IMAGE_MIB {
        random.read_exact(&mut mebibyte)?;
        file.write_all(&mebibyte)?;
    }
    Ok(())
}

/// A running nbdkit, killed when dropped: what it would still write back is of no interest.
pub(super) struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    pub(super) fn start(directory: &Directory, arguments: &[String]) -> Result<Self, Failure> {
        let socket = directory.0.join("socket");
        let _ = fs::remove_file(&socket);
        let child = Command::new("nbdkit")
            .args(["--foreground", "--exit-with-parent", "--unix"])
            .arg(&socket)
            .args(arguments)
            .env("TMPDIR", &directory.0)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| Failure::new(format!("cannot run nbdkit: {e}")))?;
        let server = Self { child, socket };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.socket.exists() {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("nbdkit {arguments:?} does not serve")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub(super) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// Fills a cache that keeps what is read.
    pub(super) fn read_everything(&self) -> Result<(), Failure> {
        run(Command::new("nbdcopy").arg(self.uri()).arg("null:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
