//! The way to the object: from the original address through its redirects.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::Body;
use ureq::http::Response;
use ureq::http::header::LOCATION;
use url::Url;

use super::address::{shown, strip};
use super::client::{Answer, Client};
use super::clients::Clients;
use super::deadline::Deadline;
use super::failure::{Failure, Kind};

const REDIRECTS_AT_MOST: usize = 10;
/// What is read of a body that nobody wants, so that its connection can be used again.
const UNWANTED_BODY_AT_MOST_BYTES: u64 = 64 << 10;

/// The original address, and where its redirects led.
pub(super) struct Route {
    original: Url,
    clients: Clients,
    /// The target of the redirects, while it answers rightly.
    target: Mutex<Option<Arc<Url>>>,
}

/// An answer that is no redirect.
pub(super) struct Reached {
    /// Who asked.
    pub(super) client: Arc<Client>,
    pub(super) answer: Answer,
    /// Where it came from, if that is not where the request began.
    pub(super) redirected_to: Option<Url>,
}

impl Route {
    pub(super) fn new(original: Url, clients: Clients) -> Self {
        Self {
            original,
            clients,
            target: Mutex::new(None),
        }
    }

    /// The address that the object was opened by.
    pub(super) fn original(&self) -> &Url {
        &self.original
    }

    /// Where redirects led the last time.
    pub(super) fn target(&self) -> Option<Arc<Url>> {
        self.target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begin there the next time.
    pub(super) fn remember(&self, target: Url) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(target));
    }

    /// Begin at the original address the next time, unless another thread has found a new target.
    pub(super) fn forget(&self, target: &Arc<Url>) {
        let mut known = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, target))
        {
            *known = None;
        }
    }

    /// Asks for a range, both ends included, at `start` or the original address, and follows redirects.
    pub(super) fn get(
        &self,
        start: Option<&Url>,
        first: u64,
        last: u64,
        deadline: &Deadline,
    ) -> Result<Reached, Failure> {
        let mut url = start.unwrap_or(&self.original).clone();
        for hops in 0..=REDIRECTS_AT_MOST {
            let place = |failure: Failure| match hops {
                0 => failure,
                _ => failure.at(&shown(&url)),
            };
            let client = self.clients.of(&url).map_err(place)?;
            let answer = client.get(&url, first, last, deadline).map_err(place)?;
            if !matches!(
                answer.response.status().as_u16(),
                301 | 302 | 303 | 307 | 308
            ) {
                return Ok(Reached {
                    client,
                    answer,
                    redirected_to: (hops > 0).then_some(url),
                });
            }
            url = next(&url, &answer.response)?;
            discard(answer);
        }
        Err(Failure::new(
            Kind::Lasting,
            format!("more than {REDIRECTS_AT_MOST} redirects"),
        ))
    }
}

/// Where a redirect leads. Credentials in it are not used.
fn next(url: &Url, response: &Response<Body>) -> Result<Url, Failure> {
    let lasting =
        |message: &str| Failure::new(Kind::Lasting, format!("{} from {}", message, shown(url)));
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let mut next = location
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| lasting("a redirect without an address that can be used"))?;
    match (url.scheme(), next.scheme()) {
        ("https", "http") => {
            return Err(lasting("a redirect to plain http, which is not followed,"));
        }
        (_, "http" | "https") => {}
        _ => return Err(lasting("a redirect to neither http nor https")),
    }
    strip(&mut next).map_err(|()| lasting("a redirect without a host"))?;
    Ok(next)
}

/// Reads a body to its end if that is near: the connection can be used again.
pub(super) fn discard(mut answer: Answer) {
    let body = answer.response.body_mut();
    if body
        .content_length()
        .is_none_or(|length| length <= UNWANTED_BODY_AT_MOST_BYTES)
    {
        let _ = std::io::copy(
            &mut body.as_reader().take(UNWANTED_BODY_AT_MOST_BYTES + 1),
            &mut std::io::sink(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(from: &str, location: &str) -> Result<String, String> {
        let response = Response::builder().status(302).header(LOCATION, location);
        let response = response.body(Body::builder().data("")).unwrap();
        next(&Url::parse(from).unwrap(), &response)
            .map(|url| url.to_string())
            .map_err(|failure| failure.message)
    }

    #[test]
    fn redirects_are_resolved() {
        for (from, location, expected) in [
            ("http://a/b/c?d", "e", "http://a/b/e"),
            ("http://a/b", "/x?y", "http://a/x?y"),
            ("http://a/b", "//c/d", "http://c/d"),
            ("http://a/b", "https://u:p@c/d?e#f", "https://c/d?e"),
            ("https://a/b", "https://a:444/b", "https://a:444/b"),
        ] {
            assert_eq!(led(from, location).unwrap(), expected);
        }
    }

    #[test]
    fn some_are_not_followed() {
        for (from, location) in [
            ("https://a/b", "http://a/b"),
            ("http://a/b", "file:///etc/passwd"),
            ("http://a/b?s3cret", "http://"),
        ] {
            let message = led(from, location).unwrap_err();
            assert!(
                message.contains("redirect") && !message.contains("s3cret"),
                "{message}"
            );
        }
    }

    #[test]
    fn addresses_can_be_sent() {
        for text in [
            "http://h/a|b^c{d}[e]`f'\"<>\\~",
            "http://h/\u{e4} \u{1f4be}?q=\u{e4} |^{}\"'",
            "http://b\u{fc}cher.example/",
        ] {
            let url = Url::parse(text).unwrap();
            assert!(ureq::http::Uri::try_from(url.as_str()).is_ok(), "{url}");
        }
    }
}
