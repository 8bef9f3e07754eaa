//! Joining a volume, which may find it another size than it was.

use std::sync::Arc;

use crate::client::Client;
use crate::connection::Connection;
use crate::readahead::Readahead;
use crate::sector::Geometry;
use crate::volume::Volume;
use crate::{Error, ErrorKind, Origin, resize, survival};

impl Volume {
    /// Joins a client to the volume through its own connection to the origin.
    pub fn connect(self: &Arc<Self>, origin: Arc<dyn Origin>) -> Result<Connection, Error> {
        let block_bytes = self.store().config.block_bytes;
        let limits = origin.limits();
        let wanted = Geometry::new(block_bytes, limits)
            .ok_or_else(|| does_not_fit(limits.minimum, block_bytes))?;
        let joined = self.unflushed.moment();
        let _joining = self.lock_joining();
        if !self.has_geometry() && self.has_unwritten() {
            // Its sizes are decided by an origin that has been accepted.
            survival::check_found(self, &*origin, wanted)?;
        }
        let geometry = self.decide_geometry(wanted);
        if geometry.sector_bytes() < wanted.sector_bytes() {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the origin's minimum request has grown to {} bytes since volume '{}' was first used",
                    limits.minimum,
                    self.name()
                ),
            ));
        }
        let is_first = !self.attached.any_active();
        if is_first {
            survival::judge(self, &*origin)?;
        }
        let attached = survival::attach(self, origin, joined)?;
        if is_first {
            survival::settle(self, &attached);
        }
        let size = attached.origin.size();
        if size != self.size() && self.attached.any_active() {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "volume '{}' has {} bytes for the clients that are connected, and the origin now says {size}: \
                     they must leave first, or the two are not one disk",
                    self.name(),
                    self.size()
                ),
            ));
        }
        let cut = if self.size() == size {
            None
        } else {
            resize::resize(self, &attached, size)
        };
        self.attached.join(Arc::clone(&attached));
        let client = Client {
            readahead: Readahead::new(self.store(), geometry, &attached.capabilities),
            volume: Arc::clone(self),
            attached,
        };
        if let Some(cut) = cut {
            resize::rewrite(&client, &cut);
        }
        Ok(Connection::new(client))
    }
}

fn does_not_fit(minimum: u32, block_bytes: u64) -> Error {
    let message = format!(
        "the origin's minimum request of {minimum} bytes does not fit into a block of {block_bytes}: \
         a block size of at least {minimum} is needed"
    );
    Error::new(ErrorKind::Config, message)
}
