//! Addresses of host names, remembered for a while.
//!
//! The client library looks a name up for every request, even where a connection is at hand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long addresses are good for while connecting to them works.
const KEPT: Duration = Duration::from_secs(30);

/// The names of one server and its proxy. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    known: Arc<Mutex<HashMap<String, Found>>>,
}

#[derive(Debug)]
struct Found {
    since: Instant,
    addresses: Vec<SocketAddr>,
}

impl Names {
    /// The next request looks them up again.
    pub(super) fn forget(&self) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn recent(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(name)?;
        (found.since.elapsed() < KEPT).then(|| found.addresses.clone())
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let system = DefaultResolver::default();
        let name = uri
            .scheme()
            .zip(uri.authority())
            .and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let Some(name) = name else {
            return system.resolve(uri, config, timeout);
        };
        if let Some(addresses) = self.recent(&name) {
            let mut result = self.empty();
            for address in addresses {
                // As many as the same type gave.
                let _ = result.try_push(address);
            }
            return Ok(result);
        }
        let addresses = system.resolve(uri, config, timeout)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Found {
            since: Instant::now(),
            addresses: addresses.to_vec(),
        };
        known.insert(name, found);
        Ok(addresses)
    }
}
