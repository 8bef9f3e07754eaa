//! SIGTERM, SIGINT and SIGHUP: the first one ends the server, the second one gives up.

use std::fs;
use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
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

/// Whether this process was started with a signal ignored (proc(5), SigIgn).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
