//! The last write back: everything that is dirty, with a bar on a terminal, and what is told when
//! some of it could not be written. With a cache directory the keepers leave as they write back.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder::{Cache, Leftover, Log};
use larder_frontend::Fate;
use larder_frontend::leftovers::in_short;
use sd_notify::NotifyState;

use crate::console::Console;
use crate::exports::Exports;
use crate::keeper::Keeper;
use crate::service_manager::ServiceManager;
use crate::terminal::Figures;

/// What this front end calls an origin.
const ORIGIN: &str = "the origin";
/// What is said of what the origin acknowledged in writethrough mode and did not flush.
const UNFLUSHED: &str = "written to the origin and not flushed, which may lose it";
/// How often the bar moves.
const PERIOD: Duration = Duration::from_millis(100);
/// How often the service manager is told.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// How long nothing may move before the service manager ends it, if it would have by then.
const STANDSTILL: Duration = Duration::from_secs(5 * 60);

/// Writes back all exports at once. Errors are told. True if there were none.
pub(crate) fn write_back(
    exports: &Exports,
    cache: &Cache,
    console: &Console,
    service_manager: &ServiceManager,
) -> bool {
    // With a directory there is something to be found.
    let write_back = match cache.found() {
        Some(_) => Keeper::leave,
        None => Keeper::write_back,
    };
    let total = left_bytes(cache);
    if total > 0 && cache.config().mode != larder::Mode::Unsafe {
        console.say(&format!("writing back {}", BinaryBytes(total)));
    }
    if console.draws() {
        console.set_bar(Some(bar(total)));
    }
    let failed = Mutex::new(BTreeSet::new());
    let failed_exports = &failed;
    thread::scope(|scope| {
        let (sender, done) = mpsc::channel::<()>();
        for export in exports.iter() {
            let sender = sender.clone();
            let work = move || {
                // Dropped at the end, whatever happens.
                let _sender = sender;
                if let Err(error) = write_back(export.keeper()) {
                    console.error(&format!("export \"{}\": {error}", export.name()));
                    let mut failed = failed_exports
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    failed.insert(export.name());
                }
            };
            let named = thread::Builder::new().name("larder-goodbye".to_owned());
            if named.spawn_scoped(scope, work.clone()).is_err() {
                work();
            }
        }
        drop(sender);
        let mut report = Report::new(service_manager);
        while done.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let left = left_bytes(cache);
            console.update_bar(Figures::Position(total.saturating_sub(left)));
            report.tell(left, cache.stats().origin_write_bytes);
        }
    });
    console.set_bar(None);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell_unflushed(cache, |export| failed.contains(export), console);
    failed.is_empty()
}

/// What the service manager hears while it goes on. It gives more time for as long as something moves.
struct Report<'s> {
    service_manager: &'s ServiceManager,
    last: Option<Instant>,
    /// What was left then, and written since the start.
    before: (u64, u64),
}

impl<'s> Report<'s> {
    fn new(service_manager: &'s ServiceManager) -> Self {
        Self {
            service_manager,
            last: None,
            before: (0, 0),
        }
    }

    fn tell(&mut self, left: u64, written: u64) {
        if self.last.is_some_and(|last| last.elapsed() < REPORT_PERIOD) {
            return;
        }
        self.last = Some(Instant::now());
        if self.before != (left, written) {
            self.before = (left, written);
            let status = format!("writing back, {} left", BinaryBytes(left));
            self.service_manager.tell(&[
                NotifyState::Status(&status),
                NotifyState::ExtendTimeoutUsec(STANDSTILL.as_micros() as u32),
            ]);
        }
    }
}

/// What the origins do not have. What is queued for one counts twice until the cache's own flush has returned.
fn left_bytes(cache: &Cache) -> u64 {
    let stats = cache.stats();
    stats.dirty_bytes + stats.queued_bytes
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "writing back {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Tells what the origins did not get, and what becomes of it. True if they should have got it.
pub(crate) fn tell_leftovers(cache: &Cache, leftovers: &[Leftover], console: &Console) -> bool {
    let fate = Fate::of(cache);
    if let Some(message) = fate.warning(leftovers, ORIGIN) {
        console.warning(&message);
    }
    let errors = fate.errors(leftovers, ORIGIN);
    for message in &errors {
        console.error(message);
    }
    !errors.is_empty()
}

/// Tells what origins of those exports have acknowledged in writethrough mode, and may lose. True if there is something.
pub(crate) fn tell_unflushed(
    cache: &Cache,
    is_meant: impl Fn(&str) -> bool,
    console: &Console,
) -> bool {
    if cache.config().mode != larder::Mode::Writethrough {
        return false;
    }
    let unflushed = cache.unflushed();
    let unflushed = unflushed.iter().filter(|left| is_meant(&left.volume));
    let messages: Vec<String> = unflushed
        .flat_map(|left| in_short(UNFLUSHED, left))
        .collect();
    for message in &messages {
        console.error(message);
    }
    !messages.is_empty()
}
