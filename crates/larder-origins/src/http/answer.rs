//! What an answer to a range request means: checked before a byte of its body is taken.

use std::time::Duration;

use ureq::Body;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, RETRY_AFTER};
use ureq::http::{HeaderMap, Response, StatusCode};

use super::content_range::ContentRange;
use super::failure::{Failure, Kind};
use super::pinned::Pinned;
use super::validator::Difference;

/// Whether an answer brings the bytes from `first` to `last`, both included, of the pinned object.
pub(super) fn check(
    response: &Response<Body>,
    pinned: &Pinned,
    first: u64,
    last: u64,
) -> Result<(), Failure> {
    let headers = response.headers();
    let difference = |total| pinned.difference(headers, total).map_or(Ok(()), told);
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = part_of(response, first, last)?;
            if range.total.is_none() {
                return Err(passing("the server no longer tells the object's size"));
            }
            difference(range.total)
        }
        StatusCode::OK => {
            // A page of some gateway has a length, too: only the object's own validator makes it the object.
            let is_object = !pinned.validator.is_missing();
            difference(None)?;
            difference(announced_bytes(headers).filter(|_| is_object))?;
            Err(passing(
                "the server sent the whole object, or something else, instead of a range",
            ))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            difference(ContentRange::of(headers).and_then(|range| range.total))?;
            Err(passing("the server refused a range that the object has"))
        }
        status => Err(refusal(status, headers)),
    }
}

/// What a difference means for the read. An answer that does not tell which object it is of may be somebody
/// else's, such as a proxy's.
fn told(difference: Difference) -> Result<(), Failure> {
    Err(match difference {
        Difference::Other(text) => Failure::new(Kind::Changed, text),
        Difference::Untold(pinned) => passing(&format!("an answer does not have the {pinned}")),
    })
}

/// Whether a 206 has the form that was asked for, whichever object it is of.
pub(super) fn part_of(
    response: &Response<Body>,
    first: u64,
    last: u64,
) -> Result<ContentRange, Failure> {
    let headers = response.headers();
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(passing(
            "the server sent the range in a content encoding, which was not asked for",
        ));
    }
    let Some(range) = ContentRange::of(headers) else {
        return Err(passing(
            "the server answered 206 without a Content-Range that can be read",
        ));
    };
    if range.range != Some((first, last)) {
        let sent = range
            .range
            .map_or_else(|| "none".into(), |(first, last)| format!("{first}-{last}"));
        return Err(passing(&format!(
            "the server sent another range than was asked for ({sent} instead of {first}-{last})"
        )));
    }
    let length = last - first + 1;
    match announced_bytes(headers) {
        Some(sent) if sent != length => Err(passing(&format!(
            "the server announced {sent} bytes for a range of {length}"
        ))),
        _ => Ok(range),
    }
}

/// What Content-Length says; the library's own figure is none for an empty body.
pub(super) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An answer that is a refusal, whatever the object.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let kind = match status.as_u16() {
        // Nothing was made a condition: somebody between answers that.
        408 | 412 | 429 | 500..=599 => Kind::Passing,
        _ => Kind::Lasting,
    };
    let hint = match status.as_u16() {
        401 => " (it wants a user and a password, or another Authorization header)",
        407 => " (the proxy wants a user and a password)",
        _ => "",
    };
    let reason = status
        .canonical_reason()
        .map(|reason| format!(" {reason}"))
        .unwrap_or_default();
    let mut failure = Failure::new(
        kind,
        format!("the server answered {}{reason}{hint}", status.as_u16()),
    );
    failure.retry_after = retry_after(headers).filter(|_| kind == Kind::Passing);
    failure
}

/// Seconds; a date counts as none given.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn passing(message: &str) -> Failure {
    Failure::new(Kind::Passing, message)
}
