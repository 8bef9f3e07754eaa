//! A disk whose server is killed again and again, over what a test puts below it.

use larder_e2e::{Exit, Larder, Nbdkit, OriginServer, Random, Scratch, Server, run, sparse_file};

use super::{Front, Kept};

/// What vouches for origins that cannot tell whether they have changed.
const ID: &str = "cache-id=golden";

/// Where a flush is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushTo {
    Origin,
    Cache,
    /// What must be noticed: flushes are answered, and nothing is done.
    Nowhere,
}

impl FlushTo {
    fn parameter(self) -> Option<&'static str> {
        match self {
            // The default.
            Self::Origin => None,
            Self::Cache => Some("cache-flush=cache"),
            Self::Nowhere => Some("cache=unsafe"),
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
}

const KINDS: [(Front, Below); 5] = [
    (Front::Filter, Below::File),
    (Front::Filter, Below::Volatile),
    (Front::Server, Below::File),
    (Front::Server, Below::Server),
    (Front::Server, Below::Volatile),
];

const FLUSHES: [FlushTo; 2] = [FlushTo::Origin, FlushTo::Cache];

/// The disk, and who serves it.
pub struct Disk {
    /// Behind `larder serve`, from one kill to the next.
    volatile: Option<Server>,
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
            volatile: None,
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
        let common = [ID, &directory]
            .into_iter()
            .chain(self.flush_to.parameter());
        let (scratch, image) = (&self.kept.scratch, &self.kept.image);
        if self.front == Front::Filter {
            // nbdkit's own cache keeps what is written in memory of its process until it is flushed.
            let nbdkit = Nbdkit::larder(scratch).file(image);
            let nbdkit = match self.below {
                Below::Volatile => nbdkit.below("cache"),
                Below::File | Below::Server => nbdkit,
            };
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
        let nbdkit = || Nbdkit::bare(&self.kept.scratch).file(&self.kept.image);
        match (&self.steady, self.below) {
            (Some(steady), _) => steady.uri().to_owned(),
            (None, Below::Volatile) => self
                .volatile
                .get_or_insert_with(|| nbdkit().below("cache").start())
                .uri(),
            (None, _) => self.kept.image.display().to_string(),
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
            FlushTo::Cache if random.one_in(2) => {
                self.drain();
                true
            }
            FlushTo::Cache => false,
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
        if let Some(origin) = self.volatile.take() {
            origin.kill();
        }
    }

    /// Makes a file system in the file below everything.
    pub fn make_ext4(&self) {
        let image = self.kept.image.display().to_string();
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", ["-q", "-F", "-E", options, &image]);
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
