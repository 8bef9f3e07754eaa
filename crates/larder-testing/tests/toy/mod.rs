//! A tiny cache that survives crashes, to show what the crash simulator sees: one sector a slot, no slot is written
//! while the medium says anything of it, a table and a journal. It can be told to make a mistake.

mod cache;
mod format;

use larder::{Medium, MediumFile};
use larder_testing::crash::value::SECTOR_BYTES;
use larder_testing::crash::{Look, Machine, Store, Subject};

use cache::{Bare, Cache};
use format::{Map, Place, RECORD_BYTES, RECORDS, decode_record, decode_table};

pub(crate) const VOLUMES: u32 = 2;
pub(crate) const SECTORS: u64 = 16;
/// Fewer than there are sectors.
pub(crate) const SLOTS: u64 = 20;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// The journal is not synced.
    SyncLeftOut,
    /// The journal says where data is before it is there.
    OrderSwapped,
    /// A record is taken without its sum being looked at.
    TornAccepted,
    /// The journal begins anew while the name of the table that it continues is not durable.
    NameNotSynced,
    /// What was written back is called clean before the origin has flushed it.
    CleanBeforeFlush,
    /// The origin gets a sector of which the medium still lists an older version as clean.
    RevokeLeftOut,
    /// A slot is used again while the medium still says what was in it.
    SlotReusedEarly,
    /// A sync that failed is tried again.
    FailureForgotten,
    /// A part of a sector is laid over what the origin has.
    EdgeOfOrigin,
    /// What should reach the origin at a flush stays here.
    FlushStopsHere,
}

pub(crate) const MISTAKES: [Mistake; 10] = [
    Mistake::SyncLeftOut,
    Mistake::OrderSwapped,
    Mistake::TornAccepted,
    Mistake::NameNotSynced,
    Mistake::CleanBeforeFlush,
    Mistake::RevokeLeftOut,
    Mistake::SlotReusedEarly,
    Mistake::FailureForgotten,
    Mistake::EdgeOfOrigin,
    Mistake::FlushStopsHere,
];

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toy {
    pub(crate) mistake: Mistake,
    /// A flush reaches the origin.
    pub(crate) flushes_origin: bool,
    /// What tells the cache that it makes from others.
    pub(crate) identity: u64,
}

/// What is on the medium.
struct Found {
    slots: Box<dyn MediumFile>,
    journal: Box<dyn MediumFile>,
    identity: u64,
    generation: u64,
    next: u64,
    recorded: Map,
}

impl Subject for Toy {
    fn look(&self, machine: &Machine) -> Result<Box<dyn Look>, String> {
        Ok(match self.find(&machine.medium())? {
            Some(found) => Box::new(Cache::new(*self, machine, found, None)),
            None => Box::new(Bare::new(machine)),
        })
    }

    fn start(&self, machine: &Machine) -> Result<Box<dyn Store>, String> {
        let medium = machine.medium();
        let lock = medium.lock("lock").map_err(|error| error.to_string())?;
        let found = match self.find(&medium)? {
            Some(found) => found,
            None => self.make(&medium).map_err(|error| error.to_string())?,
        };
        let mut cache = Cache::new(*self, machine, found, Some(lock));
        cache.checkpoint().map_err(|error| error.to_string())?;
        Ok(Box::new(cache))
    }
}

impl Toy {
    /// Reads what is there and changes nothing; without a table nothing was ever made.
    fn find(&self, medium: &dyn Medium) -> Result<Option<Found>, String> {
        let told = |error: std::io::Error| error.to_string();
        let names = medium.names().map_err(told)?;
        if !names.iter().any(|name| name == "table") {
            return Ok(None);
        }
        let (slots, journal) = (medium.open("slots"), medium.open("journal"));
        let (slots, journal) = (slots.map_err(told)?, journal.map_err(told)?);
        let table = medium.open("table").and_then(|file| whole(&*file));
        let table = decode_table(&table.map_err(told)?)?;
        let mut found = Found {
            slots,
            journal,
            identity: table.identity,
            generation: table.generation,
            next: 0,
            recorded: table.map,
        };
        if found.slots.length().map_err(told)? < SLOTS * SECTOR_BYTES as u64 {
            return Err("the slots were cut".to_owned());
        }
        self.replay(&mut found)?;
        Ok(Some(found))
    }

    fn replay(&self, found: &mut Found) -> Result<(), String> {
        let journal = whole(&*found.journal).map_err(|error| error.to_string())?;
        if journal.len() < RECORDS as usize * RECORD_BYTES {
            return Err("the journal was cut".to_owned());
        }
        let is_sum_checked = self.mistake != Mistake::TornAccepted;
        for bytes in journal.chunks_exact(RECORD_BYTES) {
            let place = Place {
                identity: found.identity,
                generation: found.generation,
                number: found.next,
            };
            let record = decode_record(bytes, place, is_sum_checked);
            let Some((key, entry)) = record else {
                break;
            };
            match entry {
                Some(entry) => found.recorded.insert(key, entry),
                None => found.recorded.remove(&key),
            };
            found.next += 1;
        }
        Ok(())
    }

    /// Makes the files that a table refers to; their names are durable before there is one.
    fn make(&self, medium: &dyn Medium) -> std::io::Result<Found> {
        let file = |name: &str, length: u64| {
            let file = medium.open(name).or_else(|_| medium.create(name))?;
            file.set_length(0)?;
            file.set_length(length)?;
            file.sync()?;
            Ok::<_, std::io::Error>(file)
        };
        let found = Found {
            slots: file("slots", SLOTS * SECTOR_BYTES as u64)?,
            journal: file("journal", RECORDS * RECORD_BYTES as u64)?,
            identity: self.identity,
            generation: 0,
            next: 0,
            recorded: Map::new(),
        };
        medium.sync()?;
        Ok(found)
    }
}

fn whole(file: &dyn MediumFile) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.length()? as usize];
    file.read(0, &mut bytes)?;
    Ok(bytes)
}
