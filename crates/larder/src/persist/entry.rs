//! Map entries: what a slot holds, in 64 bytes, kept twice.

use super::bytes::{Malformed, Put, Reader};
use super::header::Role;
use super::refusal::{Finding, Refusal};
use super::shape::{ENTRY_BYTES, Shape};
use super::sums::{Incarnation, Occupant, Seed};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::sector::{BlockNumber, Mask};

/// Exactly one of these two is set, so that zeros are no entry.
const IS_USED: u32 = 1;
const IS_EMPTY: u32 = 2;
const HEAT_SHIFT: u32 = 8;

/// What the policy may say of a block's use: 3 bits of its own.
pub(crate) const MAX_HEAT: u8 = 7;

/// The bytes of an entry.
pub(crate) type EntryBytes = [u8; ENTRY_BYTES as usize];

/// What a slot is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The frame that said so last, or 0.
    pub seq: u64,
    /// None in an empty slot.
    pub content: Option<Content>,
}

/// What is known of a block in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub occupant: Occupant,
    pub valid: Mask,
    /// Newer than the origin. All of it is valid.
    pub dirty: Mask,
    /// How much the block was used, for the policy: at most [`MAX_HEAT`].
    pub heat: u8,
}

impl Content {
    /// Whether these can be the masks of a block of this shape.
    pub(super) fn check(&self, shape: Shape) -> Result<(), Malformed> {
        if !(self.dirty - self.valid).is_empty() {
            return Err(Malformed("a sector is dirty and not valid"));
        }
        let sectors = Mask::span(0, shape.sums_per_slot());
        if !(self.valid - sectors).is_empty() {
            return Err(Malformed("a sector is valid that no block has"));
        }
        if !shape.can_have(self.occupant.block) {
            return Err(Malformed("a block lies beyond the end of any volume"));
        }
        match self.heat <= MAX_HEAT {
            true => Ok(()),
            false => Err(Malformed("a block has been used more than can be said")),
        }
    }
}

impl Entry {
    /// Of a slot of which nothing was ever said.
    pub(super) const EMPTY: Self = Self {
        seq: 0,
        content: None,
    };

    pub(crate) fn encode(&self, cache: Seed, slot: SlotNumber) -> EntryBytes {
        let mut body = Vec::with_capacity(ENTRY_BYTES as usize);
        match &self.content {
            None => {
                body.put_u32(IS_EMPTY);
                body.extend_from_slice(&[0; 16]);
                body.put_u64(self.seq);
                body.extend_from_slice(&[0; 32]);
            }
            Some(content) => {
                body.put_u32(IS_USED | u32::from(content.heat & MAX_HEAT) << HEAT_SHIFT);
                put_occupant(&mut body, content.occupant);
                body.put_u64(self.seq);
                body.put_u128(content.valid.0);
                body.put_u128(content.dirty.0);
            }
        }
        let mut bytes = [0; ENTRY_BYTES as usize];
        bytes[4..].copy_from_slice(&body);
        Self::sealed(bytes, cache, slot)
    }

    /// These bytes with the checksum that they need.
    pub(super) fn sealed(mut bytes: EntryBytes, cache: Seed, slot: SlotNumber) -> EntryBytes {
        let sum = checksum(cache, slot, &bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None if these bytes are not the entry of this slot as it was written.
    pub(crate) fn decode(
        bytes: &EntryBytes,
        cache: Seed,
        slot: SlotNumber,
        shape: Shape,
    ) -> Option<Self> {
        let (sum, body) = bytes.split_first_chunk()?;
        if checksum(cache, slot, body) != u32::from_le_bytes(*sum) {
            return None;
        }
        Self::take(&mut Reader::new(body), shape).ok()
    }

    fn take(reader: &mut Reader<'_>, shape: Shape) -> Result<Self, Malformed> {
        let flags = reader.u32()?;
        if flags == IS_EMPTY {
            reader.zeros(16)?;
            let seq = reader.u64()?;
            reader.zeros(32)?;
            return Ok(Self { seq, content: None });
        }
        let heat = flags >> HEAT_SHIFT;
        if flags & !(u32::from(MAX_HEAT) << HEAT_SHIFT) != IS_USED {
            return Err(Malformed("an entry has flags that mean nothing"));
        }
        let occupant = take_occupant(reader)?;
        let seq = reader.u64()?;
        let content = Content {
            occupant,
            valid: Mask(reader.u128()?),
            dirty: Mask(reader.u128()?),
            heat: heat as u8,
        };
        content.check(shape)?;
        Ok(Self {
            seq,
            content: Some(content),
        })
    }

    /// The entry of a slot from `map`, or if that is damaged from `map.copy`, which is only asked for then.
    ///
    /// # Errors
    /// Both are damaged.
    pub(crate) fn choose(
        map: &EntryBytes,
        copy: impl FnOnce() -> EntryBytes,
        cache: Seed,
        slot: SlotNumber,
        shape: Shape,
    ) -> Result<Self, Refusal> {
        Self::decode(map, cache, slot, shape)
            .or_else(|| Self::decode(&copy(), cache, slot, shape))
            .ok_or_else(|| Refusal::of(Role::Map, Finding::Entry(slot)))
    }
}

pub(super) fn put_occupant(bytes: &mut Vec<u8>, occupant: Occupant) {
    bytes.put_u32(occupant.volume.0);
    bytes.put_u32(occupant.incarnation.0);
    bytes.put_u64(occupant.block.0);
}

pub(super) fn take_occupant(reader: &mut Reader<'_>) -> Result<Occupant, Malformed> {
    Ok(Occupant {
        volume: VolumeNumber(reader.u32()?),
        incarnation: Incarnation(reader.u32()?),
        block: BlockNumber(reader.u64()?),
    })
}

fn checksum(cache: Seed, slot: SlotNumber, body: &[u8]) -> u32 {
    cache.with(&slot.0.to_le_bytes()).sum(body) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::testing::{Random, assert_every_flip, random_entry, seed, shape};

    const SLOT: SlotNumber = SlotNumber(12);

    fn entry() -> Entry {
        Entry {
            seq: 0x0102_0304_0506_0708,
            content: Some(Content {
                occupant: Occupant {
                    volume: VolumeNumber(3),
                    incarnation: Incarnation(4),
                    block: BlockNumber(5),
                },
                valid: Mask(0xff),
                dirty: Mask(0x81),
                heat: 5,
            }),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Entry> {
        Entry::decode(bytes.try_into().unwrap(), seed(), SLOT, shape())
    }

    #[test]
    fn golden_bytes() {
        let bytes = entry().encode(seed(), SLOT);
        assert_eq!(bytes[4..8], [1, 5, 0, 0]);
        assert_eq!(bytes[8..16], [3, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(bytes[16..24], [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[32..64], {
            let mut masks = [0; 32];
            (masks[0], masks[16]) = (0xff, 0x81);
            masks
        });
        assert_eq!(bytes[..4], [0x52, 0x24, 0x75, 0x09]);
        let empty = Entry {
            seq: 9,
            content: None,
        };
        let bytes = empty.encode(seed(), SLOT);
        assert_eq!(bytes[..4], [0xd2, 0x74, 0xc8, 0x15]);
        assert_eq!((bytes[4], bytes[24]), (2, 9));
        assert_eq!(bytes[4..].iter().filter(|byte| **byte != 0).count(), 2);
    }

    #[test]
    fn what_was_written_is_read_for_its_own_slot_and_cache_only() {
        let mut random = Random::new(2);
        for _ in 0..10_000 {
            let entry = random_entry(&mut random);
            let bytes = entry.encode(seed(), SLOT);
            assert_eq!(decode(&bytes), Some(entry));
            let other = SlotNumber(random.below(1000) as u32 + 13);
            assert_eq!(Entry::decode(&bytes, seed(), other, shape()), None);
            assert_eq!(Entry::decode(&bytes, Seed::NONE, SLOT, shape()), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_zeros_are_noticed() {
        let mut random = Random::new(3);
        for _ in 0..200 {
            let bytes = random_entry(&mut random).encode(seed(), SLOT);
            assert_every_flip(&bytes, |bytes| decode(bytes).is_none());
        }
        assert_eq!(decode(&[0; 64]), None);
        assert_eq!(decode(&[0xff; 64]), None);
    }

    #[test]
    fn the_copy_stands_in_and_both_damaged_are_refused_by_number() {
        let (whole, damaged) = (entry().encode(seed(), SLOT), [0; 64]);
        let choose =
            |map: &EntryBytes, copy: EntryBytes| Entry::choose(map, || copy, seed(), SLOT, shape());
        assert_eq!(choose(&whole, damaged), Ok(entry()));
        assert_eq!(choose(&damaged, whole), Ok(entry()));
        let refusal = choose(&damaged, damaged).unwrap_err();
        assert!(refusal.to_string().starts_with("map: entry 12 is damaged"));
    }

    #[test]
    fn impossible_masks_are_damage_whatever_the_checksum_says() {
        let with = |change: fn(&mut Content)| {
            let mut content = entry().content.unwrap();
            change(&mut content);
            let content = Some(content);
            decode(&Entry { seq: 1, content }.encode(seed(), SLOT))
        };
        assert!(with(|_| ()).is_some());
        assert_eq!(with(|content| content.dirty = Mask(0x100)), None);
        assert_eq!(with(|content| content.valid = Mask(0x1ff)), None);
        let beyond = BlockNumber(1 << 51);
        assert!(shape().block_bytes() == 4096);
        let content = Content {
            occupant: Occupant {
                block: beyond,
                ..entry().content.unwrap().occupant
            },
            ..entry().content.unwrap()
        };
        let content = Some(content);
        let bytes = Entry { seq: 1, content }.encode(seed(), SLOT);
        assert_eq!(decode(&bytes), None);
    }
}
