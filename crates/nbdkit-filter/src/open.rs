//! A client's wish to open an export, and the opening of the next layer.
//!
//! Invariant: the next layer is opened exactly once, or the wish is refused.

use std::borrow::Cow;
use std::ffi::{CStr, c_int};

use crate::error::{Error, Result};
use crate::raw;

/// What [`Filter::open`](crate::Filter::open) is told.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    next: raw::NextOpen,
    context: *mut raw::Context,
    readonly: bool,
    name: &'a CStr,
    tls: bool,
    next_layer: NextLayer,
}

/// What has become of the next layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextLayer {
    Untouched,
    Open,
    Refused,
}

impl<'a> OpenRequest<'a> {
    /// # Safety
    ///
    /// All are what nbdkit passed to the `open` callback that runs for `'a`.
    pub(crate) unsafe fn new(
        next: raw::NextOpen,
        context: *mut raw::Context,
        readonly: bool,
        name: &'a CStr,
        tls: bool,
    ) -> Self {
        Self {
            next,
            context,
            readonly,
            name,
            tls,
            next_layer: NextLayer::Untouched,
        }
    }

    /// This layer is wanted for reading only.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// The export the client ends up with, as the bytes it is named by.
    ///
    /// Before it opens a layer nbdkit replaces an empty name by what the layer's `default_export`
    /// tells (server/backend.c, `backend_open`, since 1.22). So an empty name here means that no
    /// layer below tells a default.
    pub fn export_name(&self) -> &'a CStr {
        self.name
    }

    /// The export's name for messages: what is not UTF-8 is replaced.
    pub fn export_name_lossy(&self) -> Cow<'a, str> {
        self.name.to_string_lossy()
    }

    /// The client uses TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Opens the next layer now and with other values. Not needed if they are to stay the same.
    /// A second call fails.
    pub fn open_next(&mut self, readonly: bool, export_name: &CStr) -> Result<()> {
        if self.next_layer != NextLayer::Untouched {
            return Err(Error::invalid("open: the next layer is open already"));
        }
        self.next_layer = NextLayer::Refused;
        // SAFETY: `new` had the function and its context from nbdkit, whose callback is running.
        let result =
            unsafe { (self.next)(self.context, c_int::from(readonly), export_name.as_ptr()) };
        if result == -1 {
            return Err(Error::from_errno(libc::EIO));
        }
        self.next_layer = NextLayer::Open;
        Ok(())
    }

    /// Opens the next layer with what the client wants, unless that has been done.
    pub(crate) fn ensure_open(&mut self) -> Result<()> {
        match self.next_layer {
            NextLayer::Untouched => self.open_next(self.readonly, self.name),
            NextLayer::Open => Ok(()),
            // Whatever the filter made of the error: without the next layer nothing can be served.
            NextLayer::Refused => Err(Error::from_errno(libc::EIO)),
        }
    }
}
