//! The address of a web server's object: `https://[user:password@]host[:port]/path[?query]`.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::OpenError;

/// Where an object is, and the user and password that its server asks for.
///
/// Shown without credentials: user and password are left out, a query string is `?...`, since those of
/// presigned addresses are credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAddress {
    /// Without user, password and fragment.
    url: Url,
    credentials: Option<Credentials>,
}

/// A user and a password, decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl HttpAddress {
    /// Reads an address that begins with `http://` or `https://`. The error does not repeat it: it may hold
    /// a password.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let wrong = |reason: &str| {
            OpenError::new(format!(
                "an HTTP address that cannot be used: {reason}; write http[s]://[user:password@]host[:port]/path"
            ))
        };
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is neither http nor https"));
        }
        let credentials = credentials(&url);
        if credentials.as_ref().is_some_and(|c| c.user.contains(&b':')) {
            return Err(wrong("basic authentication has no user names with a colon"));
        }
        if credentials.is_none() && may_hide_credentials(text, url.path()) {
            return Err(wrong(
                "a / or \\ in a user or password is written as %2F or %5C, and an @ behind a : as %40",
            ));
        }
        strip(&mut url).map_err(|()| wrong("it has no host"))?;
        Ok(Self { url, credentials })
    }

    /// The server: scheme, host and port. Credentials for one are not for another.
    pub fn server(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The address without user, password and fragment.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The user and the password, if there are any.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

impl fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAddress({self})")
    }
}

/// Whether a part of a user and a password may have become a path, for a slash ends what has the host.
fn may_hide_credentials(text: &str, path: &str) -> bool {
    let Some((before, _)) = path.rsplit_once('@') else {
        return false;
    };
    before.contains(':') || has_port(text)
}

/// Whether a colon is in what an address has before its path: a port, or the beginning of a password that
/// a slash has cut off.
fn has_port(text: &str) -> bool {
    let slashes = ['/', '\\'];
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.trim_start_matches(slashes);
    let authority = rest.split(slashes).next().unwrap_or_default();
    let port = authority.rsplit(']').next().unwrap_or_default();
    port.contains(':')
}

/// Takes user, password and fragment out of an address.
pub(super) fn strip(url: &mut Url) -> Result<(), ()> {
    url.set_fragment(None);
    url.set_username("")?;
    url.set_password(None)
}

/// An address as messages show it.
pub(super) fn shown(url: &Url) -> String {
    let mut bare = url.clone();
    let _ = strip(&mut bare);
    if bare.query().is_none() {
        return bare.to_string();
    }
    bare.set_query(None);
    format!("{bare}?...")
}

fn credentials(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    Some(Credentials {
        user: percent_decode_str(url.username()).collect(),
        password: percent_decode_str(url.password().unwrap_or_default()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> HttpAddress {
        HttpAddress::parse(text).unwrap()
    }

    #[test]
    fn credentials_are_read_and_not_shown() {
        let address =
            parsed("https://al%20ice:pa%3Ass%40@example.com:8443/a%20b?X-Signature=s3cret#part");
        assert_eq!(address.to_string(), "https://example.com:8443/a%20b?...");
        assert_eq!(
            format!("{address:?}"),
            "HttpAddress(https://example.com:8443/a%20b?...)"
        );
        assert_eq!(
            address.url().as_str(),
            "https://example.com:8443/a%20b?X-Signature=s3cret"
        );
        let credentials = address.credentials().unwrap();
        assert_eq!(credentials.user, b"al ice");
        assert_eq!(credentials.password, b"pa:ss@");
    }

    #[test]
    fn any_address_is_shown_without_secrets() {
        let url = Url::parse("https://user:s3cret@host/path?s3cret#s3cret").unwrap();
        assert_eq!(shown(&url), "https://host/path?...");
    }

    #[test]
    fn plain_addresses_stay() {
        for text in [
            "http://example.com/disk.img",
            "http://[::1]:8080/",
            "http://[::1]/a@b:c",
            "https://example.com/",
            "https://example.com/a@b",
            "https://example.com/a:b/c",
            "https://example.com/a:b%40c",
            "https://example.com/a@b:c?d@e",
            "https://example.com:8443/a%40b",
        ] {
            let address = parsed(text);
            assert_eq!(address.to_string(), text.replace("?d@e", "?..."));
            assert!(address.credentials().is_none());
        }
        assert_eq!(
            parsed("http://example.com").to_string(),
            "http://example.com/"
        );
        assert!(parsed("http://user@example.com").credentials().is_some());
    }

    #[test]
    fn what_is_wrong_is_told_without_what_was_written() {
        for text in [
            "http://",
            "https://user:s3cret@",
            "http://user:s3cret@host:99999/",
            "ftp://user:s3cret@host/",
            "http://a%3Ab:s3cret@host/",
            "http://me:12/s3cret@host/",
            "https://me:443/s3/cret@host/",
            "https://me:443\\s3cret@host/",
            "http:////me:12/s3cret@host/",
            "http://[::1]:12/s3cret@host/",
            "http://CORP\\alice:s3cret@host/disk",
            "http://CORP/alice:s3cret@host/disk",
            "http://CORP/alice:s3cret@host@other/disk",
            "http://CORP/alice/s3cret:s3cret@host/disk",
        ] {
            let error = HttpAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains("host[:port]/path"), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }
}
