//! The lock of a cache directory, and the text in it, which tells people who has it.

use std::io;

use super::contents::LOCK_FILE_NAME;
use super::open_error::OpenError;
use crate::medium::{Medium, MediumFile};

/// As much of the text as is read, in bytes.
const READ_BYTES: u64 = 200;

/// Locks the directory for as long as the file is open, and puts the text into it.
pub(super) fn take(medium: &dyn Medium, text: &str) -> Result<Box<dyn MediumFile>, OpenError> {
    let file = match medium.lock(LOCK_FILE_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let by = read_text(medium).unwrap_or_default();
            return Err(OpenError::InUse { by });
        }
        Err(error) => return Err(OpenError::io(LOCK_FILE_NAME, "opened and locked")(error)),
    };
    // The lock holds whatever the text says: on a full disk too.
    let _ = write_text(&*file, text);
    Ok(file)
}

fn write_text(file: &dyn MediumFile, text: &str) -> io::Result<()> {
    let line = format!("{}\n", text.trim());
    file.write(0, line.as_bytes())?;
    file.set_length(line.len() as u64)
}

/// What somebody else has put there: the first line, without what a terminal could take for a command.
fn read_text(medium: &dyn Medium) -> io::Result<String> {
    let file = medium.open(LOCK_FILE_NAME)?;
    let mut bytes = vec![0; file.length()?.min(READ_BYTES) as usize];
    file.read(0, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(line.chars().filter(|c| !c.is_control()).collect())
}
