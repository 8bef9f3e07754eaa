//! The superblock: where the journal begins, and which volume table counts. Two copies, each written and synced before
//! the other, and each enough alone.

use super::bytes::{Malformed, Put, Reader};
use super::copies::{self, Copied};
use super::frame::{Position, is_ring};
use super::header::{Page, seal, unseal};
use super::refusal::{Finding, Refusal, Version};
use super::shape::Shape;
use super::sums::Uuid;
use super::volumes::Region;

const MAGIC: [u8; 8] = *b"LARDERSB";

/// The superblock's file, and what it is called until it is whole for the first time.
pub(crate) const FILE_NAME: &str = "superblock";
pub(crate) const NEW_FILE_NAME: &str = "superblock.new";

/// Features without which a directory cannot be understood, and which this program knows: none yet.
const KNOWN_FEATURES: u32 = 0;

/// Whether the tables say everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Somebody has it open, or had when the machine stopped: the journal may say more.
    InUse,
    /// The tables are all there is.
    Clean,
}

/// What both copies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub uuid: Uuid,
    pub shape: Shape,
    pub state: State,
    /// One more each time that it is written.
    pub generation: u64,
    /// One more each time that the directory is opened.
    pub session: u64,
    /// The tables have entries for slots below this.
    pub slots_numbered: u32,
    /// The length of the journal's ring.
    pub journal_bytes: u64,
    /// The first frame that the tables do not know.
    pub tail: Position,
    /// Where the volume table is.
    pub volumes: Region,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Box<Page> {
        let mut bytes = MAGIC.to_vec();
        Version::CURRENT.put(&mut bytes);
        bytes.put_u32(KNOWN_FEATURES);
        bytes.put_u8(self.shape.block_shift());
        bytes.put_u8(self.shape.sums_shift());
        bytes.put_u8(match self.state {
            State::InUse => 0,
            State::Clean => 1,
        });
        bytes.put_u8(0);
        bytes.put_u32(0);
        bytes.extend_from_slice(&self.uuid.0);
        bytes.put_u64(self.generation);
        bytes.put_u64(self.session);
        bytes.put_u32(self.slots_numbered);
        bytes.put_u32(0);
        bytes.put_u64(self.journal_bytes);
        self.tail.put(&mut bytes);
        bytes.put_u64(self.volumes.offset);
        bytes.put_u64(self.volumes.bytes);
        bytes.put_u64(self.volumes.generation);
        seal(&bytes)
    }

    /// What one copy says.
    pub(crate) fn decode(page: &Page) -> Result<Self, Finding> {
        let mut reader = unseal(page, MAGIC)?;
        Version::take(&mut reader)?.check()?;
        match reader.u32()? & !KNOWN_FEATURES {
            0 => {}
            unknown => return Err(Finding::UnknownFeatures(unknown)),
        }
        let shape = Shape::from_shifts(reader.u8()?, reader.u8()?)?;
        let state = match reader.u8()? {
            0 => State::InUse,
            1 => State::Clean,
            _ => return Err(Malformed("its state is none that there is").into()),
        };
        reader.bytes(5)?;
        let superblock = Self {
            shape,
            state,
            uuid: Uuid(reader.array()?),
            generation: reader.u64()?,
            session: reader.u64()?,
            slots_numbered: take_padded_u32(&mut reader)?,
            journal_bytes: reader.u64()?,
            tail: Position::take(&mut reader)?,
            volumes: Region {
                offset: reader.u64()?,
                bytes: reader.u64()?,
                generation: reader.u64()?,
            },
        };
        superblock.check()?;
        Ok(superblock)
    }

    fn check(&self) -> Result<(), Malformed> {
        let ring = self.journal_bytes;
        if !is_ring(ring) {
            return Err(Malformed("its journal has an impossible size"));
        }
        if !self.tail.is_within(ring) {
            return Err(Malformed("its journal begins at an impossible place"));
        }
        if self.slots_numbered == u32::MAX {
            return Err(Malformed("it has more slots than there can be"));
        }
        self.volumes.check()
    }

    /// What the two copies say together: the newer one of those that are whole.
    ///
    /// # Errors
    /// Neither is whole; or one is, and is of a newer version; or they are of two caches.
    pub(crate) fn choose(copies: [&Page; 2]) -> Result<Chosen, Refusal> {
        let newer = copies::choose(copies.map(Self::decode)).map_err(|finding| Refusal {
            file: FILE_NAME.into(),
            finding,
        })?;
        Ok(Chosen {
            other_is_as_new: newer.other_is_as_new,
            superblock: newer.value,
            copy: newer.copy,
        })
    }
}

impl Copied for Superblock {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn uuid(&self) -> Uuid {
        self.uuid
    }
}

/// The copy that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub superblock: Superblock,
    /// Which of the two it is.
    pub copy: usize,
    /// Whether the other says the same. Else it must be written before anything relies on two.
    pub other_is_as_new: bool,
}

/// A number of 32 bits and 32 unused ones.
fn take_padded_u32(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let number = reader.u32()?;
    reader.bytes(4)?;
    Ok(number)
}

#[cfg(test)]
mod tests;
