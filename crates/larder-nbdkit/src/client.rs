//! One client's connection: nbdkit's requests become the engine's.
//!
//! The engine's connection lives from `prepare`, when size and capabilities of the plugin are
//! known, to `finalize`, the last moment at which the plugin can be written to.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::thread;

use larder::Config;
use larder_frontend::{Exports, Offer};
use nbdkit_filter::{
    BlockSize, Cache, Connection, Error, Extent, ExtentList, Fua, Next, Result, Zero, ZeroOptions,
    log,
};

use crate::identity::volume_name;
use crate::offer;
use crate::origin::NextOrigin;
use crate::report::{self, failed};
use crate::running::Running;

/// One client's connection.
pub(crate) struct Client {
    running: Arc<Running>,
    export_name: CString,
    /// None until `prepare`.
    connection: Option<larder::Connection>,
}

impl Client {
    /// A client that wants the export `name`. Whether there is one is not known yet, so no volume
    /// is made for it yet.
    pub(crate) fn new(running: &Arc<Running>, name: &CStr) -> Self {
        Self {
            running: Arc::clone(running),
            export_name: name.to_owned(),
            connection: None,
        }
    }

    fn config(&self) -> &Config {
        self.running.cache.config()
    }

    fn connection(&self) -> Result<&larder::Connection> {
        self.connection
            .as_ref()
            .ok_or_else(|| Error::invalid("cache: a request before the connection is prepared"))
    }

    fn offer(&self, next: &Next) -> Offer {
        offer::offer(self.config().mode, &next.capabilities())
    }

    /// Says once that two names look like one disk.
    fn warn_of_twins(&self, size_bytes: u64) {
        if self.running.exports != Exports::Separate {
            return;
        }
        let name = volume_name(&self.export_name);
        if let Some(twin) = self.running.seen_names.twin(&name, size_bytes) {
            report::warning(&format!(
                "exports \"{}\" and \"{}\" are equally large; if they are one disk, its cached \
                 contents will differ by name: use cache-exports=shared",
                twin.escape_debug(),
                name.escape_debug()
            ));
        }
    }
}

impl Connection for Client {
    fn prepare(&mut self, next: &Next, _readonly: bool) -> Result<()> {
        let origin = Arc::new(NextOrigin::new(next));
        let volume = self.running.volume(&self.export_name);
        self.connection = Some(volume.connect(origin).map_err(failed)?);
        self.warn_of_twins(next.size());
        Ok(())
    }

    /// Writes back from a thread of its own: on this one, nbdkit no longer sleeps for the filters
    /// below that delay or retry. A failure is logged and not returned, since the layers below
    /// would not be finalized then.
    fn finalize(&self, _next: &Next) -> Result<()> {
        let connection = self.connection()?;
        let disconnected = thread::scope(|scope| {
            let helper = thread::Builder::new()
                .name("larder-goodbye".to_owned())
                .spawn_scoped(scope, || connection.disconnect());
            match helper {
                Ok(helper) => helper.join(),
                Err(_) => Ok(connection.disconnect()),
            }
        });
        match disconnected {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::error(&format!("cache: {error}")),
            Err(_) => log::error("cache: writing back at the end of a connection broke off"),
        }
        Ok(())
    }

    fn get_size(&self, _next: &Next) -> Result<u64> {
        Ok(self.connection()?.size())
    }

    fn block_size(&self, next: &Next) -> Result<Option<BlockSize>> {
        let block_bytes = self.config().block_bytes;
        Ok(Some(offer::block_size(block_bytes, next.block_size())))
    }

    fn can_flush(&self, next: &Next) -> Result<bool> {
        Ok(self.offer(next).flush)
    }

    fn can_fua(&self, next: &Next) -> Result<Fua> {
        Ok(offer::fua(self.offer(next).fua))
    }

    fn can_trim(&self, next: &Next) -> Result<bool> {
        Ok(self.offer(next).trim)
    }

    fn can_zero(&self, next: &Next) -> Result<Zero> {
        Ok(offer::zero(self.offer(next).zero))
    }

    fn can_fast_zero(&self, next: &Next) -> Result<bool> {
        Ok(self.offer(next).fast_zero)
    }

    fn can_extents(&self, _next: &Next) -> Result<bool> {
        Ok(true)
    }

    fn can_cache(&self, _next: &Next) -> Result<Cache> {
        Ok(Cache::Native)
    }

    fn can_multi_conn(&self, _next: &Next) -> Result<bool> {
        // Connections with a volume each do not see each other's writes.
        let shared = self.running.exports != Exports::Connection;
        Ok(shared && self.connection()?.multi_conn())
    }

    fn pread(&self, _next: &Next, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.connection()?.read(offset, buffer).map_err(failed)
    }

    fn pwrite(&self, _next: &Next, data: &[u8], offset: u64, fua: bool) -> Result<()> {
        self.connection()?.write(offset, data, fua).map_err(failed)
    }

    fn flush(&self, _next: &Next) -> Result<()> {
        self.connection()?.flush().map_err(failed)
    }

    fn trim(&self, _next: &Next, count: u32, offset: u64, fua: bool) -> Result<()> {
        let length = u64::from(count);
        self.connection()?.trim(offset, length, fua).map_err(failed)
    }

    fn zero(&self, _next: &Next, count: u32, offset: u64, options: ZeroOptions) -> Result<()> {
        let engine_options = larder::ZeroOptions {
            may_trim: options.may_trim,
            fua: options.fua,
            fast: options.fast,
        };
        let result = self
            .connection()?
            .zero(offset, u64::from(count), engine_options);
        result.map_err(|error| match error.kind() {
            // An answer, and not for the log: the client asked whether it would be fast.
            larder::ErrorKind::NotSupported if options.fast => Error::from_errno(error.errno()),
            _ => failed(error),
        })
    }

    fn extents(
        &self,
        _next: &Next,
        count: u32,
        offset: u64,
        one: bool,
        list: &mut ExtentList<'_>,
    ) -> Result<()> {
        let extents = self.connection()?.extents(offset, count.into(), one);
        for extent in extents.map_err(failed)? {
            list.add(Extent {
                offset: list.position(),
                length: extent.length,
                hole: extent.hole,
                zero: extent.zero,
            })?;
        }
        Ok(())
    }

    fn cache(&self, _next: &Next, count: u32, offset: u64) -> Result<()> {
        self.connection()?
            .cache(offset, count.into())
            .map_err(failed)
    }
}

impl Drop for Client {
    /// Where `finalize` was left out: the volume must not wait for a connection that is gone. The
    /// plugin can no longer be reached, so what is dirty stays dirty.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.connection.as_ref().map(larder::Connection::disconnect) {
            log::error(&format!("cache: {error}"));
        }
    }
}
