//! The queue of a volume in such a directory, byte by byte too.

use std::fs;
use std::path::Path;

use super::cache_directory::{PAGE, UUID, cache, hash, ids, op, sealed};

const RING: u64 = 64 << 10;
const START: u64 = 2 * PAGE as u64;

/// A change: where it begins, and the bytes or that so many are zeros.
pub(crate) enum Change {
    Data(u64, Vec<u8>),
    Zeros(u64, u64),
}

fn ring_seed(volume: u32) -> u64 {
    let part = [&b"LARDERQH"[..], &ids(volume)].concat();
    hash(cache(), &part)
}

fn head(volume: u32, frames: u64) -> Vec<u8> {
    let mut bytes = b"LARDERQH".to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend([0; 4]);
    bytes.extend(UUID);
    bytes.extend(ids(volume));
    // Generation, session, ring; the first frame at its beginning; what was durable.
    for number in [1, 1, RING, 0, 1, 0, frames + 1] {
        bytes.extend(number.to_le_bytes());
    }
    sealed(&bytes)
}

fn payload(change: &Change) -> (u16, Vec<u8>) {
    match change {
        Change::Data(start, bytes) => (9, [&start.to_le_bytes()[..], bytes].concat()),
        Change::Zeros(start, length) => {
            let end = start + length;
            let range = [start.to_le_bytes(), end.to_le_bytes()].concat();
            (10, [&range[..], &1u64.to_le_bytes()].concat())
        }
    }
}

/// Puts frames one after the other.
struct Ring {
    seed: u64,
    bytes: Vec<u8>,
    frames: u64,
    chain: u64,
}

impl Ring {
    fn push(&mut self, op: &[u8]) {
        self.frames += 1;
        let offset = self.bytes.len() as u64;
        let mut frame = b"LJF1".to_vec();
        frame.extend((64 + op.len() as u32).to_le_bytes());
        for number in [self.frames, self.chain, 0, 1] {
            frame.extend(number.to_le_bytes());
        }
        frame.extend(1u32.to_le_bytes());
        frame.resize(56, 0);
        let place = hash(self.seed, &offset.to_le_bytes());
        self.chain = hash(hash(place, &frame), op);
        frame.extend(self.chain.to_le_bytes());
        frame.extend(op);
        frame.resize(frame.len().next_multiple_of(PAGE), 0);
        self.bytes.extend(frame);
    }
}

/// Makes the queue of a volume: epoch by epoch, each with a boundary behind it.
pub(crate) fn make_queue(directory: &Path, volume: u32, epochs: &[&[Change]]) {
    let mut ring = Ring {
        seed: ring_seed(volume),
        bytes: Vec::new(),
        frames: 0,
        chain: 0,
    };
    for epoch in epochs {
        for change in *epoch {
            let (kind, payload) = payload(change);
            ring.push(&op(kind, &payload));
        }
        ring.push(&op(6, &[]));
    }
    let head = head(volume, ring.frames);
    let mut bytes = [&head[..], &head].concat();
    bytes.extend(ring.bytes);
    bytes.resize((START + RING) as usize, 0);
    fs::write(directory.join(format!("queue-{volume}")), bytes).unwrap();
}
