//! Callbacks of a connection's life and of what it can do.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::{State, borrow, caught, number, status, string, with};
use crate::capabilities::{Cache, Fua, Zero};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::log;
use crate::next::Next;
use crate::open::OpenRequest;
use crate::raw::{Context, NextOpen, NextOps};
use crate::register::private::Registered;

pub(super) extern "C" fn open<F: Registered>(
    next: NextOpen,
    context: *mut Context,
    readonly: c_int,
    name: *const c_char,
    tls: c_int,
) -> *mut c_void {
    let opened = caught("open", || {
        // SAFETY: nbdkit passes a C string that outlives the callback.
        let name = unsafe { borrow(name) };
        // SAFETY: all comes from nbdkit for this callback.
        let mut request = unsafe { OpenRequest::new(next, context, readonly != 0, name, tls != 0) };
        let connection = F::instance().serving()?.open(&mut request)?;
        request.ensure_open()?;
        Ok(connection)
    });
    match opened {
        Ok(connection) => Box::into_raw(Box::new(State {
            connection,
            next: None,
        }))
        .cast(),
        Err(error) => {
            log::failure(&error);
            ptr::null_mut()
        }
    }
}

pub(super) extern "C" fn close<C: Connection>(handle: *mut c_void) {
    // SAFETY: the handle came from `open`, and nbdkit does not use it after this.
    let state = unsafe { Box::from_raw(handle.cast::<State<C>>()) };
    // nbdkit leaves `finalize` out where `prepare` or an outer filter failed. The next layer's
    // context is closed after this one, so this is early enough.
    if let Some(next) = &state.next {
        next.close();
    }
    status(caught("close", || {
        drop(state);
        Ok(())
    }));
}

pub(super) extern "C" fn prepare<F: Registered>(
    ops: *mut NextOps,
    handle: *mut c_void,
    readonly: c_int,
) -> c_int {
    // SAFETY: the handle came from `open`; nbdkit calls nothing else with it meanwhile.
    let state = unsafe { &mut *handle.cast::<State<F::Connection>>() };
    status(caught("prepare", || {
        if state.next.is_some() {
            return Err(Error::invalid("prepare: called twice"));
        }
        if ops.is_null() {
            return Err(Error::invalid("prepare: the next layer is not open"));
        }
        // SAFETY: nbdkit passes its context; `finalize` or `close` below closes the handle.
        let next = unsafe { Next::new(ops, F::instance().model())? };
        let next = state.next.insert(next);
        let window = next.window();
        let prepared = caught("prepare", || state.connection.prepare(next, readonly != 0));
        drop(window);
        if prepared.is_err() {
            next.close();
        }
        prepared
    }))
}

pub(super) extern "C" fn finalize<C: Connection>(_ops: *mut NextOps, handle: *mut c_void) -> c_int {
    // SAFETY: the handle came from `open`.
    let result = unsafe { with::<C, _>("finalize", handle, C::finalize) };
    // SAFETY: as above.
    if let Ok((_, next)) = unsafe { super::connection::<C>(handle) } {
        next.close();
    }
    status(result)
}

pub(super) extern "C" fn get_size<C: Connection>(_: *mut NextOps, handle: *mut c_void) -> i64 {
    // SAFETY: the handle came from `open`.
    let size = unsafe { with::<C, _>("get_size", handle, C::get_size) };
    number(size.and_then(|size| {
        i64::try_from(size)
            .map_err(|_| Error::new(libc::EFBIG, format!("get_size: {size} bytes are too many")))
    }))
}

pub(super) extern "C" fn export_description<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
) -> *const c_char {
    // SAFETY: the handle came from `open`.
    string(unsafe { with::<C, _>("export_description", handle, C::export_description) })
}

pub(super) extern "C" fn block_size<C: Connection>(
    _: *mut NextOps,
    handle: *mut c_void,
    minimum: *mut u32,
    preferred: *mut u32,
    maximum: *mut u32,
) -> c_int {
    let ask = |connection: &C, next: &Next| {
        let block_size = connection.block_size(next)?;
        // What the next layer says has been its own affair; nbdkit passes it on unlooked at.
        if let Some(block_size) = block_size.filter(|_| block_size != next.block_size()) {
            block_size.check()?;
        }
        Ok(block_size.map_or((0, 0, 0), |size| {
            (size.minimum, size.preferred, size.maximum)
        }))
    };
    // SAFETY: the handle came from `open`.
    let result = unsafe { with::<C, _>("block_size", handle, ask) };
    status(result.map(|sizes| {
        // SAFETY: nbdkit passes three numbers to be filled.
        unsafe { (*minimum, *preferred, *maximum) = sizes };
    }))
}

/// A question about the connection that is answered with a number.
///
/// # Safety
///
/// `handle` came from `open`.
unsafe fn ask<C: Connection, T>(
    what: &str,
    handle: *mut c_void,
    question: fn(&C, &Next) -> Result<T>,
    to_raw: fn(T) -> c_int,
) -> c_int {
    // SAFETY: as the caller promises.
    number(unsafe { with::<C, _>(what, handle, question) }.map(to_raw))
}

/// Defines one callback per question.
macro_rules! questions {
    ($($name:ident => $to_raw:expr;)*) => {$(
        pub(super) extern "C" fn $name<C: Connection>(
            _: *mut NextOps,
            handle: *mut c_void,
        ) -> c_int {
            // SAFETY: the handle came from `open`.
            unsafe { ask::<C, _>(stringify!($name), handle, C::$name, $to_raw) }
        }
    )*};
}

questions! {
    can_write => c_int::from;
    can_flush => c_int::from;
    is_rotational => c_int::from;
    can_trim => c_int::from;
    can_zero => Zero::to_raw;
    can_fast_zero => c_int::from;
    can_extents => c_int::from;
    can_fua => Fua::to_raw;
    can_multi_conn => c_int::from;
    can_cache => Cache::to_raw;
}
