//! Sparse bytes: what was never stored reads as zeros and costs nothing, so that an image may be
//! as large as NBD allows.

use std::collections::BTreeMap;

/// The unit of storing, in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// A range zeroed without leave to make holes is really stored up to this length, in bytes.
const STORED_ZEROS_BYTES: u64 = 16 << 20;

type Page = Box<[u8; PAGE_BYTES as usize]>;

/// Bytes from 0 to 2^64, nearly all of them zero.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    stored: BTreeMap<u64, Page>,
}

/// A run of bytes that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// In bytes.
    pub length: u64,
    /// Something is stored for it, be it zeros.
    pub stored: bool,
    /// It reads as zeros.
    pub zero: bool,
}

/// The part of one page that a range covers.
struct Part {
    page: u64,
    from: usize,
    length: usize,
}

fn parts(offset: u64, length: u64) -> impl Iterator<Item = Part> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let page = at / PAGE_BYTES;
            let stop = end.min((page + 1) * PAGE_BYTES);
            let part = Part {
                page,
                from: (at % PAGE_BYTES) as usize,
                length: (stop - at) as usize,
            };
            at = stop;
            part
        })
    })
}

impl Pages {
    /// Fills `buffer` from `offset`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut rest = buffer;
        for part in parts(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(part.length);
            match self.stored.get(&part.page) {
                Some(page) => now.copy_from_slice(&page[part.from..part.from + part.length]),
                None => now.fill(0),
            }
            rest = later;
        }
    }

    /// `length` bytes from `offset`.
    pub fn get(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes);
        bytes
    }

    /// Stores `data` at `offset`. A page touched for the first time is `fill`ed first, which is
    /// given the page's number.
    pub fn write_with(&mut self, offset: u64, data: &[u8], fill: impl Fn(u64) -> Page) {
        let mut rest = data;
        for part in parts(offset, data.len() as u64) {
            let (now, later) = rest.split_at(part.length);
            let page = self
                .stored
                .entry(part.page)
                .or_insert_with(|| fill(part.page));
            page[part.from..part.from + part.length].copy_from_slice(now);
            rest = later;
        }
    }

    /// Stores `data` at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.write_with(offset, data, |_| Box::new([0; PAGE_BYTES as usize]));
    }

    /// Makes the range read as zeros; with `hole`, whole pages are no longer stored.
    pub fn zero(&mut self, offset: u64, length: u64, hole: bool) {
        if !hole && length <= STORED_ZEROS_BYTES {
            let zeros = vec![0; length as usize];
            return self.write(offset, &zeros);
        }
        let end = offset + length;
        let last = end.div_ceil(PAGE_BYTES);
        let touched: Vec<u64> = self
            .stored
            .range(offset / PAGE_BYTES..last)
            .map(|(&page, _)| page)
            .collect();
        for number in touched {
            let start = number * PAGE_BYTES;
            if hole && start >= offset && start + PAGE_BYTES <= end {
                self.stored.remove(&number);
            } else if let Some(page) = self.stored.get_mut(&number) {
                let from = offset.saturating_sub(start).min(PAGE_BYTES) as usize;
                let to = (end - start).min(PAGE_BYTES) as usize;
                page[from..to].fill(0);
            }
        }
    }

    /// Whether the page is stored.
    pub fn is_stored(&self, page: u64) -> bool {
        self.stored.contains_key(&page)
    }

    /// The range as runs of pages that are alike, clipped to it.
    pub fn runs(&self, offset: u64, length: u64) -> Vec<Run> {
        let end = offset + length;
        let mut runs: Vec<Run> = Vec::new();
        let mut at = offset;
        let mut push = |until: u64, at: &mut u64, stored: bool, zero: bool| {
            if until <= *at {
                return;
            }
            let length = until - *at;
            *at = until;
            match runs.last_mut() {
                Some(last) if last.stored == stored && last.zero == zero => last.length += length,
                _ => runs.push(Run {
                    length,
                    stored,
                    zero,
                }),
            }
        };
        for (&number, page) in self
            .stored
            .range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES))
        {
            let start = number * PAGE_BYTES;
            push(start.min(end), &mut at, false, true);
            let zero = page.iter().all(|&byte| byte == 0);
            push((start + PAGE_BYTES).min(end), &mut at, true, zero);
        }
        push(end, &mut at, false, true);
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_across_pages_and_the_rest_is_zero() {
        let mut pages = Pages::default();
        pages.write(4090, &[1; 20]);
        assert_eq!(pages.get(4089, 22)[..3], [0, 1, 1]);
        assert_eq!(pages.get(4089, 22)[20..], [1, 0]);
        pages.zero(4095, 2, true);
        assert_eq!(pages.get(4094, 4), [1, 0, 0, 1]);
    }

    #[test]
    fn a_hole_of_exbibytes_costs_nothing() {
        let mut pages = Pages::default();
        pages.write(1 << 50, &[7; 10]);
        pages.zero(0, 1 << 62, true);
        assert!(!pages.is_stored((1 << 50) / PAGE_BYTES));
        let runs = pages.runs(0, 1 << 62);
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].length, 1 << 62);
    }

    #[test]
    fn runs_tell_holes_from_stored_zeros_from_data() {
        let mut pages = Pages::default();
        pages.write(4096, &[3; 4096]);
        pages.zero(8192, 4096, false);
        let runs: Vec<_> = pages
            .runs(100, 20_000)
            .iter()
            .map(|run| (run.length, run.stored, run.zero))
            .collect();
        assert_eq!(
            runs,
            [
                (3996, false, true),
                (4096, true, false),
                (4096, true, true),
                (7812, false, true)
            ]
        );
    }
}
