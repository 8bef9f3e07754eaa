//! The servers that an object is fetched from: the original one, and those that it redirects to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::tls::RootCerts;
use url::{Origin, Url};

use super::client::Client;
use super::deadline::Budget;
use super::failure::{Failure, Kind};
use super::{proxy, roots};

/// Servers that are remembered besides the original one.
const OTHERS_AT_MOST: usize = 8;

/// Makes and keeps a [`Client`] per server. The mutexes are held for looking only, never while the network
/// is waited for.
pub(super) struct Clients {
    original: Origin,
    /// For the original server only.
    headers: HeaderMap,
    tls_ca: Option<PathBuf>,
    timeout: Duration,
    roots: Mutex<Option<RootCerts>>,
    known: Mutex<Vec<(Origin, Arc<Client>)>>,
}

impl Clients {
    /// `headers` go to the server of `original` and to no other.
    pub(super) fn new(
        original: &Url,
        headers: HeaderMap,
        tls_ca: Option<PathBuf>,
        timeout: Duration,
    ) -> Self {
        Self {
            original: original.origin(),
            headers,
            tls_ca,
            timeout,
            roots: Mutex::new(None),
            known: Mutex::new(Vec::new()),
        }
    }

    /// The client for an address's server.
    pub(super) fn of(&self, url: &Url) -> Result<Arc<Client>, Failure> {
        let server = url.origin();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.iter().find(|(known, _)| *known == server) {
            return Ok(Arc::clone(client));
        }
        let client = self
            .make(url, &server)
            .map_err(|message| Failure::new(Kind::Lasting, message))?;
        let client = Arc::new(client);
        if known.len() > OTHERS_AT_MOST {
            // The first is the original one.
            known.remove(1);
        }
        known.push((server, Arc::clone(&client)));
        Ok(client)
    }

    fn make(&self, url: &Url, server: &Origin) -> Result<Client, String> {
        let headers = if *server == self.original {
            self.headers.clone()
        } else {
            HeaderMap::new()
        };
        let proxy = proxy::of(url, |name| std::env::var(name).ok())?;
        let through_tls = proxy
            .as_ref()
            .is_some_and(|proxy| proxy.uri().scheme_str() == Some("https"));
        let roots = (url.scheme() == "https" || through_tls)
            .then(|| self.roots())
            .transpose()?;
        Ok(Client::new(
            headers,
            proxy,
            roots,
            Budget::longest(self.timeout),
        ))
    }

    /// The authorities that servers are checked against, read once.
    pub(super) fn roots(&self) -> Result<RootCerts, String> {
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = &*known {
            return Ok(roots.clone());
        }
        let roots = roots::load(self.tls_ca.as_deref())?;
        Ok(known.insert(roots).clone())
    }
}
