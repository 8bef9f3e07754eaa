//! The validator: what tells one version of an object from another (RFC 9110, 8.8).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::header::{DATE, ETAG, HeaderName, LAST_MODIFIED};
use ureq::http::{HeaderMap, HeaderValue};

use super::date;

/// The least time, in seconds, between the last change and the answer that tells it: times are told in whole
/// seconds, and the clock of a file system may be a tick behind.
const SETTLED_AFTER_SECONDS: i64 = 2;

/// All that a server offers: a strong ETag is enough, else a weak one and the time are taken together.
#[derive(Clone, Debug)]
pub(super) struct Validator {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    worth: Worth,
}

/// What it says of the bytes that somebody else has an equal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// They are the same.
    Proof,
    /// Nothing: it is of a time that was too new, and what is changed in the same second gets an equal one. The moment since 1970
    /// at which it was taken tells it from all others.
    TooNew(Duration),
    /// Only that nothing is known to have changed: it is of a time, and the server does not tell how old that is.
    Ageless,
    /// Nothing.
    Nothing,
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
    /// The one to pin, of an object of that size.
    pub(super) fn of(headers: &HeaderMap, size_bytes: u64) -> Self {
        let etag = headers.get(ETAG).cloned();
        let modified = headers.get(LAST_MODIFIED).cloned();
        let seconds = |value: Option<&HeaderValue>| date::seconds(value?.as_bytes());
        let (changed, now) = (seconds(modified.as_ref()), seconds(headers.get(DATE)));
        let is_strong = etag.as_ref().is_some_and(is_strong);
        let of_time = changed.map(|changed| of_time_and_size(changed, size_bytes));
        let is_of_time = of_time.is_some_and(|it| etag.as_ref().is_some_and(|etag| *etag == it));
        let worth = match (changed, now) {
            _ if is_strong && !is_of_time => Worth::Proof,
            _ if modified.is_none() => Worth::Nothing,
            (Some(changed), Some(now)) if now - changed >= SETTLED_AFTER_SECONDS => Worth::Proof,
            (Some(_), Some(_)) => Worth::TooNew(this_moment()),
            _ => Worth::Ageless,
        };
        Self {
            etag,
            modified: modified.filter(|_| !is_strong),
            worth,
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
        self.worth == Worth::Proof
    }

    /// All of one that has a time or is a strong ETag. That of a time which was too new is never the same as another.
    pub(super) fn evidence(&self) -> Option<Vec<u8>> {
        let part = |name: &[u8], value: &Option<HeaderValue>| {
            let value = value.as_ref()?.as_bytes();
            Some([name, b" ", value].concat())
        };
        let too_new = match self.worth {
            Worth::Proof | Worth::Ageless => None,
            Worth::TooNew(since_1970) => {
                let (seconds, rest) = (since_1970.as_secs(), since_1970.subsec_nanos());
                Some(format!("too new when it was opened, at {seconds}.{rest:09}").into_bytes())
            }
            Worth::Nothing => return None,
        };
        let parts = [
            part(b"ETag", &self.etag),
            part(b"Last-Modified", &self.modified),
            too_new,
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        Some(parts.join(&b", "[..]))
    }
}

/// The ETag that nginx makes of the time of the last change: strong, and worth no more than that time.
fn of_time_and_size(changed: i64, size_bytes: u64) -> String {
    format!("\"{changed:x}-{size_bytes:x}\"")
}

fn this_moment() -> Duration {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.unwrap_or_default()
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
            between = " and ";
        }
        if matches!(self.worth, Worth::TooNew(_) | Worth::Ageless) {
            f.write_str(" (not known to be over a second old: another change may look the same)")?;
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
    const SIZE: u64 = 100_000;
    /// What nginx says of a file of that size that was changed `THEN`.
    const NGINX: &str = "\"6b02bd20-186a0\"";

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
        Validator::of(&headers(etag, time), SIZE)
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

    /// Of an answer that was sent at that time.
    fn sent(etag: Option<&str>, time: Option<&str>, date: Option<&str>) -> Validator {
        let mut headers = headers(etag, time);
        headers.remove(DATE);
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        Validator::of(&headers, SIZE)
    }

    const NEXT: &str = "Sun, 22 Nov 2026 10:00:01 GMT";

    #[test]
    fn a_time_is_good_once_its_second_is_over() {
        for (etag, time, date) in [
            (None, Some(THEN), Some(LATER)),
            (Some("W/\"a\""), Some(THEN), Some(LATER)),
            (Some("\"a\""), Some(THEN), None),
            (Some("\"a\""), Some(THEN), Some(THEN)),
        ] {
            let validator = sent(etag, time, date);
            assert!(validator.is_good(), "{validator}");
            let again = sent(etag, time, date);
            assert_eq!(validator.evidence().unwrap(), again.evidence().unwrap());
        }
        assert_eq!(sent(Some("W/\"a\""), None, Some(LATER)).evidence(), None);
    }

    #[test]
    fn a_time_that_is_too_new_is_the_same_as_no_other() {
        let settled = sent(None, Some(THEN), Some(LATER)).evidence().unwrap();
        for (time, date) in [(THEN, THEN), (THEN, NEXT), (LATER, THEN)] {
            let new = || sent(None, Some(time), Some(date));
            assert!(!new().is_good(), "{date}");
            let (one, other) = (new().evidence().unwrap(), new().evidence().unwrap());
            assert!(one != other && one != settled, "{date}");
        }
    }

    #[test]
    fn a_time_of_no_known_age_is_compared_and_not_good() {
        for (time, date) in [(THEN, None), ("then", Some(LATER))] {
            let ageless = || sent(None, Some(time), date);
            assert!(!ageless().is_good(), "{date:?}");
            let evidence = ageless().evidence().unwrap();
            assert_eq!(evidence, format!("Last-Modified {time}").into_bytes());
        }
    }

    #[test]
    fn an_etag_of_time_and_size_is_as_good_as_the_time() {
        assert!(sent(Some(NGINX), Some(THEN), Some(LATER)).is_good());
        let new = || sent(Some(NGINX), Some(THEN), Some(NEXT));
        assert!(!new().is_good());
        assert_ne!(new().evidence().unwrap(), new().evidence().unwrap());
        assert!(new().to_string().contains("another change may look"));
        let ageless = sent(Some(NGINX), Some(THEN), None);
        assert!(!ageless.is_good());
        let of_another_size = "\"6b02bd20-186a1\"";
        for (etag, time) in [(of_another_size, THEN), (NGINX, NEXT), (NGINX, "then")] {
            assert!(sent(Some(etag), Some(time), None).is_good(), "{etag}");
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
