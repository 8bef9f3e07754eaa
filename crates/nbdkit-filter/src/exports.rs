//! The lists of exports that clients may ask for, and the default one.

use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr;

use crate::api;
use crate::error::{Error, Result};
use crate::raw;

/// An export as a client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The name to ask for it by.
    pub name: CString,
    /// What it is, if anybody says.
    pub description: Option<CString>,
}

/// The list of exports that answers a client.
#[derive(Debug)]
pub struct ExportList<'a> {
    pointer: *mut raw::Exports,
    _request: PhantomData<&'a mut raw::Exports>,
}

impl ExportList<'_> {
    /// # Safety
    ///
    /// `pointer` is a list of nbdkit's that outlives `'a`.
    pub(crate) unsafe fn new(pointer: *mut raw::Exports) -> Self {
        Self {
            pointer,
            _request: PhantomData,
        }
    }

    /// Adds an export.
    pub fn add(&mut self, name: &CStr, description: Option<&CStr>) -> Result<()> {
        let description = description.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the list and both strings are alive; nbdkit copies the strings.
        match unsafe { (api::need()?.add_export)(self.pointer, name.as_ptr(), description) } {
            -1 => Err(api::last_error()),
            _ => Ok(()),
        }
    }
}

/// The next layer's list of exports.
#[derive(Debug)]
pub struct NextExports<'a> {
    next: raw::NextListExports,
    backend: *mut raw::Backend,
    readonly: bool,
    tls: bool,
    _request: PhantomData<&'a raw::Backend>,
}

impl NextExports<'_> {
    /// # Safety
    ///
    /// All are what nbdkit passed to the `list_exports` callback that runs for `'a`.
    pub(crate) unsafe fn new(
        next: raw::NextListExports,
        backend: *mut raw::Backend,
        readonly: bool,
        tls: bool,
    ) -> Self {
        Self {
            next,
            backend,
            readonly,
            tls,
            _request: PhantomData,
        }
    }

    /// nbdkit serves read-only.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// The client uses TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Adds the next layer's exports to the client's list.
    pub fn list_into(&self, list: &mut ExportList<'_>) -> Result<()> {
        // SAFETY: `new` had the function and its backend from nbdkit, whose callback is running.
        match unsafe { (self.next)(self.backend, c_int::from(self.readonly), list.pointer) } {
            -1 => Err(Error::from_errno(libc::EIO)),
            _ => Ok(()),
        }
    }

    /// The next layer's exports.
    pub fn list(&self) -> Result<Vec<Export>> {
        let api = api::need()?;
        // SAFETY: no arguments.
        let pointer = unsafe { (api.exports_new)() };
        if pointer.is_null() {
            return Err(api::last_error());
        }
        let owned = OwnedExports(pointer);
        // SAFETY: `owned` frees the list after this has gone.
        let mut list = unsafe { ExportList::new(owned.0) };
        self.list_into(&mut list)?;
        // SAFETY: the list is alive.
        let count = unsafe { (api.exports_count)(owned.0) };
        let exports = (0..count).map(|index| {
            // SAFETY: the list is alive and the index below its count.
            let raw = unsafe { (api.get_export)(owned.0, index) };
            // SAFETY: a name is always set; both strings live as long as the list.
            let text = |text| unsafe { CStr::from_ptr(text) }.to_owned();
            Export {
                name: text(raw.name),
                description: (!raw.description.is_null()).then(|| text(raw.description)),
            }
        });
        Ok(exports.collect())
    }
}

/// Frees a list of exports of our own.
struct OwnedExports(*mut raw::Exports);

impl Drop for OwnedExports {
    fn drop(&mut self) {
        if let Some(api) = api::get() {
            // SAFETY: the list is ours and nobody has it after this.
            unsafe { (api.exports_free)(self.0) };
        }
    }
}

/// The next layer's default export.
#[derive(Debug)]
pub struct NextDefaultExport<'a> {
    next: raw::NextDefaultExport,
    backend: *mut raw::Backend,
    readonly: bool,
    tls: bool,
    _request: PhantomData<&'a raw::Backend>,
}

impl NextDefaultExport<'_> {
    /// # Safety
    ///
    /// All are what nbdkit passed to the `default_export` callback that runs for `'a`.
    pub(crate) unsafe fn new(
        next: raw::NextDefaultExport,
        backend: *mut raw::Backend,
        readonly: bool,
        tls: bool,
    ) -> Self {
        Self {
            next,
            backend,
            readonly,
            tls,
            _request: PhantomData,
        }
    }

    /// nbdkit serves read-only.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// The client uses TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// What the next layer takes an empty name for; `None` if it refuses the empty name. A plugin
    /// that says nothing gives an empty name.
    pub fn default_export(&self) -> Option<CString> {
        // SAFETY: `new` had the function and its backend from nbdkit, whose callback is running.
        let name = unsafe { (self.next)(self.backend, c_int::from(self.readonly)) };
        // SAFETY: nbdkit returns NULL or a string that lives as long as the connection.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
    }
}
