//! The command line: what was typed, or one line that says what is wrong with it.

use std::ffi::OsString;
use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use larder_frontend::report::one_line;

use crate::options::Options;
use crate::replay::ReplayOptions;

/// A caching NBD server.
///
/// Keeps copies of a slow origin's blocks in a file and serves them to NBD clients.
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve origins over NBD through a cache
    #[command(
        args_override_self = true,
        after_help = "\
Sizes are typed as 64K, 1M or 10G. TMPDIR says where the cache file goes (default /var/tmp) without --cache-dir.

Examples:
  larder serve memory:1G
  larder serve --cache-dir /var/cache/larder nbd://storage/disk
  larder serve --listen unix:/run/disk.sock https://example.com/disk.img
  larder serve --run 'qemu-img convert \"$uri\" copy.img' nbd://storage/disk"
    )]
    Serve(Box<Options>),
    /// Tell what caches of several sizes would have missed of a trace of requests
    #[command(
        args_override_self = true,
        after_help = "\
Sizes are typed as 64K, 1M or 10G. TMPDIR says where a trace goes that can be read only once.

Examples:
  larder replay trace.csv.gz
  larder replay --cache-max-size=1G,2G,4G --plot=misses.svg sda
  blkparse -i sda | larder replay -"
    )]
    Replay(Box<ReplayOptions>),
}

/// What the command line comes to.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To serve.
    Serve(Box<Options>),
    /// To replay a trace.
    Replay(Box<ReplayOptions>),
    /// To be told something, which has been done.
    Told,
}

/// Reads the command line. An error is one line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let arguments: Vec<OsString> = arguments.collect();
    let is_replay = arguments.get(1).is_some_and(|word| word == "replay");
    match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine {
            command: Command::Serve(options),
        }) => Ok(Asked::Serve(options)),
        Ok(CommandLine {
            command: Command::Replay(options),
        }) => Ok(Asked::Replay(options)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let text = error.render();
                let _ = write!(std::io::stdout(), "{text}");
                Ok(Asked::Told)
            }
            _ => Err(wrong(&error, if is_replay { "replay" } else { "serve" })),
        },
    }
}

/// clap's error in one line: what was typed, and what would be right.
fn wrong(error: &clap::Error, command: &str) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let meant = |kind| match context(kind) {
        Some(meant) => format!("; did you mean {meant}?"),
        None => String::new(),
    };
    let message = match error.kind() {
        ErrorKind::UnknownArgument => {
            let typed = context(ContextKind::InvalidArg).unwrap_or_default();
            let meant = meant(ContextKind::SuggestedArg);
            format!("{typed}: there is no such option{meant}")
        }
        ErrorKind::InvalidSubcommand => {
            let typed = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let meant = meant(ContextKind::SuggestedSubcommand);
            format!("{typed}: there is no such command{meant}")
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "what to do is missing: larder serve ORIGIN, for example".to_owned()
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    };
    one_line(&format!("{message} (larder {command} --help tells more)"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn asked(arguments: &[&str]) -> Result<Asked, String> {
        let arguments = ["larder"].iter().chain(arguments);
        parse(arguments.map(|argument| OsString::from(*argument)))
    }

    fn options(arguments: &[&str]) -> Options {
        match asked(arguments) {
            Ok(Asked::Serve(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_may_have_a_value_after_an_equals_sign_only() {
        let given = options(&["serve", "-r", "-v", "--exit-with-last-client=false", "disk"]);
        assert_eq!(given.read_only, Some("true".into()));
        assert_eq!(given.verbose, Some("true".into()));
        assert_eq!(given.exit_with_last_client, Some("false".into()));
        assert_eq!(given.origins, ["disk".into()]);
    }

    #[test]
    fn what_is_given_twice_counts_as_given_last() {
        let given = options(&[
            "serve",
            "--cache=unsafe",
            "-r",
            "--cache",
            "writeback",
            "-r=no",
            "a",
        ]);
        assert_eq!(given.cache, Some("writeback".into()));
        assert_eq!(given.read_only, Some("no".into()));
    }

    #[test]
    fn lists_are_given_one_by_one() {
        let given = options(&[
            "serve",
            "--listen",
            "unix:a",
            "b=c",
            "--listen=tcp:x:1",
            "d",
        ]);
        assert_eq!(given.listen, ["unix:a".into(), "tcp:x:1".into()]);
        assert_eq!(given.origins, ["b=c".into(), "d".into()]);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        for (arguments, told) in [
            (
                &["serve", "--cache-max-sise=1M", "x"][..],
                "--cache-max-sise: there is no such option; did you mean --cache-max-size?",
            ),
            (
                &["serv"],
                "serv: there is no such command; did you mean serve?",
            ),
            (
                &[],
                "what to do is missing: larder serve ORIGIN, for example",
            ),
            (
                &["serve", "--cache"],
                "a value is required for '--cache <MODE>'",
            ),
            (
                &["replay", "--cache-max-sise=1M", "x"],
                "--cache-max-sise: there is no such option; did you mean --cache-max-size? \
                 (larder replay --help tells more)",
            ),
        ] {
            let message = asked(arguments).expect_err("refused");
            assert!(message.starts_with(told), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn manual_names_every_option() {
        let manual = include_str!("../larder.1").replace("\\-", "-");
        let command = CommandLine::command();
        for (name, at_least) in [("serve", 20), ("replay", 8)] {
            let subcommand = command.find_subcommand(name).expect("there is one");
            let options: Vec<_> = subcommand
                .get_arguments()
                .filter_map(clap::Arg::get_long)
                .collect();
            assert!(options.len() >= at_least, "{options:?}");
            for option in options {
                assert!(manual.contains(&format!("--{option}")), "{option}");
            }
        }
    }
}
