//! The bytes of a file, shared page by page with those of other moments.

use std::fmt;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// Bytes with a length. A clone costs nothing until one of the two is changed, and then a page.
///
/// What lies past the length can be put there, and shows once the length covers it.
#[derive(Clone, Default)]
pub struct Bytes {
    length: u64,
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

impl Bytes {
    /// Zeros of that length.
    pub fn zeros(length: u64) -> Self {
        Self {
            length,
            pages: Arc::default(),
        }
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Cuts, or extends with what was put there, else zeros.
    pub fn set_length(&mut self, length: u64) {
        self.length = length;
        let whole = length.div_ceil(PAGE_BYTES as u64) as usize;
        let rest = (length % PAGE_BYTES as u64) as usize;
        if self.pages.len() > whole {
            Arc::make_mut(&mut self.pages).truncate(whole);
        }
        if rest > 0
            && let Some(Some(last)) = self.pages.get(whole - 1)
            && last[rest..].iter().any(|&byte| byte != 0)
        {
            let pages = Arc::make_mut(&mut self.pages);
            page_mut(pages, whole - 1)[rest..].fill(0);
        }
    }

    /// Fills `buffer` from `offset`, whatever the length.
    pub fn get(&self, offset: u64, buffer: &mut [u8]) {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, from) = place(at);
            let count = rest.len().min(PAGE_BYTES - from);
            let (now, later) = rest.split_at_mut(count);
            match self.pages.get(page) {
                Some(Some(page)) => now.copy_from_slice(&page[from..from + count]),
                _ => now.fill(0),
            }
            rest = later;
            at += count as u64;
        }
    }

    /// Puts `data` at `offset`, whatever the length, which stays.
    pub fn put(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = (offset as usize + data.len()).div_ceil(PAGE_BYTES);
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() < end {
            pages.resize(end, None);
        }
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, from) = place(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - from));
            page_mut(pages, page)[from..from + now.len()].copy_from_slice(now);
            rest = later;
            at += now.len() as u64;
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

fn place(offset: u64) -> (usize, usize) {
    let page_bytes = PAGE_BYTES as u64;
    (
        (offset / page_bytes) as usize,
        (offset % page_bytes) as usize,
    )
}

fn page_mut(pages: &mut [Option<Arc<Page>>], page: usize) -> &mut Page {
    Arc::make_mut(pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &Bytes) -> Vec<u8> {
        let mut all = vec![1; bytes.length() as usize];
        bytes.get(0, &mut all);
        all
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut bytes = Bytes::zeros(10_000);
        bytes.put(4000, &[7; 200]);
        let before = bytes.clone();
        bytes.put(4090, &[8; 20]);
        assert!(all(&before)[4000..4200].iter().all(|&byte| byte == 7));
        assert_eq!(all(&bytes)[4089..4092], [7, 8, 8]);
    }

    #[test]
    fn what_was_cut_comes_back_as_zeros() {
        let mut bytes = Bytes::zeros(10_000);
        bytes.put(0, &[7; 10_000]);
        bytes.set_length(5000);
        bytes.set_length(9000);
        assert!(all(&bytes)[..5000].iter().all(|&byte| byte == 7));
        assert!(all(&bytes)[5000..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_lies_past_the_length_shows_when_it_is_covered() {
        let mut bytes = Bytes::default();
        bytes.put(600, &[7; 10]);
        assert_eq!(bytes.length(), 0);
        bytes.set_length(605);
        assert_eq!(all(&bytes)[600..], [7; 5]);
    }
}
