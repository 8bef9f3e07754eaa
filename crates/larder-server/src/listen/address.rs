//! What a user calls a place to listen: `unix:PATH`, `tcp:HOST:PORT`.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use larder_frontend::ParameterError;

/// NBD's port (IANA).
const DEFAULT_PORT: u16 = 10809;

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// Every address that `host` resolves to, without brackets. Port 0 is any free one.
    Tcp { host: String, port: u16 },
}

impl ListenAddress {
    /// Where the server listens when nothing is said.
    pub(crate) fn default_address() -> Self {
        Self::Tcp {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
        }
    }

    /// The meaning of what a user typed.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, ParameterError> {
        let wrong = |advice: &str| Err(ParameterError::new("listen", text, advice));
        if let Some(path) = text.as_bytes().strip_prefix(b"unix:") {
            if path.is_empty() {
                return wrong("must be unix:PATH with a path");
            }
            return Ok(Self::Unix(PathBuf::from(OsStr::from_bytes(path))));
        }
        let Some(rest) = text.to_str().and_then(|text| text.strip_prefix("tcp:")) else {
            return wrong("must be unix:PATH or tcp:HOST:PORT");
        };
        let Some((host, port)) = rest.rsplit_once(':') else {
            return wrong("must be tcp:HOST:PORT with a port; 10809 is NBD's own");
        };
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner,
            None if host.contains([':', '[', ']']) => {
                return wrong("must have an IPv6 address in brackets, as in tcp:[::1]:10809");
            }
            None => host,
        };
        if host.is_empty() {
            return wrong(
                "must name a host; 0.0.0.0 is every IPv4 address of this one, and [::] every IPv6 address",
            );
        }
        let is_number = !port.is_empty() && port.chars().all(|digit| digit.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_number => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
            _ => wrong("must have a port from 0 to 65535"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_ones_are_shown_as_they_are_typed() {
        for text in [
            "unix:/run/disk.sock",
            "unix:disk:1",
            "tcp:localhost:10809",
            "tcp:127.0.0.1:0",
            "tcp:[::1]:65535",
        ] {
            let address = ListenAddress::parse(OsStr::new(text)).unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn wrong_ones_are_told_what_is_missing() {
        for (text, told) in [
            ("", "must be unix:PATH or"),
            ("/run/disk.sock", "must be unix:PATH or"),
            ("unix:", "with a path"),
            ("tcp:localhost", "with a port"),
            ("tcp:localhost:", "from 0 to 65535"),
            ("tcp:localhost:65536", "from 0 to 65535"),
            ("tcp:localhost:+1", "from 0 to 65535"),
            ("tcp::10809", "must name a host"),
            ("tcp:::1:10809", "in brackets"),
            ("tcp:[::1]", "in brackets"),
            ("tcp:[]:1", "must name a host"),
        ] {
            let error = ListenAddress::parse(OsStr::new(text)).expect_err(text);
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
