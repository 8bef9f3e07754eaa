//! Opening: one request for the first byte tells size, version and whether the server knows ranges.
//!
//! A GET and not a HEAD: servers answer the latter wrongly, and addresses that are signed for GET refuse it.
//! It is made once and not tried again: what is wrong at the start is told at once.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use larder::Origin;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::address::{HttpAddress, shown};
use super::answer::{announced_bytes, part_of, refusal};
use super::clients::Clients;
use super::content_range::ContentRange;
use super::deadline::{Deadline, Patience};
use super::failure::{Failure, Kind};
use super::headers;
use super::origin::{HttpOrigin, fill};
use super::pinned::Pinned;
use super::route::Route;
use super::validator::Validator;
use crate::{OpenError, Options, Source};

/// The largest size, in bytes, that offsets can name.
const SIZE_AT_MOST_BYTES: u64 = i64::MAX as u64;

/// One object; all handles are the same, since nothing is ever unflushed.
struct HttpSource {
    origin: Arc<HttpOrigin>,
}

impl Source for HttpSource {
    fn connect(&self) -> io::Result<Arc<dyn Origin>> {
        Ok(Arc::clone(&self.origin) as Arc<dyn Origin>)
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("address", &self.origin.shown)
            .field("pinned", &self.origin.pinned)
            .finish_non_exhaustive()
    }
}

/// Opens an object of a web server.
pub(crate) fn open(address: &HttpAddress, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    let error = |message: String| OpenError::new(format!("{address}: {message}"));
    let headers = headers::of(&options.http_headers, address.credentials()).map_err(error)?;
    let clients = Clients::new(
        address.url(),
        headers,
        options.tls_ca.clone(),
        options.timeout,
    );
    // A file that cannot be used is told now, and not when something redirects to a server with TLS.
    if options.tls_ca.is_some() {
        clients.roots().map_err(error)?;
    }
    let route = Route::new(address.url().clone(), clients);
    let pinned = probe(&route, options).map_err(|failure| error(failure.message))?;
    if !pinned.validator.is_good() && pinned.size_bytes > 0 {
        options.log.warning(&format!(
            "{address}: the server gives {}: only a change of {} will be noticed",
            pinned.validator,
            if pinned.validator.is_missing() {
                "its size"
            } else {
                "that or its size"
            },
        ));
    }
    let origin = HttpOrigin {
        shown: address.to_string(),
        route,
        pinned,
        timeout: options.timeout,
        log: Arc::clone(&options.log),
        changed: OnceLock::new(),
        troubled: AtomicBool::new(false),
    };
    Ok(Box::new(HttpSource {
        origin: Arc::new(origin),
    }))
}

fn probe(route: &Route, options: &Options) -> Result<Pinned, Failure> {
    let mut reached = route.get(None, 0, 0, &Deadline::new(options.timeout, 1))?;
    let response = &mut reached.answer.response;
    let result = learn(response).and_then(|pinned| {
        if pinned.size_bytes > 0 {
            let began_after = fill(&mut response.body_mut().as_reader(), &mut [0], &mut 0)?;
            reached.client.learn(Patience::Body, began_after);
        }
        Ok(pinned)
    });
    match (result, reached.redirected_to) {
        (Ok(pinned), target) => {
            if let Some(target) = target {
                route.remember(target);
            }
            Ok(pinned)
        }
        (Err(failure), Some(target)) => Err(failure.at(&shown(&target))),
        (Err(failure), None) => Err(failure),
    }
}

/// What the answer to a request for the first byte says.
fn learn(response: &Response<Body>) -> Result<Pinned, Failure> {
    let headers = response.headers();
    let lasting = |message: &str| Err(Failure::new(Kind::Lasting, message));
    let size_bytes = match response.status() {
        StatusCode::PARTIAL_CONTENT => match part_of(response, 0, 0)?.total {
            Some(total) if total > SIZE_AT_MOST_BYTES => {
                return lasting("the object is larger than any disk can be");
            }
            Some(total) => total,
            None => {
                return lasting("the server does not tell the object's size, which a disk needs");
            }
        },
        StatusCode::OK if announced_bytes(headers) == Some(0) => 0,
        StatusCode::OK => {
            return lasting(
                "the server does not support range requests, without which parts of an object cannot be read",
            );
        }
        StatusCode::RANGE_NOT_SATISFIABLE
            if ContentRange::of(headers).and_then(|range| range.total) == Some(0) =>
        {
            0
        }
        status => return Err(refusal(status, headers)),
    };
    Ok(Pinned {
        size_bytes,
        validator: Validator::of(headers, size_bytes),
    })
}
