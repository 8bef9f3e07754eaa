//! NBD addresses, as the NBD project's URI document has them,
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md>.
//!
//! A user name in the address is for pre-shared keys, which are not supported: it is ignored and
//! never shown.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nbd_wire::{DEFAULT_PORT, MAX_STRING_BYTES};

use crate::OpenError;

/// Where an NBD export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdAddress {
    /// The server.
    pub server: NbdServer,
    /// The export's name; empty for the server's default.
    pub export: String,
    /// How the connection is encrypted; `None` for `nbd:` and `nbd+unix:`.
    pub tls: Option<NbdTls>,
}

/// Where an NBD server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NbdServer {
    /// A host name or an address without brackets, and a port.
    Tcp(String, u16),
    /// A Unix socket's path; one that begins with NUL is in the abstract namespace.
    Unix(PathBuf),
}

/// What an address says of encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NbdTls {
    /// A directory with `ca-cert.pem`, and `client-cert.pem` with `client-key.pem`, each where
    /// wanted.
    pub certificates: Option<PathBuf>,
    /// The name that the server's certificate must be for, where it is not the host.
    pub hostname: Option<String>,
}

/// The longest path of a Unix socket, or name in the abstract namespace behind its NUL.
const SOCKET_PATH_BYTES: usize = 107;

const FORMS: &str = "nbd://HOST[:PORT][/EXPORT], nbds://HOST[:PORT][/EXPORT], \
                     nbd+unix:///[EXPORT]?socket=PATH or nbds+unix:///[EXPORT]?socket=PATH";

impl NbdAddress {
    /// Whether it is the same export of the same server, as far as an address tells.
    pub fn is_same_export(&self, other: &Self) -> bool {
        self.server == other.server && self.export == other.export
    }

    /// Reads an address of the schemes `nbd`, `nbds`, `nbd+unix` and `nbds+unix`.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let wrong = |why: &str| OpenError::new(format!("{}: {why}", without_user(text)));
        if text.contains(|it: char| it.is_ascii_control()) || text.trim() != text {
            return Err(OpenError::new(format!(
                "{:?}: an address has no control characters and no space around it: write them as %XX",
                without_user(text)
            )));
        }
        let (is_unix, is_tls) = text
            .split_once(':')
            .and_then(|(scheme, _)| parse_scheme(scheme))
            .ok_or_else(|| wrong(&format!("not an NBD address: write {FORMS}")))?;
        let url = url::Url::parse(text)
            .map_err(|cause| wrong(&format!("not an address ({cause}): write {FORMS}")))?;
        if url.fragment().is_some() {
            return Err(wrong("an NBD address has no '#': write it as %23"));
        }
        let (path, query) = path_and_query(text);
        let export = decode(path.strip_prefix('/').unwrap_or(path))
            .ok_or_else(|| wrong("the export's name is not UTF-8"))?;
        if export.len() > MAX_STRING_BYTES || export.contains('\0') {
            return Err(wrong(
                "the export's name is longer than 4096 bytes or contains NUL",
            ));
        }
        let query = Query::parse(query, is_tls).map_err(|why| wrong(&why))?;
        let host = url.host_str().unwrap_or("");
        let server = match (is_unix, query.socket) {
            (true, None) => {
                return Err(wrong(
                    "the socket is missing: add ?socket=PATH with the path of the server's Unix socket",
                ));
            }
            (true, Some(_)) if !host.is_empty() => {
                return Err(wrong(
                    "a Unix socket has no host: write three slashes, as in nbd+unix:///EXPORT?socket=PATH",
                ));
            }
            (true, Some(path)) if !fits(&path) => {
                return Err(wrong(&format!(
                    "socket= has {} bytes: the path of a Unix socket has at most {SOCKET_PATH_BYTES}",
                    path.as_os_str().len()
                )));
            }
            (true, Some(path)) => NbdServer::Unix(path),
            (false, Some(_)) => {
                return Err(wrong("socket= goes with nbd+unix: and nbds+unix: only"));
            }
            (false, None) if host.is_empty() => {
                return Err(wrong(
                    "the host is missing: write nbd://HOST[:PORT][/EXPORT]",
                ));
            }
            (false, None) => {
                let host = decode(host).ok_or_else(|| wrong("the host is not UTF-8"))?;
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                NbdServer::Tcp(bare.to_owned(), url.port().unwrap_or(DEFAULT_PORT))
            }
        };
        Ok(Self {
            server,
            export,
            tls: is_tls.then_some(query.tls),
        })
    }
}

/// The path and the query as they are written. To a URL, some names mean others: `a/../b` is `b`.
fn path_and_query(text: &str) -> (&str, &str) {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let rest = match rest.strip_prefix("//") {
        Some(rest) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
        None => rest,
    };
    rest.split_once('?').unwrap_or((rest, ""))
}

/// Whether the system can name such a socket.
fn fits(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(&[0]).unwrap_or(bytes).len() <= SOCKET_PATH_BYTES
}

/// Whether the scheme is for a Unix socket, and whether it is encrypted.
fn parse_scheme(scheme: &str) -> Option<(bool, bool)> {
    match scheme.to_ascii_lowercase().as_str() {
        "nbd" => Some((false, false)),
        "nbds" => Some((false, true)),
        "nbd+unix" => Some((true, false)),
        "nbds+unix" => Some((true, true)),
        _ => None,
    }
}

/// What follows the question mark.
#[derive(Default)]
struct Query {
    socket: Option<PathBuf>,
    tls: NbdTls,
}

impl Query {
    fn parse(text: &str, is_tls: bool) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| format!("{name}= is not UTF-8"))?;
            if value.is_empty() {
                return Err(format!("{name}= needs a value"));
            }
            match name {
                "socket" => query.socket = Some(value.into()),
                "tls-certificates" | "tls-hostname" | "tls-type" | "tls-verify-peer" if !is_tls => {
                    return Err(format!("{name}= goes with nbds: and nbds+unix: only"));
                }
                "tls-certificates" => query.tls.certificates = Some(value.into()),
                "tls-hostname" => query.tls.hostname = Some(value),
                "tls-type" if value == "x509" => {}
                "tls-verify-peer" if value == "1" || value == "true" => {}
                "tls-verify-peer" => {
                    return Err(
                        "tls-verify-peer= other than 1 is not supported: the server's \
                                certificate is always verified"
                            .to_owned(),
                    );
                }
                "tls-type" | "tls-psk-file" | "tls-username" => {
                    return Err(format!(
                        "{name}= is not supported: only certificates are (tls-certificates=DIR)"
                    ));
                }
                _ => {
                    return Err(format!(
                        "{name}= is not known: there are socket=, tls-certificates= and tls-hostname="
                    ));
                }
            }
        }
        Ok(query)
    }
}

/// Takes percent signs apart. `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().filter(|_| first == b'%');
        let value = pair.and_then(|[high, low]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some(digit(*high)? << 4 | digit(*low)?)
        });
        match value {
            Some(value) => {
                bytes.push(value as u8);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The text without what stands before the last `@`: a password that is misspelt as well may hold
/// any character.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => text.to_owned(),
    }
}

/// Percent signs for whatever could be taken for something else.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            let is_special = matches!(character, '%' | '?' | '#' | '&' | ' ' | '"' | '<' | '>');
            if is_special || character.is_control() {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for NbdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "nbds" } else { "nbd" };
        let export = Encoded(&self.export);
        let mut separator = '?';
        match &self.server {
            NbdServer::Tcp(host, port) => {
                let is_v6 = host.contains(':');
                let (open, close) = if is_v6 { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}")?;
                if *port != DEFAULT_PORT {
                    write!(f, ":{port}")?;
                }
                if !self.export.is_empty() {
                    write!(f, "/{export}")?;
                }
            }
            NbdServer::Unix(path) => {
                let path = path.to_string_lossy();
                write!(f, "{scheme}+unix:///{export}?socket={}", Encoded(&path))?;
                separator = '&';
            }
        }
        let tls = self.tls.iter();
        let certificates = tls.clone().filter_map(|tls| tls.certificates.as_ref());
        for directory in certificates {
            let path = directory.to_string_lossy();
            write!(f, "{separator}tls-certificates={}", Encoded(&path))?;
            separator = '&';
        }
        for hostname in tls.filter_map(|tls| tls.hostname.as_ref()) {
            write!(f, "{separator}tls-hostname={}", Encoded(hostname))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        NbdAddress::parse(text).unwrap().to_string()
    }

    #[test]
    fn addresses_are_read_as_the_document_has_them() {
        let read = |text| {
            let address = NbdAddress::parse(text).unwrap();
            (address.server, address.export)
        };
        let tcp = |host: &str, port| NbdServer::Tcp(host.to_owned(), port);
        for (text, host, port, export) in [
            ("nbd://example.com", "example.com", 10809, ""),
            ("nbd://example.com/", "example.com", 10809, ""),
            ("nbd://example.com:1/disk", "example.com", 1, "disk"),
            ("nbd://example.com//disk", "example.com", 10809, "/disk"),
            ("NBD://h/hello%20world", "h", 10809, "hello world"),
            ("nbd://[::1]:20/a+b", "::1", 20, "a+b"),
            ("nbd://h/a/../b", "h", 10809, "a/../b"),
            ("nbd://h/%2e%2e/b/.", "h", 10809, "../b/."),
            ("nbd://h/a\\b c", "h", 10809, "a\\b c"),
        ] {
            assert_eq!(read(text), (tcp(host, port), export.to_owned()), "{text}");
        }
        let unix = |path: &str| NbdServer::Unix(path.into());
        let text = "nbd+unix:///disk?socket=/run/a+b%20c";
        assert_eq!(read(text), (unix("/run/a+b c"), "disk".to_owned()));
        let text = "nbd+unix://?socket=sock";
        assert_eq!(read(text), (unix("sock"), String::new()));
        let text = "nbd+unix:///../a?socket=/run/../s";
        assert_eq!(read(text), (unix("/run/../s"), "../a".to_owned()));
        let text = "nbd+unix:///?socket=%00/abstract";
        assert_eq!(read(text), (unix("\0/abstract"), String::new()));
    }

    #[test]
    fn encryption_is_what_the_scheme_and_the_query_say() {
        assert_eq!(NbdAddress::parse("nbd://h").unwrap().tls, None);
        let tls = NbdAddress::parse("nbds://h").unwrap().tls;
        assert_eq!(tls, Some(NbdTls::default()));
        let text = "nbds+unix:///?socket=s&tls-certificates=/a&tls-hostname=x&tls-type=x509";
        let tls = NbdAddress::parse(text).unwrap().tls;
        let expected = NbdTls {
            certificates: Some("/a".into()),
            hostname: Some("x".to_owned()),
        };
        assert_eq!(tls, Some(expected));
    }

    #[test]
    fn a_user_is_never_shown() {
        assert_eq!(shown("nbds://alice:secret@h:7/x"), "nbds://h:7/x");
        for text in [
            "nbd://alice:secret@/x",
            "nbd://alice:secret@h/?socket=s",
            "nbd://alice:sec/secret@h",
            "nbd:alice:secret@h",
        ] {
            let error = NbdAddress::parse(text).unwrap_err().to_string();
            assert!(
                !error.contains("secret") && !error.contains("alice"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for text in [
            "nbd://h",
            "nbd://h/a/../b",
            "nbd://[fe80::1]:9/a%25b%3Fc",
            "nbds://h/x?tls-certificates=/c%26d&tls-hostname=n",
            "nbd+unix:///a%20b?socket=/s%23",
            "nbds+unix:///?socket=%00s&tls-certificates=/c",
        ] {
            assert_eq!(shown(text), text);
            assert_eq!(shown(&shown(text)), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("http://h", "not an NBD address"),
            ("nbd:///x", "the host is missing"),
            ("nbd+unix:///x", "?socket=PATH"),
            ("nbd+unix://h/x?socket=s", "three slashes"),
            ("nbd://h?socket=s", "nbd+unix:"),
            ("nbd://h?tls-certificates=d", "nbds:"),
            ("nbds://h?tls-psk-file=d", "tls-certificates=DIR"),
            ("nbds://h?tls-verify-peer=0", "always verified"),
            ("nbd+unix:///?sockt=s", "sockt="),
            ("nbd+unix:///?socket=", "socket= needs a value"),
            ("nbd://h:99999/", "not an address"),
            ("nbd://h/%ff", "UTF-8"),
            ("nbd://h/a%00b", "NUL"),
            ("nbd://h/a#b", "%23"),
        ] {
            let error = NbdAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
            assert!(error.starts_with(text), "{text}: {error}");
        }
        for text in ["nbd://h/a\tb", "nbd://h/a\nb", " nbd://h", "nbd://h/a "] {
            let error = NbdAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains("%XX"), "{error}");
        }
    }

    #[test]
    fn a_socket_has_a_path_that_the_system_takes() {
        let parse = |path: &str| NbdAddress::parse(&format!("nbd+unix:///?socket={path}"));
        for prefix in ["", "%00"] {
            parse(&format!("{prefix}{}", "s".repeat(107))).unwrap();
            let error = parse(&format!("{prefix}{}", "s".repeat(108))).unwrap_err();
            assert!(error.to_string().contains("at most 107"), "{error}");
        }
    }
}
