//! Which exports there are: `[NAME=]ORIGIN` on the command line, tables in a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use larder_frontend::report::one_line;
use larder_origins::Address;

use super::headers::{self, Headers};
use crate::options::{Options, Text};

/// The longest export name, in bytes (NBD protocol, "Values": a string is at most 4096 bytes).
const LONGEST_NAME_BYTES: usize = 4096;

/// One export that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct ExportSettings {
    /// Its name; empty for the unnamed one.
    pub(crate) name: String,
    /// What clients that list exports are told.
    pub(crate) description: Option<String>,
    /// What is served.
    pub(crate) address: Address,
    /// What goes with every request to a web server.
    pub(crate) http_headers: Headers,
}

/// One export as it was typed.
struct Asked<'o> {
    name: &'o OsStr,
    origin: &'o OsStr,
    description: Option<&'o String>,
    http_header: &'o [Text],
}

/// All exports. Their names are distinct.
pub(crate) fn exports(options: &Options) -> Result<Vec<ExportSettings>, String> {
    let typed = options.origins.iter().map(|text| {
        let (name, origin) = split(text.as_os_str());
        Asked {
            name,
            origin,
            description: None,
            http_header: &[],
        }
    });
    let tables = options.export.iter().map(|table| Asked {
        name: OsStr::new(&table.name),
        origin: OsStr::new(&table.origin),
        description: table.description.as_ref(),
        http_header: &table.http_header,
    });
    let asked: Vec<Asked<'_>> = typed.chain(tables).collect();
    if asked.is_empty() {
        return Err(
            "no origin given: name a file or block device, memory:SIZE, or an nbd:// or http:// \
             address, as in larder serve memory:1G"
                .to_owned(),
        );
    }
    let mut exports: Vec<ExportSettings> = Vec::new();
    for one in &asked {
        let export =
            one.check()
                .map_err(|message| match (&asked[..], &*one.name.to_string_lossy()) {
                    ([_], "") => message,
                    (_, name) => format!("export \"{}\": {message}", one_line(name)),
                })?;
        if exports.iter().any(|other| other.name == export.name) {
            let name = one_line(&export.name);
            return Err(format!(
                "export \"{name}\": there are two of that name; give each its own, as NAME=ORIGIN"
            ));
        }
        exports.push(export);
    }
    Ok(exports)
}

/// Refuses to write to one NBD export through two caches: neither would know what the other's clients have written. Files
/// and devices are locked, and memory is each export's own.
pub(super) fn refuse_twice(exports: &[ExportSettings]) -> Result<(), String> {
    for (number, export) in exports.iter().enumerate() {
        let Address::Nbd(address) = &export.address else {
            continue;
        };
        let is_same = |other: &&ExportSettings| match &other.address {
            Address::Nbd(other) => address.is_same_export(other),
            _ => false,
        };
        if let Some(first) = exports[..number].iter().find(is_same) {
            return Err(one_line(&format!(
                "export \"{}\": {address} is export \"{}\" already, and would be mixed up by two caches: \
                 serve it under one name, or with --read-only",
                export.name, first.name
            )));
        }
    }
    Ok(())
}

impl Asked<'_> {
    fn check(&self) -> Result<ExportSettings, String> {
        let fits = |text: &str| text.len() <= LONGEST_NAME_BYTES;
        let Some(name) = self.name.to_str().filter(|name| fits(name)) else {
            return Err(format!(
                "a name must be UTF-8 of at most {LONGEST_NAME_BYTES} bytes"
            ));
        };
        if !self.description.is_none_or(|text| fits(text)) {
            return Err(format!(
                "a description must have at most {LONGEST_NAME_BYTES} bytes"
            ));
        }
        if self.origin.is_empty() {
            return Err("its origin is empty".to_owned());
        }
        let address = Address::parse(self.origin).map_err(|error| one_line(&error.to_string()))?;
        let http_headers = headers::headers(self.http_header)?;
        if !http_headers.is_empty() && !matches!(address, Address::Http(_)) {
            return Err(format!("http-header: {}", headers::NEEDS_HTTP));
        }
        Ok(ExportSettings {
            name: name.to_owned(),
            description: self.description.cloned(),
            address,
            http_headers,
        })
    }
}

/// The name and the origin in `[NAME=]ORIGIN`. A name is what comes before the first `=` if that holds
/// no `/` and no `:`, so that `./a=b` and `nbd://host?a=b` have none.
fn split(text: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
        return (OsStr::new(""), text);
    };
    let (name, origin) = (&bytes[..at], &bytes[at + 1..]);
    if name.contains(&b'/') || name.contains(&b':') {
        return (OsStr::new(""), text);
    }
    (OsStr::from_bytes(name), OsStr::from_bytes(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_before_the_first_equals_sign() {
        for (text, name, origin) in [
            ("disk.img", "", "disk.img"),
            ("a=disk.img", "a", "disk.img"),
            ("a=b=c", "a", "b=c"),
            ("=disk", "", "disk"),
            ("./a=b.img", "", "./a=b.img"),
            ("a=./b", "a", "./b"),
            ("nbd://host/?a=b", "", "nbd://host/?a=b"),
            ("x=nbd+unix:///e?socket=/s", "x", "nbd+unix:///e?socket=/s"),
            ("memory:1G", "", "memory:1G"),
            ("a=", "a", ""),
        ] {
            assert_eq!(
                split(OsStr::new(text)),
                (OsStr::new(name), OsStr::new(origin))
            );
        }
    }

    #[test]
    fn one_nbd_export_is_not_written_to_under_two_names() {
        let refused = |texts: &[&str]| {
            let options = Options {
                origins: texts.iter().map(|text| (*text).into()).collect(),
                ..Options::default()
            };
            refuse_twice(&exports(&options).unwrap()).err()
        };
        let message = refused(&["a=nbd://h/x", "b=memory:1M", "c=nbds://h:10809/x"]).unwrap();
        assert!(
            message.starts_with("export \"c\": nbds://h/x is export \"a\" already"),
            "{message}"
        );
        let others = ["a=nbd://h/x", "b=nbd://h/y", "c=nbd://g/x", "d=nbd://h:1/x"];
        assert_eq!(refused(&others), None);
        assert_eq!(refused(&["a=memory:1M", "b=memory:1M"]), None);
    }

    #[test]
    fn names_are_distinct_and_origins_say_something() {
        let given = |texts: &[&str]| {
            let options = Options {
                origins: texts.iter().map(|text| (*text).into()).collect(),
                ..Options::default()
            };
            exports(&options).map(|exports| exports.len())
        };
        assert_eq!(given(&["/a", "b=/b", "c=/a"]), Ok(3));
        for (texts, told) in [
            (&[][..], "no origin given: "),
            (&["/a", "/b"], "export \"\": there are two of that name"),
            (
                &["x=/a", "x=/b"],
                "export \"x\": there are two of that name",
            ),
            (&["x="], "export \"x\": its origin is empty"),
            (&["memory:1X"], "memory:1X: "),
            (&["x=memory:1X"], "export \"x\": memory:1X: "),
            (&["/a", "http://me:s3cret@"], "export \"\": an HTTP address"),
        ] {
            let message = given(texts).expect_err("refused");
            assert!(message.starts_with(told), "{message}");
        }
        assert!(given(&[&format!("{}=/a", "n".repeat(4097))]).is_err());
    }
}
