//! The headers that go with every request to the original server, and to no other.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::address::Credentials;

/// What a range read decides itself.
const OWN: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The user's headers, and the address's own credentials in the place of a general Authorization header.
/// An error names the header and never its value.
pub(super) fn of(
    given: &[(String, String)],
    credentials: Option<&Credentials>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err("http-header: a name that HTTP does not allow".into());
        };
        if OWN.contains(&name.as_str()) {
            return Err(format!(
                "http-header={name}: cannot be given: range reads set it themselves"
            ));
        }
        let Ok(mut value) = HeaderValue::from_bytes(value.trim().as_bytes()) else {
            return Err(format!(
                "http-header={name}: its value has control characters"
            ));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if let Some(credentials) = credentials {
        headers.insert(AUTHORIZATION, basic(credentials)?);
    }
    Ok(headers)
}

/// Basic authentication (RFC 7617).
fn basic(credentials: &Credentials) -> Result<HeaderValue, String> {
    let pair = [&credentials.user[..], b":", &credentials.password].concat();
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        .map_err(|_| String::from("the user and password cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str) -> Result<HeaderMap, String> {
        of(&[(name.into(), value.into())], None)
    }

    #[test]
    fn given_ones_are_sent_and_hidden() {
        let headers = of(
            &[
                ("X-Token".into(), " s3cret ".into()),
                ("x-token".into(), "two".into()),
            ],
            None,
        )
        .unwrap();
        let values: Vec<_> = headers
            .get_all("x-token")
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(values, [&b"s3cret"[..], b"two"]);
        assert!(!format!("{headers:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_with_credentials_wins() {
        let credentials = Credentials {
            user: b"Aladdin".to_vec(),
            password: b"open sesame".to_vec(),
        };
        let headers = of(
            &[("Authorization".into(), "Bearer x".into())],
            Some(&credentials),
        )
        .unwrap();
        let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
        // The example of RFC 7617, section 2.
        assert_eq!(values, ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
    }

    #[test]
    fn what_cannot_be_sent() {
        for (name, value) in [
            ("Range", "s3cret"),
            ("if-match", "s3cret"),
            ("a b", "s3cret"),
            ("", "s3cret"),
            ("X-A", "s3cret\r\nX-B: 1"),
        ] {
            let error = given(name, value).unwrap_err();
            assert!(
                error.starts_with("http-header") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
