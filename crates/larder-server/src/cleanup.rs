//! What the server leaves in the file system and removes at its end, however it ends.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is to be removed. Shared with whoever may have to end the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cleanup {
    left: Arc<Left>,
}

#[derive(Debug, Default)]
struct Left(Mutex<Vec<Item>>);

/// Device and inode.
type Identity = (u64, u64);

#[derive(Debug)]
enum Item {
    /// A socket, if it is still the one.
    Socket(PathBuf, Identity),
    /// A file, if it is still the one.
    File(PathBuf, Identity),
    /// An empty directory.
    Directory(PathBuf),
}

impl Cleanup {
    /// A socket that was just made.
    pub(crate) fn socket(&self, path: &Path) {
        if let Some(identity) = identity(path) {
            self.add(Item::Socket(path.to_owned(), identity));
        }
    }

    /// A file that was just made.
    pub(crate) fn file(&self, path: &Path) {
        if let Some(identity) = identity(path) {
            self.add(Item::File(path.to_owned(), identity));
        }
    }

    /// Nobody listens any more: removes the sockets, once: another server may make its own there from now on, which may
    /// even look the same.
    pub(crate) fn remove_sockets(&self) {
        self.left.lock().retain(|item| match item {
            Item::Socket(path, identity) => {
                remove_file(path, *identity);
                false
            }
            _ => true,
        });
    }

    /// A directory that was just made.
    pub(crate) fn directory(&self, path: &Path) {
        self.add(Item::Directory(path.to_owned()));
    }

    fn add(&self, item: Item) {
        self.left.lock().push(item);
    }

    /// Removes everything, the youngest first. Later calls find nothing.
    pub(crate) fn run(&self) {
        self.left.remove_all();
    }
}

impl Left {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever cannot be removed stays: there is nobody left to whom that would matter.
    fn remove_all(&self) {
        let mut items = self.lock();
        while let Some(item) = items.pop() {
            match item {
                Item::Socket(path, identity) | Item::File(path, identity) => {
                    remove_file(&path, identity);
                }
                Item::Directory(path) => {
                    let _ = fs::remove_dir(&path);
                }
            }
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Another file in its place is somebody else's.
fn remove_file(path: &Path, made: Identity) {
    if identity(path) == Some(made) {
        let _ = fs::remove_file(path);
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.remove_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn a_socket_is_removed_once() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let cleanup = Cleanup::default();
        fs::write(&path, "").unwrap();
        cleanup.socket(&path);
        // Somebody else's from now on, with the same number.
        fs::hard_link(&path, scratch.path("kept")).unwrap();
        cleanup.remove_sockets();
        assert!(!path.exists());
        fs::hard_link(scratch.path("kept"), &path).unwrap();
        drop(cleanup);
        assert!(path.exists());
    }

    #[test]
    fn what_was_made_goes_and_what_took_its_place_stays() {
        let scratch = Scratch::new();
        let (directory, file, other) = (
            scratch.path("d"),
            scratch.path("d/f"),
            scratch.path("other"),
        );
        let cleanup = Cleanup::default();
        fs::create_dir(&directory).unwrap();
        cleanup.directory(&directory);
        for path in [&file, &other] {
            fs::write(path, "").unwrap();
            cleanup.file(path);
        }
        fs::write(scratch.path("new"), "").unwrap();
        fs::rename(scratch.path("new"), &other).unwrap();
        drop(cleanup);
        assert!(!directory.exists());
        assert!(other.exists());
    }
}
