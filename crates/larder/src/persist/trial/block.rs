//! What is known of a block.

use std::collections::BTreeMap;

use crate::directory::SlotNumber;
use crate::sector::Mask;

pub(super) const SECTOR_BYTES: usize = 512;
/// In a block.
pub(super) const SECTORS: u32 = 8;
pub(super) const BLOCK_BYTES: u64 = 4096;

pub(super) type Sector = [u8; SECTOR_BYTES];

#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub slot: Option<SlotNumber>,
    pub valid: Mask,
    pub dirty: Mask,
    /// Zero by state, and not so at the origin.
    pub zeros: Mask,
    /// The medium may say: dirty.
    pub sealed: Mask,
    /// The medium may say: valid and clean.
    pub listed: Mask,
    /// The medium may say: zero by state.
    pub sealed_zeros: Mask,
    /// As the medium said they were; not looked at since the start.
    pub unverified: Mask,
    /// Newest bytes of sealed sectors.
    pub held: BTreeMap<u32, Sector>,
    /// Bytes that are in the journal and not in the slot yet.
    pub committing: BTreeMap<u32, Sector>,
    /// The journal has them durably.
    pub is_appliable: bool,
}

impl Block {
    /// What a sector holds, if that needs no slot.
    pub(super) fn in_memory(&self, sector: u32) -> Option<Sector> {
        if self.zeros.has(sector) {
            return Some([0; SECTOR_BYTES]);
        }
        if !self.valid.has(sector) {
            return None;
        }
        let held = self.held.get(&sector);
        held.or_else(|| self.committing.get(&sector)).copied()
    }

    /// Whether its place in the slot must not be written to: the medium may call it dirty, or older bytes are still to go there.
    pub(super) fn is_protected(&self, sector: u32) -> bool {
        self.sealed.has(sector) || self.committing.contains_key(&sector)
    }

    /// Whether the origin has all that it holds, and the medium knows that.
    pub(super) fn is_evictable(&self) -> bool {
        let masks = self.dirty | self.zeros | self.sealed | self.sealed_zeros;
        masks.is_empty() && self.held.is_empty() && self.committing.is_empty()
    }
}
