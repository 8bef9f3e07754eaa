//! The plugin, with the filters between it and us, as the engine's origin.

use std::io;

use larder::{Capabilities, Extent, Fua, Origin, RequestLimits, ZeroOptions};
use nbdkit_filter::{Next, Zero};

use crate::offer;

/// One connection to the next layer. The binding sees to it that no call reaches it after the
/// connection has been finalized.
#[derive(Debug)]
pub(crate) struct NextOrigin {
    next: Next,
    capabilities: Capabilities,
    limits: RequestLimits,
}

impl NextOrigin {
    /// The origin behind `next`.
    pub(crate) fn new(next: &Next) -> Self {
        Self {
            capabilities: capabilities(&next.capabilities(), next.is_parallel()),
            limits: offer::request_limits(next.block_size()),
            next: next.clone(),
        }
    }
}

/// The engine's view of what the next layer can do.
pub(crate) fn capabilities(next: &nbdkit_filter::Capabilities, parallel: bool) -> Capabilities {
    // An emulated zero writes zeros, which the engine does in larger pieces.
    let zero = next.zero == Zero::Native;
    Capabilities {
        write: next.write,
        flush: next.flush,
        tells_losses: false,
        fua: match next.fua {
            nbdkit_filter::Fua::None => Fua::None,
            nbdkit_filter::Fua::Emulate => Fua::Emulated,
            nbdkit_filter::Fua::Native => Fua::Native,
        },
        trim: next.trim,
        zero,
        fast_zero: zero && next.fast_zero,
        extents: next.extents,
        multi_conn: next.multi_conn,
        parallel,
    }
}

/// The engine never asks for more than [`larder::origin::MAX_RANGE_BYTES`] at once.
fn count(length: u64) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Origin for NextOrigin {
    fn size(&self) -> u64 {
        self.next.size()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.limits
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Ok(self.next.pread(buffer, offset)?)
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        Ok(self.next.pwrite(data, offset, fua)?)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(self.next.flush()?)
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        let options = nbdkit_filter::ZeroOptions {
            may_trim: options.may_trim,
            fua: options.fua,
            fast: options.fast,
        };
        Ok(self.next.zero(count(length)?, offset, options)?)
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        Ok(self.next.trim(count(length)?, offset, fua)?)
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        let extents = self.next.extents(count(length)?, offset, one)?;
        Ok(extents
            .into_iter()
            .map(|extent| Extent {
                length: extent.length,
                hole: extent.hole,
                zero: extent.zero,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_zero_is_none() {
        let mut next = nbdkit_filter::Capabilities {
            write: true,
            zero: Zero::Emulate,
            fast_zero: true,
            ..Default::default()
        };
        let seen = capabilities(&next, false);
        assert!(!seen.zero && !seen.fast_zero && !seen.parallel);
        next.zero = Zero::Native;
        let seen = capabilities(&next, true);
        assert!(seen.zero && seen.fast_zero && seen.parallel);
    }

    #[test]
    fn fua_keeps_its_kind() {
        for (theirs, ours) in [
            (nbdkit_filter::Fua::None, Fua::None),
            (nbdkit_filter::Fua::Emulate, Fua::Emulated),
            (nbdkit_filter::Fua::Native, Fua::Native),
        ] {
            let next = nbdkit_filter::Capabilities {
                fua: theirs,
                ..Default::default()
            };
            assert_eq!(capabilities(&next, true).fua, ours);
        }
    }

    #[test]
    fn the_longest_range_fits_a_request() {
        assert!(count(larder::origin::MAX_RANGE_BYTES).is_ok());
        assert!(count(1 << 32).is_err());
    }
}
