//! File systems that run full while `larder serve` works: the origin's, and the cache's, also where overwriting needs
//! new space.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use larder_e2e::{
    Certificates, Client, KIB, Larder, LoopDevice, MIB, Mount, Nbdkit, Random, Scratch, Server,
    assert_same_bytes, random_file, read_file, run, sparse_file,
};

const SIZE: u64 = 16 * MIB;

/// An nbdkit whose nbd plugin does TLS, for clients without.
fn decrypting_front(
    scratch: &Scratch,
    server: &Server,
    certificates: &Certificates,
    export: &str,
) -> Server {
    let parameters = [
        "hostname=localhost".to_owned(),
        format!("port={}", server.port()),
        format!("export={export}"),
        "tls=require".to_owned(),
        format!("tls-certificates={}", certificates.directory().display()),
    ];
    Nbdkit::bare(scratch).plugin("nbd", parameters).start()
}

#[test]
fn a_full_origin_is_the_error_of_its_own_clients_and_loses_nothing() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let directory = scratch.make_dir("small");
    let mount = Mount::tmpfs(&directory, 4 * MIB);
    let (full, good) = (directory.join("full"), scratch.path("good"));
    sparse_file(&full, SIZE);
    sparse_file(&good, SIZE);
    let server = Larder::serve(&scratch)
        .without_socket()
        .parameters([
            "listen=tcp:localhost:0",
            "tls=require",
            "cache-dirty-age=off",
        ])
        .parameter(&format!(
            "tls-certificates={}",
            certificates.directory().display()
        ))
        .origin(format!("full={}", full.display()))
        .origin(format!("good={}", good.display()))
        .start();
    let fronts = ["full", "full", "good"]
        .map(|export| decrypting_front(&scratch, &server, &certificates, export));
    let [mut one, mut two, mut other] = fronts
        .each_ref()
        .map(|front| Client::connect(front.socket()));
    let bytes = Random::new(1).bytes(SIZE);
    let (lower, upper) = bytes.split_at(SIZE as usize / 2);
    one.write(0, lower).expect("the cache has room");
    two.write(SIZE / 2, upper).expect("the cache has room");
    other.write(0, &bytes).expect("the cache has room");
    for _ in 0..3 {
        for client in [&mut one, &mut two] {
            let error = client.flush().expect_err("the origin is full");
            assert_eq!(error.raw_os_error(), Some(28), "{error}");
            let read = client.read(0, SIZE).expect("it is in the cache");
            assert_same_bytes("what has no room yet", &read, &bytes);
        }
        other.flush().expect("there is room for this one");
        other
            .write(4096, &bytes[4096..MIB as usize])
            .expect("a write");
    }
    assert_same_bytes("the other origin", &read_file(&good), &bytes);
    let size = format!("remount,size={}", 2 * SIZE);
    run("mount", ["-o", &size, &directory.display().to_string()]);
    two.flush().expect("there is room now");
    assert_same_bytes("what was kept", &read_file(&full), &bytes);
    drop((one, two, other));
    fronts.into_iter().for_each(|front| drop(front.stop()));
    server.stop();
    mount.unmount();
}

/// A small file system of a kind, on a loop device or in memory.
struct SmallDisk {
    directory: PathBuf,
    _mount: Mount,
    _device: Option<LoopDevice>,
}

impl SmallDisk {
    fn new(scratch: &Scratch, mkfs: &[&str], size: u64) -> Self {
        let file = scratch.path("disk");
        sparse_file(&file, size);
        let (program, options) = mkfs.split_first().unwrap();
        let text = file.display().to_string();
        run(program, options.iter().copied().chain([text.as_str()]));
        let device = LoopDevice::attach(&file);
        let directory = scratch.make_dir("tmpdir");
        Self {
            _mount: Mount::device(&device.device, &directory),
            _device: Some(device),
            directory,
        }
    }

    fn in_memory(scratch: &Scratch, size: u64) -> Self {
        let directory = scratch.make_dir("tmpdir");
        Self {
            _mount: Mount::tmpfs(&directory, size),
            _device: None,
            directory,
        }
    }

    /// Others take all the room but `left` bytes.
    fn fill(&self, left: u64) {
        let mut filler = File::create(self.directory.join("filler")).unwrap();
        let piece = Random::new(9).bytes(256 * KIB);
        while filler.write_all(&piece).is_ok() {}
        // What is reserved for later is had only by who waits for it.
        let _ = filler.sync_all();
        while filler.write_all(&piece[..4096]).is_ok() {}
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(left)).unwrap();
        let _ = filler.sync_all();
    }

    /// The others give back what they have. First by itself, since a full btrfs may have no room to note a removal.
    fn free(&self) {
        let filler = self.directory.join("filler");
        let emptied = File::create(&filler).and_then(|file| file.sync_all());
        emptied.and_then(|()| fs::remove_file(&filler)).unwrap();
    }
}

/// A client that knows what it must read.
struct Model {
    client: Client,
    random: Random,
    expected: Vec<u8>,
}

impl Model {
    fn work(&mut self, steps: u64) {
        for _ in 0..steps {
            let length = self.random.between(1, 200_000);
            let offset = self.random.below(SIZE - length);
            let range = offset as usize..(offset + length) as usize;
            match self.random.below(20) {
                0 => self.client.flush().expect("a flush"),
                1 => {
                    self.client.zero(offset, length).expect("a zero");
                    self.expected[range].fill(0);
                }
                2..8 => {
                    let read = self.client.read(offset, length).expect("a read");
                    assert_same_bytes("read", &read, &self.expected[range]);
                }
                _ => {
                    let bytes = self.random.bytes(length);
                    self.client.write(offset, &bytes).expect("a write");
                    self.expected[range].copy_from_slice(&bytes);
                }
            }
        }
    }

    fn check(&mut self, image: &Path) {
        let read = self.client.read(0, SIZE).expect("a read");
        assert_same_bytes("read before the flush", &read, &self.expected);
        self.client.flush().expect("a flush");
        assert_same_bytes("the origin", &read_file(image), &self.expected);
    }
}

/// Random work on a cache whose disk has little room from the beginning, becomes full in the middle of it, and has room again.
fn works_on_a_full(mkfs: &[&str], size: u64) {
    let scratch = Scratch::new();
    let disk = SmallDisk::new(&scratch, mkfs, size);
    works_on(&scratch, &disk);
}

fn works_on(scratch: &Scratch, disk: &SmallDisk) {
    for left in [MIB, 6 * MIB] {
        let image = scratch.path("image");
        let expected = random_file(&image, SIZE, left);
        disk.fill(left);
        let server = Larder::serve(scratch)
            .file(&image)
            .environment("TMPDIR", &disk.directory)
            .parameters(["cache-max-size=64M", "cache-dirty-age=off"])
            .start();
        let mut model = Model {
            client: Client::connect(server.socket()),
            random: Random::new(Random::seed_or(1) + left),
            expected,
        };
        model.work(150);
        disk.free();
        // What is in the cache now is written over again when there is no room for a second copy.
        model.work(100);
        disk.fill(0);
        model.work(150);
        model.check(&image);
        disk.free();
        model.work(100);
        model.check(&image);
        model.client.disconnect_and_wait();
        server.stop();
    }
}

#[test]
fn a_full_btrfs_under_the_cache_is_nobodys_error() {
    works_on_a_full(&["mkfs.btrfs", "--quiet"], 256 * MIB);
}

#[test]
fn a_full_xfs_under_the_cache_is_nobodys_error() {
    works_on_a_full(&["mkfs.xfs", "-q"], 300 * MIB);
}

#[test]
fn a_full_ext4_under_the_cache_is_nobodys_error() {
    works_on_a_full(&["mkfs.ext4", "-q"], 64 * MIB);
}

#[test]
fn a_full_tmpfs_under_the_cache_is_nobodys_error() {
    let scratch = Scratch::new();
    let disk = SmallDisk::in_memory(&scratch, 64 * MIB);
    works_on(&scratch, &disk);
}
