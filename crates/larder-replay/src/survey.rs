//! What kind of trace it is: how much of what is requested, and how many blocks that touches.

use hashbrown::HashMap;

use crate::request::{Kind, Request};

/// Distinct blocks are numbered with 32 bits.
const MAX_BLOCKS: usize = u32::MAX as usize - 1;

/// A block of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    /// The volume's number.
    pub volume: u32,
    /// The block's number within it.
    pub number: u64,
}

/// What a trace is, at one block size.
#[derive(Debug)]
pub struct Survey {
    block_bytes: u64,
    numbers: HashMap<BlockId, u32>,
    /// Requests that read, write and trim.
    pub requests: [u64; 3],
    /// Bytes that they read, write and trim.
    pub bytes: [u64; 3],
    /// Uses of blocks by reads.
    pub blocks_read: u64,
    /// Uses of blocks by writes.
    pub blocks_written: u64,
    /// Volumes that were used.
    pub volumes: u32,
    is_too_large: bool,
}

/// What happens to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is used.
    Used(u32),
    /// It is dropped.
    Dropped(u32),
}

impl Survey {
    /// Of a trace that has not begun.
    pub fn new(block_bytes: u64) -> Self {
        Self {
            block_bytes,
            numbers: HashMap::new(),
            requests: [0; 3],
            bytes: [0; 3],
            blocks_read: 0,
            blocks_written: 0,
            volumes: 0,
            is_too_large: false,
        }
    }

    /// Counts a request, and gives what happens to blocks, numbered in the order in which they
    /// first come. A block that is only partly trimmed is not dropped.
    pub(crate) fn count(&mut self, request: &Request, mut give: impl FnMut(Event)) {
        let kind = request.kind as usize;
        self.requests[kind] += 1;
        self.bytes[kind] = self.bytes[kind].saturating_add(request.length);
        self.volumes = self.volumes.max(request.volume + 1);
        if request.kind == Kind::Trim {
            return self.trim(request, give);
        }
        let (first, end) = request.blocks(self.block_bytes);
        match request.kind {
            Kind::Read => self.blocks_read += end - first,
            _ => self.blocks_written += end - first,
        }
        for number in first..end {
            let volume = request.volume;
            let next = self.numbers.len();
            if next >= MAX_BLOCKS {
                self.is_too_large = true;
                return;
            }
            let block = *self
                .numbers
                .entry(BlockId { volume, number })
                .or_insert(next as u32);
            give(Event::Used(block));
        }
    }

    fn trim(&self, request: &Request, mut give: impl FnMut(Event)) {
        let (first, end) = request.whole_blocks(self.block_bytes);
        let volume = request.volume;
        if end.saturating_sub(first) > self.numbers.len() as u64 {
            let within = |id: &BlockId| id.volume == volume && (first..end).contains(&id.number);
            for (_, number) in self.numbers.iter().filter(|(id, _)| within(id)) {
                give(Event::Dropped(*number));
            }
            return;
        }
        for number in first..end {
            if let Some(number) = self.numbers.get(&BlockId { volume, number }) {
                give(Event::Dropped(*number));
            }
        }
    }

    /// Uses of blocks.
    pub fn uses(&self) -> u64 {
        self.blocks_read + self.blocks_written
    }

    /// Distinct blocks.
    pub fn footprint_blocks(&self) -> u64 {
        self.numbers.len() as u64
    }

    /// What a cache of all these blocks would hold, in bytes.
    pub fn footprint_bytes(&self) -> u64 {
        self.footprint_blocks().saturating_mul(self.block_bytes)
    }

    /// Whether there are more distinct blocks than can be numbered.
    pub(crate) fn is_too_large(&self) -> bool {
        self.is_too_large
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// SplitMix64: seeded, so that a failure replays.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut x = self.0;
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (x ^ (x >> 31)) % bound
        }
    }

    fn request(volume: u32, kind: Kind, offset: u64, length: u64) -> Request {
        Request {
            volume,
            kind,
            offset,
            length,
        }
    }

    #[test]
    fn blocks_are_numbered_as_they_come_and_dropped_whole() {
        let mut survey = Survey::new(4096);
        let mut events = Vec::new();
        for one in [
            request(0, Kind::Read, 4095, 2),
            request(1, Kind::Write, 0, 4096),
            request(0, Kind::Read, 4096, 1),
            request(0, Kind::Trim, 1, 8191),
            request(1, Kind::Trim, 0, 1 << 40),
        ] {
            survey.count(&one, |event| events.push(event));
        }
        use Event::{Dropped, Used};
        let expected = [Used(0), Used(1), Used(2), Used(1), Dropped(1), Dropped(2)];
        assert_eq!(events, expected);
        assert_eq!(survey.requests, [2, 1, 2]);
        assert_eq!(survey.bytes, [3, 4096, 8191 + (1 << 40)]);
        assert_eq!((survey.blocks_read, survey.blocks_written), (3, 1));
        assert_eq!((survey.footprint_blocks(), survey.volumes), (3, 2));
        assert_eq!(survey.footprint_bytes(), 3 * 4096);
    }
}
