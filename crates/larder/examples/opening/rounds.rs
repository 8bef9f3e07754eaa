//! Opening and ending again and again.

use std::error::Error;
use std::time::Instant;

use larder::{Cache, Found};

use crate::making::{BLOCK_BYTES, Place, connect};

const ROUNDS: usize = 5;

/// How many writes the journal has heard of when the cache is killed. Each is of a block of its own.
const WRITES: u64 = 1000;

/// How long something took, in each round.
pub(crate) struct Times {
    pub name: &'static str,
    seconds: Vec<f64>,
}

impl Times {
    fn new(name: &'static str) -> Self {
        let seconds = Vec::new();
        Self { name, seconds }
    }

    fn time<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = what();
        self.seconds.push(start.elapsed().as_secs_f64());
        self.seconds.sort_unstable_by(f64::total_cmp);
        result
    }

    pub(crate) fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }

    pub(crate) fn extremes(&self) -> (f64, f64) {
        (self.seconds[0], self.seconds[self.seconds.len() - 1])
    }
}

/// Of a cache that is ended properly each time.
pub(crate) fn ended(place: &Place, blocks: u64) -> Result<Vec<Times>, Box<dyn Error>> {
    let mut open = Times::new("open");
    let mut first_connection = Times::new("first_connection");
    let mut close = Times::new("close");
    let mut dropping = Times::new("drop");
    for _ in 0..ROUNDS {
        let cache = open.time(|| place.open())?;
        check(&cache, Found::Kept { blocks })?;
        let connection = first_connection.time(|| connect(&cache))?;
        connection.disconnect()?;
        drop(connection);
        cache.stop();
        close.time(|| cache.close())?;
        dropping.time(|| drop(cache));
    }
    Ok(vec![open, first_connection, close, dropping])
}

/// Of one that is never ended: what is dropped stays as whoever was killed leaves it.
pub(crate) fn killed(place: &Place, blocks: u64) -> Result<[Times; 2], Box<dyn Error>> {
    drop(place.open()?);
    let mut after_kill = Times::new("open_after_kill");
    for _ in 0..ROUNDS {
        let cache = after_kill.time(|| place.open())?;
        check(&cache, Found::Crashed { blocks })?;
    }
    let mut after_writes = Times::new("open_after_writes");
    let mut left = blocks;
    for round in 0..ROUNDS as u64 {
        let cache = place.open()?;
        let connection = connect(&cache)?;
        for block in round * WRITES..(round + 1) * WRITES {
            connection.write(block * BLOCK_BYTES, &[1; 4096], true)?;
        }
        drop(connection);
        drop(cache);
        // A block that is written to is not listed any more.
        left -= WRITES;
        let cache = after_writes.time(|| place.open())?;
        check(&cache, Found::Crashed { blocks: left })?;
    }
    Ok([after_kill, after_writes])
}

fn check(cache: &Cache, expected: Found) -> Result<(), Box<dyn Error>> {
    match cache.found() {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("found {found:?}, not {expected:?}").into()),
    }
}
