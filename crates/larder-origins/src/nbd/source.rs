//! Opening an NBD export as a source.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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

/// What is left of a request's time when TCP gives up is enough for a new connection.
const FOR_A_NEW_ONE: Duration = Duration::from_secs(5);
/// A request that has so much time may find TCP asleep at the end of an outage.
const LONG: Duration = Duration::from_secs(20);

/// For how long TCP goes on with what the server does not confirm, where a request waits so long.
///
/// TCP sends again after ever longer pauses: 13, 25 and 51 s after the first time. So an outage that is over may not be
/// noticed within a request's time. A new connection finds out at once: just before the end of that time TCP gives up.
/// Not sooner, since what was acknowledged and not flushed counts as lost with the connection, and TCP alone
/// may still mend it. What was in flight is sent again, as after any loss: the server may have it and not have said so,
/// or does it late, just as if it had died. Where requests have little time the pauses are short, and TCP goes on.
fn unconfirmed(timeout: Duration) -> Duration {
    match timeout >= LONG {
        true => timeout - FOR_A_NEW_ONE,
        false => timeout * 2,
    }
}

/// Connects once; a server that is not there is an error.
pub(crate) fn open(address: &NbdAddress, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    let shown = address.to_string();
    let wrong = |why: &dyn std::fmt::Display| OpenError::new(format!("{shown}: {why}"));
    let way = Way {
        address: address.clone(),
        tls: tls::load(address, options)?,
        unconfirmed: unconfirmed(options.timeout),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_gives_up_while_there_is_time_for_a_new_connection() {
        let seconds = Duration::from_secs;
        assert_eq!(unconfirmed(seconds(30)), seconds(25));
        assert_eq!(unconfirmed(seconds(600)), seconds(595));
        // TCP does not sleep long enough to matter.
        assert_eq!(unconfirmed(seconds(10)), seconds(20));
    }
}
