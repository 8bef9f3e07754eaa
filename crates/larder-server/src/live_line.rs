//! One line on a terminal that tells how the cache does, while the server serves.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder::{Cache, StatsSnapshot};

use crate::console::Console;
use crate::terminal::Figures;
use crate::traffic::{Moved, Traffic};

/// How often the figures change.
const PERIOD: Duration = Duration::from_millis(500);

/// The line, until this is dropped.
#[derive(Debug)]
pub(crate) struct LiveLine {
    console: Arc<Console>,
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LiveLine {
    /// Draws it on standard error. Without a thread for it there is no line.
    pub(crate) fn start(console: &Arc<Console>, cache: &Arc<Cache>, traffic: Arc<Traffic>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        console.set_bar(Some(bar));
        let (end, ended) = mpsc::channel();
        let (cache, told) = (Arc::clone(cache), Arc::clone(console));
        let thread = thread::Builder::new()
            .name("larder-line".to_owned())
            .spawn(move || {
                let look = || Look {
                    at: Instant::now(),
                    cache: cache.stats(),
                    clients: traffic.moved(),
                };
                let mut before = look();
                while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    let now = look();
                    told.update_bar(Figures::Text(line(&now, &before)));
                    before = now;
                }
            });
        Self {
            console: Arc::clone(console),
            end: Some(end),
            thread: thread.ok(),
        }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.end.take();
        // It only tells figures: what became of it does not matter.
        let _ = self.thread.take().map(JoinHandle::join);
        self.console.set_bar(None);
    }
}

/// All figures at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    cache: StatsSnapshot,
    clients: Moved,
}

/// The figures, and what moved between clients, cache and origins in the time since `before`.
fn line(now: &Look, before: &Look) -> String {
    let elapsed = now.at.saturating_duration_since(before.at);
    let (moved, moved_before) = (now.clients, before.clients);
    let (now, before) = (&now.cache, &before.cache);
    let misses = now.misses + now.pass_through_reads + now.no_room_reads;
    let reads = now.hits + misses;
    let share = match reads {
        0 => String::new(),
        _ => format!(" ({:.1}%)", now.hits as f64 * 100.0 / reads as f64),
    };
    let per_second = |now: u64, before: u64| {
        let bytes = now.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001);
        format!("{}/s", BinaryBytes(bytes as u64))
    };
    let queued = match now.queued_bytes {
        0 => String::new(),
        bytes => format!("  queued {}", BinaryBytes(bytes)),
    };
    format!(
        "hits {}{share}  misses {misses}  dirty {}{queued}  clients {} in, {} out  origin {} in, {} out",
        now.hits,
        BinaryBytes(now.dirty_bytes),
        per_second(moved.received, moved_before.received),
        per_second(moved.sent, moved_before.sent),
        per_second(now.origin_read_bytes, before.origin_read_bytes),
        per_second(now.origin_write_bytes, before.origin_write_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_hits_misses_dirty_and_speed() {
        let at = Instant::now();
        let look = |seconds, cache, clients| Look {
            at: at + Duration::from_secs(seconds),
            cache,
            clients,
        };
        let before = look(0, StatsSnapshot::default(), Moved::default());
        let cache = StatsSnapshot {
            hits: 3,
            misses: 1,
            dirty_bytes: 3 << 20,
            origin_read_bytes: 4 << 20,
            ..StatsSnapshot::default()
        };
        let clients = Moved {
            received: 2048,
            sent: 6 << 20,
        };
        assert_eq!(
            line(&look(2, cache, clients), &before),
            "hits 3 (75.0%)  misses 1  dirty 3.00 MiB  clients 1.00 KiB/s in, 3.00 MiB/s out  \
             origin 2.00 MiB/s in, 0 B/s out"
        );
        assert!(line(&before, &before).starts_with("hits 0  misses 0"));
        let queued = StatsSnapshot {
            queued_bytes: 1 << 20,
            ..StatsSnapshot::default()
        };
        let queued = look(1, queued, Moved::default());
        assert!(line(&queued, &before).contains("  dirty 0 B  queued 1.00 MiB  clients "));
    }
}
