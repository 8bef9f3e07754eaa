//! What nbdkit calls: C functions around the trait methods, one set per filter type.
//!
//! Invariants:
//! - No panic leaves them: each body runs in [`caught`], and an error becomes nbdkit's failure
//!   value with a positive errno.
//! - A handle is a `Box<State<C>>` made by `open` and taken back by `close`.

mod connection;
mod data;
mod process;

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::layout::{Head, Members, Tail};
use crate::log;
use crate::next::Next;
use crate::raw;
use crate::register::private::Registered;
use crate::version::Version;

/// What a handle points to.
pub(crate) struct State<C> {
    connection: C,
    /// Set by `prepare`.
    next: Option<Next>,
}

/// Runs a callback's body and turns a panic into EIO.
pub(crate) fn caught<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves half changed belongs to the filter, which has to expect to be called
    // again (or poisons itself); nothing of this crate's is changed inside.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let reason = reason(&*panic);
        // A payload may panic when it is dropped.
        std::mem::forget(panic);
        Err(Error::new(libc::EIO, format!("{what}: panic: {reason}")))
    })
}

fn reason(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no reason given".to_owned()
    }
}

/// 0, or -1 with the reason logged.
fn status(result: Result<()>) -> c_int {
    number(result.map(|()| 0))
}

/// The number, or -1 with the reason logged.
fn number<N: From<i8>>(result: Result<N>) -> N {
    result.unwrap_or_else(|error| {
        log::failure(&error);
        N::from(-1)
    })
}

/// The string in nbdkit's keeping, or NULL with the reason logged.
fn string(result: Result<Option<CString>>) -> *const c_char {
    let text = match result {
        Ok(text) => text,
        Err(error) => {
            log::failure(&error);
            None
        }
    };
    match (text, crate::api::get()) {
        // SAFETY: the string is alive; nbdkit copies it.
        (Some(text), Some(api)) => unsafe { (api.strdup_intern)(text.as_ptr()) },
        _ => ptr::null(),
    }
}

/// Borrows a C string for the length of a callback.
///
/// # Safety
///
/// `text` is a C string that outlives `'a`.
unsafe fn borrow<'a>(text: *const c_char) -> &'a CStr {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
}

/// Borrows the connection behind a handle for the length of a callback, with its next layer.
///
/// # Safety
///
/// `handle` came from `open` of the same filter, and `close` has not been called.
unsafe fn connection<'a, C>(handle: *mut c_void) -> Result<(&'a C, &'a Next)> {
    // SAFETY: as the caller promises. Between `prepare` and `close` nobody changes the state.
    let state = unsafe { &*handle.cast::<State<C>>() };
    match &state.next {
        Some(next) => Ok((&state.connection, next)),
        None => Err(Error::new(libc::EIO, "called before prepare")),
    }
}

/// Runs a callback of a prepared connection, inside a window for calls to the next layer.
///
/// # Safety
///
/// As for [`connection`].
unsafe fn with<C, T>(
    what: &str,
    handle: *mut c_void,
    run: impl FnOnce(&C, &Next) -> Result<T>,
) -> Result<T> {
    // SAFETY: as the caller promises.
    let (connection, next) = unsafe { connection::<C>(handle)? };
    let _window = next.window();
    caught(what, || run(connection, next))
}

/// Everything that goes into the C structure, for any layout.
pub(crate) fn members<F: Registered>(version: &Version) -> Members {
    let text = |text: Option<&'static CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // Leaked: nbdkit keeps the pointer, and this runs once.
    let version = Box::leak(Box::new(version.text().to_owned()));
    Members {
        head: Head {
            api_version: raw::API_VERSION,
            version: version.as_ptr(),
            name: F::NAME.as_ptr(),
            longname: text(F::LONGNAME),
            description: text(F::DESCRIPTION),
            load: process::load::<F>,
            unload: process::unload::<F>,
            config: process::config::<F>,
            config_complete: process::config_complete::<F>,
            config_help: text(F::CONFIG_HELP),
            thread_model: process::thread_model::<F>,
        },
        dump_plugin: process::dump_plugin::<F>,
        tail: tail::<F>(),
    }
}

fn tail<F: Registered>() -> Tail {
    type C<F> = <F as Filter>::Connection;
    Tail {
        get_ready: process::get_ready::<F>,
        after_fork: process::after_fork::<F>,
        cleanup: process::cleanup::<F>,
        preconnect: process::preconnect::<F>,
        list_exports: process::list_exports::<F>,
        default_export: process::default_export::<F>,
        open: connection::open::<F>,
        close: connection::close::<C<F>>,
        prepare: connection::prepare::<F>,
        finalize: connection::finalize::<C<F>>,
        get_size: connection::get_size::<C<F>>,
        export_description: connection::export_description::<C<F>>,
        block_size: connection::block_size::<C<F>>,
        can_write: connection::can_write::<C<F>>,
        can_flush: connection::can_flush::<C<F>>,
        is_rotational: connection::is_rotational::<C<F>>,
        can_trim: connection::can_trim::<C<F>>,
        can_zero: connection::can_zero::<C<F>>,
        can_fast_zero: connection::can_fast_zero::<C<F>>,
        can_extents: connection::can_extents::<C<F>>,
        can_fua: connection::can_fua::<C<F>>,
        can_multi_conn: connection::can_multi_conn::<C<F>>,
        can_cache: connection::can_cache::<C<F>>,
        pread: data::pread::<C<F>>,
        pwrite: data::pwrite::<C<F>>,
        flush: data::flush::<C<F>>,
        trim: data::trim::<C<F>>,
        zero: data::zero::<C<F>>,
        extents: data::extents::<C<F>>,
        cache: data::cache::<C<F>>,
    }
}
