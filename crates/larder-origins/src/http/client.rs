//! One server, as range requests need it: its connections, its proxy, and the headers that are for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::header::RANGE;
use ureq::http::{HeaderMap, HeaderValue, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Error, Proxy, Timeout};
use url::Url;

use super::deadline::{Budget, Deadline, Patience};
use super::failure::{Failure, Kind};
use super::names::Names;
use super::permits::{Permit, Permits};

/// As many connections as the engine has threads that read at once. A server of many clients has more threads.
const CONNECTIONS: usize = 64;
/// Shorter than the time after which common servers close idle ones (nginx: 75 s).
const IDLE_LONGEST: Duration = Duration::from_secs(55);
/// Room for a request's header.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;

/// An answer. As long as it is there, its connection is not used for another request.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    _permit: Permit,
}

/// A server: scheme, host and port.
pub(super) struct Client {
    agent: Agent,
    permits: Arc<Permits>,
    headers: HeaderMap,
    names: Names,
    /// A request ran with the agent's own settings: the library keeps the TLS configuration of such a one
    /// only, and would read all certificate authorities again for each connection.
    warm: AtomicBool,
    /// A connection broke or went silent: the idle ones may have gone the same way without a sign, and the
    /// next request throws them away instead of trying one after the other.
    suspect: AtomicBool,
    /// Longer than this a server says nothing only if it is slow, or if its connection is dead.
    silence: Duration,
    /// What it took longer for the last time. Looked at only, never held while the network is waited for.
    patience: Mutex<Patience>,
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
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .max_idle_age(IDLE_LONGEST)
            .timeout_resolve(Some(longest.silence))
            .timeout_connect(Some(longest.silence))
            .timeout_recv_response(Some(longest.answer))
            .timeout_per_read(Some(longest.read))
            .timeout_per_write(Some(longest.silence))
            .timeout_global(Some(longest.whole));
        if let Some(roots) = roots {
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let names = Names::default();
        Self {
            agent: Agent::with_parts(config.build(), DefaultConnector::default(), names.clone()),
            permits: Permits::new(CONNECTIONS),
            headers,
            names,
            warm: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            silence: longest.silence,
            patience: Mutex::new(Patience::None),
        }
    }

    /// Asks for the bytes from `first` to `last`, both included.
    pub(super) fn get(
        &self,
        url: &Url,
        first: u64,
        last: u64,
        deadline: &Deadline,
    ) -> Result<Answer, Failure> {
        let too_late = |message| move || Failure::new(Kind::TooLate, message);
        let permit = self.permits.take(deadline.left());
        let permit = permit.ok_or_else(too_late("all connections to the server are busy"))?;
        let is_warm = self.warm.load(Ordering::Relaxed);
        // What is not warm gets a new connection, which is not dead.
        let least = match is_warm {
            true => Patience::None,
            false => Patience::Answer,
        };
        let budget = deadline.budget(least.max(*self.patience()));
        let budget = budget.ok_or_else(too_late("there was no time left"))?;
        let own = (is_warm || !deadline.is_fresh()).then_some(&budget);
        let began = Instant::now();
        match self.run(url, first, last, own) {
            Ok(response) => {
                self.learn(Patience::Answer, began.elapsed());
                if own.is_none() {
                    self.warm.store(true, Ordering::Relaxed);
                }
                Ok(Answer {
                    response,
                    _permit: permit,
                })
            }
            Err(failure) => {
                self.note(&failure);
                Err(failure)
            }
        }
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the server took for what it may be given patience for.
    pub(super) fn learn(&self, what: Patience, took: Duration) {
        let mut patience = self.patience();
        if took >= self.silence {
            *patience = what.max(*patience);
        } else if *patience == what {
            *patience = Patience::None;
        }
    }

    /// What a failure of a connection means for the next requests.
    pub(super) fn note(&self, failure: &Failure) {
        match failure.kind {
            Kind::Unanswered => self.learn(Patience::Answer, self.silence),
            Kind::Withheld => self.learn(Patience::Body, self.silence),
            _ => {}
        }
        if matches!(
            failure.kind,
            Kind::Lost | Kind::Silent | Kind::Unanswered | Kind::Withheld
        ) {
            self.suspect.store(true, Ordering::Relaxed);
        }
        if failure.kind != Kind::Lasting {
            self.names.forget();
        }
    }

    /// One request, within its own times or the agent's.
    fn run(
        &self,
        url: &Url,
        first: u64,
        last: u64,
        own: Option<&Budget>,
    ) -> Result<Response<Body>, Failure> {
        let unsendable = || Failure::new(Kind::Lasting, "the address cannot be sent");
        let mut request = Request::get(url.as_str())
            .body(())
            .map_err(|_| unsendable())?;
        *request.headers_mut() = self.headers.clone();
        let range =
            HeaderValue::try_from(format!("bytes={first}-{last}")).map_err(|_| unsendable())?;
        request.headers_mut().insert(RANGE, range);
        if let Some(budget) = own {
            let mut own = self
                .agent
                .configure_request(request)
                .timeout_resolve(Some(budget.silence))
                .timeout_connect(Some(budget.silence))
                .timeout_recv_response(Some(budget.answer))
                .timeout_recv_body(budget.body)
                .timeout_per_read(Some(budget.read))
                .timeout_per_write(Some(budget.silence))
                .timeout_global(Some(budget.whole));
            let is_suspect = self.suspect.swap(false, Ordering::Relaxed);
            if is_suspect || budget.needs_fresh {
                own = own.max_idle_age(Duration::ZERO);
            }
            request = own.build();
        }
        self.agent.run(request).map_err(|error| match error {
            Error::Timeout(Timeout::PerRead | Timeout::RecvResponse) => {
                Failure::new(Kind::Unanswered, "the server does not answer")
            }
            error => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn client() -> Client {
        Client::new(HeaderMap::new(), None, None, Budget::longest(TIMEOUT))
    }

    #[test]
    fn looking_up_a_name_leaves_time_for_another_try() {
        let client = client();
        let timeouts = client.agent.config().timeouts();
        assert_eq!(timeouts.resolve, Some(TIMEOUT / 3));
    }

    #[test]
    fn a_slow_server_is_given_time_until_it_is_fast() {
        let client = client();
        let (fast, slow) = (TIMEOUT / 4, TIMEOUT / 2);
        for (what, took, expected) in [
            (Patience::Answer, slow, Patience::Answer),
            (Patience::Body, fast, Patience::Answer),
            (Patience::Body, slow, Patience::Body),
            (Patience::Answer, fast, Patience::Body),
            (Patience::Body, fast, Patience::None),
            (Patience::Answer, slow, Patience::Answer),
            (Patience::Answer, fast, Patience::None),
        ] {
            client.learn(what, took);
            assert_eq!(*client.patience(), expected);
        }
    }
}
