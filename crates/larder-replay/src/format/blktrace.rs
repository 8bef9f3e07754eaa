//! The files that blktrace writes, one for each processor: `struct blk_io_trace` of Linux's
//! include/uapi/linux/blktrace_api.h, version 7, of either byte order. Each device is a volume.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic 0x65617400, and the version in its lowest byte |
//! | 4..8 | sequence |
//! | 8..16 | time in nanoseconds |
//! | 16..24 | sector |
//! | 24..28 | length in bytes |
//! | 28..32 | action; in the upper half what kind of request |
//! | 32..36 | process |
//! | 36..40 | device: major above 20 bits of minor |
//! | 40..44 | processor |
//! | 44..46 | error |
//! | 46..48 | bytes of payload that follow |

use std::io::{self, BufRead, Read};

use super::blkparse::{Counts, SECTOR_BYTES};
use crate::error::TraceError;
use crate::request::{Kind, Request};
use crate::source::Source;
use crate::volumes::Volumes;

const MAGIC: u32 = 0x6561_7400;
const VERSION: u32 = 7;
const EVENT_BYTES: usize = 48;

const QUEUED: u32 = 1;
const COMPLETED: u32 = 8;
/// The events have the group of processes in their payload; nothing else is different.
const HAS_CGROUP: u32 = 1 << 8;

const WRITES: u32 = 1 << 1;
/// A command for the device itself, with no range.
const COMMAND: u32 = 1 << 9;
/// Something that blktrace noted, such as the name of a process.
const NOTE: u32 = 1 << 10;
const DISCARDS: u32 = 1 << 13;

/// Whether a file that begins so is one, of whatever version.
pub(crate) fn is_one(beginning: &[u8]) -> bool {
    let Some(magic) = beginning.first_chunk::<4>() else {
        return false;
    };
    let is_magic = |magic: u32| magic & !0xff == MAGIC;
    is_magic(u32::from_le_bytes(*magic)) || is_magic(u32::from_be_bytes(*magic))
}

/// A request's event.
struct Event {
    time_ns: u64,
    is_queued: bool,
    is_completed: bool,
    kind: Kind,
    device: u32,
    sector: u64,
    bytes: u32,
    /// Where it is in its file.
    at: u64,
}

/// The requests' events of one file.
struct Events<'s> {
    source: &'s Source,
    reader: Box<dyn BufRead + Send>,
    at: u64,
}

impl<'s> Events<'s> {
    fn of(source: &'s Source) -> Result<Self, TraceError> {
        Ok(Self {
            source,
            reader: source.read()?,
            at: 0,
        })
    }

    /// The next event of a request that has a range.
    fn next(&mut self) -> Result<Option<Event>, TraceError> {
        loop {
            let at = self.at;
            let mut bytes = [0; EVENT_BYTES];
            if !self.fill(&mut bytes)? {
                return Ok(None);
            }
            let fields = Fields::new(bytes).map_err(|found| {
                let message = format!(
                    "begins with {found:#010x}: must be an event of blktrace version {VERSION} \
                     (magic {:#010x})",
                    MAGIC | VERSION
                );
                TraceError::at_byte(self.source.name(), at, &message)
            })?;
            self.skip(u64::from(fields.u16_at(46)))?;
            if let Some(event) = fields.event(at) {
                return Ok(Some(event));
            }
        }
    }

    /// Fills the buffer with an event's bytes. False at the end of the file.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, TraceError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.reader.read(&mut buffer[done..]) {
                Ok(0) if done == 0 => return Ok(false),
                Ok(0) => return Err(self.cut_short()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TraceError::io(self.source.name(), &error)),
            }
        }
        self.at += done as u64;
        Ok(true)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TraceError> {
        let mut payload = (&mut self.reader).take(bytes);
        let skipped = io::copy(&mut payload, &mut io::sink())
            .map_err(|error| TraceError::io(self.source.name(), &error))?;
        if skipped < bytes {
            return Err(self.cut_short());
        }
        self.at += bytes;
        Ok(())
    }

    fn cut_short(&self) -> TraceError {
        let message = "the file ends within it; it must be whole";
        TraceError::at_byte(self.source.name(), self.at, message)
    }
}

/// An event's bytes, in the order of the machine that traced.
struct Fields {
    bytes: [u8; EVENT_BYTES],
    is_big_endian: bool,
}

impl Fields {
    /// Fails with what is there instead of the magic number.
    fn new(bytes: [u8; EVENT_BYTES]) -> Result<Self, u32> {
        let mut fields = Self {
            bytes,
            is_big_endian: false,
        };
        let found = fields.u32_at(0);
        if found == MAGIC | VERSION {
            return Ok(fields);
        }
        fields.is_big_endian = true;
        match fields.u32_at(0) {
            swapped if swapped == MAGIC | VERSION => Ok(fields),
            swapped if swapped & !0xff == MAGIC => Err(swapped),
            _ => Err(found),
        }
    }

    fn number<const N: usize>(&self, at: usize) -> u64 {
        let bytes = &self.bytes[at..at + N];
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_big_endian {
            bytes.iter().fold(0, append)
        } else {
            bytes.iter().rev().fold(0, append)
        }
    }

    fn u16_at(&self, at: usize) -> u16 {
        self.number::<2>(at) as u16
    }

    fn u32_at(&self, at: usize) -> u32 {
        self.number::<4>(at) as u32
    }

    fn event(&self, at: u64) -> Option<Event> {
        let action = self.u32_at(28);
        let what = (action & 0xffff) & !HAS_CGROUP;
        let category = action >> 16;
        let bytes = self.u32_at(24);
        let has_range = category & (COMMAND | NOTE) == 0 && bytes > 0;
        let is_told = what == QUEUED || what == COMPLETED;
        (has_range && is_told).then(|| Event {
            time_ns: self.number::<8>(8),
            is_queued: what == QUEUED,
            is_completed: what == COMPLETED,
            kind: match category {
                _ if category & DISCARDS != 0 => Kind::Trim,
                _ if category & WRITES != 0 => Kind::Write,
                _ => Kind::Read,
            },
            device: self.u32_at(36),
            sector: self.number::<8>(16),
            bytes,
            at,
        })
    }
}

/// Queued if there are such events.
fn counts(sources: &[Source]) -> Result<Counts, TraceError> {
    for source in sources {
        let mut events = Events::of(source)?;
        while let Some(event) = events.next()? {
            if event.is_queued {
                return Ok(Counts::Queued);
            }
        }
    }
    Ok(Counts::Completed)
}

/// Gives every request of the files to `give`, in the order of time.
pub(crate) fn for_each(
    sources: &[Source],
    volumes: &mut Volumes,
    give: &mut dyn FnMut(Request),
) -> Result<(), TraceError> {
    let counts = counts(sources)?;
    let mut files = Vec::new();
    for source in sources {
        let mut events = Events::of(source)?;
        let next = next_counted(&mut events, counts)?;
        files.push((events, next));
    }
    // Few files, one for each processor: looking at all costs less than keeping them in order.
    while let Some((events, next)) = files
        .iter_mut()
        .filter(|(_, next)| next.is_some())
        .min_by_key(|(_, next)| next.as_ref().map(|event| event.time_ns))
    {
        if let Some(event) = next.take() {
            give(request(&event, events.source, volumes)?);
        }
        *next = next_counted(events, counts)?;
    }
    Ok(())
}

fn next_counted(events: &mut Events<'_>, counts: Counts) -> Result<Option<Event>, TraceError> {
    while let Some(event) = events.next()? {
        let is_counted = match counts {
            Counts::Queued => event.is_queued,
            Counts::Completed => event.is_completed,
        };
        if is_counted {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

fn request(event: &Event, source: &Source, volumes: &mut Volumes) -> Result<Request, TraceError> {
    let wrong = |advice: &str| {
        let message = format!(
            "sector {} and {} bytes: {advice}",
            event.sector, event.bytes
        );
        TraceError::at_byte(source.name(), event.at, &message)
    };
    let offset = event
        .sector
        .checked_mul(SECTOR_BYTES)
        .ok_or_else(|| wrong("offset and length together must not be more than 2^63"))?;
    // As blkparse writes it, so that both kinds of trace agree.
    let name = format!("{},{}", event.device >> 20, event.device & 0xf_ffff);
    let request = Request {
        volume: volumes.number(&name),
        kind: event.kind,
        offset,
        length: u64::from(event.bytes),
    };
    request.checked().map_err(wrong)
}

#[cfg(test)]
mod tests;
