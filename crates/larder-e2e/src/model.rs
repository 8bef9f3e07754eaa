//! What a disk must hold: an array of bytes, which of them were trimmed, and which may change just now.
//!
//! A trimmed byte may read as what it was or as zero, now the one and now the other, until it is
//! written or zeroed again. Everything else has exactly one value.

use crate::client::Extent;
use crate::image::assert_same_bytes;

/// The expected content of a disk.
#[derive(Clone, Debug)]
pub struct Model {
    bytes: Vec<u8>,
    trimmed: Vec<bool>,
    /// What a request was sent about since [`Model::settle`], answered or not.
    touched: Vec<bool>,
}

impl Model {
    /// A disk that holds `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            trimmed: vec![false; bytes.len()],
            touched: vec![false; bytes.len()],
            bytes,
        }
    }

    /// The disk's size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A write was acknowledged.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = offset as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.trimmed[at..at + bytes.len()].fill(false);
    }

    /// A zero request was acknowledged.
    pub fn zero(&mut self, offset: u64, length: u64) {
        let range = offset as usize..(offset + length) as usize;
        self.bytes[range.clone()].fill(0);
        self.trimmed[range].fill(false);
    }

    /// A trim was acknowledged.
    pub fn trim(&mut self, offset: u64, length: u64) {
        self.trimmed[offset as usize..(offset + length) as usize].fill(true);
    }

    /// A request that changes this range is about to be sent.
    pub fn touch(&mut self, offset: u64, length: u64) {
        self.touched[offset as usize..(offset + length) as usize].fill(true);
    }

    /// No request is under way.
    pub fn settle(&mut self) {
        self.touched.fill(false);
    }

    /// Asserts of a range that others may change meanwhile that what nobody has touched is what it must be.
    pub fn check_untouched(&self, what: &str, offset: u64, got: &[u8]) {
        let mut at = 0;
        let touched = &self.touched[offset as usize..offset as usize + got.len()];
        for run in touched.chunk_by(|one, next| one == next) {
            if !run[0] {
                self.check(what, offset + at as u64, &got[at..at + run.len()]);
            }
            at += run.len();
        }
    }

    /// Asserts that `got` is what the disk may hold at `offset`.
    pub fn check(&self, what: &str, offset: u64, got: &[u8]) {
        let at = offset as usize;
        let expected = &self.bytes[at..at + got.len()];
        if got == expected {
            return;
        }
        let trimmed = &self.trimmed[at..at + got.len()];
        let allowed: Vec<u8> = (0..got.len())
            .map(|i| {
                if trimmed[i] && got[i] == 0 {
                    0
                } else {
                    expected[i]
                }
            })
            .collect();
        assert_same_bytes(&format!("{what} at {offset}"), got, &allowed);
    }

    /// Asserts that no extent hides bytes that are not zero. The extents begin at `offset`.
    pub fn check_extents(&self, offset: u64, extents: &[Extent]) {
        let mut position = offset;
        for extent in extents {
            let end = (position + extent.length).min(self.size());
            if extent.zero || extent.hole {
                let hidden = (position..end).find(|&i| !self.may_be_zero(i));
                assert_eq!(
                    hidden, None,
                    "{extent:?} at {position} hides data at this offset"
                );
            }
            position = end;
        }
    }

    fn may_be_zero(&self, at: u64) -> bool {
        self.bytes[at as usize] == 0 || self.trimmed[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::new(vec![7; 16]);
        model.zero(0, 4);
        model.trim(4, 4);
        model
    }

    #[test]
    fn trimmed_bytes_may_be_old_or_zero() {
        model().check("read", 4, &[7, 0, 0, 7]);
    }

    #[test]
    #[should_panic(expected = "read at 0: 1 of 4 bytes differ, first at 3")]
    fn zeroed_bytes_may_not() {
        model().check("read", 0, &[0, 0, 0, 7]);
    }

    #[test]
    fn what_was_touched_may_be_anything_until_it_is_settled() {
        let mut model = model();
        model.touch(9, 2);
        model.check_untouched("read", 8, &[7, 1, 2, 7]);
        model.settle();
        model.check_untouched("read", 8, &[7, 7, 7, 7]);
    }

    #[test]
    #[should_panic(expected = "read at 11: 1 of 2 bytes differ, first at 0")]
    fn what_nobody_touched_may_not() {
        let mut model = model();
        model.touch(9, 2);
        model.check_untouched("read", 8, &[7, 1, 2, 9, 7]);
    }

    #[test]
    #[should_panic(expected = "hides data at this offset")]
    fn a_hole_over_data_is_seen() {
        let hole = Extent {
            length: 9,
            hole: true,
            zero: true,
        };
        model().check_extents(0, &[hole]);
    }
}
