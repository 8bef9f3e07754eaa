//! The trait a filter implements: what happens once per process.
//!
//! Two phases. *Configuration* is single-threaded and has the filter mutably: `load`, `config`,
//! `config_complete`, `thread_model`, `get_ready`. After `get_ready` has returned the filter is
//! frozen, and *serving* sees it shared, from many threads: everything else.

use std::ffi::{CStr, CString};

use crate::capabilities::ThreadModel;
use crate::connection::Connection;
use crate::error::Result;
use crate::exports::{ExportList, NextDefaultExport, NextExports};
use crate::open::OpenRequest;
use crate::value::Value;

/// What became of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Config {
    /// It was this filter's.
    Taken,
    /// It is somebody else's: the next layer sees it.
    PassOn,
}

/// A filter. There is one instance in a process, made by [`Filter::load`]; it is never dropped,
/// so what must happen at the end belongs into [`Filter::cleanup`] or [`Filter::unload`].
///
/// An error that a method returns has its message logged. In the configuration phase it ends
/// nbdkit with exit status 1. A panic counts as an error.
pub trait Filter: Sized + Send + Sync + 'static {
    /// The name, of ASCII letters, digits and dashes: `-D NAME.flag=1` and messages use it.
    const NAME: &'static CStr;
    /// A name for people.
    const LONGNAME: Option<&'static CStr> = None;
    /// One or several lines, shown by `nbdkit --help --filter=...`.
    const DESCRIPTION: Option<&'static CStr> = None;
    /// The parameters, one per line, shown by `nbdkit --help --filter=...`.
    const CONFIG_HELP: Option<&'static CStr> = None;

    /// What is kept for each client connection; `()` passes everything on.
    type Connection: Connection;

    /// Makes the instance, just after the library has been loaded.
    fn load() -> Result<Self>;

    /// Offers a `key=value` parameter of the command line.
    fn config(&mut self, _key: &str, _value: Value<'_>) -> Result<Config> {
        Ok(Config::PassOn)
    }

    /// All parameters have been seen. The next layer is asked after this.
    fn config_complete(&mut self) -> Result<()> {
        Ok(())
    }

    /// The loosest thread model this filter bears.
    fn thread_model(&mut self) -> Result<ThreadModel> {
        Ok(ThreadModel::Parallel)
    }

    /// The last step before serving. `model` is the final thread model: only if it is
    /// [`ThreadModel::Parallel`] may threads of the filter call a connection's
    /// [`Next`](crate::Next) outside that connection's own callbacks.
    fn get_ready(&mut self, _model: ThreadModel) -> Result<()> {
        Ok(())
    }

    /// nbdkit is now in the background, where threads may be started: those started earlier are
    /// gone.
    fn after_fork(&self) -> Result<()> {
        Ok(())
    }

    /// The last connection is gone: threads end here. Not called if nbdkit is killed.
    fn cleanup(&self) {}

    /// The library is about to go. Called in every case but a kill, `--help` included.
    fn unload(&self) {}

    /// Prints lines `key=value` to standard output for `nbdkit --dump-plugin` (nbdkit 1.36 and
    /// newer; older ones do not ask).
    fn dump_plugin(&self) {}

    /// A client has connected and nothing has been negotiated. An error turns it away.
    fn preconnect(&self, _readonly: bool) -> Result<()> {
        Ok(())
    }

    /// A client asks which exports there are.
    fn list_exports(&self, next: &NextExports<'_>, list: &mut ExportList<'_>) -> Result<()> {
        next.list_into(list)
    }

    /// The export that an empty name stands for; `None` refuses the empty name.
    fn default_export(&self, next: &NextDefaultExport<'_>) -> Result<Option<CString>> {
        Ok(next.default_export())
    }

    /// A client wants an export. The next layer is opened with the same values after this returns,
    /// unless [`OpenRequest::open_next`] was called.
    fn open(&self, request: &mut OpenRequest<'_>) -> Result<Self::Connection>;
}
