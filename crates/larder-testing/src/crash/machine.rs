//! A medium and origins in memory, with one log of all calls.
//!
//! Calls may come from several threads. Each has its effect at one moment, and is noted then; with a pace set, it is
//! stopped before that and after it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bytes::Bytes;
use super::faults::{CallKind, Called, MediumFault, MediumFaults};
use super::image::Image;
use super::log::{CallNumber, Effect, Event, Recording};
use super::medium::{PIECE_BYTES, SimMedium, SimOrigin};
use super::names::FileNumber;
use super::world::World;
use crate::pace::{Kind, Phase, SharedPace, Side, Stop};
use crate::random::{Random, mix};

/// So much happens to no machine in the life that a test gives it.
const MOST_EVENTS: usize = 1 << 20;

/// The machine, shared by all that is on it.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
    /// Of the process that has it; see [`Machine::kill`].
    life: u64,
}

struct Shared {
    state: Mutex<State>,
    pace: SharedPace,
}

struct State {
    world: World,
    recording: Recording,
    faults: MediumFaults,
    locked: Vec<FileNumber>,
    random: Random,
    last_call: CallNumber,
    /// How many processes have been killed.
    life: u64,
}

impl Machine {
    /// A machine on which that is found. The seed decides what faults do.
    pub fn new(start: Image, seed: u64) -> Self {
        let state = State {
            world: World::new(&start, seed),
            recording: Recording::new(start, seed),
            faults: MediumFaults::default(),
            locked: Vec::new(),
            random: Random::new(mix(seed, 1)),
            last_call: 0,
            life: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            pace: SharedPace::default(),
        };
        Self {
            shared: Arc::new(shared),
            life: 0,
        }
    }

    /// Its directory.
    pub fn medium(&self) -> SimMedium {
        SimMedium::new(self.of_this_life())
    }

    /// A connection to the origin of that number.
    pub fn origin(&self, number: usize) -> SimOrigin {
        SimOrigin::new(self.of_this_life(), number)
    }

    /// The process is killed: what it has opened answers nothing from here on, whatever it still tries, and its locks are free. The
    /// machine goes on, so nothing that was written is lost.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.locked.clear();
    }

    fn of_this_life(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            life: self.lock().life,
        }
    }

    fn check_life(&self) -> io::Result<()> {
        match self.lock().life == self.life {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    /// Who stops its calls.
    pub fn pace(&self) -> &SharedPace {
        &self.shared.pace
    }

    /// Sets a fault.
    pub fn fail(&self, fault: MediumFault) {
        self.lock().faults.set(fault);
    }

    /// See [`MediumFaults::set_read_only`].
    pub fn set_read_only(&self) {
        self.lock().faults.set_read_only();
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.lock().faults.heal();
    }

    /// How many events there were.
    pub fn position(&self) -> usize {
        self.lock().recording.position()
    }

    /// Adds something of the run to the hash of the log.
    pub fn note(&self, number: u64) {
        self.lock().recording.note(number);
    }

    /// Whether a sync has failed since that position.
    pub fn sync_failed_since(&self, position: usize) -> bool {
        self.lock().recording.sync_failed(position)
    }

    /// What happened so far.
    pub fn recording(&self) -> Recording {
        self.lock().recording.clone()
    }

    /// What a crash without any luck would leave.
    pub fn durable(&self) -> Image {
        self.lock().world.durable()
    }

    /// What of an origin no crash can take away.
    pub fn durable_origin_bytes(&self, number: usize) -> Bytes {
        self.lock().world.file(number).durable().clone()
    }

    /// What reads of an origin see now.
    pub fn origin_bytes(&self, number: usize) -> Bytes {
        self.lock().world.file(number).current().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes something. `effect` says what, unless it cannot be done.
    pub(super) fn change(
        &self,
        called: &Called<'_>,
        effect: impl FnOnce(&World) -> io::Result<Effect>,
    ) -> io::Result<()> {
        self.check_life()?;
        self.stop(called, Phase::Before);
        let (call, result) = self.lock().begin(called, effect);
        self.stop(called, Phase::After);
        self.lock().end(call, result.is_ok());
        result
    }

    /// A call that changes nothing.
    pub(super) fn look<T>(
        &self,
        called: &Called<'_>,
        look: impl FnOnce(&World) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check_life()?;
        self.stop(called, Phase::Before);
        let result = self.lock().look(called, look);
        self.stop(called, Phase::After);
        result
    }

    /// Adds a read to the hash of the log.
    pub(super) fn note_read(&self, file: FileNumber, offset: u64, length: u64) {
        let recording = &mut self.lock().recording;
        recording.note(mix(mix(file as u64, offset), length));
    }

    /// Takes the lock of a file, if nobody has it.
    pub(super) fn try_lock(&self, file: FileNumber) -> bool {
        let mut state = self.lock();
        let is_free = state.life == self.life && !state.locked.contains(&file);
        if is_free {
            state.locked.push(file);
        }
        is_free
    }

    /// Lets the lock of a file go.
    pub(super) fn unlock(&self, file: FileNumber) {
        let mut state = self.lock();
        if state.life == self.life {
            state.locked.retain(|one| *one != file);
        }
    }

    fn stop(&self, called: &Called<'_>, phase: Phase) {
        let kind = match called.kind {
            CallKind::Read | CallKind::Open => Kind::Read,
            CallKind::Write => Kind::Write,
            CallKind::Sync | CallKind::SyncNames => Kind::Flush,
            CallKind::Allocate | CallKind::SetLength | CallKind::Name => Kind::Allocate,
        };
        let side = match called.origin {
            Some(_) => Side::Origin,
            None => Side::CacheFile,
        };
        let (offset, length) = called.range;
        self.shared.pace.stop(&Stop {
            side,
            connection: called.origin.unwrap_or(0) as u64,
            kind,
            offset,
            length,
            phase,
        });
    }
}

impl State {
    fn begin(
        &mut self,
        called: &Called<'_>,
        effect: impl FnOnce(&World) -> io::Result<Effect>,
    ) -> (CallNumber, io::Result<()>) {
        self.last_call += 1;
        let call = self.last_call;
        let failure = self.faults.judge(called, &mut self.random);
        let (effect, result) = match (effect(&self.world), failure) {
            (Err(error), _) => (Effect::Nothing, Err(error)),
            (Ok(effect), None) => (effect, Ok(())),
            (Ok(effect), Some(errno)) => {
                let error = io::Error::from_raw_os_error(errno);
                (self.left_by_failure(effect, errno), Err(error))
            }
        };
        self.push(Event::Began(call, effect));
        (call, result)
    }

    fn end(&mut self, call: CallNumber, is_well: bool) {
        self.push(Event::Ended(call, is_well));
    }

    fn push(&mut self, event: Event) {
        assert!(
            self.recording.position() < MOST_EVENTS,
            "what runs on the machine goes round in circles"
        );
        self.world.apply(&event);
        self.recording.push(event);
    }

    /// What a call that fails does all the same.
    fn left_by_failure(&mut self, effect: Effect, errno: i32) -> Effect {
        match effect {
            Effect::Write(file, offset, data) if errno != libc::EROFS => {
                // Up to where a device's piece ends.
                let piece = PIECE_BYTES as u64;
                let middle = (offset + data.len() as u64 / 2) / piece * piece;
                let half = middle.saturating_sub(offset);
                let length = self.random.pick(&[0, half, data.len() as u64]);
                Effect::Write(file, offset, data[..length as usize].into())
            }
            // It tried, and the system may not try again.
            Effect::Sync(_) | Effect::SyncNames if errno != libc::EROFS => effect,
            _ => Effect::Nothing,
        }
    }

    fn look<T>(
        &mut self,
        called: &Called<'_>,
        look: impl FnOnce(&World) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(errno) = self.faults.judge(called, &mut self.random) {
            self.recording.note(errno as u64);
            return Err(io::Error::from_raw_os_error(errno));
        }
        look(&self.world)
    }
}
