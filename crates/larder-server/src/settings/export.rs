//! Which exports there are: `[NAME=]ORIGIN` on the command line, tables in a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use larder_frontend::report::one_line;
use larder_origins::Address;

use crate::options::Options;

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
}

/// All exports. Their names are distinct.
pub(crate) fn exports(options: &Options) -> Result<Vec<ExportSettings>, String> {
    let mut exports: Vec<ExportSettings> = Vec::new();
    for origin in &options.origins {
        let (name, origin) = split(origin.as_os_str());
        add(&mut exports, name, origin, None)?;
    }
    for table in &options.export {
        let name = OsStr::new(&table.name);
        let description = table.description.clone();
        add(&mut exports, name, OsStr::new(&table.origin), description)?;
    }
    if exports.is_empty() {
        return Err(
            "no origin given: name a file or block device, memory:SIZE, or an nbd:// or http:// \
             address, as in larder serve memory:1G"
                .to_owned(),
        );
    }
    Ok(exports)
}

fn add(
    exports: &mut Vec<ExportSettings>,
    name: &OsStr,
    origin: &OsStr,
    description: Option<String>,
) -> Result<(), String> {
    let shown = one_line(&name.to_string_lossy());
    let Some(name) = name
        .to_str()
        .filter(|name| name.len() <= LONGEST_NAME_BYTES)
    else {
        return Err(format!(
            "export \"{shown}\": a name must be UTF-8 of at most {LONGEST_NAME_BYTES} bytes"
        ));
    };
    if description
        .as_ref()
        .is_some_and(|text| text.len() > LONGEST_NAME_BYTES)
    {
        return Err(format!(
            "export \"{shown}\": a description must have at most {LONGEST_NAME_BYTES} bytes"
        ));
    }
    if exports.iter().any(|export| export.name == name) {
        return Err(format!(
            "export \"{shown}\": there are two of that name; give each its own, as NAME=ORIGIN"
        ));
    }
    if origin.is_empty() {
        return Err(format!("export \"{shown}\": its origin is empty"));
    }
    let address = Address::parse(origin).map_err(|error| one_line(&error.to_string()))?;
    exports.push(ExportSettings {
        name: name.to_owned(),
        description,
        address,
    });
    Ok(())
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
        ] {
            let message = given(texts).expect_err("refused");
            assert!(message.starts_with(told), "{message}");
        }
        assert!(given(&[&format!("{}=/a", "n".repeat(4097))]).is_err());
    }
}
