//! The medium on a real file system.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("larder-medium-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn medium(&self) -> DirectoryMedium {
        DirectoryMedium::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn files_are_made_found_renamed_and_removed() {
    let scratch = Scratch::new();
    let medium = scratch.medium();
    assert_eq!(kind(medium.open("a")), Some(io::ErrorKind::NotFound));
    let file = medium.create("a").unwrap();
    assert_eq!(kind(medium.create("a")), Some(io::ErrorKind::AlreadyExists));
    file.write(10, b"larder").unwrap();
    file.sync().unwrap();
    medium.create("b").unwrap();
    medium.rename("a", "b").unwrap();
    medium.sync().unwrap();
    assert_eq!(medium.names().unwrap(), ["b"]);
    let found = medium.open("b").unwrap();
    let mut bytes = [9; 8];
    found.read(8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0larder");
    medium.remove("b").unwrap();
    assert_eq!(medium.names().unwrap(), [""; 0]);
    assert_eq!(kind(medium.remove("b")), Some(io::ErrorKind::NotFound));
}

#[test]
fn a_length_is_known_cut_and_extended() {
    let scratch = Scratch::new();
    let file = scratch.medium().create("a").unwrap();
    file.write(0, &[7; 1000]).unwrap();
    file.set_length(600).unwrap();
    file.set_length(900).unwrap();
    assert_eq!(file.length().unwrap(), 900);
    let mut bytes = [1; 900];
    file.read(0, &mut bytes).unwrap();
    assert!(bytes[..600].iter().all(|&byte| byte == 7));
    assert!(bytes[600..].iter().all(|&byte| byte == 0));
    let past = file.read(1, &mut bytes);
    assert_eq!(kind(past), Some(io::ErrorKind::UnexpectedEof));
}

#[test]
fn a_link_is_not_followed() {
    let scratch = Scratch::new();
    let target = scratch.0.join("target");
    std::fs::write(&target, "not ours").unwrap();
    symlink(&target, scratch.0.join("journal")).unwrap();
    let medium = scratch.medium();
    let refused = Errno::LOOP.raw_os_error();
    for opened in [medium.open("journal"), medium.lock("journal")] {
        assert_eq!(opened.err().unwrap().raw_os_error(), Some(refused));
    }
    assert_eq!(
        kind(medium.create("journal")),
        Some(io::ErrorKind::AlreadyExists)
    );
    assert_eq!(std::fs::read(&target).unwrap(), b"not ours");
}

#[test]
fn what_is_no_ordinary_file_is_refused() {
    let scratch = Scratch::new();
    let medium = scratch.medium();
    let fifo = scratch.0.join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    std::fs::create_dir(scratch.0.join("directory")).unwrap();
    assert_eq!(kind(medium.open("fifo")), Some(io::ErrorKind::InvalidInput));
    assert_eq!(
        kind(medium.open("directory")),
        Some(io::ErrorKind::IsADirectory)
    );
    for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
        assert_eq!(kind(medium.create(name)), Some(io::ErrorKind::InvalidInput));
        assert_eq!(kind(medium.remove(name)), Some(io::ErrorKind::InvalidInput));
    }
}

#[test]
fn one_at_a_time_has_the_lock() {
    let scratch = Scratch::new();
    let (one, other) = (scratch.medium(), scratch.medium());
    let held = one.lock("lock").unwrap();
    held.write(0, b"pid 1").unwrap();
    assert_eq!(kind(other.lock("lock")), Some(io::ErrorKind::WouldBlock));
    let mut text = [0; 5];
    other.open("lock").unwrap().read(0, &mut text).unwrap();
    assert_eq!(&text, b"pid 1");
    drop(held);
    other.lock("lock").unwrap();
}

#[test]
fn who_asks_whether_a_file_is_locked_neither_makes_nor_takes_it() {
    let scratch = Scratch::new();
    let user = scratch.medium();
    let asker = DirectoryMedium::open_read_only(&scratch.0).unwrap();
    assert!(!asker.is_locked("lock").unwrap());
    assert_eq!(user.names().unwrap(), [""; 0]);
    let held = user.lock("lock").unwrap();
    assert!(asker.is_locked("lock").unwrap());
    drop(held);
    assert!(!asker.is_locked("lock").unwrap());
    user.lock("lock").unwrap();
}

#[test]
fn askers_break_no_start() {
    let scratch = Scratch::new();
    let (user, asker) = (scratch.medium(), scratch.medium());
    drop(user.lock("lock").unwrap());
    // Held for longer than any asker holds it.
    let asked = asker.open_file("lock").unwrap();
    rustix::fs::flock(&asked, FlockOperation::NonBlockingLockShared).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(LOCK_PAUSE * 2);
            drop(asked);
        });
        user.lock("lock").unwrap();
    });
}

#[test]
fn who_only_looks_changes_nothing() {
    let scratch = Scratch::new();
    scratch.medium().create("a").unwrap();
    let medium = DirectoryMedium::open_read_only(&scratch.0).unwrap();
    let refused = Some(io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(medium.create("b")), refused);
    assert_eq!(kind(medium.lock("lock")), refused);
    assert_eq!(kind(medium.rename("a", "b")), refused);
    assert_eq!(kind(medium.remove("a")), refused);
    let file = medium.open("a").unwrap();
    assert!(file.write(0, b"x").is_err() && file.set_length(1).is_err());
    assert_eq!(file.length().unwrap(), 0);
    assert_eq!(medium.names().unwrap(), ["a"]);
}

#[test]
fn the_directory_stays_the_same_when_its_path_is_given_to_another() {
    let scratch = Scratch::new();
    let path = scratch.0.join("cache");
    std::fs::create_dir(&path).unwrap();
    let medium = DirectoryMedium::open(&path).unwrap();
    std::fs::rename(&path, scratch.0.join("moved")).unwrap();
    std::fs::create_dir(&path).unwrap();
    medium.create("a").unwrap();
    assert!(scratch.0.join("moved/a").exists());
    assert!(!path.join("a").exists());
}

#[test]
fn only_a_directory_is_opened() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    let kinds = [&file, &scratch.0.join("none")].map(|path| kind(DirectoryMedium::open(path)));
    assert_eq!(
        kinds,
        [
            Some(io::ErrorKind::NotADirectory),
            Some(io::ErrorKind::NotFound)
        ]
    );
}

#[test]
fn what_is_written_out_is_what_it_was() {
    let scratch = Scratch::new();
    let medium = DirectoryMedium::open(&scratch.0).unwrap();
    let file = medium.create("a").unwrap();
    let bytes: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
    for (offset, length) in [(0, 40_000), (4096, 8192), (0, 0), (39_999, 1 << 40)] {
        file.write(0, &bytes).unwrap();
        file.write_out(offset, length);
        let mut found = vec![0; bytes.len()];
        file.read(0, &mut found).unwrap();
        assert!(found == bytes);
    }
    file.sync().unwrap();
    assert_eq!(file.length().unwrap(), 40_000);
}
