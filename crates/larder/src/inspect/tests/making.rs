//! Directories to look at, made through the code that makes real ones: blocks of 4 KiB, sectors of 512 bytes.

use std::io;
use std::sync::Arc;

use crate::cache_file::CacheFile;
use crate::directory::{SlotNumber, VolumeNumber};
use crate::medium::{Medium, MediumFile};
use crate::persist::entry::{Content, Entry};
use crate::persist::frame::FrameBuilder;
use crate::persist::home::{Home, Wanted};
use crate::persist::memory_medium::MemoryMedium;
use crate::persist::op::slot::sums_as_bytes;
use crate::persist::op::volume::RecordedVersion;
use crate::persist::op::{Op, RecordedZeros, SlotOp, VolumeId, VolumeRecord, ZeroOp, each};
use crate::persist::sums::{BlockSums, Incarnation, Occupant};
use crate::persist::volumes::VolumeTable;
use crate::sector::{BlockNumber, Mask};

pub(crate) const BLOCK: u64 = 4096;
pub(crate) const SECTOR: u64 = 512;
pub(crate) const JOURNAL: u64 = 64 << 10;

/// Ends in the middle of the second sector of block 16.
pub(crate) const SIZE: u64 = 16 * BLOCK + SECTOR + 188;

pub(crate) const ALL: Mask = Mask(0xff);

/// What a slot is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub slot: u32,
    pub volume: u32,
    pub block: u64,
    pub valid: Mask,
    pub dirty: Mask,
    /// What goes into the journal, and not into the slot.
    pub inlined: Mask,
    /// Tells contents from each other.
    pub content: u8,
}

/// All of a clean block.
pub(crate) fn clean(slot: u32, volume: u32, block: u64) -> Put {
    Put {
        slot,
        volume,
        block,
        valid: ALL,
        dirty: Mask::EMPTY,
        inlined: Mask::EMPTY,
        content: 1,
    }
}

/// The same numbers each time.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Somebody who has a directory open.
pub(crate) struct User {
    pub home: Home,
    slots: Box<dyn MediumFile>,
}

pub(crate) fn wanted() -> Wanted {
    Wanted {
        block_bytes: None,
        default_block_bytes: BLOCK,
        max_size_bytes: Some(32 << 20),
        uuid_bits: 1,
        lock_text: "pid 12 started 10:00".to_owned(),
    }
}

pub(crate) fn id(volume: u32) -> VolumeId {
    VolumeId {
        volume: VolumeNumber(volume),
        incarnation: Incarnation(volume),
    }
}

/// The volume of that number.
pub(crate) fn volume(number: u32) -> Op<'static> {
    let version = RecordedVersion {
        stable: b"device 1, inode 2".to_vec(),
        changing: vec![0, 255],
    };
    Op::Volume(VolumeRecord {
        id: id(number),
        size_bytes: SIZE,
        sector_shift: 9,
        changed_since_version: number == 1,
        has_queue: false,
        name: format!("disk{number}"),
        cache_id: format!("id {number}"),
        version: (number == 1).then_some(version),
    })
}

/// Zeros of a volume, which are all that it has.
pub(crate) fn zeros(number: u32, ranges: &[(u64, u64)]) -> Op<'static> {
    let zeros = ranges.iter().map(|(start, end)| RecordedZeros {
        start: *start,
        end: *end,
        may_trim: true,
    });
    Op::Zero(ZeroOp {
        id: id(number),
        start: 0,
        end: SIZE,
        zeros: zeros.collect(),
    })
}

impl User {
    pub(crate) fn open(medium: &MemoryMedium) -> Self {
        Self::open_with(medium, JOURNAL)
    }

    /// A directory that is made gets a journal of that length.
    pub(crate) fn open_with(medium: &MemoryMedium, journal_bytes: u64) -> Self {
        let medium = Arc::new(medium.clone());
        let mut opened = Home::open_with(medium, &wanted(), journal_bytes).unwrap();
        let slots = opened.home.take_slots_file().unwrap();
        Self {
            home: opened.home,
            slots,
        }
    }

    /// Puts bytes into a slot, but for those that the journal gets. What is to be said of it.
    pub(crate) fn put(&self, put: Put) -> Op<'static> {
        self.home.prepare_slots(put.slot + 1).unwrap();
        let VolumeId {
            volume,
            incarnation,
        } = id(put.volume);
        let occupant = Occupant {
            volume,
            incarnation,
            block: BlockNumber(put.block),
        };
        let block_sums = BlockSums::new(self.home.seed(), occupant);
        let (mut sums, mut inlined) = (Vec::new(), Vec::new());
        for sector in each(put.valid) {
            let mut bytes = content_of(put, sector);
            let start = put.block * BLOCK + u64::from(sector) * SECTOR;
            let exists = SIZE.saturating_sub(start).min(SECTOR) as usize;
            bytes[exists..].fill(0);
            sums.push(block_sums.of(sector, &bytes[..exists]));
            match put.inlined.has(sector) {
                true => inlined.extend_from_slice(&bytes),
                false => self.write_sector(put.slot, sector, &bytes),
            }
        }
        Op::Slot(SlotOp {
            slot: SlotNumber(put.slot),
            content: Content {
                occupant,
                valid: put.valid,
                dirty: put.dirty,
                heat: 0,
            },
            sector_shift: 9,
            fresh: put.valid,
            inlined: put.inlined,
            sums: sums_as_bytes(sums).leak(),
            bytes: inlined.leak(),
        })
    }

    /// Puts bytes that the journal has into their slot.
    pub(crate) fn apply(&self, put: Put) {
        for sector in each(put.inlined) {
            self.write_sector(put.slot, sector, &content_of(put, sector));
        }
    }

    /// Writes into a slot without a word.
    pub(crate) fn write_sector(&self, slot: u32, sector: u32, bytes: &[u8]) {
        let start = self.home.shape().slot_offset(SlotNumber(slot));
        let within = u64::from(sector) * SECTOR;
        self.slots.write(start + within, bytes).unwrap();
    }

    /// Says something durably.
    pub(crate) fn say(&self, ops: &[Op<'static>]) {
        let mut frame = FrameBuilder::new();
        ops.iter().for_each(|op| frame.push(op));
        self.home.journal().append(frame).unwrap();
        self.home.journal().sync().unwrap();
    }

    /// All that was said goes into the tables. What the journal carried must be in the slots.
    pub(crate) fn checkpoint(&self) {
        self.home.journal().note_applied();
        self.home.checkpoint().unwrap();
    }

    /// All that was said is in the tables, and they are all there is.
    pub(crate) fn close(self, said: &[Op<'static>]) {
        self.checkpoint();
        let mut table = VolumeTable::default();
        said.iter().for_each(|op| table.apply(op).unwrap());
        let mut entries: Vec<Entry> = Vec::new();
        self.home
            .read_entries(0..u32::MAX, &mut |_, entry| entries.push(entry))
            .unwrap();
        let numbered = entries.len() as u32;
        let mut entries = entries.into_iter();
        self.home.close(&table, numbered, &mut entries).unwrap();
    }
}

pub(crate) fn content_of(put: Put, sector: u32) -> [u8; SECTOR as usize] {
    [put.content ^ put.block as u8 ^ (sector as u8) << 4; SECTOR as usize]
}

/// Does something before each read of a file, which it may also refuse: given the file's name and the offset.
type OnRead = dyn Fn(&str, u64) -> io::Result<()> + Send + Sync;

/// A directory whose reads are watched.
pub(crate) struct Watched {
    medium: MemoryMedium,
    on_read: Arc<OnRead>,
}

struct WatchedFile {
    file: Box<dyn MediumFile>,
    name: String,
    on_read: Arc<OnRead>,
}

impl Watched {
    pub(crate) fn new(
        medium: &MemoryMedium,
        on_read: impl Fn(&str, u64) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            medium: medium.clone(),
            on_read: Arc::new(on_read),
        }
    }
}

impl Medium for Watched {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(WatchedFile {
            file: self.medium.open(name)?,
            name: name.to_owned(),
            on_read: Arc::clone(&self.on_read),
        }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.medium.create(name)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.medium.lock(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.medium.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.medium.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.medium.names()
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.sync()
    }
}

impl CacheFile for WatchedFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (self.on_read)(&self.name, offset)?;
        self.file.read(offset, buffer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl MediumFile for WatchedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_length(length_bytes)
    }
}
