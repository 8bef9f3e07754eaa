//! Nanoseconds per random hit of 4 KiB.
//!
//! Every cache has the same GiB of cache file behind it, read by the system as in earnest; only the number of blocks
//! that are cached differs. So the data costs the same everywhere, and what is left is the engine's own share: the
//! index, the directory, the policy. The caches take turns, and the figure is the median of the rounds. Time is that of the
//! processor.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use larder::{CacheFile, Connection};

use crate::doubles::{BLOCK_BYTES, connect};
use crate::processor_time_us;
use crate::random::Random;

const FILE_BYTES: u64 = 1 << 30;
const READ_BYTES: u64 = 4096;
const ROUNDS: usize = 15;
const HITS_PER_ROUND: u64 = 200_000;
/// Cached bytes: 1 GiB, 16 GiB, 1 TiB.
const CACHED_BYTES: [u64; 3] = [1 << 30, 16 << 30, 1 << 40];
/// What more than the smallest may cost, in percent.
const BOUND_PERCENT: f64 = 15.0;

struct Subject {
    connection: Connection,
    blocks: u64,
    rounds_ns: Vec<f64>,
}

/// Prints the cost of a hit for each number of blocks. Fails if one is beyond the bound.
pub(crate) fn report(directory: &Path, is_json: bool) -> Result<(), Box<dyn Error>> {
    let file = Arc::new(file_in(directory)?);
    let mut subjects = Vec::new();
    for cached_bytes in CACHED_BYTES {
        let folded = Folded {
            file: Arc::clone(&file),
            length_bytes: FILE_BYTES,
        };
        // Room for the reserve for metadata, which the limit includes.
        let limit = cached_bytes + cached_bytes / 64;
        let connection = connect(Box::new(folded), Some(limit))?;
        let chunk = 8 << 20;
        for start in (0..cached_bytes).step_by(chunk as usize) {
            connection.cache(start, chunk)?;
        }
        subjects.push(Subject {
            connection,
            blocks: cached_bytes / BLOCK_BYTES,
            rounds_ns: Vec::new(),
        });
    }
    let mut random = Random(1);
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            let nanos = round(subject, &mut random)?;
            subject.rounds_ns.push(nanos);
        }
    }
    let told = tell(&mut subjects, is_json);
    // To forget 1 TiB of blocks one by one takes longer than to measure them.
    std::mem::forget(subjects);
    told
}

fn round(subject: &Subject, random: &mut Random) -> Result<f64, Box<dyn Error>> {
    let mut buffer = vec![0; READ_BYTES as usize];
    let reads = subject.blocks * (BLOCK_BYTES / READ_BYTES);
    let start = processor_time_us();
    for _ in 0..HITS_PER_ROUND {
        let offset = random.below(reads) * READ_BYTES;
        if !subject.connection.try_read(offset, &mut buffer)? {
            return Err(format!("the block at {offset} is not cached").into());
        }
        black_box(&mut buffer);
    }
    Ok((processor_time_us() - start) * 1e3 / HITS_PER_ROUND as f64)
}

fn tell(subjects: &mut [Subject], is_json: bool) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    let mut least = f64::INFINITY;
    let mut worst_percent = 0.0_f64;
    for subject in subjects {
        subject.rounds_ns.sort_unstable_by(f64::total_cmp);
        let rounds = &subject.rounds_ns;
        let (low, median, high) = (
            rounds[0],
            rounds[rounds.len() / 2],
            rounds[rounds.len() - 1],
        );
        least = least.min(median);
        let more_percent = (median / least - 1.0) * 100.0;
        worst_percent = worst_percent.max(more_percent);
        let (blocks, gibibytes) = (subject.blocks, (subject.blocks * BLOCK_BYTES) >> 30);
        rows.push(if is_json {
            format!(
                "  {{\"blocks\": {blocks}, \"cached_gib\": {gibibytes}, \"ns_per_hit\": {median:.0}, \"lowest\": \
                 {low:.0}, \"highest\": {high:.0}, \"more_percent\": {more_percent:.1}}}"
            )
        } else {
            format!("{blocks:10} {gibibytes:6} GiB {median:8.0} {low:8.0} {high:8.0} {more_percent:7.1} %")
        });
    }
    if is_json {
        println!(
            "{{\"more_percent\": {worst_percent:.1}, \"bound_percent\": {BOUND_PERCENT}, \"caches\": [\n{}\n]}}",
            rows.join(",\n")
        );
    } else {
        println!("ns per random hit of 4 KiB, median, lowest and highest of {ROUNDS} rounds");
        println!("{}", rows.join("\n"));
    }
    if worst_percent > BOUND_PERCENT {
        return Err(format!("{worst_percent:.1} % more are beyond {BOUND_PERCENT} %").into());
    }
    Ok(())
}

/// A cache file of any size over the first bytes of a real one, which must be a multiple of the block.
/// It reads what is there and writes nothing.
struct Folded {
    file: Arc<File>,
    length_bytes: u64,
}

impl CacheFile for Folded {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = offset % self.length_bytes;
        match rustix::io::pread(&self.file, &mut *buffer, offset)? {
            count if count == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file without a name, filled, so that no page of it is shared or missing.
fn file_in(directory: &Path) -> Result<File, Box<dyn Error>> {
    let path = directory.join(format!("larder-growth-{}", std::process::id()));
    let opened = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path);
    let mut file = opened.map_err(|error| format!("{}: {error}", path.display()))?;
    std::fs::remove_file(&path)?;
    let piece = vec![0xA5_u8; 1 << 20];
    for _ in 0..FILE_BYTES / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    Ok(file)
}
