//! What the cache directory says of a dirty block: only with flushes that are durable in it.
//!
//! What a flush has promised of a sector is either in a frame of the journal, and then its place in the slot may be overwritten at will; or it
//! is only in the slot, and then nobody writes there before the journal has it.

use crate::sector::Mask;

/// What the directory says of a block, or may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The directory may call these sectors dirty.
    pub sectors: Mask,
    /// Those whose recorded bytes are nowhere but in the slot.
    pub in_slot: Mask,
    /// Those that were written in the slot since they were recorded. None of them is `in_slot`.
    pub changed: Mask,
    /// Those `in_slot` that are not what was recorded: lost.
    pub bad: Mask,
}

impl Sealed {
    /// What was found in the directory at the start.
    pub(crate) fn found(dirty: Mask) -> Self {
        Self {
            sectors: dirty,
            in_slot: dirty,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// What must not be overwritten in the slot.
    pub(crate) fn barred(&self) -> Mask {
        self.in_slot - self.bad
    }

    /// The slot is about to be written: these sectors in part or whole, those of them as a whole. A lost sector that is written as a whole is lost no
    /// more.
    pub(crate) fn written(&mut self, touched: Mask, whole: Mask) {
        let healed = self.bad & whole;
        self.bad -= healed;
        self.in_slot -= healed;
        self.changed |= touched & (self.sectors - self.in_slot);
    }

    /// The journal has these sectors, durably: their place in the slot may be overwritten.
    pub(crate) fn reached_journal(&mut self, sectors: Mask) {
        self.in_slot -= sectors;
        self.bad -= sectors;
    }

    /// What was recorded of these sectors, as far as any was, is nowhere any more, or older than what the origin has.
    pub(crate) fn lost(&mut self, sectors: Mask) {
        let lost = sectors & self.sectors;
        self.changed -= lost;
        self.in_slot |= lost;
        self.bad |= lost;
    }

    /// The directory says exactly this now.
    pub(crate) fn cut_to(&mut self, said: Mask) {
        self.sectors = said;
        self.in_slot &= said;
        self.changed &= said;
        self.bad &= said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_has_changed_unless_the_directory_says_nothing_of_it() {
        let mut sealed = Sealed {
            sectors: Mask(0b1111),
            in_slot: Mask(0b0011),
            ..Sealed::default()
        };
        sealed.written(Mask(0b11_0100), Mask(0b11_0100));
        assert_eq!(sealed.changed, Mask(0b0100));
        assert_eq!(sealed.barred(), Mask(0b0011));
        sealed.cut_to(Mask(0b1001));
        assert_eq!((sealed.in_slot, sealed.changed), (Mask(1), Mask::EMPTY));
    }

    #[test]
    fn a_lost_sector_is_healed_by_a_write_of_the_whole() {
        let mut sealed = Sealed {
            bad: Mask(0b11),
            ..Sealed::found(Mask(0b111))
        };
        assert_eq!(sealed.barred(), Mask(0b100));
        sealed.written(Mask(0b11), Mask(0b10));
        assert_eq!((sealed.bad, sealed.in_slot), (Mask(0b01), Mask(0b101)));
        assert_eq!(sealed.changed, Mask(0b10));
    }
}
