//! One origin, for as many clients as come.

use std::io;
use std::sync::Arc;

use larder::Origin;

/// Something that can be cached. Opened once, used by every client of its export.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// A handle of one client's own. It sees what every other handle wrote.
    ///
    /// Where writes that were acknowledged and not yet flushed may have been lost, each handle that was
    /// open then is told once, by its next flush or by the next request that ends with one, with an error
    /// of kind [`io::ErrorKind::ConnectionReset`]: what one client is told is not hidden from another. What nobody
    /// was told yet, a handle that is opened later is told as well.
    fn connect(&self) -> io::Result<Arc<dyn Origin>>;
}
