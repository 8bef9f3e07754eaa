//! What the tests of the format share: seeded choices, and random values of every kind.

use std::sync::LazyLock;

use super::entry::{Content, Entry, MAX_HEAT};
use super::frame::{FrameBuilder, Head, Position};
use super::op::volume::RecordedVersion;
use super::op::{Change, Op, RecordedZeros, SlotOp, VolumeId, VolumeRecord, Wiping, ZeroOp};
use super::properties::UUID_BITS;
use super::shape::{PAGE_BYTES, Shape};
use super::sums::{Incarnation, Occupant, Seed, Uuid};
use super::superblock::{State, Superblock};
use super::volumes::Region;
use crate::directory::{SlotNumber, VolumeNumber};
use crate::sector::{BlockNumber, Mask};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Some of these sectors, often all or none.
    pub(super) fn some_of(&mut self, mask: Mask) -> Mask {
        match self.below(4) {
            0 => mask,
            1 => Mask::EMPTY,
            _ => mask & Mask(u128::from(self.next()) << 64 | u128::from(self.next())),
        }
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

pub(super) fn uuid() -> Uuid {
    Uuid::from_random(UUID_BITS)
}

pub(super) fn seed() -> Seed {
    Seed::of_cache(uuid())
}

/// Blocks of 8 sectors.
pub(super) fn shape() -> Shape {
    Shape::new(4096).unwrap()
}

/// One number for all bytes: when it changes, the format has changed. Tests have it from a program that
/// knows only `FORMAT.md` and the C library of XXH3.
pub(super) fn golden_sum(bytes: &[u8]) -> u64 {
    Seed::NONE.sum(bytes)
}

/// Each bit is flipped in turn.
pub(super) fn assert_every_flip(bytes: &[u8], is_noticed: impl Fn(&[u8]) -> bool) {
    let mut spoilt = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        spoilt[bit / 8] ^= 1 << (bit % 8);
        assert!(is_noticed(&spoilt), "bit {bit}");
        spoilt[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Bytes that ops can borrow for sums and sectors.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| Random::new(99).bytes(1 << 17));

pub(super) fn pool(random: &mut Random, length: usize) -> &'static [u8] {
    let start = random.below((POOL.len() - length) as u64) as usize;
    &POOL[start..start + length]
}

pub(super) fn random_superblock(random: &mut Random) -> Superblock {
    let pages = 1 + random.below(1 << 20);
    let tail = Position {
        offset: random.below(pages) * PAGE_BYTES,
        seq: 1 << 40,
        chain: random.next(),
    };
    Superblock {
        uuid: Uuid::from_random(u128::from(random.next())),
        shape: Shape::new(1 << (12 + random.below(12))).unwrap(),
        state: match random.chance(50) {
            true => State::Clean,
            false => State::InUse,
        },
        generation: random.next(),
        session: random.next(),
        slots_numbered: random.below(u64::from(u32::MAX)) as u32,
        journal_bytes: pages * PAGE_BYTES,
        tail,
        volumes: Region {
            offset: PAGE_BYTES * (1 + random.below(1000)),
            bytes: 64 + random.below(1 << 20),
            generation: random.next(),
        },
    }
}

pub(super) fn random_id(random: &mut Random) -> VolumeId {
    VolumeId {
        volume: VolumeNumber(random.below(5) as u32),
        incarnation: Incarnation(random.below(5) as u32),
    }
}

fn random_content(random: &mut Random, sectors: Mask) -> Content {
    let id = random_id(random);
    let valid = random.some_of(sectors);
    Content {
        occupant: Occupant {
            volume: id.volume,
            incarnation: id.incarnation,
            block: BlockNumber(random.next() >> 13),
        },
        valid,
        dirty: random.some_of(valid),
        heat: random.below(u64::from(MAX_HEAT) + 1) as u8,
    }
}

pub(super) fn random_entry(random: &mut Random) -> Entry {
    let is_used = random.chance(80);
    let full = Mask::span(0, shape().sums_per_slot());
    Entry {
        seq: random.next(),
        content: is_used.then(|| random_content(random, full)),
    }
}

pub(super) fn random_slot_op(random: &mut Random) -> SlotOp<'static> {
    let sector_shift = 9 + random.below(4) as u8;
    let content = random_content(random, shape().sectors(sector_shift).unwrap());
    let fresh = random.some_of(content.valid);
    let inlined = random.some_of(fresh);
    SlotOp {
        slot: SlotNumber(random.below(1000) as u32),
        content,
        sector_shift,
        fresh,
        inlined,
        sums: pool(random, fresh.count() as usize * 8),
        bytes: pool(random, (inlined.count() as usize) << sector_shift),
    }
}

fn random_zeros(random: &mut Random) -> ZeroOp {
    let start = random.below(1 << 62);
    let mut at = start;
    let mut zeros = Vec::new();
    for _ in 0..random.below(5) {
        let first = at + random.below(3) * 512;
        at = first + 512 * (1 + random.below(100));
        zeros.push(RecordedZeros {
            start: first,
            end: at,
            may_trim: random.chance(50),
        });
    }
    ZeroOp {
        id: random_id(random),
        start,
        end: at + 512 * (1 + random.below(2)),
        zeros,
    }
}

pub(super) fn random_volume(random: &mut Random, id: VolumeId) -> VolumeRecord {
    let has_version = random.chance(50);
    let length = |random: &mut Random| random.below(20) as usize;
    VolumeRecord {
        id,
        size_bytes: random.next() >> 1,
        sector_shift: 9 + random.below(4) as u8,
        changed_since_version: random.chance(50),
        has_queue: false,
        name: "ä".repeat(length(random)),
        cache_id: "id".repeat(length(random)),
        version: has_version.then(|| RecordedVersion {
            stable: pool(random, 20).to_vec(),
            changing: pool(random, 9).to_vec(),
        }),
    }
}

pub(super) fn random_change(random: &mut Random) -> Change<'static> {
    let start = random.next() >> 2;
    let length = 1 + random.below(5000);
    let wipe = |how| Change::Wipe {
        start,
        end: start + length,
        how,
    };
    match random.below(5) {
        0 => wipe(Wiping::Zero),
        1 => wipe(Wiping::Hole),
        _ => Change::Data {
            start,
            bytes: pool(random, length as usize),
        },
    }
}

/// Any op of a cache of [`shape`], whether it makes sense after others or not.
pub(super) fn random_op(random: &mut Random) -> Op<'static> {
    let id = random_id(random);
    match random.below(14) {
        0 => Op::Empty(SlotNumber(random.below(1000) as u32)),
        1 => Op::Zero(random_zeros(random)),
        2 => Op::Volume(random_volume(random, id)),
        3 => Op::VolumeGone(id),
        4 => Op::Epoch,
        5 | 7 => Op::Change(random_change(random)),
        6 => Op::Vouch,
        _ => Op::Slot(random_slot_op(random)),
    }
}

/// A journal in memory, and where its frames are.
#[derive(Clone, Debug)]
pub(super) struct TestRing {
    pub bytes: Vec<u8>,
    pub next: Position,
    pub session: u64,
    pub synced_seq: u64,
    /// Of every frame the position, and how many bytes it has with its padding.
    pub frames: Vec<(Position, u64)>,
}

impl TestRing {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes: vec![0; bytes as usize],
            next: Position::FIRST,
            session: 1,
            synced_seq: 0,
            frames: Vec::new(),
        }
    }

    fn ring_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends a frame, after a filler if it does not fit before the end.
    pub(super) fn append(&mut self, ops: &[Op<'_>]) {
        let mut builder = FrameBuilder::new();
        ops.iter().for_each(|op| builder.push(op));
        if self.next.offset + builder.padded_bytes() > self.ring_bytes() {
            self.put(FrameBuilder::new(), true);
        }
        self.put(builder, false);
    }

    /// Everything so far is durable.
    pub(super) fn sync(&mut self) {
        self.synced_seq = self.next.seq - 1;
    }

    fn put(&mut self, builder: FrameBuilder, is_filler: bool) {
        let at = self.next;
        let head = Head {
            seq: at.seq,
            chain: at.chain,
            synced_seq: self.synced_seq,
            session: self.session,
            is_filler,
        };
        let (frame, checksum) = builder.finish(head, seed(), at.offset);
        let start = at.offset as usize;
        self.bytes[start..start + frame.len()].copy_from_slice(&frame);
        let taken = match is_filler {
            true => self.ring_bytes() - at.offset,
            false => frame.len() as u64,
        };
        self.frames.push((at, frame.len() as u64));
        self.next = at.after(taken, checksum, self.ring_bytes());
    }
}
