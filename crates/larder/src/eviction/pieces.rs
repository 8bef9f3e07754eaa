//! An array by slot number that grows in pieces.
//!
//! A vector that doubles wastes up to half of itself, and moves all of it while everybody waits.

use std::ops::{Index, IndexMut};

/// Slots of a piece: few kilobytes.
const PIECE_SLOTS: usize = 1024;

/// One `T` for each slot that is covered.
pub(super) struct Pieces<T> {
    pieces: Vec<Box<[T]>>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Copy> Pieces<T> {
    /// Makes the array cover `slot`; what is new is `fill`.
    pub(super) fn cover(&mut self, slot: u32, fill: T) {
        while self.pieces.len() <= slot as usize / PIECE_SLOTS {
            self.pieces.push(vec![fill; PIECE_SLOTS].into());
        }
    }

    /// None where it is not covered.
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        let piece = self.pieces.get(slot as usize / PIECE_SLOTS)?;
        piece.get(slot as usize % PIECE_SLOTS)
    }
}

impl<T> Index<u32> for Pieces<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.pieces[slot as usize / PIECE_SLOTS][slot as usize % PIECE_SLOTS]
    }
}

impl<T> IndexMut<u32> for Pieces<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.pieces[slot as usize / PIECE_SLOTS][slot as usize % PIECE_SLOTS]
    }
}
