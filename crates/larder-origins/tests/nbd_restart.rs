//! Servers that are killed and come back: no wrong read, no flushed write lost, every loss told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use larder::Origin;
use nbd_support::{Random, Scratch, nbdkit, open_socket, pattern, read, try_open, wait_until};

const SIZE: u64 = 8 << 20;
const BLOCK: u64 = 4096;
const THREADS: u64 = 8;

fn is_reset(result: io::Result<()>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A part of the export that one thread writes and reads.
struct Part {
    base: u64,
    /// What was acknowledged last.
    blocks: Vec<u64>,
    /// Blocks that were acknowledged since the last good flush.
    unflushed: Vec<usize>,
}

fn content(seed: u64) -> Vec<u8> {
    pattern(seed.wrapping_mul(0x1_0001) & 0xff_ffff, BLOCK as usize)
}

impl Part {
    fn new(handle: &dyn Origin, thread: u64) -> Self {
        let count = SIZE / BLOCK / THREADS;
        let mut part = Self {
            base: thread * count * BLOCK,
            blocks: vec![thread; count as usize],
            unflushed: Vec::new(),
        };
        for block in 0..count as usize {
            part.write(handle, block, thread);
        }
        part.flush(handle);
        part
    }

    fn at(&self, block: usize) -> u64 {
        self.base + block as u64 * BLOCK
    }

    fn write(&mut self, handle: &dyn Origin, block: usize, seed: u64) {
        handle.write(self.at(block), &content(seed), false).unwrap();
        self.blocks[block] = seed;
        self.unflushed.push(block);
    }

    /// As somebody does who keeps what is not flushed: writes it again where it may be lost.
    fn flush(&mut self, handle: &dyn Origin) {
        loop {
            match handle.flush() {
                Ok(()) => break,
                result => assert!(is_reset(result)),
            }
            for block in &self.unflushed {
                let data = content(self.blocks[*block]);
                handle.write(self.at(*block), &data, false).unwrap();
            }
        }
        self.unflushed.clear();
    }

    fn step(&mut self, handle: &dyn Origin, random: &mut Random) {
        let block = random.below(self.blocks.len() as u64) as usize;
        match random.below(8) {
            0..=3 => self.write(handle, block, random.below(1 << 40)),
            4 => self.flush(handle),
            _ if self.unflushed.contains(&block) => {}
            _ => {
                let data = read(handle, self.at(block), BLOCK as usize);
                assert!(data == content(self.blocks[block]), "block {block}");
            }
        }
    }
}

/// Kills the server again and again while eight threads use it.
fn killed_under_load(arguments: &[&str], image: &std::path::Path, scratch: &Scratch) {
    let socket = scratch.path("s");
    let mut peer = nbdkit(&socket, arguments);
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let opened = try_open(&uri, |options| options.timeout = Duration::from_secs(60)).unwrap();
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let model = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = opened.handle();
                let (stop, steps) = (&stop, &steps);
                scope.spawn(move || {
                    let mut random = Random::new(thread + 1);
                    let mut part = Part::new(&*handle, thread);
                    while !stop.load(Ordering::Relaxed) {
                        part.step(&*handle, &mut random);
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                    part.flush(&*handle);
                    part.blocks
                })
            })
            .collect();
        for _ in 0..8 {
            let before = steps.load(Ordering::Relaxed);
            wait_until("the threads got on", || {
                steps.load(Ordering::Relaxed) > before + 300
                    || threads
                        .iter()
                        .any(std::thread::ScopedJoinHandle::is_finished)
            });
            peer.kill();
            peer = nbdkit(&socket, arguments);
        }
        stop.store(true, Ordering::Relaxed);
        let parts = threads.into_iter().map(|thread| thread.join().unwrap());
        parts.collect::<Vec<_>>().concat()
    });
    // Once more without mercy: all was flushed.
    peer.kill();
    let file = fs::read(image).unwrap();
    for (block, seed) in model.iter().enumerate() {
        let data = &file[block * BLOCK as usize..][..BLOCK as usize];
        assert!(data == content(*seed), "block {block}");
    }
    assert!(opened.log.has("connection is lost"));
}

#[test]
fn a_file_behind_a_server_that_is_killed_under_load() {
    let scratch = Scratch::new();
    let image = scratch.image("d", SIZE);
    killed_under_load(&["file", image.to_str().unwrap()], &image, &scratch);
}

#[test]
fn a_cache_that_forgets_at_kill_under_load() {
    let scratch = Scratch::new();
    let image = scratch.image("d", SIZE);
    let arguments = ["--filter=cache", "file", image.to_str().unwrap()];
    killed_under_load(&arguments, &image, &scratch);
}

#[test]
fn what_a_cache_forgets_is_told_once_to_every_handle() {
    let scratch = Scratch::new();
    let image = scratch.image("d", SIZE);
    let socket = scratch.path("s");
    let arguments = ["--filter=cache", "file", image.to_str().unwrap()];
    let mut peer = nbdkit(&socket, &arguments);
    let opened = open_socket(&socket);
    let handles = [opened.handle(), opened.handle(), opened.handle()];
    handles[0].write(0, &[1; 4096], false).unwrap();
    handles[0].flush().unwrap();
    handles[1].write(4096, &[2; 4096], false).unwrap();
    assert_eq!(read(&*handles[2], 4096, 4096), [2; 4096]);
    peer.kill();
    let _peer = nbdkit(&socket, &arguments);
    wait_until("the loss is noticed", || {
        opened.log.has("connection is lost")
    });
    assert_eq!(read(&*handles[2], 0, 4096), [1; 4096], "flushed");
    assert!(
        read(&*handles[2], 4096, 4096) == pattern(4096, 4096),
        "really lost"
    );
    for handle in &handles {
        assert!(is_reset(handle.flush()));
        handle.flush().unwrap();
    }
}
