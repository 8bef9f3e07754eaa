//! SIGTERM, SIGINT and SIGHUP: the first one ends the server; SIGTERM and SIGINT give up when they come again. SIGXFSZ is
//! an error of the write that met the limit on file sizes, and not the end of everything that the cache holds.

use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// A signal that comes sooner after the first is part of the same wish: timeout(1) sends SIGTERM to a command and then to its
/// group, a service manager SIGHUP right after it, and a terminal that closes may bring both.
const ONE_WISH: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// To end.
    End,
    /// What has been asked for already.
    Nothing,
    /// To end at once, whatever is lost.
    GiveUp,
}

/// The signals so far.
#[derive(Debug, Default)]
struct Wishes {
    first: Option<Instant>,
}

impl Wishes {
    /// What one more signal, which comes `now`, asks for.
    fn next(&mut self, signal: i32, now: Instant) -> Wish {
        match self.first {
            None => {
                self.first = Some(now);
                Wish::End
            }
            // That a terminal has gone says nothing about what may be lost.
            Some(first) if signal != SIGHUP && now.duration_since(first) >= ONE_WISH => {
                Wish::GiveUp
            }
            Some(_) => Wish::Nothing,
        }
    }
}

/// Calls `end` for the first signal and `give_up` when it is asked for, from a thread of its own. Signals that are not
/// `for_us` are nothing.
pub(crate) fn watch(
    for_us: impl Fn(i32) -> bool + Send + 'static,
    end: impl Fn() + Send + 'static,
    give_up: impl Fn() + Send + 'static,
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
            let mut wishes = Wishes::default();
            for signal in signals.forever().filter(|signal| for_us(*signal)) {
                match wishes.next(signal, Instant::now()) {
                    Wish::End => end(),
                    Wish::GiveUp => give_up(),
                    Wish::Nothing => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_again_later_wants_to_give_up() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut wishes = Wishes::default();
        for (signal, milliseconds, wish) in [
            (SIGTERM, 0, Wish::End),
            (SIGHUP, 0, Wish::Nothing),
            (SIGTERM, 999, Wish::Nothing),
            (SIGHUP, 60_000, Wish::Nothing),
            (SIGTERM, 1000, Wish::GiveUp),
            (SIGINT, 1000, Wish::GiveUp),
        ] {
            assert_eq!(wishes.next(signal, after(milliseconds)), wish, "{signal}");
        }
        let mut wishes = Wishes::default();
        assert_eq!(wishes.next(SIGHUP, start), Wish::End);
        assert_eq!(wishes.next(SIGINT, after(1000)), Wish::GiveUp);
    }
}
