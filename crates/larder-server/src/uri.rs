//! The URI of an export, as NBD clients take it (the NBD project's doc/uri.md).

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use crate::listen::Place;

/// The URI of the export `name` at a place, or the place in words if it has none. With `tls` it asks for encryption.
pub(crate) fn uri(place: &Place, name: &str, tls: bool) -> String {
    let scheme = if tls { "nbds" } else { "nbd" };
    let name = percent(name.as_bytes());
    match place {
        Place::Tcp(host, port) if name.is_empty() => format!("{scheme}://{host}:{port}"),
        Place::Tcp(host, port) => format!("{scheme}://{host}:{port}/{name}"),
        Place::Unix(path) => {
            let path = percent(path.as_os_str().as_bytes());
            format!("{scheme}+unix:///{name}?socket={path}")
        }
        Place::Other(words) => words.clone(),
    }
}

/// What is safe in a path and in a query stays (RFC 3986: unreserved characters, and the slash).
fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte.into());
        } else {
            // Writing into a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::listen::Host;

    #[test]
    fn names_and_paths_survive_their_way_into_a_uri() {
        let tcp = Place::Tcp(Host("localhost".to_owned()), 10809);
        let unix = Place::Unix(PathBuf::from("/run/a b&c"));
        assert_eq!(uri(&tcp, "", false), "nbd://localhost:10809");
        assert_eq!(
            uri(&tcp, "a/b c?", true),
            "nbds://localhost:10809/a/b%20c%3F"
        );
        assert_eq!(uri(&unix, "", false), "nbd+unix:///?socket=/run/a%20b%26c");
        assert_eq!(
            uri(&unix, "é", true),
            "nbds+unix:///%C3%A9?socket=/run/a%20b%26c"
        );
    }
}
