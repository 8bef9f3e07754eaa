//! Unix sockets in the file system.
//!
//! A socket that nobody listens on is left over from a server that was killed, and is replaced;
//! anything else in its place is somebody's. Permissions are set before the socket listens: until
//! then every connection is refused.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use larder_frontend::report::{one_line, reason};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{BACKLOG, Listener, Place};
use crate::cleanup::Cleanup;
use crate::settings::SocketSettings;

/// How long another server may take to listen beside us, and how often it is looked whether it does.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PERIOD: Duration = Duration::from_millis(10);

/// Listens on `path`.
pub(super) fn listen(
    path: &Path,
    settings: SocketSettings,
    cleanup: &Cleanup,
) -> Result<Listener, String> {
    let failed = |what: &str| one_line(&format!("listen=unix:{}: {what}", path.display()));
    let refused = |error: io::Error| failed(&reason(&error));
    let address = SockAddr::unix(path)
        .map_err(|_| failed("the path is too long for a Unix socket: at most 107 bytes"))?;
    let _lock = lock_directory(path);
    make_way(path).map_err(|what| failed(&what))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    socket.bind(&address).map_err(refused)?;
    cleanup.socket(path);
    if let Some(mode) = settings.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(refused)?;
    }
    if let Some(owner) = settings.owner {
        chown(path, Some(owner.user), owner.group)
            .map_err(|error| failed(&format!("cannot set its owner: {}", reason(&error))))?;
    }
    socket.listen(BACKLOG).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    // Who reads the URI may be in another directory.
    let place = std::path::absolute(path).map_err(refused)?;
    Ok(Listener::Unix(listener, Place::Unix(place)))
}

/// Keeps other servers from looking at the path between a look at what is there and the moment at which somebody listens: they would take
/// our socket for one that is left over. Where the directory cannot be locked, or somebody keeps it locked for something
/// else, none is kept away.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(parent).ok()?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_PERIOD),
            Err(_) => return None,
        }
    }
}

/// Removes a socket that nobody listens on.
fn make_way(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reason(&error)),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return Err("there is something else by that name, which is no socket".to_owned());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err("a server is listening there already".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
                    "cannot remove the socket that an earlier server left: {}",
                    reason(&error)
                )),
                _ => Ok(()),
            }
        }
        // It went away by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!(
            "cannot see whether the socket is in use: {}",
            reason(&error)
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::settings::Owner;
    use crate::testing::Scratch;

    fn open(path: &Path) -> Result<(Listener, Cleanup), String> {
        let cleanup = Cleanup::default();
        listen(path, SocketSettings::default(), &cleanup).map(|listener| (listener, cleanup))
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (listener, cleanup) = open(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(listener.accept().is_ok());
        drop(cleanup);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let _live = UnixListener::bind(&path).unwrap();
        let told = open(&path).expect_err("refused");
        assert!(
            told.ends_with("a server is listening there already"),
            "{told}"
        );
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn another_kind_of_file_is_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        fs::write(&path, "precious").unwrap();
        let told = open(&path).expect_err("refused");
        assert!(told.ends_with("which is no socket"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn permissions_are_those_asked_for() {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let own = fs::metadata(scratch.path(".")).unwrap();
        let settings = SocketSettings {
            mode: Some(0o640),
            owner: Some(Owner {
                user: own.uid(),
                group: Some(own.gid()),
            }),
        };
        let cleanup = Cleanup::default();
        let _listener = listen(&path, settings, &cleanup).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o640);
        assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()));
    }

    #[test]
    fn a_path_that_cannot_be_is_told() {
        let told = open(Path::new(&format!("/tmp/{}", "x".repeat(200)))).expect_err("refused");
        assert!(told.contains("too long"), "{told}");
        let told = open(Path::new("/no/such/socket")).expect_err("refused");
        assert_eq!(
            told,
            "listen=unix:/no/such/socket: No such file or directory"
        );
    }
}
