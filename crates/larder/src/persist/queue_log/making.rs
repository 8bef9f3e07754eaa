//! Making a queue, and taking it away.
//!
//! It is made under another name, whole, and synced; then it gets its own. So a file that has a queue's name is one, and what a crash leaves of the
//! other is of no use, and taken away by the next session.

use std::io;
use std::sync::Arc;

use super::QueueLog;
use super::found::FoundQueue;
use super::head::{Heads, QueueHead, RING_START};
use super::name::{file_name, is_new, new_file_name};
use crate::cache_file::write_zeros;
use crate::directory::VolumeNumber;
use crate::medium::{Medium, MediumFile};
use crate::persist::copies::Newer;
use crate::persist::frame::{Position, is_ring};
use crate::persist::home::Home;
use crate::persist::making::{empty, sync_names};
use crate::persist::op::VolumeId;
use crate::persist::open_error::{OpenError, SYNCED};
use crate::persist::refusal::Finding;
use crate::persist::shape::PAGE_BYTES;

impl Home {
    /// Makes the queue of a volume, in the session that has begun, and durably. One that is there and holds nothing is made anew.
    ///
    /// # Errors
    /// One that is there holds something, or is refused; or the system failed.
    pub(crate) fn make_queue(&self, id: VolumeId, ring_bytes: u64) -> Result<QueueLog, OpenError> {
        let (name, new_name) = (file_name(id.volume), new_file_name(id.volume));
        if !is_ring(ring_bytes) {
            let error = io::Error::other(format!(
                "its ring cannot have {ring_bytes} bytes: it is whole pages of {PAGE_BYTES}"
            ));
            return Err(OpenError::io(&name, "made")(error));
        }
        self.check_replaceable(id.volume)?;
        let head = QueueHead {
            uuid: self.uuid(),
            id,
            generation: 1,
            session: self.session(),
            ring_bytes,
            begin: Position::FIRST,
            durable_below: Position::FIRST.seq,
        };
        let medium = self.medium();
        let made = make(medium, &new_name, &head).and_then(|file| {
            let unnamed = OpenError::io(&name, "named");
            medium.rename(&new_name, &name).map_err(unnamed)?;
            Ok(file)
        });
        if made.is_err() {
            // It may have filled the disk.
            let _ = medium.remove(&new_name);
        }
        let file = made?;
        sync_names(medium)?;
        let chosen = Newer {
            value: head,
            copy: 0,
            other_is_as_new: true,
        };
        let heads = Heads::new(Arc::clone(&file), chosen);
        Ok(QueueLog::new(file, heads, head.begin, true))
    }

    /// Takes the queue of a volume away, durably, if there is one. Nobody has it, and it holds nothing.
    pub(crate) fn remove_queue(&self, volume: VolumeNumber) -> Result<(), OpenError> {
        let name = file_name(volume);
        match self.medium().remove(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(OpenError::io(&name, "removed"))?,
        }
        sync_names(self.medium())
    }

    /// Whether nothing would be lost.
    fn check_replaceable(&self, volume: VolumeNumber) -> Result<(), OpenError> {
        let name = file_name(volume);
        match self.medium().open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => drop(opened.map_err(OpenError::io(&name, "opened"))?),
        }
        let found = FoundQueue::read(
            self.medium(),
            volume,
            self.uuid(),
            self.shape(),
            self.session(),
        )?;
        match found.is_empty() {
            true => Ok(()),
            false => Err(OpenError::of_file(name, Finding::Queued)),
        }
    }
}

/// A file with both heads and a ring without frames, synced.
fn make(
    medium: &dyn Medium,
    name: &str,
    head: &QueueHead,
) -> Result<Arc<dyn MediumFile>, OpenError> {
    let file = empty(medium, name)?;
    let page = head.encode();
    let both = [page.as_slice(), page.as_slice()].concat();
    file.write(0, &both)
        .map_err(OpenError::io(name, "written"))?;
    // Written, and not only promised, so that a full disk is met here, and a sync of a frame is about the frame alone.
    write_zeros(&*file, RING_START, head.ring_bytes).map_err(OpenError::io(name, "written"))?;
    file.sync().map_err(OpenError::io(name, SYNCED))?;
    Ok(file.into())
}

/// Takes away what is left of queues whose making was not finished.
pub(crate) fn tidy(medium: &dyn Medium) {
    let names = medium.names().unwrap_or_default();
    for name in names.iter().filter(|name| is_new(name)) {
        // One that stays takes space, and is in nobody's way.
        let _ = medium.remove(name);
    }
}
