//! The configuration file: the options of the command line without `--`, as TOML.

use std::fs;
use std::path::Path;

use larder_frontend::report::{one_line, reason};

use crate::options::Options;

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
        (
            before.matches('\n').count() + 1,
            without_value(error.message()),
        )
    })
}

/// What serde says of a value of the wrong type, without the value: it may be a credential.
fn without_value(message: &str) -> String {
    match (message.split_once(": "), message.rsplit_once(", expected ")) {
        (Some((kind, _)), Some((_, wanted))) if kind.starts_with("invalid ") => {
            format!("{kind}, expected {wanted}")
        }
        _ => message.to_owned(),
    }
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
             [[export]]\norigin = \"/b.img\"\ndescription = \"the other\"\n",
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
    }

    #[test]
    fn what_is_not_known_is_refused_by_line() {
        for (text, line, told) in [
            (
                "cache = \"unsafe\"\ncach-max = 1\n",
                2,
                "unknown field `cach-max`",
            ),
            ("config = \"other\"\n", 1, "unknown field `config`"),
            (
                "\n\n[[export]]\nname = \"a\"\n",
                3,
                "missing field `origin`",
            ),
            (
                "[[export]]\norigin = \"a\"\nmode = 1\n",
                3,
                "unknown field `mode`",
            ),
            ("cache = [1]\n", 1, "invalid type"),
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
                "http-header = \"Authorization: s3cret, expected s3cret\"\n",
                "invalid type, expected a sequence",
            ),
            (
                "[[export]]\norigin = [\"https://me:s3cret@host/\"]\n",
                "invalid type, expected a string",
            ),
            ("http-header = [\"s3cret\"\n", ""),
        ] {
            let (_, message) = parse(text).expect_err("refused");
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
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
