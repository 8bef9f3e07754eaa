//! An origin that is not written to, whatever it could take.

use std::io;
use std::sync::Arc;

use larder::{Capabilities, Extent, Fua, Origin, OriginVersion, RequestLimits, ZeroOptions};

/// Another origin without its changes.
pub(crate) struct ReadOnly(pub(crate) Arc<dyn Origin>);

impl Origin for ReadOnly {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: false,
            fua: Fua::None,
            trim: false,
            zero: false,
            fast_zero: false,
            ..self.0.capabilities()
        }
    }

    fn limits(&self) -> RequestLimits {
        self.0.limits()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }

    fn write(&self, _offset: u64, _data: &[u8], _fua: bool) -> io::Result<()> {
        Err(refused())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn zero(&self, _offset: u64, _length: u64, _options: ZeroOptions) -> io::Result<()> {
        Err(refused())
    }

    fn trim(&self, _offset: u64, _length: u64, _fua: bool) -> io::Result<()> {
        Err(refused())
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        self.0.extents(offset, length, one)
    }

    fn version(&self) -> io::Result<Option<OriginVersion>> {
        self.0.version()
    }
}

fn refused() -> io::Error {
    rustix::io::Errno::ROFS.into()
}
