//! The head of a queue: whose it is, and where in its ring it begins. Two copies stand before the ring, and are written alternately: the
//! one that is written is never the one that counts.
//!
//! A head is durable before the space that it frees is used again. At the start of a session both copies are written, so that one that is damaged
//! later leaves one of the same session.

use std::io;
use std::sync::Arc;

use crate::directory::VolumeNumber;
use crate::medium::MediumFile;
use crate::persist::bytes::{Malformed, Put};
use crate::persist::copies::{self, Copied, Newer};
use crate::persist::frame::{Position, is_ring};
use crate::persist::header::{Page, seal, unseal};
use crate::persist::op::VolumeId;
use crate::persist::refusal::{Finding, Version};
use crate::persist::shape::PAGE_BYTES;
use crate::persist::sums::{Incarnation, Seed, Uuid};

const MAGIC: [u8; 8] = *b"LARDERQH";

/// Where the ring begins in the file: behind both copies.
pub(super) const RING_START: u64 = 2 * PAGE_BYTES;

/// What a copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueHead {
    pub uuid: Uuid,
    pub id: VolumeId,
    /// One more each time that it is written.
    pub generation: u64,
    /// That of the superblock when it was written: no frame is of a later one.
    pub session: u64,
    pub ring_bytes: u64,
    /// The first frame that the origin does not have.
    pub begin: Position,
    /// Frames below this number were durable when it was written.
    pub durable_below: u64,
}

impl QueueHead {
    pub(crate) fn encode(&self) -> Box<Page> {
        let mut bytes = MAGIC.to_vec();
        Version::CURRENT.put(&mut bytes);
        bytes.put_u32(0);
        bytes.extend_from_slice(&self.uuid.0);
        bytes.put_u32(self.id.volume.0);
        bytes.put_u32(self.id.incarnation.0);
        bytes.put_u64(self.generation);
        bytes.put_u64(self.session);
        bytes.put_u64(self.ring_bytes);
        self.begin.put(&mut bytes);
        bytes.put_u64(self.durable_below);
        seal(&bytes)
    }

    /// What the page says, whoever's it is.
    pub(crate) fn decode(page: &Page) -> Result<Self, Finding> {
        let mut reader = unseal(page, MAGIC)?;
        Version::take(&mut reader)?.check()?;
        reader.bytes(4)?;
        let head = Self {
            uuid: Uuid(reader.array()?),
            id: VolumeId {
                volume: VolumeNumber(reader.u32()?),
                incarnation: Incarnation(reader.u32()?),
            },
            generation: reader.u64()?,
            session: reader.u64()?,
            ring_bytes: reader.u64()?,
            begin: Position::take(&mut reader)?,
            durable_below: reader.u64()?,
        };
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), Malformed> {
        if !is_ring(self.ring_bytes) {
            return Err(Malformed("its ring has an impossible size"));
        }
        match self.begin.is_within(self.ring_bytes) && self.durable_below >= self.begin.seq {
            true => Ok(()),
            false => Err(Malformed("it begins at an impossible place")),
        }
    }

    /// What two copies say together.
    pub(crate) fn choose(copies: [&Page; 2]) -> Result<Newer<Self>, Finding> {
        copies::choose(copies.map(Self::decode))
    }

    /// What the checksums of its frames begin with: no frame of the journal, of another queue or of another volume that had the number fits.
    pub(crate) fn seed(&self) -> Seed {
        let mut part = MAGIC.to_vec();
        part.put_u32(self.id.volume.0);
        part.put_u32(self.id.incarnation.0);
        Seed::of_cache(self.uuid).with(&part)
    }
}

impl Copied for QueueHead {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn uuid(&self) -> Uuid {
        self.uuid
    }
}

/// Both copies in their file.
pub(super) struct Heads {
    file: Arc<dyn MediumFile>,
    current: QueueHead,
    /// The copy to be written next.
    spare: u64,
}

impl Heads {
    pub(super) fn new(file: Arc<dyn MediumFile>, chosen: Newer<QueueHead>) -> Self {
        Self {
            file,
            current: chosen.value,
            spare: 1 - chosen.copy as u64,
        }
    }

    /// What counts.
    pub(super) fn current(&self) -> &QueueHead {
        &self.current
    }

    /// Writes what counts once more, where it lies: whoever was killed may have written it and not synced it. If that is torn now, it was
    /// not durable, and the other copy is what a crash would have left.
    pub(super) fn renew(&self) -> io::Result<()> {
        self.put(1 - self.spare, &self.current)
    }

    /// Writes the next head. It counts once the file is synced, which [`Heads::note_durable`] is to be told.
    pub(super) fn write(&self, new: QueueHead) -> io::Result<QueueHead> {
        let new = QueueHead {
            generation: self.current.generation + 1,
            ..new
        };
        self.put(self.spare, &new)?;
        Ok(new)
    }

    pub(super) fn note_durable(&mut self, new: QueueHead) {
        self.current = new;
        self.spare = 1 - self.spare;
    }

    fn put(&self, copy: u64, head: &QueueHead) -> io::Result<()> {
        self.file.write(copy * PAGE_BYTES, head.encode().as_slice())
    }
}

#[cfg(test)]
mod tests;
