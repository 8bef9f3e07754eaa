//! SIGBUS in a mapping becomes a copy that does not count.
//!
//! The system sends SIGBUS to a thread that touches a page of a mapped file that cannot be had. The handler
//! puts a page of zeros there, so that the thread goes on, and marks the range as broken, before the
//! zeros can be seen: whoever copies looks at the mark afterwards and takes nothing from a
//! broken range. Everything else that SIGBUS may mean goes to whoever handled it before.

#![expect(unsafe_code, reason = "a signal handler and its mapping")]

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Ranges watched at once; a server has one.
const PLACES: usize = 16;

struct Place {
    is_taken: AtomicBool,
    start: AtomicUsize,
    /// 0: nothing is watched.
    end: AtomicUsize,
    is_broken: AtomicBool,
}

static WATCHED: [Place; PLACES] = [const {
    Place {
        is_taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_broken: AtomicBool::new(false),
    }
}; PLACES];

/// What there is once the handler is installed.
struct Installed {
    before: libc::sigaction,
    page_bytes: usize,
}

/// None if it could not be installed.
static INSTALLED: OnceLock<Option<Installed>> = OnceLock::new();

/// A range of addresses that is watched until [`Watched::end`].
pub(super) struct Watched(&'static Place);

/// Watches a mapped range of whole pages. None if too many are watched already.
pub(super) fn watch(start: usize, length: usize) -> Option<Watched> {
    INSTALLED.get_or_init(install).as_ref()?;
    let place = WATCHED
        .iter()
        .find(|place| !place.is_taken.swap(true, Ordering::SeqCst))?;
    place.is_broken.store(false, Ordering::SeqCst);
    place.start.store(start, Ordering::SeqCst);
    place.end.store(start + length, Ordering::SeqCst);
    Some(Watched(place))
}

impl Watched {
    /// Whether a page of the range could not be had since it is watched.
    pub(super) fn is_broken(&self) -> bool {
        self.0.is_broken.load(Ordering::SeqCst)
    }

    /// Stops watching. Nobody touches the range any more.
    pub(super) fn end(&self) {
        self.0.end.store(0, Ordering::SeqCst);
        self.0.is_taken.store(false, Ordering::SeqCst);
    }
}

fn install() -> Option<Installed> {
    // SAFETY: sysconf has no conditions.
    let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    // SAFETY: all zeros are a value of this C structure.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    ours.sa_sigaction = handler as usize;
    // On the thread's signal stack if it has one: what happened may be an overflow of the usual one.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to structures that live here, and the handler does only what handlers may.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) } {
        0 => Some(Installed { before, page_bytes }),
        _ => None,
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes a structure that is valid while the handler runs.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let installed = INSTALLED.get().and_then(Option::as_ref);
    // Only the system's own signals have an address.
    if code > 0
        && let Some(installed) = installed
        && let Some(place) = WATCHED.iter().find(|place| place.contains(address))
        && place.give_zeros(address, installed.page_bytes)
    {
        return;
    }
    pass_on(installed, signal, info, context);
    if code <= 0
        && installed.is_some_and(|installed| installed.before.sa_sigaction == libc::SIG_DFL)
    {
        // Nothing happens again by itself where somebody sent the signal.
        // SAFETY: raise has no conditions.
        unsafe { libc::raise(signal) };
    }
}

impl Place {
    fn contains(&self, address: usize) -> bool {
        (self.start.load(Ordering::SeqCst)..self.end.load(Ordering::SeqCst)).contains(&address)
    }

    fn give_zeros(&self, address: usize, page_bytes: usize) -> bool {
        // First of all: nobody may take the zeros for data.
        self.is_broken.store(true, Ordering::SeqCst);
        let page = (address & !(page_bytes - 1)) as *mut libc::c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the page is of a mapping that is watched, thus alive, and that nobody writes to. mmap is a plain
        // system call here, which a handler may make.
        let mapped = unsafe { libc::mmap(page, page_bytes, libc::PROT_READ, flags, -1, 0) };
        mapped != libc::MAP_FAILED
    }
}

/// Does what would have been done without us.
fn pass_on(
    installed: Option<&Installed>,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let before = installed.map(|installed| &installed.before);
    // SAFETY: as in `handle`.
    let is_fault = unsafe { (*info).si_code } > 0;
    match before.map_or(libc::SIG_DFL, |before| before.sa_sigaction) {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // What caused the signal happens again, and is then not handled.
            // SAFETY: signal has no conditions.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        address => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: the address is that of a handler that was installed for this signal. One without
            // SA_SIGINFO takes the first argument only, and leaves the others where they are.
            let handler = unsafe { ptr::read((&raw const address).cast::<Handler>()) };
            handler(signal, info, context);
        }
    }
}
