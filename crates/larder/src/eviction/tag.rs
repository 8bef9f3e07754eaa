//! What the queues know of a slot, in 2 bytes.

/// Uses that a block in main can have to its credit.
pub(super) const MAX_USES: u8 = 3;

/// The list that a slot is on, or was last on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Probation,
    Main,
    Parked,
}

/// From the lowest bit: 8 bits for the tick of the last visit, 2 for the uses, 2 for the place, 1 for whether the slot
/// is tracked, 3 for the rarity. A place of [`UNUSED`] is that of a block that nobody has asked for since it came; its place is
/// then where the uses would be, of which it has none.
#[derive(Clone, Copy, Default)]
pub(super) struct Tag(u16);

const USES_SHIFT: u32 = 8;
const PLACE_SHIFT: u32 = 10;
const TRACKED_SHIFT: u32 = 12;
const RARITY_SHIFT: u32 = 13;

const UNUSED: u16 = 3;

/// How rare a sample must be for a block to be in it, as a logarithm to base 2: larger is cut to this.
pub(super) const MAX_RARITY: u32 = 7;

impl Tag {
    /// Not used yet, visited just now. The rarity is at most [`MAX_RARITY`].
    pub(super) fn new(visited: u8, rarity: u32) -> Self {
        Self(u16::from(visited) | (rarity as u16) << RARITY_SHIFT)
    }

    /// Of a block that nobody has asked for.
    pub(super) fn unused(visited: u8) -> Self {
        Self(u16::from(visited) | UNUSED << PLACE_SHIFT)
    }

    pub(super) fn is_unused(self) -> bool {
        self.bits(PLACE_SHIFT) == UNUSED
    }

    fn bits(self, shift: u32) -> u16 {
        self.0 >> shift & 3
    }

    pub(super) fn rarity(self) -> u32 {
        u32::from(self.0 >> RARITY_SHIFT)
    }

    fn set(&mut self, shift: u32, bits: u32, value: u16) {
        let mask = ((1 << bits) - 1) << shift;
        self.0 = self.0 & !mask | value << shift & mask;
    }

    pub(super) fn set_rarity(&mut self, rarity: u32) {
        self.set(RARITY_SHIFT, 3, rarity as u16);
    }

    pub(super) fn visited(self) -> u8 {
        self.0 as u8
    }

    pub(super) fn set_visited(&mut self, tick: u8) {
        self.set(0, 8, u16::from(tick));
    }

    pub(super) fn uses(self) -> u8 {
        match self.is_unused() {
            true => 0,
            false => self.bits(USES_SHIFT) as u8,
        }
    }

    /// At most [`MAX_USES`]. A block that nobody has asked for keeps none.
    pub(super) fn set_uses(&mut self, uses: u8) {
        if !self.is_unused() {
            self.set(USES_SHIFT, 2, u16::from(uses));
        }
    }

    pub(super) fn place(self) -> Place {
        let place = match self.is_unused() {
            true => self.bits(USES_SHIFT),
            false => self.bits(PLACE_SHIFT),
        };
        match place {
            0 => Place::Probation,
            1 => Place::Main,
            _ => Place::Parked,
        }
    }

    pub(super) fn set_place(&mut self, place: Place) {
        let shift = match self.is_unused() {
            true => USES_SHIFT,
            false => PLACE_SHIFT,
        };
        self.set(shift, 2, place as u16);
    }

    pub(super) fn is_tracked(self) -> bool {
        self.0 >> TRACKED_SHIFT & 1 == 1
    }

    pub(super) fn set_tracked(&mut self, is_tracked: bool) {
        self.set(TRACKED_SHIFT, 1, u16::from(is_tracked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_disturb_each_other() {
        for place in [Place::Probation, Place::Main, Place::Parked] {
            for (visited, uses, is_tracked) in [(255, 0, true), (0, 3, false), (7, 1, true)] {
                let mut tag = Tag::new(99, 5);
                tag.set_tracked(is_tracked);
                tag.set_place(place);
                tag.set_uses(uses);
                tag.set_visited(visited);
                assert_eq!(
                    (tag.visited(), tag.uses(), tag.place(), tag.is_tracked()),
                    (visited, uses, place, is_tracked)
                );
                assert_eq!(tag.rarity(), 5);
            }
        }
    }

    #[test]
    fn nobody_has_asked_for_it_wherever_it_goes() {
        let mut tag = Tag::unused(99);
        for place in [Place::Main, Place::Parked, Place::Probation] {
            tag.set_tracked(true);
            tag.set_place(place);
            tag.set_uses(2);
            assert!(tag.is_unused() && tag.is_tracked());
            assert_eq!((tag.place(), tag.uses(), tag.visited()), (place, 0, 99));
        }
        assert!(!Tag::new(0, 7).is_unused());
    }
}
