//! The Content-Range header: `bytes FIRST-LAST/TOTAL` of a 206, `bytes */TOTAL` of a 416 (RFC 9110, 14.4).

use ureq::http::HeaderMap;
use ureq::http::header::CONTENT_RANGE;

/// What a Content-Range header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// First and last byte of the body; `None` is `*`, a range that could not be satisfied.
    pub(super) range: Option<(u64, u64)>,
    /// The object's size in bytes; `None` is `*`, not known.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// The one that a response has: `None` if it has none, several, or one that cannot be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_RANGE).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value)
    }

    fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        let total = match total {
            "*" => None,
            digits => Some(number(digits)?),
        };
        let range = match range {
            "*" => None,
            range => {
                let (first, last) = range.split_once('-')?;
                Some((number(first)?, number(last)?))
            }
        };
        let sound = match (range, total) {
            (Some((first, last)), Some(total)) => first <= last && last < total,
            (Some((first, last)), None) => first <= last,
            (None, _) => true,
        };
        sound.then_some(Self { range, total })
    }
}

/// Digits only: a sign is not part of the grammar.
fn number(digits: &str) -> Option<u64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_grammar_has() {
        let range = |range, total| Some(ContentRange { range, total });
        for (value, expected) in [
            ("bytes 0-0/1", range(Some((0, 0)), Some(1))),
            ("bytes 5-9/10", range(Some((5, 9)), Some(10))),
            ("Bytes 5-9/*", range(Some((5, 9)), None)),
            ("bytes */0", range(None, Some(0))),
            (" bytes  */12 ", range(None, Some(12))),
            (
                "bytes 0-18446744073709551614/18446744073709551615",
                range(Some((0, u64::MAX - 1)), Some(u64::MAX)),
            ),
        ] {
            assert_eq!(ContentRange::parse(value), expected, "{value}");
        }
    }

    #[test]
    fn what_it_does_not_have() {
        for value in [
            "",
            "bytes",
            "bytes 0-0",
            "bytes 0/1",
            "bytes 1-0/2",
            "bytes 0-1/1",
            "bytes -1/5",
            "bytes +0-0/5",
            "bytes 0-/5",
            "bytes 0-0/",
            "pages 0-0/1",
            "bytes 0-0/18446744073709551616",
            "bytes=0-0/1",
            "bytes 0-0/1/2",
        ] {
            assert_eq!(ContentRange::parse(value), None, "{value}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_RANGE, "bytes 0-0/1".parse().unwrap());
        assert!(ContentRange::of(&headers).is_some());
        headers.append(CONTENT_RANGE, "bytes 0-0/1".parse().unwrap());
        assert_eq!(ContentRange::of(&headers), None);
    }
}
