//! Callbacks of the process: loading, configuration, and what is asked before a connection opens.

use std::ffi::{c_char, c_int};
use std::str;

use super::{borrow, caught, number, status, string};
use crate::capabilities::ThreadModel;
use crate::error::{Error, Result};
use crate::exports::{ExportList, NextDefaultExport, NextExports};
use crate::filter::Config;
use crate::log;
use crate::raw::{
    Backend, Exports, NextConfig, NextConfigComplete, NextDefaultExport as RawNextDefaultExport,
    NextListExports, NextPreconnect,
};
use crate::register::private::Registered;
use crate::value::Value;

/// nbdkit gives `load` no way to fail, so without an instance the first `config` or
/// `config_complete` fails instead.
pub(super) extern "C" fn load<F: Registered>() {
    match caught("load", F::load) {
        Ok(filter) => F::instance().load(filter),
        Err(error) => log::failure(&error),
    }
}

pub(super) extern "C" fn unload<F: Registered>() {
    look::<F>("unload", F::unload);
}

pub(super) extern "C" fn dump_plugin<F: Registered>() {
    look::<F>("dump_plugin", F::dump_plugin);
}

pub(super) extern "C" fn config<F: Registered>(
    next: NextConfig,
    backend: *mut Backend,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: nbdkit passes two C strings that outlive the callback.
    let (key_text, value_text) = unsafe { (borrow(key), borrow(value)) };
    let result = caught("config", || match str::from_utf8(key_text.to_bytes()) {
        Ok(key) => F::instance().configure(|filter| filter.config(key, Value::new(value_text))),
        Err(_) => Ok(Config::PassOn),
    });
    match result {
        Ok(Config::Taken) => 0,
        // SAFETY: these are nbdkit's own pointers, passed on.
        Ok(Config::PassOn) => unsafe { next(backend, key, value) },
        Err(error) => status(Err(error)),
    }
}

pub(super) extern "C" fn config_complete<F: Registered>(
    next: NextConfigComplete,
    backend: *mut Backend,
) -> c_int {
    match caught("config_complete", || {
        F::instance().configure(F::config_complete)
    }) {
        // SAFETY: these are nbdkit's own pointers, passed on.
        Ok(()) => unsafe { next(backend) },
        Err(error) => status(Err(error)),
    }
}

pub(super) extern "C" fn thread_model<F: Registered>() -> c_int {
    let model = caught("thread_model", || F::instance().configure(F::thread_model));
    number(model.map(ThreadModel::to_raw))
}

pub(super) extern "C" fn get_ready<F: Registered>(model: c_int) -> c_int {
    status(caught("get_ready", || {
        let model = ThreadModel::from_raw(model).ok_or_else(|| {
            Error::invalid(format!(
                "get_ready: nbdkit has an unknown thread model {model}"
            ))
        })?;
        F::instance().configure(|filter| filter.get_ready(model))?;
        F::instance().freeze(model)
    }))
}

pub(super) extern "C" fn after_fork<F: Registered>(_backend: *mut Backend) -> c_int {
    serve::<F>("after_fork", F::after_fork)
}

pub(super) extern "C" fn cleanup<F: Registered>(_backend: *mut Backend) {
    serve::<F>("cleanup", |filter| {
        filter.cleanup();
        Ok(())
    });
}

pub(super) extern "C" fn preconnect<F: Registered>(
    next: NextPreconnect,
    backend: *mut Backend,
    readonly: c_int,
) -> c_int {
    match serve::<F>("preconnect", |filter| filter.preconnect(readonly != 0)) {
        // SAFETY: these are nbdkit's own pointers, passed on.
        0 => unsafe { next(backend, readonly) },
        failed => failed,
    }
}

pub(super) extern "C" fn list_exports<F: Registered>(
    next: NextListExports,
    backend: *mut Backend,
    readonly: c_int,
    tls: c_int,
    exports: *mut Exports,
) -> c_int {
    serve::<F>("list_exports", |filter| {
        // SAFETY: all comes from nbdkit for this callback.
        let next = unsafe { NextExports::new(next, backend, readonly != 0, tls != 0) };
        // SAFETY: as above.
        let mut list = unsafe { ExportList::new(exports) };
        filter.list_exports(&next, &mut list)
    })
}

pub(super) extern "C" fn default_export<F: Registered>(
    next: RawNextDefaultExport,
    backend: *mut Backend,
    readonly: c_int,
    tls: c_int,
) -> *const c_char {
    string(caught("default_export", || {
        // SAFETY: all comes from nbdkit for this callback.
        let next = unsafe { NextDefaultExport::new(next, backend, readonly != 0, tls != 0) };
        F::instance().serving()?.default_export(&next)
    }))
}

fn serve<F: Registered>(what: &str, run: impl FnOnce(&F) -> Result<()>) -> c_int {
    status(caught(what, || run(F::instance().serving()?)))
}

fn look<F: Registered>(what: &str, run: impl FnOnce(&F)) {
    status(caught(what, || {
        F::instance().look(run);
        Ok(())
    }));
}
