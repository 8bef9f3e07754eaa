//! Every call to the next layer that nbdkit could abort on, from `prepare`: before the client's
//! negotiation has asked for anything.

use nbdkit_filter::{Next, ZeroOptions, error};

use crate::told;

const SECTOR: u32 = 512;

/// Logs one line `probe: row NAME: RESULT` for each.
pub(crate) fn try_all(next: &Next) {
    let row = |name: &str, result| error!("probe: row {name}: {}", told(result));
    let mut buffer = [0; SECTOR as usize];
    let data = [0; SECTOR as usize];
    let past_end = next.size() - u64::from(SECTOR) + 1;

    row("read", next.pread(&mut buffer, 0));
    row("read-empty", next.pread(&mut [], 0));
    row("read-past-end", next.pread(&mut buffer, past_end));
    row("read-overflow", next.pread(&mut buffer, u64::MAX));

    row("write", next.pwrite(&data, 0, false));
    row("write-fua", next.pwrite(&data, 0, true));
    row("write-empty", next.pwrite(&[], 0, false));
    row("write-past-end", next.pwrite(&data, past_end, false));
    row("write-overflow", next.pwrite(&data, u64::MAX, false));

    row("flush", next.flush());

    row("trim", next.trim(SECTOR, 0, false));
    row("trim-fua", next.trim(SECTOR, 0, true));
    row("trim-empty", next.trim(0, 0, false));
    row("trim-past-end", next.trim(SECTOR, past_end, false));

    let options = ZeroOptions::default();
    let fua = ZeroOptions {
        fua: true,
        ..options
    };
    let fast = ZeroOptions {
        fast: true,
        ..options
    };
    row("zero", next.zero(SECTOR, 0, options));
    row("zero-fua", next.zero(SECTOR, 0, fua));
    row("zero-fast", next.zero(SECTOR, 0, fast));
    row("zero-empty", next.zero(0, 0, options));
    row("zero-past-end", next.zero(SECTOR, past_end, options));

    row("extents", next.extents(SECTOR, 0, false).map(drop));
    row("extents-empty", next.extents(0, 0, false).map(drop));
    row(
        "extents-past-end",
        next.extents(SECTOR, past_end, false).map(drop),
    );

    row("cache", next.cache(SECTOR, 0));
    row("cache-empty", next.cache(0, 0));
    row("cache-past-end", next.cache(SECTOR, past_end));
    error!("probe: rows done");
}
