//! Plugin files: making them, changing them behind the cache, comparing them.

use crate::{Client, Server};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::random::Random;

/// Makes a file of `size` bytes without any data in it.
pub fn sparse_file(path: &Path, size: u64) {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Makes a file of `size` random bytes, none of them zero, and returns them.
#[must_use]
pub fn random_file(path: &Path, size: u64, seed: u64) -> Vec<u8> {
    let bytes = Random::new(seed).bytes(size);
    fs::write(path, &bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes
}

/// The whole content of a file.
#[must_use]
pub fn read_file(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `length` bytes of a file at `offset`.
#[must_use]
pub fn read_at(path: &Path, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, offset))
        .unwrap_or_else(|e| panic!("{} at {offset}: {e}", path.display()));
    bytes
}

/// Overwrites part of a file, which keeps its inode: behind the back of whoever has it open.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(bytes, offset))
        .unwrap_or_else(|e| panic!("{} at {offset}: {e}", path.display()));
}

/// Asserts that two byte strings are equal; says where they begin to differ, and how much of
/// them does.
pub fn assert_same_bytes(what: &str, got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    if got == expected {
        return;
    }
    let differing = || (0..got.len()).filter(|&i| got[i] != expected[i]);
    let first = differing().next().expect("they differ");
    panic!(
        "{what}: {} of {} bytes differ, first at {first}: got {:02x?}, expected {:02x?}",
        differing().count(),
        got.len(),
        &got[first..got.len().min(first + 8)],
        &expected[first..got.len().min(first + 8)],
    );
}

/// Asserts that there are bytes, and that each of them is `byte`.
pub fn assert_filled(what: &str, got: &[u8], byte: u8) {
    assert!(!got.is_empty(), "{what}: nothing is there");
    assert_same_bytes(what, got, &vec![byte; got.len()]);
}

/// Reads all of an export, one block after the other, and checks each.
///
/// # Panics
/// If a read fails or brings something else.
pub fn assert_read_in_order(server: &Server, content: &[u8], block_bytes: u64) {
    let mut client = Client::connect(server.socket());
    for (block, expected) in content.chunks(block_bytes as usize).enumerate() {
        let offset = block as u64 * block_bytes;
        let got = client.read(offset, expected.len() as u64).unwrap();
        assert_same_bytes("a block", &got, expected);
    }
    client.disconnect_and_wait();
}
