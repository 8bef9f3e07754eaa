//! The image of a real file system.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::directory::Directory;
use crate::failure::Failure;
use crate::run::output;
use crate::tools;

/// Of the image, what files may take: the rest is for the file system itself.
const FILES_PER_MILLE: u64 = 780;
/// What of the machine's files goes into it, in whole blocks.
const SOURCE: &str = "/usr";
const BLOCK_BYTES: u64 = 4096;
/// The image has inodes for more.
const FILES_MAX: usize = 20_000;

/// Makes an ext4 image with so much of files of this machine.
pub(super) fn make(image: &Path, files_bytes: u64, directory: &Directory) -> Result<(), Failure> {
    let tree = directory.make("tree")?;
    let mut left = Left {
        bytes: files_bytes,
        files: FILES_MAX,
    };
    copy_tree(Path::new(SOURCE), &tree, &mut left).map_err(|e| Failure::at(&tree, &e))?;
    let program = tools::find(tools::MKE2FS.0).unwrap_or_else(|| tools::MKE2FS.0.into());
    output(
        Command::new(program)
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .args([&tree, image])
            .arg(format!("{}K", (files_bytes * 1000 / FILES_PER_MILLE) >> 10))
            .stdin(Stdio::null()),
    )?;
    fs::remove_dir_all(&tree).map_err(|e| Failure::at(&tree, &e))
}

/// What still fits.
struct Left {
    bytes: u64,
    files: usize,
}

/// Copies those files and directories that fit and that we may read.
fn copy_tree(from: &Path, to: &Path, left: &mut Left) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let (Ok(entry), 1..) = (entry, left.files) else {
            return Ok(());
        };
        let (kind, copy) = (entry.file_type()?, to.join(entry.file_name()));
        let bytes = match kind.is_file() {
            true => entry.metadata()?.len().next_multiple_of(BLOCK_BYTES),
            false => BLOCK_BYTES,
        };
        if bytes > left.bytes {
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&copy)?;
            copy_tree(&entry.path(), &copy, left)?;
        } else if kind.is_file() && fs::File::open(entry.path()).is_ok() {
            fs::copy(entry.path(), &copy)?;
        } else {
            continue;
        }
        left.bytes = left.bytes.saturating_sub(bytes);
        left.files = left.files.saturating_sub(1);
    }
    Ok(())
}
