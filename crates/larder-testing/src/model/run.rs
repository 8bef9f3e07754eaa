//! Puts a case together, runs it, and judges how it ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use larder::{CacheFile, Clock, Error, Log, Mode};

use crate::cache_file::CacheFileDouble;
use crate::clock::ManualClock;
use crate::contract::serving;
use crate::fault::{Fault, Happens, When};
use crate::gate::Gate;
use crate::log::{Level, MemoryLog};
use crate::model::case::{Case, Ending};
use crate::model::history::{Change, History, Seen};
use crate::model::layout::{Layout, Span, Zone};
use crate::model::worker::Worker;
use crate::origin::{OriginConnection, OriginDouble};
use crate::pace::SharedPace;
use crate::random::{Random, content};
use crate::subject::{Client, Subject};
use crate::violation::Violations;

/// A case in which nobody gets any further for so long hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes what is under test.
pub type Build<'a> = &'a dyn Fn(
    &Case,
    Box<dyn CacheFile>,
    Arc<dyn Clock>,
    Arc<dyn Log>,
) -> Result<Box<dyn Subject>, Error>;

/// What was wrong, and how to see it again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The case.
    pub case: Box<Case>,
    /// What was wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nagain: LARDER_SEED={} cargo test -p larder-testing --test model replay -- --nocapture\n{:?}",
            self.message, self.case.seed, self.case
        )
    }
}

/// All that the workers of one case share.
pub struct World {
    /// What is run.
    pub case: Case,
    /// What is cached.
    pub origin: OriginDouble,
    /// Where slots are.
    pub file: CacheFileDouble,
    /// Whether the cache file fails now.
    pub file_fails: AtomicBool,
    /// The engine's time.
    pub clock: Arc<ManualClock>,
    /// What was written when.
    pub history: History,
    /// Which bytes are used by whom.
    pub layout: Layout,
    subject: Box<dyn Subject>,
    gate: Option<Gate>,
    violations: Violations,
    steps: AtomicU64,
    /// When the origin's connection was last lost.
    lost_at: AtomicU64,
    losing: Mutex<()>,
    crash_at: Option<u64>,
    failure: Mutex<Option<String>>,
    log: Arc<MemoryLog>,
    /// Who fetches ahead, by the number of the connection to the origin.
    ahead: Mutex<HashMap<u64, JoinHandle<()>>>,
}

/// Runs the case. The first violation ends it.
pub fn run(case: &Case, build: Build<'_>) -> Result<(), Violation> {
    let violation = |message| Violation {
        case: Box::new(case.clone()),
        message,
    };
    let world = World::new(case, build).map_err(violation)?;
    world.run().map_err(|message| {
        if std::env::var_os("LARDER_CALLS").is_some() {
            world.tell_calls();
        }
        violation(message)
    })
}

impl World {
    fn new(case: &Case, build: Build<'_>) -> Result<Arc<Self>, String> {
        let random = Random::new(case.seed).fork(7);
        let violations = Violations::default();
        let pace = SharedPace::default();
        let origin = OriginDouble::new(case.origin.clone(), violations.clone(), pace.clone());
        let layout = Layout::new(case.origin.size, case.workers);
        furnish(&origin, &layout, random.fork(1));
        let history = History::new(origin.disk().image(), case.workers);
        let gate = case
            .gated
            .then(|| Gate::new(random.fork(2), case.gated_file));
        if let Some(gate) = &gate {
            pace.set(gate.pace());
        }
        let file = CacheFileDouble::new(violations.clone(), pace);
        file.set_capacity_bytes(case.file_capacity_bytes);
        let clock = Arc::new(ManualClock::stepping(case.clock_step));
        let log = Arc::new(MemoryLog::default());
        let subject = build(
            case,
            file.file(),
            Arc::clone(&clock) as _,
            Arc::clone(&log) as _,
        )
        .map_err(|error| format!("not made: {error}"))?;
        set_faults(case, &origin);
        let total = case.requests * case.workers;
        let crash_at =
            (case.ending == Ending::CrashAmidst).then(|| random.fork(3).between(total / 4, total));
        Ok(Arc::new(Self {
            case: case.clone(),
            origin,
            file,
            file_fails: AtomicBool::new(false),
            clock,
            history,
            layout,
            subject,
            gate,
            violations,
            steps: AtomicU64::new(0),
            lost_at: AtomicU64::new(0),
            losing: Mutex::default(),
            crash_at,
            failure: Mutex::default(),
            log,
            ahead: Mutex::default(),
        }))
    }

    /// A client's connection, and the origin's end of it.
    pub fn connect(&self) -> Result<(Arc<dyn Client>, Arc<OriginConnection>), String> {
        let origin = self.origin.connect();
        let connected = serving(origin.number(), || {
            self.subject.connect(Arc::clone(&origin) as _)
        });
        let client = connected.map_err(|error| format!("not connected: {error}"))?;
        let client: Arc<dyn Client> = Arc::from(client);
        if self.case.config.readahead_in_background {
            let reader = Arc::clone(&client);
            let thread = std::thread::spawn(move || while reader.fetch_ahead() {});
            self.ahead().insert(origin.number(), thread);
        }
        Ok((client, origin))
    }

    /// The client of that connection has left: waits until nothing is fetched ahead for it any more.
    pub fn has_left(&self, connection: u64) -> Result<(), String> {
        let thread = self.ahead().remove(&connection);
        match thread.map(JoinHandle::join) {
            Some(Err(panic)) => Err(format!("readahead panicked: {}", told(&*panic))),
            _ => Ok(()),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, HashMap<u64, JoinHandle<()>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker is about to make a request.
    pub fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if Some(step) == self.crash_at {
            self.crash();
        }
    }

    /// How many requests have been begun.
    fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// The origin's connection is lost, and comes back.
    pub fn lose_connection(&self, mut random: Random) {
        let luck = random.chance(50).then(|| random.fork(1));
        let _alone = self.losing.lock().unwrap_or_else(PoisonError::into_inner);
        // What begins before it is over may be lost, and may be found lost before it is over.
        self.lost_at.store(u64::MAX, Ordering::SeqCst);
        self.origin.lose_connection(luck);
        self.lost_at.store(self.history.now(), Ordering::SeqCst);
    }

    /// What is known of every change once nothing runs any more.
    fn settled(&self, change: &Change) -> Seen {
        if change.succeeded && !self.may_be_lost(change) {
            Seen::Certain
        } else {
            Seen::Possible
        }
    }

    /// Whether the change may be undone by a loss that nobody makes up for.
    pub fn may_be_lost(&self, change: &Change) -> bool {
        let is_durable = change.durable && change.ended.is_some();
        self.case.losses_are_told()
            && !is_durable
            && change.began < self.lost_at.load(Ordering::SeqCst)
    }

    fn crash(&self) {
        let mut random = Random::new(self.case.seed).fork(8);
        let luck = random.chance(60).then(|| random.fork(1));
        self.origin.disk().crash(luck);
    }

    /// Whether workers are to end early.
    pub fn is_over(&self) -> bool {
        self.origin.disk().crashed() || self.failure().is_some()
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, message: String) {
        self.failure().get_or_insert(message);
    }

    /// Checks what the origin holds durably in the used parts of the image.
    pub fn explain_durable(&self, seen: impl Fn(&Change) -> Seen) -> Result<(), String> {
        self.explain_zones(
            |from, length| self.origin.disk().durable(from, length),
            seen,
        )
    }

    /// Checks what the origin answers now in the used parts of the image.
    fn explain_current(&self, seen: impl Fn(&Change) -> Seen) -> Result<(), String> {
        self.explain_zones(
            |from, length| self.origin.disk().current(from, length),
            seen,
        )
    }

    fn explain_zones(
        &self,
        image: impl Fn(u64, usize) -> Vec<u8>,
        seen: impl Fn(&Change) -> Seen,
    ) -> Result<(), String> {
        for zone in &self.layout.zones {
            let bytes = image(zone.offset, zone.length as usize);
            self.history.explain(zone.offset, &bytes, &seen)?;
        }
        Ok(())
    }

    fn run(self: &Arc<Self>) -> Result<(), String> {
        let maintenance = self.case.config.background.then(|| {
            let world = Arc::clone(self);
            std::thread::spawn(move || while world.subject.maintain(Duration::from_millis(5)) {})
        });
        let mut workers: Vec<Worker> = Vec::new();
        for number in 0..self.case.workers as usize {
            workers.push(match workers.first() {
                Some(first) if self.case.shared_connection => first.beside(number),
                _ => Worker::new(self, number)?,
            });
        }
        let worked = self.work(workers);
        if let Some(gate) = &self.gate {
            gate.open();
        }
        // A world that hangs is left behind as it is: joining its threads would hang as well.
        let workers = worked?;
        let ended = self.in_time("the end", |world| world.end(&workers));
        self.subject.stop();
        if let Some(thread) = maintenance
            && thread.join().is_err()
        {
            return Err("maintenance panicked".to_owned());
        }
        ended
    }

    /// Lets the workers work, and gives them back.
    fn work(self: &Arc<Self>, workers: Vec<Worker>) -> Result<Vec<Worker>, String> {
        let (sender, results) = channel();
        let count = workers.len();
        for mut worker in workers {
            if let Some(gate) = &self.gate {
                gate.worker_comes();
            }
            let (world, sender) = (Arc::clone(self), sender.clone());
            std::thread::spawn(move || {
                let working = std::panic::AssertUnwindSafe(|| worker.work());
                let worked = std::panic::catch_unwind(working);
                match worked {
                    Ok(Ok(())) => {}
                    Ok(Err(message)) => world.fail(message),
                    Err(panic) => world.fail(format!("a request panicked: {}", told(&*panic))),
                }
                if let Some(gate) = &world.gate {
                    gate.worker_goes();
                }
                // Nobody listens any more if the case was given up.
                let _ = sender.send(worker);
            });
        }
        self.gather(&results, count)
    }

    fn gather(&self, results: &Receiver<Worker>, count: usize) -> Result<Vec<Worker>, String> {
        let mut back = Vec::new();
        let mut seen = 0;
        while back.len() < count {
            match results.recv_timeout(DEADLINE) {
                Ok(worker) => back.push(worker),
                // A busy machine takes its time over requests that each look through the whole cache.
                Err(_) if self.steps() > seen => seen = self.steps(),
                Err(_) => return Err(self.hang("requests")),
            }
        }
        back.sort_by_key(|worker| worker.number);
        match self.failure().take() {
            Some(message) => Err(message),
            None => Ok(back),
        }
    }

    fn hang(&self, what: &str) -> String {
        let stops = self.gate.as_ref().map(Gate::waiting).unwrap_or_default();
        let said: Option<String> = self.failure().clone();
        format!("{what} hang; held at the gate: {stops:?}; failure: {said:?}")
    }

    /// Runs the last part with a deadline.
    fn in_time(
        self: &Arc<Self>,
        what: &str,
        part: impl FnOnce(&Self) -> Result<(), String> + Send,
    ) -> Result<(), String> {
        std::thread::scope(|scope| {
            let (sender, result) = channel();
            let running = scope.spawn(move || {
                let outcome = part(self);
                // Nobody listens any more if it took too long.
                let _ = sender.send(());
                outcome
            });
            if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = result.recv_timeout(DEADLINE) {
                // The scope cannot be left while it hangs: tell, and give up the process.
                eprintln!("LARDER_SEED={}: {}", self.case.seed, self.hang(what));
                std::process::abort();
            }
            match running.join() {
                Ok(outcome) => outcome,
                Err(panic) => Err(format!("{what} panicked: {}", told(&*panic))),
            }
        })
    }

    /// All requests have been answered: is everything as it must be?
    fn end(&self, workers: &[Worker]) -> Result<(), String> {
        self.origin.heal();
        self.file.fail_reads(&[]);
        self.file.fail_writes(&[]);
        if !self.origin.disk().crashed() {
            self.read_back(&workers[0])?;
        }
        match self.case.ending {
            _ if self.origin.disk().crashed() => self.end_crashed(workers)?,
            Ending::Crash | Ending::CrashAmidst => {
                self.crash();
                self.end_crashed(workers)?;
            }
            Ending::Flush => self.end_flushed(workers)?,
            Ending::Disconnect => self.end_disconnected(workers)?,
        }
        self.check_doubles()
    }

    fn read_back(&self, worker: &Worker) -> Result<(), String> {
        for zone in &self.layout.zones {
            let end = zone.offset + zone.length;
            let mut offset = zone.offset;
            while offset < end {
                let length = (333_333).min(end - offset);
                worker
                    .read(Span { offset, length })
                    .map_err(|wrong| format!("reading back: {wrong}"))?;
                offset += length;
            }
        }
        Ok(())
    }

    fn compare_with_origin(&self, worker: &Worker) -> Result<(), String> {
        for &Zone { offset, length, .. } in &self.layout.zones {
            let found = worker.get(Span { offset, length })?;
            let expected = self.origin.disk().current(offset, length as usize);
            if let Some(place) = found.iter().zip(&expected).position(|(a, b)| a != b) {
                let byte = offset + place as u64;
                return Err(format!("byte {byte} is not what the origin has"));
            }
        }
        Ok(())
    }

    fn end_crashed(&self, workers: &[Worker]) -> Result<(), String> {
        let promised = self.history.promised();
        self.explain_durable(|change| promised.survives(change))
            .map_err(|wrong| format!("after the crash: {wrong}"))?;
        for worker in workers {
            worker.leave()?;
        }
        Ok(())
    }

    fn end_flushed(&self, workers: &[Worker]) -> Result<(), String> {
        for worker in workers {
            worker.flush()?;
        }
        if self.case.losses_are_told() {
            // Everybody was told above; now the cache has nothing that the origin has not.
            workers.iter().try_for_each(Worker::flush_well)?;
            self.compare_with_origin(&workers[0])?;
        }
        if self.case.config.mode == Mode::Writeback {
            let dirty_bytes = self.subject.stats().dirty_bytes;
            if dirty_bytes > 0 {
                return Err(format!("{dirty_bytes} bytes dirty after the last flush"));
            }
        }
        if self.case.config.mode != Mode::Unsafe {
            self.explain_current(|change| self.settled(change))
                .map_err(|wrong| format!("on the origin after the last flush: {wrong}"))?;
        }
        self.read_back(&workers[workers.len() - 1])?;
        workers.iter().try_for_each(Worker::leave)
    }

    fn end_disconnected(&self, workers: &[Worker]) -> Result<(), String> {
        workers.iter().try_for_each(Worker::leave)?;
        if self.case.config.mode == Mode::Unsafe {
            return Ok(());
        }
        self.explain_current(|change| self.settled(change))
            .map_err(|wrong| format!("on the origin after the last disconnect: {wrong}"))?;
        let leftovers = self.subject.leftovers();
        if leftovers.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "left over after the last disconnect: {leftovers:?}"
            ))
        }
    }

    fn check_doubles(&self) -> Result<(), String> {
        let seen = self.violations.seen();
        if !seen.is_empty() {
            return Err(format!("contracts broken: {seen:#?}"));
        }
        let most = self.file.most_allocated_bytes();
        match self.case.config.max_size_bytes {
            Some(limit) if most > limit => Err(format!("{most} bytes allocated of {limit}")),
            _ => Ok(()),
        }
    }

    /// Prints what the origin was asked and what the engine had to say.
    fn tell_calls(&self) {
        for call in self.origin.calls().all() {
            eprintln!("{call:?}");
        }
        for level in [Level::Error, Level::Warning] {
            for message in self.log.messages(level) {
                eprintln!("{level:?}: {message}");
            }
        }
    }
}

/// Puts content on about half of the pages in use.
fn furnish(origin: &OriginDouble, layout: &Layout, mut random: Random) {
    for zone in &layout.zones {
        let mut offset = zone.offset;
        let end = zone.offset + zone.length;
        while offset < end {
            let length = random.between(1, 60_000).min(end - offset);
            if random.chance(60) {
                let bytes = content(random.next_u64(), offset, length as usize);
                origin.disk().fill(offset, &bytes);
            }
            offset += length;
        }
    }
}

fn set_faults(case: &Case, origin: &OriginDouble) {
    if case.origin_faults == 0 {
        return;
    }
    for &kind in &case.faulty_kinds {
        let happens = if kind.changes() {
            Happens::Either
        } else {
            Happens::Nothing
        };
        origin.fault(Fault::new(kind, When::Chance(case.origin_faults)).happens(happens));
    }
}

/// What a panic said.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something".to_owned())
}
