//! The validator: what tells one version of an object from another (RFC 9110, 8.8).

use std::fmt;

use ureq::http::header::{ETAG, HeaderName, LAST_MODIFIED};
use ureq::http::{HeaderMap, HeaderValue};

/// The best that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    /// A strong ETag: equal ones are the same bytes.
    Strong(HeaderValue),
    /// A time, in whole seconds.
    LastModified(HeaderValue),
    /// A weak ETag: another one is another object, the same one need not be the same bytes.
    Weak(HeaderValue),
    /// Nothing.
    Missing,
}

impl Validator {
    /// The one to pin.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let etag = headers.get(ETAG);
        match (etag, headers.get(LAST_MODIFIED)) {
            (Some(etag), _) if !etag.as_bytes().starts_with(b"W/") => Self::Strong(etag.clone()),
            (_, Some(time)) => Self::LastModified(time.clone()),
            (Some(etag), None) => Self::Weak(etag.clone()),
            (None, None) => Self::Missing,
        }
    }

    /// How a response of the server differs; `None` if it does not.
    pub(super) fn difference(&self, headers: &HeaderMap) -> Option<String> {
        let (name, header, pinned) = self.header()?;
        let now = headers.get(header);
        if now == Some(pinned) {
            return None;
        }
        let now = now.map_or_else(|| String::from("missing"), text);
        Some(format!("{name} was {}, is now {now}", text(pinned)))
    }

    /// Whether equal validators are good evidence of equal bytes.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Strong(_) | Self::LastModified(_))
    }

    fn header(&self) -> Option<(&'static str, HeaderName, &HeaderValue)> {
        match self {
            Self::Strong(etag) | Self::Weak(etag) => Some(("ETag", ETAG, etag)),
            Self::LastModified(time) => Some(("Last-Modified", LAST_MODIFIED, time)),
            Self::Missing => None,
        }
    }
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strong(etag) => write!(f, "ETag {}", text(etag)),
            Self::LastModified(time) => write!(f, "Last-Modified {}", text(time)),
            Self::Weak(etag) => write!(f, "weak ETag {}", text(etag)),
            Self::Missing => f.write_str("no ETag and no Last-Modified"),
        }
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(etag: Option<&str>, time: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ETAG, etag), (LAST_MODIFIED, time)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    #[test]
    fn the_best_is_taken() {
        let of = |etag, time| Validator::of(&headers(etag, time)).to_string();
        assert_eq!(of(Some("\"a\""), Some("then")), "ETag \"a\"");
        assert_eq!(of(Some("W/\"a\""), Some("then")), "Last-Modified then");
        assert_eq!(of(None, Some("then")), "Last-Modified then");
        assert_eq!(of(Some("W/\"a\""), None), "weak ETag W/\"a\"");
        assert_eq!(of(None, None), "no ETag and no Last-Modified");
    }

    #[test]
    fn differences_are_named() {
        let strong = Validator::of(&headers(Some("\"a\""), None));
        assert_eq!(
            strong.difference(&headers(Some("\"a\""), Some("later"))),
            None
        );
        assert_eq!(
            strong.difference(&headers(Some("\"b\""), None)).unwrap(),
            "ETag was \"a\", is now \"b\""
        );
        assert_eq!(
            strong.difference(&headers(None, None)).unwrap(),
            "ETag was \"a\", is now missing"
        );
        let time = Validator::of(&headers(None, Some("then")));
        assert_eq!(
            time.difference(&headers(Some("\"new\""), Some("then"))),
            None
        );
        assert_eq!(
            time.difference(&headers(None, Some("now"))).unwrap(),
            "Last-Modified was then, is now now"
        );
        assert_eq!(
            Validator::Missing.difference(&headers(Some("\"a\""), None)),
            None
        );
    }
}
