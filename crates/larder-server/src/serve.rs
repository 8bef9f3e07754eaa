//! `larder serve` from its settings to the moment at which clients are served.
//!
//! The order: sockets that came with the process, certificates, origins, cache, keepers, signals, sockets, background work, process number, the
//! lines that tell what is served, readiness. What fails before those lines ends the program with one line, and nothing
//! is left behind; a cache directory is closed as at any other end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use indicatif::BinaryBytes;
use larder::{Config, FlushTo, Log, Mode, Writeback};
use larder_frontend::report::{one_line, reason};
use larder_origins::Source;
use sd_notify::NotifyState;
use signal_hook::consts::SIGINT;

use crate::accept::{Acceptor, Messages, patience, raise_descriptor_limit};
use crate::captive::{self, Captive, Found};
use crate::cleanup::Cleanup;
use crate::console::Console;
use crate::export::Export;
use crate::exports::Exports;
use crate::keeper::Surroundings;
use crate::life::{Event, LAST_WORDS, Life, give_up};
use crate::listen::{self, ListenAddress, Listener, Place};
use crate::live_line::LiveLine;
use crate::protocol::{self, Service, TlsSettings};
use crate::rate_limit::RateLimit;
use crate::service_manager::ServiceManager;
use crate::settings::{Settings, SocketSettings, TlsPolicy};
use crate::stopping::Stopping;
use crate::storage::Storage;
use crate::{pidfile, signals, uri};

/// A server, the command it runs for, and where reasons to end are told.
type Started = (Life, Result<Option<Captive>, String>, Receiver<Event>);

/// What a server is started with.
struct Parts<'p> {
    tls: Option<TlsSettings>,
    sources: Vec<Box<dyn Source>>,
    storage: &'p Arc<Storage>,
    inherited: Vec<Listener>,
    service_manager: ServiceManager,
    /// How many descriptors a command may have, where that is fewer than the server has now.
    descriptors: Option<u64>,
}

/// Serves until there is a reason to end. The exit status, or one line that says why nothing was served.
pub(crate) fn serve(settings: &Settings, console: &Arc<Console>) -> Result<u8, String> {
    let cleanup = Cleanup::default();
    let result =
        start(settings, console, &cleanup).map(|(life, captive, inbox)| life.live(captive, &inbox));
    cleanup.run();
    // Who has stopped the terminal is to see what is wrong, but is not waited for if nothing is.
    console.settle((result == Ok(0)).then_some(LAST_WORDS));
    result
}

fn start(
    settings: &Settings,
    console: &Arc<Console>,
    cleanup: &Cleanup,
) -> Result<Started, String> {
    // Before anything else is opened: a number that is wrong must not name a descriptor of ours.
    let inherited = listen::inherited()?;
    let descriptors = raise_descriptor_limit();
    signals::survive_file_size_limit()
        .map_err(|error| format!("cannot watch for signals: {}", reason(&error)))?;
    for warning in &settings.cache.warnings {
        console.warning(warning);
    }
    let service_manager = ServiceManager::from_environment(as_log(console));
    let tls = tls(settings)?;
    let sources = open_origins(settings, console)?;
    service_manager.tell(&[NotifyState::Status("opening the cache")]);
    let storage = Arc::new(Storage::make(&settings.cache, as_log(console))?);
    let parts = Parts {
        tls,
        sources,
        storage: &storage,
        inherited,
        service_manager,
        descriptors,
    };
    let started = start_over(settings, console, cleanup, parts);
    if started.is_err() {
        // Everything else has gone by now. That it was not closed is told by whoever opens it next.
        let _ = storage.close(&**console);
    }
    started
}

/// Starts everything over a cache that is there.
fn start_over(
    settings: &Settings,
    console: &Arc<Console>,
    cleanup: &Cleanup,
    parts: Parts<'_>,
) -> Result<Started, String> {
    let (storage, service_manager) = (parts.storage, parts.service_manager);
    let stopping = Stopping::new().map_err(|error| reason(&error))?;
    let (events, inbox) = mpsc::channel();
    let exports = Arc::new(exports(
        settings,
        parts.sources,
        storage,
        &stopping,
        console,
        &events,
    )?);
    let interrupts_are_ours = Arc::new(AtomicBool::new(
        settings.run.is_none() || !captive::shares_terminal(),
    ));
    let has_command = settings.run.is_some();
    let asked = (&events, &interrupts_are_ours, has_command);
    watch_signals(storage, cleanup, console, asked)?;
    let (listeners, private) = listeners(parts.inherited, settings, cleanup, &**console)?;
    let places = places(&listeners);
    storage
        .maintenance
        .start(&storage.cache)
        .map_err(|error| format!("cannot start a thread: {}", reason(&error)))?;
    if let Some(path) = &settings.pidfile {
        pidfile::write(path, cleanup)?;
    }
    tell(settings, console, storage, &exports, &places);
    let service = Arc::new(Service {
        exports: Arc::clone(&exports),
        tls: parts.tls,
        handshake_timeout: settings.handshake_timeout,
        common: protocol::Common::default(),
        log: as_log(console),
        failures: RateLimit::default(),
    });
    let traffic = Arc::default();
    let acceptor = Acceptor {
        listeners,
        service,
        stopping: stopping.clone(),
        log: as_log(console),
        max_connections: settings.max_connections,
        messages: Messages::default(),
        traffic: Arc::clone(&traffic),
    };
    let acceptor = acceptor
        .start()
        .map_err(|error| format!("cannot start a thread: {}", reason(&error)))?;
    service_manager.tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let captive = captive(
        settings,
        &exports,
        (private, parts.descriptors),
        &events,
        interrupts_are_ours,
    );
    let live_line = (console.draws() && settings.run.is_none())
        .then(|| LiveLine::start(console, &storage.cache, traffic));
    let life = Life {
        console: Arc::clone(console),
        storage: Arc::clone(storage),
        exports,
        stopping,
        cleanup: cleanup.clone(),
        acceptor,
        live_line,
        service_manager,
        patience: patience(settings.origins.timeout),
    };
    Ok((life, captive, inbox))
}

fn as_log(console: &Arc<Console>) -> Arc<dyn Log> {
    Arc::<Console>::clone(console)
}

fn tls(settings: &Settings) -> Result<Option<TlsSettings>, String> {
    let policy = match settings.tls.policy {
        TlsPolicy::Off => return Ok(None),
        TlsPolicy::On => protocol::TlsPolicy::Allow,
        TlsPolicy::Require => protocol::TlsPolicy::Require,
    };
    let (directory, verify_peer) = (&settings.tls.certificates, settings.tls.verify_peer);
    TlsSettings::load(policy, directory, verify_peer)
        .map(Some)
        .map_err(|message| format!("tls-certificates: {message}"))
}

fn open_origins(
    settings: &Settings,
    console: &Arc<Console>,
) -> Result<Vec<Box<dyn Source>>, String> {
    let options = larder_origins::Options {
        read_only: settings.read_only,
        timeout: settings.origins.timeout,
        http_headers: Vec::new(),
        tls_ca: settings.origins.tls_ca.clone(),
        log: as_log(console),
    };
    let sources = settings.exports.iter().map(|export| {
        let options = larder_origins::Options {
            http_headers: export.http_headers.pairs().to_vec(),
            ..options.clone()
        };
        larder_origins::open(&export.address, &options)
    });
    sources
        .collect::<Result<_, _>>()
        .map_err(|error| one_line(&error.to_string()))
}

fn exports(
    settings: &Settings,
    sources: Vec<Box<dyn Source>>,
    storage: &Storage,
    stopping: &Stopping,
    console: &Arc<Console>,
    events: &Sender<Event>,
) -> Result<Exports, String> {
    let ends = settings.exit_with_last_client;
    let events = events.clone();
    let on_last_client = Box::new(move || {
        if ends {
            // Nobody listens once the end has begun.
            let _ = events.send(Event::LastClientLeft);
        }
    });
    let stopping = stopping.clone();
    let surroundings = Arc::new(Surroundings::new(
        Arc::clone(&storage.cache),
        as_log(console),
        settings.read_only,
        on_last_client,
        Box::new(move || stopping.is_stopping()),
    ));
    let mut exports = Vec::new();
    for (wanted, source) in settings.exports.iter().zip(sources) {
        let description = wanted.description.clone().unwrap_or_default();
        let export = Export::new(&wanted.name, description, source, &surroundings);
        let export = export.map_err(|error| one_line(&format!("{}: {error}", wanted.address)))?;
        exports.push(export);
    }
    Ok(Exports::new(exports))
}

fn watch_signals(
    storage: &Storage,
    cleanup: &Cleanup,
    console: &Arc<Console>,
    (events, interrupts_are_ours, has_command): (&Sender<Event>, &Arc<AtomicBool>, bool),
) -> Result<(), String> {
    let events = events.clone();
    let (cache, cleanup) = (Arc::clone(&storage.cache), cleanup.clone());
    let console = Arc::clone(console);
    let interrupts_are_ours = Arc::clone(interrupts_are_ours);
    signals::watch(
        move |signal| signal != SIGINT || interrupts_are_ours.load(Ordering::SeqCst),
        move || {
            let _ = events.send(Event::Signal);
        },
        move || give_up(&cache, &cleanup, &console, has_command),
    )
    .map_err(|error| format!("cannot watch for signals: {}", reason(&error)))
}

/// All sockets, and the path of the command's own one.
fn listeners(
    mut listeners: Vec<Listener>,
    settings: &Settings,
    cleanup: &Cleanup,
    log: &dyn Log,
) -> Result<(Vec<Listener>, Option<PathBuf>), String> {
    if let (false, Some(address)) = (listeners.is_empty(), settings.listen.first()) {
        return Err(format!(
            "listen={address}: the service manager gave sockets (LISTEN_FDS): either they or listen"
        ));
    }
    let mut private = None;
    if settings.run.is_some() {
        let path = captive::private_socket(cleanup)?;
        let address = [ListenAddress::Unix(path.clone())];
        listeners.extend(listen::open(
            &address,
            SocketSettings::default(),
            cleanup,
            log,
        )?);
        private = Some(path);
    }
    listeners.extend(listen::open(
        &settings.listen,
        settings.socket,
        cleanup,
        log,
    )?);
    if listeners.is_empty() {
        let address = [ListenAddress::default_address()];
        listeners.extend(listen::open(&address, settings.socket, cleanup, log)?);
    }
    Ok((listeners, private))
}

/// Where clients find the server, each place once.
fn places(listeners: &[Listener]) -> Vec<Place> {
    let mut places = Vec::new();
    for place in listeners.iter().filter_map(Listener::place) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Tells what was found and what is served.
fn tell(
    settings: &Settings,
    console: &Console,
    storage: &Storage,
    exports: &Exports,
    places: &[Place],
) {
    let found = storage.found().into_iter();
    for line in found.chain(served(settings, exports, storage, places)) {
        match settings.run {
            // Standard output is the command's.
            Some(_) => console.debug(&line),
            None => console.print(&line),
        }
    }
}

/// One line for each export.
fn served(
    settings: &Settings,
    exports: &Exports,
    storage: &Storage,
    places: &[Place],
) -> Vec<String> {
    let is_tls = settings.tls.policy == TlsPolicy::Require;
    let lines = settings.exports.iter().zip(exports.iter());
    let lines = lines.map(|(wanted, export)| {
        let size = BinaryBytes(export.size_bytes());
        let access = if export.can_write() {
            ""
        } else {
            ", read-only"
        };
        let mode = mode(storage.cache.config());
        let limit = storage.limit();
        let uris = places
            .iter()
            .map(|place| uri::uri(place, export.name(), is_tls));
        let uris = uris.collect::<Vec<_>>().join(", ");
        let address = &wanted.address;
        format!("serving {address} ({size}{access}{mode}, {limit}) at {uris}")
    });
    lines.collect()
}

/// How writes reach the origin, where that is not as ever.
fn mode(config: &Config) -> &'static str {
    match (config.mode, config.flush_to, config.writeback) {
        (Mode::Writeback, FlushTo::Origin, _) => "",
        (Mode::Writeback, FlushTo::Cache, Writeback::Unordered) => ", flushed to the cache",
        (Mode::Writeback, FlushTo::Cache, Writeback::Ordered) => ", flushed to the cache, in order",
        (Mode::Writethrough, ..) => ", writethrough",
        (Mode::Unsafe, ..) => ", unsafe",
    }
}

/// Runs the command, if there is one. A command that cannot be run ends the server as one that failed.
fn captive(
    settings: &Settings,
    exports: &Exports,
    (private, descriptors): (Option<PathBuf>, Option<u64>),
    events: &Sender<Event>,
    interrupts_are_ours: Arc<AtomicBool>,
) -> Result<Option<Captive>, String> {
    let (Some(command), Some(socket)) = (&settings.run, private) else {
        return Ok(None);
    };
    let export = exports.find("").or_else(|| exports.iter().next());
    let name = export.map_or("", Export::name);
    let is_tls = settings.tls.policy == TlsPolicy::Require;
    let found = Found {
        uri: &uri::uri(&Place::Unix(socket.clone()), name, is_tls),
        socket: socket.as_os_str(),
        export_name: name,
        tls: settings.tls.policy,
        descriptors,
    };
    let events = events.clone();
    let ended = move |status| {
        interrupts_are_ours.store(true, Ordering::SeqCst);
        let _ = events.send(Event::CommandEnded(status));
    };
    Captive::start(command, &found, ended).map(Some)
}
