//! The configuration file: the options of the command line without `--`, as TOML.

use std::fs;
use std::ops::Range;
use std::path::Path;

use larder_frontend::report::{one_line, reason};
use larder_frontend::spelling;
use toml::de::{DeTable, DeValue};

use crate::options::Options;

/// Options whose values may hold credentials, and are never shown.
const SECRET: [&str; 3] = ["http-header", "origins", "origin"];

/// Reads a file. An error is one line that names the file and, where it can, the line in it.
pub(crate) fn read(path: &Path) -> Result<Options, String> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| one_line(&format!("config={shown}: {}", reason(&error))))?;
    parse(&text).map_err(|(line, message)| {
        let first = message.lines().next().unwrap_or_default();
        one_line(&format!("config={shown}: line {line}: {first}"))
    })
}

/// Parses what a file holds. An error is the number of its line, and what is wrong there.
fn parse(text: &str) -> Result<Options, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        (line, wrong(text, start, error.message()))
    })
}

/// What is wrong at a place in a file, where the library says `message`: of that only what was expected is told, since it may hold
/// a credential.
fn wrong(text: &str, at: usize, message: &str) -> String {
    if let Some((_, rest)) = message.split_once("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return match spelling::near(name, &Options::names()) {
            Some(meant) => format!("{name}: there is no such option; did you mean {meant}?"),
            None => format!("{name}: there is no such option"),
        };
    }
    let Some((kind, wanted)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let table = DeTable::parse(text).ok();
    let option = table.and_then(|table| option_at(table.get_ref(), at));
    match (option, kind.split_once(": ")) {
        (Some((name, _)), Some(_)) if SECRET.contains(&&*name) => {
            format!("{name}: must be {wanted}")
        }
        (Some((name, value)), Some(_)) => {
            let value = text.get(value).unwrap_or_default();
            let value = value.lines().next().unwrap_or_default();
            format!("{name}={value}: must be {wanted}")
        }
        (None, Some((kind, _))) => format!("{kind}, expected {wanted}"),
        (_, None) => message.to_owned(),
    }
}

/// The innermost option whose name or value is at a place, and where its value is. What is known of the place of a table is only
/// where its head is.
fn option_at(table: &DeTable<'_>, at: usize) -> Option<(String, Range<usize>)> {
    table.iter().find_map(|(name, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(table) => option_at(table, at),
            DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(table) => option_at(table, at),
                _ => None,
            }),
            _ => None,
        };
        let is_there = name.span().contains(&at) || value.span().contains(&at);
        inner.or_else(|| is_there.then(|| (name.get_ref().to_string(), value.span())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_texts_numbers_and_booleans() {
        let options = parse(
            "cache-max-size = \"10G\"\ncache-dirty-age = 5\ncache-dirty-share = 20\ncache-flush = \"cache\"\nread-only = true\n\
             cache-writeback = \"ordered\"\n\
             listen = [\"unix:/run/a\", \"tcp:h:0\"]\n\
             [[export]]\nname = \"a\"\norigin = \"/a.img\"\n\
             [[export]]\norigin = \"/b.img\"\ndescription = \"the other\"\nhttp-header = [\"X: 1\"]\n",
        )
        .unwrap();
        assert_eq!(options.cache_max_size, Some("10G".into()));
        assert_eq!(options.cache_dirty_age, Some("5".into()));
        assert_eq!(options.cache_dirty_share, Some("20".into()));
        assert_eq!(options.cache_flush, Some("cache".into()));
        assert_eq!(options.cache_writeback, Some("ordered".into()));
        assert_eq!(options.read_only, Some("true".into()));
        assert_eq!(options.listen.len(), 2);
        assert_eq!(options.export[0].name, "a");
        assert_eq!(options.export[1].name, "");
        assert_eq!(options.export[1].description.as_deref(), Some("the other"));
        assert_eq!(options.export[1].http_header, ["X: 1".into()]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_line() {
        for (text, line, told) in [
            (
                "cache = \"unsafe\"\ncach-max = 1\n",
                2,
                "cach-max: there is no such option",
            ),
            ("config = \"other\"\n", 1, "config: there is no such option"),
            (
                "\n\n[[export]]\nname = \"a\"\n",
                3,
                "missing field `origin`",
            ),
            (
                "[[export]]\norigin = \"a\"\nmode = 1\n",
                3,
                "mode: there is no such option",
            ),
            (
                "cache-max-sise = 1\n",
                1,
                "cache-max-sise: there is no such option; did you mean cache-max-size?",
            ),
            (
                "\ncache = [1]\n",
                2,
                "cache=[1]: must be a text, a whole number or a boolean",
            ),
            (
                "cache-dirty-age = 1.5\n",
                1,
                "cache-dirty-age=1.5: must be a text, a whole number or a boolean",
            ),
            (
                "listen = [\"unix:/a\",\n [1]]\n",
                2,
                "listen=[\"unix:/a\",: must be a text, a whole number or a boolean",
            ),
            (
                "listen = 1\n",
                1,
                "listen=1: must be a text, or a list of texts in brackets",
            ),
            (
                "[[export]]\norigin = \"/a\"\nname = 1\n",
                3,
                "name=1: must be a string",
            ),
            ("cache\n", 1, ""),
        ] {
            let (at, message) = parse(text).expect_err("refused");
            assert_eq!(at, line, "{message}");
            assert!(message.contains(told), "{message}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_shown() {
        for (text, told) in [
            (
                "http-header = [\"Authorization: s3cret\", [\"s3cret\"]]\n",
                "http-header: must be a text, a whole number or a boolean",
            ),
            (
                "[[export]]\norigin = [\"https://me:s3cret@host/\"]\n",
                "origin: must be a string",
            ),
            (
                "[[export]]\norigin = \"a\"\nhttp-header = [\"X: s3cret\", [\"s3cret\"]]\n",
                "http-header: must be a text, a whole number or a boolean",
            ),
            ("http-header = [\"s3cret\"\n", ""),
        ] {
            let (_, message) = parse(text).expect_err("refused");
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_list_of_one_needs_no_brackets() {
        let options =
            parse("listen = \"unix:/a\"\norigins = \"/a\"\nhttp-header = \"A: b\"\n[[export]]\norigin = \"b\"\nhttp-header = \"C: d\"\n").unwrap();
        assert_eq!(options.export[0].http_header, ["C: d".into()]);
        assert_eq!(options.listen, ["unix:/a".into()]);
        assert_eq!(options.origins, ["/a".into()]);
        assert_eq!(options.http_header, ["A: b".into()]);
    }

    #[test]
    fn the_command_line_wins_and_lists_are_not_mixed() {
        let file = parse(
            "cache = \"unsafe\"\ncache-flush = \"cache\"\ncache-dirty-age = 5\ncache-dirty-share = 20\n\
             cache-writeback = \"ordered\"\n\
             listen = [\"unix:/a\"]\n\
             [[export]]\norigin = \"/a\"\n",
        )
        .unwrap();
        let typed = Options {
            cache: Some("writethrough".into()),
            cache_flush: Some("origin".into()),
            cache_writeback: Some("unordered".into()),
            origins: vec!["/b".into()],
            ..Options::default()
        };
        let merged = typed.over(file);
        assert_eq!(merged.cache, Some("writethrough".into()));
        assert_eq!(merged.cache_flush, Some("origin".into()));
        assert_eq!(merged.cache_writeback, Some("unordered".into()));
        assert_eq!(merged.cache_dirty_age, Some("5".into()));
        assert_eq!(merged.cache_dirty_share, Some("20".into()));
        assert_eq!(merged.listen, ["unix:/a".into()]);
        assert_eq!(merged.origins, ["/b".into()]);
        assert!(merged.export.is_empty());
    }

    #[test]
    fn a_missing_file_is_told() {
        assert_eq!(
            read(Path::new("/no/such.toml")).unwrap_err(),
            "config=/no/such.toml: No such file or directory"
        );
    }

    #[test]
    fn the_example_is_right() {
        let options = parse(include_str!("../systemd/larder.toml")).unwrap();
        assert!(!options.export.is_empty());
    }
}
