//! One server, as range requests need it: its connections, its proxy, and the headers that are for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::header::RANGE;
use ureq::http::{HeaderMap, HeaderValue, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};
use url::Url;

use super::deadline::{Budget, Deadline};
use super::failure::{Failure, Kind};
use super::names::Names;

/// As many idle connections as the engine has threads that read at once.
const IDLE_CONNECTIONS: usize = 64;
/// Shorter than the time after which common servers close idle ones (nginx: 75 s).
const IDLE_LONGEST: Duration = Duration::from_secs(55);
/// Room for a request's header.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;

/// A server: scheme, host and port.
pub(super) struct Client {
    agent: Agent,
    headers: HeaderMap,
    names: Names,
    /// A request ran with the agent's own settings: the library keeps the TLS configuration of such a one
    /// only, and would read all certificate authorities again for each connection.
    warm: AtomicBool,
    /// A connection broke or went silent: the idle ones may have gone the same way without a sign, and the
    /// next request throws them away instead of trying one after the other.
    suspect: AtomicBool,
}

impl Client {
    /// For one server. `headers` may be credentials. `roots` is there if the server speaks TLS.
    pub(super) fn new(
        headers: HeaderMap,
        proxy: Option<Proxy>,
        roots: Option<RootCerts>,
        longest: Budget,
    ) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // With none, answers that redirect come back as they are.
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .output_buffer_size(OUTPUT_BUFFER_BYTES)
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .max_idle_age(IDLE_LONGEST)
            .timeout_connect(Some(longest.silence))
            .timeout_recv_response(Some(longest.answer))
            .timeout_per_read(Some(longest.silence))
            .timeout_per_write(Some(longest.silence))
            .timeout_global(Some(longest.whole));
        if let Some(roots) = roots {
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let names = Names::default();
        Self {
            agent: Agent::with_parts(config.build(), DefaultConnector::default(), names.clone()),
            headers,
            names,
            warm: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
        }
    }

    /// Asks for the bytes from `first` to `last`, both included.
    pub(super) fn get(
        &self,
        url: &Url,
        first: u64,
        last: u64,
        deadline: &Deadline,
    ) -> Result<Response<Body>, Failure> {
        let budget = deadline
            .budget()
            .ok_or_else(|| Failure::new(Kind::TooLate, "there was no time left"))?;
        let result = self.run(url, first, last, budget);
        match &result {
            Ok(_) => self.warm.store(true, Ordering::Relaxed),
            Err(failure) => self.note(failure),
        }
        result
    }

    /// What a failure of a connection means for the next requests.
    pub(super) fn note(&self, failure: &Failure) {
        if matches!(failure.kind, Kind::Lost | Kind::Silent) {
            self.suspect.store(true, Ordering::Relaxed);
        }
        if failure.kind != Kind::Lasting {
            self.names.forget();
        }
    }

    fn run(
        &self,
        url: &Url,
        first: u64,
        last: u64,
        budget: Budget,
    ) -> Result<Response<Body>, Failure> {
        let unsendable = || Failure::new(Kind::Lasting, "the address cannot be sent");
        let mut request = Request::get(url.as_str())
            .body(())
            .map_err(|_| unsendable())?;
        *request.headers_mut() = self.headers.clone();
        let range =
            HeaderValue::try_from(format!("bytes={first}-{last}")).map_err(|_| unsendable())?;
        request.headers_mut().insert(RANGE, range);
        if self.warm.load(Ordering::Relaxed) {
            let mut own = self
                .agent
                .configure_request(request)
                .timeout_connect(Some(budget.silence))
                .timeout_recv_response(Some(budget.answer))
                .timeout_per_read(Some(budget.silence))
                .timeout_per_write(Some(budget.silence))
                .timeout_global(Some(budget.whole));
            if self.suspect.swap(false, Ordering::Relaxed) {
                own = own.max_idle_age(Duration::ZERO);
            }
            request = own.build();
        }
        Ok(self.agent.run(request)?)
    }
}
