//! The validator: what tells one version of an object from another (RFC 9110, 8.8).

use std::fmt;

use ureq::http::header::{DATE, ETAG, HeaderName, LAST_MODIFIED};
use ureq::http::{HeaderMap, HeaderValue};

use super::date;

/// The least time, in seconds, between the last change and the answer that tells it: times are told in whole
/// seconds, and the clock of a file system may be a tick behind.
const SETTLED_AFTER_SECONDS: i64 = 2;

/// All that a server offers: a strong ETag is enough, else a weak one and the time are taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validator {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    /// Nothing that is changed from now on can have the same time.
    is_settled: bool,
}

/// How an answer's object compares with the pinned one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is another one.
    Other(String),
    /// The answer does not tell, though the object had this.
    Untold(String),
}

impl Validator {
    /// The one to pin.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let etag = headers.get(ETAG).cloned();
        let modified = headers.get(LAST_MODIFIED).cloned();
        let modified = modified.filter(|_| !etag.as_ref().is_some_and(is_strong));
        let seconds = |value: Option<&HeaderValue>| date::seconds(value?.as_bytes());
        let is_settled = match (seconds(modified.as_ref()), seconds(headers.get(DATE))) {
            (Some(modified), Some(now)) => now - modified >= SETTLED_AFTER_SECONDS,
            _ => false,
        };
        Self {
            etag,
            modified,
            is_settled,
        }
    }

    /// How a response of the server differs; `None` if it does not.
    pub(super) fn difference(&self, headers: &HeaderMap) -> Option<Difference> {
        let pinned = [
            ("ETag", ETAG, &self.etag),
            ("Last-Modified", LAST_MODIFIED, &self.modified),
        ];
        let mut untold = None;
        for (name, header, was) in pinned {
            let Some(was) = was else { continue };
            match headers.get(&header) {
                Some(now) if is_same(&header, was, now) => {}
                Some(now) => {
                    let (was, now) = (text(was), text(now));
                    let difference = format!("{name} was {was}, is now {now}");
                    return Some(Difference::Other(difference));
                }
                None => untold = Some(Difference::Untold(format!("{name} {}", text(was)))),
            }
        }
        untold
    }

    /// Whether there is nothing to compare.
    pub(super) fn is_missing(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }

    /// Whether equal validators are good evidence of equal bytes.
    pub(super) fn is_good(&self) -> bool {
        self.is_settled || self.etag.as_ref().is_some_and(is_strong)
    }

    /// All of a good one.
    pub(super) fn evidence(&self) -> Option<Vec<u8>> {
        let part = |name: &[u8], value: &Option<HeaderValue>| {
            let value = value.as_ref()?.as_bytes();
            Some([name, b" ", value].concat())
        };
        let parts = [
            part(b"ETag", &self.etag),
            part(b"Last-Modified", &self.modified),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        self.is_good().then(|| parts.join(&b", "[..]))
    }
}

fn is_strong(etag: &HeaderValue) -> bool {
    !etag.as_bytes().starts_with(b"W/")
}

/// An ETag that was weak when it was pinned is compared as such: whether it is weak now does not count.
fn is_same(header: &HeaderName, was: &HeaderValue, now: &HeaderValue) -> bool {
    let opaque = |etag: &HeaderValue| {
        let bytes = etag.as_bytes();
        bytes.strip_prefix(b"W/").unwrap_or(bytes).to_vec()
    };
    was == now || (*header == ETAG && !is_strong(was) && opaque(was) == opaque(now))
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(etag) = &self.etag {
            let weak = if is_strong(etag) { "" } else { "weak " };
            write!(f, "{weak}ETag {}", text(etag))?;
            between = " and ";
        }
        if let Some(time) = &self.modified {
            write!(f, "{between}Last-Modified {}", text(time))?;
            if !self.is_settled {
                f.write_str(
                    " (not known to be over a second old: another change may look the same)",
                )?;
            }
            between = " and ";
        }
        if between.is_empty() {
            f.write_str("no ETag and no Last-Modified")?;
        }
        Ok(())
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "Sun, 22 Nov 2026 10:00:00 GMT";
    const LATER: &str = "Sun, 22 Nov 2026 10:00:02 GMT";

    fn headers(etag: Option<&str>, time: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ETAG, etag), (LAST_MODIFIED, time), (DATE, Some(LATER))] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    fn pinned(etag: Option<&str>, time: Option<&str>) -> Validator {
        Validator::of(&headers(etag, time))
    }

    #[test]
    fn the_best_is_taken() {
        let of = |etag, time| pinned(etag, time).to_string();
        assert_eq!(of(Some("\"a\""), Some(THEN)), "ETag \"a\"");
        let both = of(Some("W/\"a\""), Some(THEN));
        assert_eq!(both, format!("weak ETag W/\"a\" and Last-Modified {THEN}"));
        assert_eq!(of(None, Some(THEN)), format!("Last-Modified {THEN}"));
        assert_eq!(of(Some("W/\"a\""), None), "weak ETag W/\"a\"");
        assert_eq!(of(None, None), "no ETag and no Last-Modified");
    }

    #[test]
    fn a_time_is_good_once_its_second_is_over() {
        let evidence = |etag, time, date: Option<&str>| {
            let mut headers = headers(etag, time);
            headers.remove(DATE);
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            Validator::of(&headers).evidence()
        };
        assert!(evidence(None, Some(THEN), Some(LATER)).is_some());
        assert!(evidence(Some("W/\"a\""), Some(THEN), Some(LATER)).is_some());
        assert!(evidence(Some("\"a\""), Some(THEN), None).is_some());
        let next = "Sun, 22 Nov 2026 10:00:01 GMT";
        for (time, date) in [
            (Some(THEN), Some(THEN)),
            (Some(THEN), Some(next)),
            (Some(LATER), Some(THEN)),
            (Some(THEN), None),
            (Some("then"), Some(LATER)),
            (None, Some(LATER)),
        ] {
            assert_eq!(evidence(Some("W/\"a\""), time, date), None, "{time:?}");
        }
    }

    #[test]
    fn differences_are_named() {
        let other = |text: String| Some(Difference::Other(text));
        let untold = |text: String| Some(Difference::Untold(text));
        let strong = pinned(Some("\"a\""), Some(THEN));
        assert_eq!(
            strong.difference(&headers(Some("\"a\""), Some(LATER))),
            None
        );
        for now in ["\"b\"", "W/\"a\""] {
            assert_eq!(
                strong.difference(&headers(Some(now), None)),
                other(format!("ETag was \"a\", is now {now}"))
            );
        }
        assert_eq!(
            strong.difference(&headers(None, None)),
            untold("ETag \"a\"".into())
        );
        let time = pinned(None, Some(THEN));
        assert_eq!(time.difference(&headers(Some("\"new\""), Some(THEN))), None);
        assert_eq!(
            time.difference(&headers(None, Some(LATER))),
            other(format!("Last-Modified was {THEN}, is now {LATER}"))
        );
        let nothing = pinned(None, None);
        assert_eq!(nothing.difference(&headers(Some("\"a\""), None)), None);
    }

    #[test]
    fn a_weak_etag_and_a_time_must_both_stay() {
        let weak = pinned(Some("W/\"a\""), Some(THEN));
        for same in ["W/\"a\"", "\"a\""] {
            assert_eq!(weak.difference(&headers(Some(same), Some(THEN))), None);
        }
        for (etag, time) in [
            ("W/\"b\"", Some(THEN)),
            ("W/\"a\"", Some(LATER)),
            ("W/\"b\"", None),
        ] {
            let difference = weak.difference(&headers(Some(etag), time));
            assert!(matches!(difference, Some(Difference::Other(_))), "{etag}");
        }
        for (etag, time) in [(None, Some(THEN)), (Some("W/\"a\""), None)] {
            let difference = weak.difference(&headers(etag, time));
            assert!(matches!(difference, Some(Difference::Untold(_))));
        }
    }
}
