//! Extents: reading the next layer's, and adding to the list the client gets.
//!
//! Invariant of [`ExtentList`]: what has been added starts at the requested offset, is contiguous
//! and holds no empty extent. nbdkit aborts on an empty list and on a first extent elsewhere.

use std::marker::PhantomData;

use crate::api;
use crate::error::{Error, Result};
use crate::raw;

/// A run of bytes with one status (NBD's base:allocation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub length: u64,
    /// Not allocated.
    pub hole: bool,
    /// Reads as zeros.
    pub zero: bool,
}

impl Extent {
    pub(crate) fn from_raw(raw: raw::RawExtent) -> Self {
        Self {
            offset: raw.offset,
            length: raw.length,
            hole: raw.kind & raw::EXTENT_HOLE != 0,
            zero: raw.kind & raw::EXTENT_ZERO != 0,
        }
    }

    fn kind(self) -> u32 {
        let hole = if self.hole { raw::EXTENT_HOLE } else { 0 };
        let zero = if self.zero { raw::EXTENT_ZERO } else { 0 };
        hole | zero
    }
}

/// The list of extents that answers a client, filled in order.
#[derive(Debug)]
pub struct ExtentList<'a> {
    pointer: *mut raw::Extents,
    position: u64,
    filled: bool,
    _request: PhantomData<&'a mut raw::Extents>,
}

impl ExtentList<'_> {
    /// # Safety
    ///
    /// `pointer` is a list that nbdkit made for a request at `offset` and that outlives `'a`.
    pub(crate) unsafe fn new(pointer: *mut raw::Extents, offset: u64) -> Self {
        Self {
            pointer,
            position: offset,
            filled: false,
            _request: PhantomData,
        }
    }

    /// Where the next extent must start.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether nothing has been added yet.
    pub fn is_empty(&self) -> bool {
        !self.filled
    }

    /// Adds an extent. It must start where the last one ended (the first: at the requested
    /// offset) and not be empty. nbdkit joins neighbours of the same status and cuts off what is
    /// beyond the export's end.
    pub fn add(&mut self, extent: Extent) -> Result<()> {
        if extent.offset != self.position {
            return Err(Error::invalid(format!(
                "extents: one starts at {} where {} was due",
                extent.offset, self.position
            )));
        }
        let end = extent
            .offset
            .checked_add(extent.length)
            .filter(|&end| extent.length > 0 && end <= i64::MAX as u64);
        let Some(end) = end else {
            return Err(Error::invalid(format!(
                "extents: {} bytes at {} are none or too many",
                extent.length, extent.offset
            )));
        };
        api::add_extent(self.pointer, extent.offset, extent.length, extent.kind())?;
        self.position = end;
        self.filled = true;
        Ok(())
    }

    pub(crate) fn pointer(&self) -> *mut raw::Extents {
        self.pointer
    }

    /// Nothing more can be added after nbdkit itself has filled the list.
    pub(crate) fn filled_to(&mut self, end: u64) {
        self.position = end;
        self.filled = true;
    }
}
