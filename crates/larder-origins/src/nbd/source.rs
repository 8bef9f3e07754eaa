//! Opening an NBD export as a source.

use std::io;
use std::sync::Arc;

use larder::Origin;
use nbd_wire::TransmissionFlags;

use super::address::NbdAddress;
use super::handle::Handle;
use super::pool::{Pool, Way};
use super::report::Report;
use super::tls;
use crate::{OpenError, Options, Source};

/// An NBD export. Says farewell to its server when it and its handles are dropped.
#[derive(Debug)]
struct NbdSource {
    pool: Arc<Pool>,
}

/// Connects once; a server that is not there is an error.
pub(crate) fn open(address: &NbdAddress, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    let shown = address.to_string();
    let wrong = |why: &dyn std::fmt::Display| OpenError::new(format!("{shown}: {why}"));
    let way = Way {
        address: address.clone(),
        tls: tls::load(address, options)?,
        // Longer than a request waits, whose time it is not TCP's to shorten.
        unconfirmed: options.timeout * 2,
    };
    let found = way.connect_first().map_err(|failure| wrong(&failure))?;
    let is_read_only = found.1.flags.contains(TransmissionFlags::READ_ONLY);
    if is_read_only && !options.read_only {
        return Err(wrong(
            &"the server offers it for reading only: --read-only would do",
        ));
    }
    let report = Report::new(shown.clone(), Arc::clone(&options.log));
    let pool = Pool::new(way, (options.read_only, options.timeout), report, found)
        .map_err(|error| wrong(&error))?;
    Ok(Box::new(NbdSource { pool }))
}

impl Source for NbdSource {
    fn connect(&self) -> io::Result<Arc<dyn Origin>> {
        Ok(Arc::new(Handle::new(&self.pool)))
    }
}
