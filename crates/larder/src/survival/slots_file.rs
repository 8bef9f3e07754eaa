//! The file of slots as the engine wants it: slots from offset 0 on, and the tables ready for each slot that gets its space.

use std::io;
use std::sync::{Arc, Mutex};

use crate::cache_file::CacheFile;
use crate::medium::MediumFile;
use crate::persist::home::Home;
use crate::persist::shape::SLOTS_START;
use crate::sync;

/// The tables are made longer for so many slots at once.
const SLOTS_AT_ONCE: u64 = 1024;

/// The file of slots.
pub(crate) struct SlotsFile {
    file: Box<dyn MediumFile>,
    home: Arc<Home>,
    block_bytes: u64,
    limit: u32,
    /// The tables are ready for so many slots.
    prepared: Mutex<u32>,
}

impl SlotsFile {
    pub(crate) fn new(
        file: Box<dyn MediumFile>,
        home: Arc<Home>,
        limit: u32,
        prepared: u32,
    ) -> Self {
        Self {
            file,
            block_bytes: home.shape().block_bytes(),
            home,
            limit,
            prepared: Mutex::new(prepared),
        }
    }
}

impl CacheFile for SlotsFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(SLOTS_START + offset, buffer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(SLOTS_START + offset, data)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = (offset + length).div_ceil(self.block_bytes);
        {
            let mut prepared = sync::lock(&self.prepared);
            if end > u64::from(*prepared) {
                let wanted = (end + SLOTS_AT_ONCE).min(u64::from(self.limit)).max(end) as u32;
                self.home.prepare_slots(wanted)?;
                *prepared = wanted;
            }
        }
        self.file.allocate(SLOTS_START + offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
