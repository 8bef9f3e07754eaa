//! SIGTERM, SIGINT and SIGHUP: the first one ends the server, the second one gives up. SIGXFSZ is an error of the
//! write that met the limit on file sizes, and not the end of everything that the cache holds.

use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// Calls `first` for the first signal and `next` for every later one, from a thread of its own.
pub(crate) fn watch(
    first: impl FnOnce() + Send + 'static,
    next: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut watched = vec![SIGTERM, SIGINT];
    // nohup(1) asks for the end of a terminal to be nothing.
    if !is_ignored(SIGHUP) {
        watched.push(SIGHUP);
    }
    let mut signals = Signals::new(watched)?;
    thread::Builder::new()
        .name("larder-signals".to_owned())
        .spawn(move || {
            let mut first = Some(first);
            for _ in signals.forever() {
                match first.take() {
                    Some(first) => first(),
                    None => next(),
                }
            }
        })?;
    Ok(())
}

/// From now on a write past the limit on file sizes (`ulimit -f`) fails with EFBIG, and ends nothing.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

/// Whether this process was started with a signal ignored (proc(5), SigIgn).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
