//! stub
use larder::{Connection, Error, Origin, Volume};
use larder_frontend_stub::Offer;
use std::ops::Deref;
use std::sync::Arc;

pub(crate) mod larder_frontend_stub {
    #[derive(Clone, Copy)]
    pub struct Offer {
        pub flush: bool,
        pub fua: larder::Fua,
        pub trim: bool,
        pub zero: bool,
        pub fast_zero: bool,
    }
}
pub(crate) struct Export {
    pub volume: Arc<Volume>,
    pub origin: Arc<dyn Origin>,
}
pub(crate) struct ClientConnection(Connection);
impl Deref for ClientConnection {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}
impl Export {
    pub(crate) fn name(&self) -> &str {
        ""
    }
    pub(crate) fn description(&self) -> &str {
        "stub"
    }
    pub(crate) fn size_bytes(&self) -> u64 {
        self.origin.size()
    }
    pub(crate) fn can_write(&self) -> bool {
        true
    }
    pub(crate) fn multi_conn(&self) -> bool {
        true
    }
    pub(crate) fn block_bytes(&self) -> u64 {
        65536
    }
    pub(crate) fn offer(&self) -> Offer {
        Offer {
            flush: true,
            fua: larder::Fua::Native,
            trim: true,
            zero: true,
            fast_zero: true,
        }
    }
    pub(crate) fn connect_client(&self) -> Result<ClientConnection, Error> {
        Ok(ClientConnection(
            self.volume.connect(Arc::clone(&self.origin))?,
        ))
    }
}
