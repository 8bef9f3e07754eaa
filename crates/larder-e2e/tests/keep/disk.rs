//! A disk whose server is killed again and again, over what a test puts below it.

use std::fs;
use std::process::Command;

use larder_e2e::{
    Exit, Larder, Nbdkit, OriginServer, Random, Scratch, Server, output_of, run, sparse_file,
};

use super::{Front, Kept};

/// What vouches for origins that cannot tell whether they have changed.
const ID: &str = "cache-id=golden";

/// Where a flush is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushTo {
    Origin,
    Cache,
    /// In the cache, and the origin gets them in order.
    InOrder,
    /// What must be noticed: flushes are answered, and nothing is done.
    Nowhere,
}

impl FlushTo {
    fn parameters(self) -> &'static [&'static str] {
        match self {
            // The default.
            Self::Origin => &[],
            Self::Cache => &["cache-flush=cache"],
            Self::InOrder => &["cache-flush=cache", "cache-writeback=ordered"],
            Self::Nowhere => &["cache=unsafe"],
        }
    }
}

/// What is below the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// The file itself.
    File,
    /// An NBD server that is not killed. qemu's, since nbdkit 1.32 ends at times, with a failed assertion, when a client leaves to
    /// which it owes replies.
    Server,
    /// A device with a volatile cache, which loses power whenever the server is killed: what it was not told to flush is gone.
    Volatile,
    /// A server that takes its time for each write, so that there is much that it does not have. It is killed with the cache's.
    Slow,
}

/// How long a slow origin takes for a write.
const SLOWNESS: &str = "wdelay=3ms";

impl Below {
    fn put_below(self, nbdkit: Nbdkit) -> Nbdkit {
        match self {
            // nbdkit's own cache keeps what is written in memory of its process until it is flushed.
            Self::Volatile => nbdkit.below("cache"),
            Self::Slow => nbdkit.below("delay").parameter(SLOWNESS),
            Self::File | Self::Server => nbdkit,
        }
    }
}

const KINDS: [(Front, Below); 5] = [
    (Front::Filter, Below::File),
    (Front::Filter, Below::Volatile),
    (Front::Server, Below::File),
    (Front::Server, Below::Server),
    (Front::Server, Below::Volatile),
];

const FLUSHES: [FlushTo; 3] = [FlushTo::Origin, FlushTo::Cache, FlushTo::InOrder];

/// The disk, and who serves it.
pub struct Disk {
    /// Behind `larder serve`, from one kill to the next.
    mortal: Option<Server>,
    /// Behind `larder serve`, all the time.
    steady: Option<OriginServer>,
    pub kept: Kept,
    pub front: Front,
    pub flush_to: FlushTo,
    below: Below,
}

impl Disk {
    /// An empty disk.
    pub fn new(front: Front, below: Below, flush_to: FlushTo, size: u64) -> Self {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        sparse_file(&image, size);
        let is_steady = below == Below::Server;
        Self {
            mortal: None,
            steady: is_steady.then(|| OriginServer::qemu_on_unix(&scratch, &image)),
            kept: Kept {
                directory: scratch.path("cache"),
                image,
                content: Vec::new(),
                scratch,
            },
            front,
            flush_to,
            below,
        }
    }

    /// An empty disk of any kind there is. It is told.
    pub fn any(random: &mut Random, size: u64) -> Self {
        let (front, below) = KINDS[random.below(KINDS.len() as u64) as usize];
        let flush_to = FLUSHES[random.below(FLUSHES.len() as u64) as usize];
        println!("{front:?} over {below:?}, flushed to {flush_to:?}");
        Self::new(front, below, flush_to, size)
    }

    /// Starts what serves it.
    pub fn start(&mut self, parameters: &[&str]) -> Server {
        let directory = self.kept.parameter();
        let common = [ID, &directory];
        let common = common.iter().chain(self.flush_to.parameters());
        let (scratch, image) = (&self.kept.scratch, &self.kept.image);
        if self.front == Front::Filter {
            let nbdkit = self.below.put_below(Nbdkit::larder(scratch).file(image));
            return nbdkit.parameters(common).parameters(parameters).start();
        }
        let origin = self.origin();
        Larder::serve(&self.kept.scratch)
            .origin(origin)
            .parameters(common)
            .parameters(parameters)
            .start()
    }

    /// The address of what is behind `larder serve`, which runs.
    fn origin(&mut self) -> String {
        let start = || {
            let nbdkit = Nbdkit::bare(&self.kept.scratch).file(&self.kept.image);
            self.below.put_below(nbdkit).start()
        };
        match (&self.steady, self.below) {
            (Some(steady), _) => steady.uri().to_owned(),
            (None, Below::Volatile | Below::Slow) => self.mortal.get_or_insert_with(start).uri(),
            (None, Below::File | Below::Server) => self.kept.image.display().to_string(),
        }
    }

    /// The server is killed, and a device that loses its power then loses it.
    pub fn kill(&mut self, server: Server) {
        server.kill();
        self.cut_power();
    }

    /// The server ends well. Nothing is on the origin then that it was not told to flush.
    pub fn stop(&mut self, server: Server) -> Exit {
        let exit = server.stop();
        self.cut_power();
        exit
    }

    /// Whether everything that was flushed is in the file after a kill: from the beginning, or because it is drained into it now
    /// and then.
    pub fn has_flushed_to_the_file(&self, random: &mut Random) -> bool {
        match self.flush_to {
            FlushTo::Origin | FlushTo::Nowhere => true,
            FlushTo::Cache | FlushTo::InOrder if random.one_in(2) => {
                self.drain();
                true
            }
            FlushTo::Cache | FlushTo::InOrder => false,
        }
    }

    /// What only the directory has is written to the file.
    fn drain(&self) {
        let directory = self.kept.directory.as_os_str();
        let arguments = ["drain".as_ref(), directory, self.kept.image.as_os_str()];
        let id = format!("--{ID}");
        run(
            &Larder::program().display().to_string(),
            arguments.into_iter().chain([id.as_ref()]),
        );
    }

    fn cut_power(&mut self) {
        if let Some(origin) = self.mortal.take() {
            origin.kill();
        }
    }

    /// The cache's directory is lost. What is left is the file below everything.
    pub fn lose_the_directory(&self) {
        fs::remove_dir_all(&self.kept.directory).unwrap();
    }

    /// Makes a file system in the file below everything.
    pub fn make_ext4(&self) {
        let image = self.kept.image.display().to_string();
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", ["-q", "-F", "-E", options, &image]);
    }

    /// Brings the file system in the file below everything to where its journal is, as a mount does, and asserts that it is whole then.
    pub fn repair_ext4_in_the_file(&self) {
        let output = output_of(
            Command::new("e2fsck")
                .args(["-f", "-p"])
                .arg(&self.kept.image),
        );
        // 1: corrected, as it is when there was something in the journal.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    }

    /// Asserts that the file below everything has a whole file system, as an unmount leaves it.
    pub fn check_ext4_in_the_file(&self) {
        run(
            "e2fsck",
            ["-f", "-n", &self.kept.image.display().to_string()],
        );
    }

    /// The file below everything, served without any cache.
    pub fn serve_the_file(&self) -> Server {
        Nbdkit::bare(&self.kept.scratch)
            .file(&self.kept.image)
            .start()
    }
}
