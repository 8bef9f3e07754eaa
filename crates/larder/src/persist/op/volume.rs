//! What is known of a volume and its origin.

use super::zero::MAY_TRIM;
use super::{VolumeId, put_id, take_id};
use crate::origin::RequestLimits;
use crate::persist::bytes::{Malformed, Put, Reader};
use crate::persist::shape::Shape;
use crate::sector::Geometry;

/// The longest name, cache id or version, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 4096;

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeRecord {
    pub id: VolumeId,
    pub size_bytes: u64,
    pub sector_shift: u8,
    /// The origin has been written to since its version was asked: only the stable part still tells anything.
    pub changed_since_version: bool,
    /// There is a file with what is queued for its origin: without it nobody knows what the origin lacks.
    pub has_queue: bool,
    pub name: String,
    /// What the operator calls the origin; may be empty.
    pub cache_id: String,
    pub version: Option<RecordedVersion>,
}

/// An origin's version, in bytes that only its own kind of origin understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedVersion {
    /// What stays while the origin is written to.
    pub stable: Vec<u8>,
    pub changing: Vec<u8>,
}

const CHANGED_SINCE_VERSION: u8 = 1;
const HAS_VERSION: u8 = 2;
const HAS_QUEUE: u8 = 4;

impl VolumeRecord {
    /// The sizes of its blocks and sectors.
    pub(crate) fn geometry(&self, block_bytes: u64) -> Option<Geometry> {
        let limits = RequestLimits {
            minimum: 1 << self.sector_shift,
            ..RequestLimits::default()
        };
        Geometry::new(block_bytes, limits)
    }

    pub(super) fn payload_bytes(&self) -> usize {
        let version = self.version.as_ref();
        let version = version.map_or(0, |it| it.stable.len() + it.changing.len());
        36 + self.name.len() + self.cache_id.len() + version
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        let mut flags = 0;
        if self.changed_since_version {
            flags |= CHANGED_SINCE_VERSION;
        }
        if self.version.is_some() {
            flags |= HAS_VERSION;
        }
        if self.has_queue {
            flags |= HAS_QUEUE;
        }
        put_id(bytes, self.id);
        bytes.put_u64(self.size_bytes);
        bytes.put_u8(self.sector_shift);
        bytes.put_u8(flags);
        bytes.put_u16(0);
        let version = self.version.as_ref();
        let texts: [&[u8]; 4] = [
            self.name.as_bytes(),
            self.cache_id.as_bytes(),
            version.map_or(&[], |version| &version.stable),
            version.map_or(&[], |version| &version.changing),
        ];
        for text in texts {
            bytes.put_u32(text.len() as u32);
        }
        texts.iter().for_each(|text| bytes.extend_from_slice(text));
    }

    pub(super) fn take(reader: &mut Reader<'_>, shape: Shape) -> Result<Self, Malformed> {
        let id = take_id(reader)?;
        let size_bytes = reader.u64()?;
        let (sector_shift, flags) = (reader.u8()?, reader.u8()?);
        reader.zeros(2)?;
        let mut lengths = [0; 4];
        for length in &mut lengths {
            *length = reader.u32()? as usize;
        }
        if lengths.iter().any(|length| *length > MAX_TEXT_BYTES) {
            return Err(Malformed("a volume's name or version is too long"));
        }
        let (name, cache_id) = (
            take_text(reader, lengths[0])?,
            take_text(reader, lengths[1])?,
        );
        let version = RecordedVersion {
            stable: reader.bytes(lengths[2])?.to_vec(),
            changing: reader.bytes(lengths[3])?.to_vec(),
        };
        let has_version = flags & HAS_VERSION != 0;
        if flags & !(CHANGED_SINCE_VERSION | HAS_VERSION | HAS_QUEUE) != 0
            || (!has_version && lengths[2] + lengths[3] > 0)
        {
            return Err(Malformed("a volume has flags that mean nothing"));
        }
        if shape.sectors(sector_shift).is_none() || size_bytes >= MAY_TRIM {
            return Err(Malformed("a volume has an impossible size"));
        }
        Ok(Self {
            id,
            size_bytes,
            sector_shift,
            changed_since_version: flags & CHANGED_SINCE_VERSION != 0,
            has_queue: flags & HAS_QUEUE != 0,
            name,
            cache_id,
            version: has_version.then_some(version),
        })
    }
}

fn take_text(reader: &mut Reader<'_>, length: usize) -> Result<String, Malformed> {
    let text = str::from_utf8(reader.bytes(length)?);
    text.map(str::to_owned)
        .map_err(|_| Malformed("a volume's name is no text"))
}
