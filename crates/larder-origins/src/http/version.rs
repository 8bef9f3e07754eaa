//! What tells the object's content from others, over a restart.

use larder::OriginVersion;
use url::Url;

use super::address::shown;
use super::validator::Validator;

/// The longest part that is used, in bytes.
const LONGEST_BYTES: usize = 4096;

/// The address and the validator. A validator tells versions of one object apart and says nothing of two objects: one server
/// gives two files of one size and time the same ETag. A query string is a part of the address and may be a secret: only its
/// sum is used.
pub(super) fn of(original: &Url, validator: &Validator) -> Option<OriginVersion> {
    let changing = validator.evidence()?;
    let mut stable = shown(original).into_bytes();
    if let Some(query) = original.query() {
        stable.extend_from_slice(format!(" {:016x}", sum(query.as_bytes())).as_bytes());
    }
    let is_usable = stable.len().max(changing.len()) <= LONGEST_BYTES;
    is_usable.then_some(OriginVersion { stable, changing })
}

/// FNV-1a of 64 bits: enough to tell apart what nobody has made alike on purpose.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(address: &str, validator: &Validator) -> Option<(Vec<u8>, Vec<u8>)> {
        let found = of(&Url::parse(address).unwrap(), validator)?;
        Some((found.stable, found.changing))
    }

    fn of_headers(given: &[(&'static str, &str)]) -> Validator {
        let headers = given.iter().map(|(name, value)| {
            let name = ureq::http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        Validator::of(&headers.collect(), 1000)
    }

    fn strong(etag: &str) -> Validator {
        of_headers(&[("etag", etag)])
    }

    #[test]
    fn what_has_a_time_or_a_strong_etag_has_a_version() {
        let address = "http://host/disk";
        let (stable, changing) = version(address, &strong("\"a\"")).unwrap();
        assert_eq!(
            (&*stable, &*changing),
            (&b"http://host/disk"[..], &b"ETag \"a\""[..])
        );
        let then = ("last-modified", "Sun, 22 Nov 2026 10:00:00 GMT");
        let now = ("date", "Sun, 22 Nov 2026 10:00:05 GMT");
        let weak = ("etag", "W/\"a\"");
        let (_, changing) = version(address, &of_headers(&[then, now])).unwrap();
        assert_eq!(changing, b"Last-Modified Sun, 22 Nov 2026 10:00:00 GMT");
        let (_, both) = version(address, &of_headers(&[weak, then, now])).unwrap();
        assert_eq!(both, [b"ETag W/\"a\", ", &*changing].concat());
        let (_, ageless) = version(address, &of_headers(&[then])).unwrap();
        assert_eq!(ageless, changing);
        for given in [&[weak, now][..], &[]] {
            assert_eq!(version(address, &of_headers(given)), None);
        }
        assert_eq!(version(address, &strong(&"a".repeat(5000))), None);
    }

    #[test]
    fn one_validator_of_two_addresses_is_two_versions() {
        let etag = strong("\"a\"");
        let addresses = [
            "http://host/disk",
            "http://host/disk?1",
            "http://host/disk?2",
            "http://host/other",
            "http://other/disk",
            "https://host/disk",
        ];
        let mut versions: Vec<_> = addresses.map(|address| version(address, &etag)).to_vec();
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), addresses.len());
        assert_eq!(
            version("http://me:s3cret@host/disk", &etag),
            version("http://host/disk", &etag)
        );
    }

    #[test]
    fn no_secret_is_in_it() {
        let (stable, _) = version("https://me:s3cret@host/disk?s3cret", &strong("\"a\"")).unwrap();
        assert!(!String::from_utf8_lossy(&stable).contains("s3cret"));
    }

    /// From the description of the function.
    #[test]
    fn the_sum_is_the_one_that_others_get() {
        assert_eq!(sum(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(sum(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(sum(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
