//! Options of a command: `--name value`.

use std::str::FromStr;

use crate::failure::Failure;

/// The options that were given.
#[derive(Debug, Default)]
pub(crate) struct Options {
    given: Vec<(String, String)>,
}

impl Options {
    /// Takes apart `--name value ...`, of these names only.
    pub(crate) fn parse(arguments: &[String], names: &[&str]) -> Result<Self, Failure> {
        Self::parse_with_flags(arguments, names, &[])
    }

    /// The same, with `--flag` without a value too.
    pub(crate) fn parse_with_flags(
        arguments: &[String],
        names: &[&str],
        flags: &[&str],
    ) -> Result<Self, Failure> {
        let mut given = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").unwrap_or_default();
            let value = if flags.contains(&name) {
                String::new()
            } else if names.contains(&name) {
                let value = arguments.next();
                value
                    .cloned()
                    .ok_or_else(|| Failure::new(format!("{argument} wants a value")))?
            } else {
                let known = names.iter().chain(flags).map(|name| format!("--{name}"));
                let known = known.collect::<Vec<String>>().join(", ");
                return Err(Failure::new(format!(
                    "{argument:?} is none of the options {known}"
                )));
            };
            given.push((name.to_owned(), value));
        }
        Ok(Self { given })
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.given.iter().any(|(given, _)| given == flag)
    }

    /// The value of an option, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let named = |(given, _): &&(String, String)| given == name;
        self.given.iter().rev().find(named).map(|(_, v)| v.as_str())
    }

    /// The value of an option as a number, or else `default`.
    pub(crate) fn number<N: FromStr>(&self, name: &str, default: N) -> Result<N, Failure> {
        match self.value(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Failure::new(format!("--{name} {text}: a number is wanted"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&arguments, &["seconds", "seed"])
    }

    #[test]
    fn options_are_found_by_name() {
        let options = parse("--seed 5 --seconds 10").unwrap();
        assert_eq!(options.number("seed", 0).unwrap(), 5);
        assert_eq!(options.number("seconds", 0).unwrap(), 10);
        assert_eq!(parse("").unwrap().number("seconds", 7).unwrap(), 7);
    }

    #[test]
    fn a_flag_takes_no_value() {
        let line = ["--quick", "--seed", "5"].map(str::to_owned);
        let options = Options::parse_with_flags(&line, &["seed"], &["quick"]).unwrap();
        assert!(options.has("quick"));
        assert_eq!(options.number("seed", 0).unwrap(), 5);
        assert!(!Options::parse(&[], &[]).unwrap().has("quick"));
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (line, word) in [
            ("--sead 5", "--sead"),
            ("seed 5", "seed"),
            ("--seed", "--seed"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(word), "{line}: {message}");
        }
        let options = parse("--seed five").unwrap();
        let message = options.number("seed", 0).unwrap_err().to_string();
        assert!(message.contains("--seed five"), "{message}");
    }
}
