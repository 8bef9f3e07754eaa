//! What the service manager is told (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::Log;
use larder_frontend::report::reason;
use sd_notify::NotifyState;

/// Where it listens, if there is one.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long it may take to take a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
#[derive(Default)]
pub(crate) struct ServiceManager {
    link: Option<Link>,
}

struct Link {
    socket: UnixDatagram,
    log: Arc<dyn Log>,
    has_failed: AtomicBool,
}

impl ServiceManager {
    /// The one in the environment. One that cannot be reached is a warning.
    pub(crate) fn from_environment(log: Arc<dyn Log>) -> Self {
        let Some(name) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self {
                link: Some(Link {
                    socket,
                    log,
                    has_failed: AtomicBool::new(false),
                }),
            },
            Err(error) => {
                log.warning(&cannot(&error));
                Self::default()
            }
        }
    }

    /// Tells it something. The first failure is a warning.
    pub(crate) fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(link) = &self.link else {
            return;
        };
        let mut message = String::new();
        for state in states {
            // Writing into a string does not fail.
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = link.socket.send(message.as_bytes())
            && !link.has_failed.swap(true, Ordering::Relaxed)
        {
            link.log.warning(&cannot(&error));
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // One that does not listen must not hold up the end.
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn cannot(error: &io::Error) -> String {
    let name = env::var_os(VARIABLE).unwrap_or_default();
    let name = name.to_string_lossy();
    format!(
        "{VARIABLE}={name}: the service manager cannot be told anything: {}",
        reason(error)
    )
}
