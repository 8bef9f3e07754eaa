//! What must hold of every input, whatever a file of a cache directory has become: reading ends without a panic, and what
//! was read, written and read again, is the same.
//!
//! Inputs are judged as they are, and once more with the checksum that they would need, so that what lies behind the checksum is met too.
#![allow(
    clippy::expect_used,
    reason = "a property that does not hold ends the test"
)]

use super::chain::{Ring, Start, Walk};
use super::entry::{Entry, EntryBytes};
use super::fold::Fold;
use super::frame::{FrameBuilder, HEAD_BYTES, Head, Position};
use super::header::{Header, Page, seal};
use super::op::{Op, Ops, VolumeId};
use super::queue_log::{FoundChange, FoundContent, FoundFrames, QueueHead};
use super::shape::{PAGE_BYTES, Shape};
use super::sums::{Incarnation, Seed, Uuid};
use super::superblock::Superblock;
use super::volumes::{Region, VolumeTable};
use crate::directory::{SlotNumber, VolumeNumber};

const SHAPES: [u64; 3] = [4096, 65536, 8 << 20];

const SLOT: SlotNumber = SlotNumber(3);

/// Of the cache whose bytes are looked at.
pub(super) const UUID_BITS: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

fn seed() -> Seed {
    Seed::of_cache(Uuid::from_random(UUID_BITS))
}

fn shapes() -> impl Iterator<Item = Shape> {
    SHAPES.into_iter().filter_map(Shape::new)
}

/// All properties of one input.
///
/// # Panics
/// If one does not hold.
pub fn format(input: &[u8]) {
    pages(input);
    for shape in shapes() {
        entry(input, shape);
        ops(input, shape);
        table(input, shape);
        ring(input, shape);
    }
}

fn pages(input: &[u8]) {
    let mut page: Page = [0; PAGE_BYTES as usize];
    let used = input.len().min(page.len());
    page[..used].copy_from_slice(&input[..used]);
    let sealed = seal(&page);
    for page in [&page, &*sealed] {
        if let Ok(header) = Header::decode(page) {
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        let superblock = Superblock::decode(page);
        if let Ok(superblock) = &superblock {
            assert_eq!(
                Superblock::decode(&superblock.encode()).as_ref(),
                Ok(superblock)
            );
        }
        if let Ok(head) = QueueHead::decode(page) {
            assert_eq!(QueueHead::decode(&head.encode()), Ok(head));
        }
        let both = Superblock::choose([page, page]);
        assert_eq!(both.is_ok(), superblock.is_ok());
        let one = Superblock::choose([page, &[0; PAGE_BYTES as usize]]);
        assert_eq!(one.is_ok(), superblock.is_ok());
    }
}

fn entry(input: &[u8], shape: Shape) {
    let Some(bytes) = input.first_chunk() else {
        return;
    };
    let read = |bytes: &EntryBytes| Entry::decode(bytes, seed(), SLOT, shape);
    let sealed = Entry::sealed(*bytes, seed(), SLOT);
    for entry in [read(bytes), read(&sealed)].into_iter().flatten() {
        assert_eq!(read(&entry.encode(seed(), SLOT)), Some(entry));
    }
}

/// Each op that is read is written as the bytes that it was read from.
fn ops(input: &[u8], shape: Shape) {
    let (mut at, mut encoded) = (0, Vec::new());
    for op in Ops::new(input, shape) {
        let Ok((begins, op)) = op else { break };
        assert_eq!(begins, at);
        encoded.clear();
        op.put(&mut encoded);
        assert_eq!(encoded.len(), op.encoded_bytes());
        assert!(
            input[at as usize..].starts_with(&encoded),
            "{op:?} is written otherwise than it was read"
        );
        at += encoded.len() as u64;
        if let Op::Slot(op) = &op {
            assert_eq!(op.sums().count(), op.fresh.count() as usize);
            let inlined: usize = op.inlined().map(|(_, bytes)| bytes.len()).sum();
            assert_eq!(inlined, op.bytes.len());
        }
    }
}

fn table(input: &[u8], shape: Shape) {
    let region = |bytes| Region {
        offset: PAGE_BYTES,
        bytes,
        generation: 1,
    };
    let plain = region(input.len() as u64);
    assert!(VolumeTable::decode(input, plain, seed(), shape).is_err());
    let sealed = VolumeTable::sealed(u32::MAX, input, 1, seed(), PAGE_BYTES);
    let place = region((input.len() + HEAD_BYTES) as u64);
    let Ok(table) = VolumeTable::decode(&sealed, place, seed(), shape) else {
        return;
    };
    let encoded = table.encode(1, seed(), PAGE_BYTES);
    let place = region(table.encoded_bytes());
    let again = VolumeTable::decode(&encoded, place, seed(), shape).expect("it was just written");
    assert_eq!(again.encode(1, seed(), PAGE_BYTES), encoded);
}

/// A ring that begins with a frame of these ops, and a ring of these bytes.
fn ring(input: &[u8], shape: Shape) {
    let head = Head {
        seq: 1,
        chain: 0,
        synced_seq: 0,
        session: 1,
        is_filler: input.first() == Some(&1),
    };
    let count = Ops::new(input, shape).count() as u32;
    let (frame, _) = FrameBuilder::of_raw(input, count).finish(head, seed(), 0);
    for ring in [input, &frame] {
        let whole_pages = ring.len() / PAGE_BYTES as usize * PAGE_BYTES as usize;
        walk(&ring[..whole_pages], shape);
    }
    let queue = queue_head(PAGE_BYTES);
    let (frame, _) = FrameBuilder::of_raw(input, count).finish(head, queue.seed(), 0);
    for ring in [input, &frame] {
        let whole_pages = ring.len() / PAGE_BYTES as usize * PAGE_BYTES as usize;
        read_queue(&ring[..whole_pages], shape);
    }
}

fn queue_head(ring_bytes: u64) -> QueueHead {
    QueueHead {
        uuid: Uuid::from_random(UUID_BITS),
        id: VolumeId {
            volume: VolumeNumber(1),
            incarnation: Incarnation(2),
        },
        generation: 1,
        session: 1,
        ring_bytes,
        begin: Position::FIRST,
        durable_below: 1,
    }
}

/// What is found in a queue lies in its ring.
fn read_queue(bytes: &[u8], shape: Shape) {
    let read = |offset: u64, buffer: &mut [u8]| {
        let start = offset as usize;
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        Ok(())
    };
    let ring_bytes = bytes.len() as u64;
    let ring = Ring {
        read: &read,
        bytes: ring_bytes,
    };
    let head = queue_head(ring_bytes);
    let Ok(frames) = FoundFrames::read(ring, &head, shape).expect("memory can be read") else {
        return;
    };
    for change in frames.changes {
        let FoundChange::Change {
            start,
            end,
            content,
            ..
        } = change
        else {
            continue;
        };
        assert!(start < end && end <= 1 << 63);
        if let FoundContent::Data { offset } = content {
            assert!(offset + (end - start) <= ring_bytes);
        }
    }
}

fn walk(bytes: &[u8], shape: Shape) {
    let read = |offset: u64, buffer: &mut [u8]| {
        let start = offset as usize;
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        Ok(())
    };
    let ring = Ring {
        read: &read,
        bytes: bytes.len() as u64,
    };
    let start = Start {
        cache: seed(),
        from: Position::FIRST,
        durable_below: 1,
        session: 1,
    };
    let mut walk = Walk::new(ring, start);
    let mut fold = Fold::new(shape, 1 << 20, VolumeTable::default());
    while let Some((offset, frame)) = walk.advance().expect("memory can be read") {
        if fold.follow(&frame, offset).is_err() {
            return;
        }
    }
    for (_, folded) in fold.slots() {
        let fresh = folded.sums().count();
        assert!(folded.inlined().count() <= fresh);
    }
    // Whether it is refused depends on the input; it ends.
    let _ = walk.check_end().expect("memory can be read");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::header::Role;
    use crate::persist::testing::{
        Random, TestRing, random_entry, random_op, random_superblock, shape,
    };

    const INPUTS: u64 = 4_000;

    /// Valid bytes of every kind.
    fn corpus(random: &mut Random) -> Vec<Vec<u8>> {
        let mut corpus = Vec::new();
        for _ in 0..20 {
            corpus.push(random_superblock(random).encode()[..200].to_vec());
            corpus.push(random_entry(random).encode(seed(), SLOT).to_vec());
            let ops: Vec<Op<'_>> = (0..random.below(5)).map(|_| random_op(random)).collect();
            let mut stream = Vec::new();
            ops.iter().for_each(|op| op.put(&mut stream));
            corpus.push(stream);
            let mut ring = TestRing::new(32 << 10);
            ring.append(&ops);
            ring.append(&[Op::Vouch]);
            corpus.push(ring.bytes[..12288].to_vec());
        }
        let header = Header {
            role: Role::Map,
            uuid: Uuid::from_random(1),
            shape: shape(),
        };
        corpus.push(header.encode()[..64].to_vec());
        corpus
    }

    fn spoil(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        const NUMBERS: [u64; 6] = [0, 1, 4096, 1 << 31, 1 << 63, u64::MAX];
        if input.is_empty() {
            return input.push(random.next() as u8);
        }
        let at = random.below(input.len() as u64) as usize;
        match random.below(6) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.next() as u8,
            2 => input.truncate(at),
            3 => {
                let other = &corpus[random.below(corpus.len() as u64) as usize];
                input.truncate(at & !7);
                input.extend_from_slice(other);
            }
            4 => {
                let number = NUMBERS[random.below(6) as usize].to_le_bytes();
                let length = [2, 4, 8][random.below(3) as usize].min(input.len() - at);
                input[at..at + length].copy_from_slice(&number[..length]);
            }
            _ => {
                input.remove(at);
            }
        }
    }

    #[test]
    fn they_hold_of_spoilt_bytes() {
        let mut random = Random::new(50);
        let corpus = corpus(&mut random);
        corpus.iter().for_each(|input| format(input));
        for _ in 0..INPUTS {
            let mut input = corpus[random.below(corpus.len() as u64) as usize].clone();
            for _ in 0..=random.below(4) {
                spoil(&mut random, &mut input, &corpus);
            }
            // A failure prints the input.
            let checked = std::panic::catch_unwind(|| format(&input));
            assert!(checked.is_ok(), "{input:?}");
        }
    }

    #[test]
    fn they_hold_of_any_bytes() {
        let mut random = Random::new(51);
        for _ in 0..2000 {
            let length = random.below(300) as usize;
            format(&random.bytes(length));
        }
        format(&[0; 16384]);
        format(&[0xff; 16384]);
    }
}
