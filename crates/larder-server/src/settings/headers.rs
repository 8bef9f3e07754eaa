//! Headers for HTTP origins. What they hold is never shown, and goes to one server only: it may be a credential.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use larder_frontend::report::{one_line, reason};
use larder_origins::Address;

use super::ExportSettings;
use crate::options::Text;

const FORM: &str = "must be 'Name: value', or @FILE with one such in each line";

/// Why headers are refused where nobody would get them.
pub(super) const NEEDS_HTTP: &str = "has no effect without an http:// or https:// origin";

/// Names and values, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, to be sent.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Headers({})", self.0.len())
    }
}

/// Gives the headers that are for all to the exports that have none of their own.
pub(super) fn give(texts: &[Text], exports: &mut [ExportSettings]) -> Result<(), String> {
    let given = headers(texts)?;
    if given.is_empty() {
        return Ok(());
    }
    let mut servers: Vec<String> = Vec::new();
    for export in exports {
        let Address::Http(address) = &export.address else {
            continue;
        };
        if !export.http_headers.is_empty() {
            continue;
        }
        let server = address.server();
        if !servers.contains(&server) {
            servers.push(server);
        }
        export.http_headers = given.clone();
    }
    match &servers[..] {
        [_] => Ok(()),
        [] => Err(format!(
            "http-header: {NEEDS_HTTP} that has none of its own"
        )),
        [one, other, ..] => Err(format!(
            "http-header: would go to {one} and to {other}: say in a configuration file (config=FILE) which \
             is for whom, as http-header in the [[export]] of each"
        )),
    }
}

/// All headers that are given here.
pub(super) fn headers(texts: &[Text]) -> Result<Headers, String> {
    let mut headers = Vec::new();
    for text in texts {
        match text.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(path) => from_file(Path::new(OsStr::from_bytes(path)), &mut headers)?,
            None => {
                let header = text.as_os_str().to_str().and_then(header);
                headers.push(header.ok_or_else(|| format!("http-header: {FORM}"))?);
            }
        }
    }
    Ok(Headers(headers))
}

fn from_file(path: &Path, headers: &mut Vec<(String, String)>) -> Result<(), String> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| one_line(&format!("http-header=@{shown}: {}", reason(&error))))?;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = || {
            let number = index + 1;
            one_line(&format!(
                "http-header=@{shown}: line {number}: must be 'Name: value'"
            ))
        };
        headers.push(header(line).ok_or_else(wrong)?);
    }
    Ok(())
}

/// A header's name and value (RFC 9110: a token, then visible characters, spaces and tabs).
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let value = value.trim_matches([' ', '\t']);
    let is_value = |c: char| c == '\t' || !c.is_control();
    let fits = !name.is_empty() && name.chars().all(is_token) && value.chars().all(is_value);
    fits.then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(header("X-Key: a b"), pair("X-Key", "a b"));
        assert_eq!(header("A:b:c"), pair("A", "b:c"));
        assert_eq!(header("A:"), pair("A", ""));
        for wrong in ["", "secret", ": v", "A B: v", "A: b\r\nC: d", "A\n: b"] {
            assert_eq!(header(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        let told = headers(&["Bearer-secret".into()]).unwrap_err();
        assert!(!told.contains("secret"), "{told}");
        assert_eq!(
            headers(&["@/no/such".into()]).unwrap_err(),
            "http-header=@/no/such: No such file or directory"
        );
    }
}
