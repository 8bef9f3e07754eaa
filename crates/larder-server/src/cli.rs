//! The command line: what was typed, or one line that says what is wrong with it.

use std::ffi::OsString;
use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use larder_frontend::report::one_line;

use crate::options::Options;
use crate::replay::ReplayOptions;
use crate::tools::{DrainOptions, InspectOptions, ScrubOptions};

/// The status of a tool that was asked for what cannot be. `serve` and `replay` end with 1 then.
const USAGE_STATUS: i32 = 2;

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
    /// Tell what a cache directory holds, also while it is in use
    #[command(
        args_override_self = true,
        after_help = "\
Nothing is written, and nobody is kept from the directory. The exit status is 1 if a start would refuse it, and 2 if something was typed wrong.

Examples:
  larder inspect /var/cache/larder
  larder inspect --ranges --json /var/cache/larder"
    )]
    Inspect(Box<InspectOptions>),
    /// Read all that a cache directory holds and compare it with its checksums
    #[command(
        args_override_self = true,
        after_help = "\
Nothing is written, and nobody is kept from the directory. The exit status is 1 if something is damaged that the origin does not have, or
if a start would refuse the directory, and 2 if something was typed wrong.

Examples:
  larder scrub /var/cache/larder"
    )]
    Scrub(Box<ScrubOptions>),
    /// Write back what only a cache directory has, without serving; or copy it to a file, or forget it
    #[command(
        args_override_self = true,
        after_help = "\
The directory must not be in use. What was written back is forgotten by the directory once the origin has it durably; until then this can be run again.
The exit status is 1 if something is left that was to be written back or copied, or if nothing could be done, and 2 if something was typed wrong.

Examples:
  larder drain /var/cache/larder nbd://storage/disk
  larder drain /var/cache/larder a=/dev/sdb b=nbd://storage/b
  larder drain --output=rescued.img /var/cache/larder
  larder drain --discard /var/cache/larder"
    )]
    Drain(Box<DrainOptions>),
}

/// What the command line comes to.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To serve.
    Serve(Box<Options>),
    /// To replay a trace.
    Replay(Box<ReplayOptions>),
    /// To look at a cache directory.
    Inspect(Box<InspectOptions>),
    /// To check one.
    Scrub(Box<ScrubOptions>),
    /// To empty one.
    Drain(Box<DrainOptions>),
    /// To be told something, which has been done.
    Told,
}

/// Why nothing is done, or not all of it.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// One line.
    pub(crate) message: String,
    /// That the process ends with.
    pub(crate) status: i32,
}

impl Wrong {
    /// What was asked for is refused.
    pub(crate) fn refusal(message: String) -> Self {
        Self { message, status: 1 }
    }

    /// What was typed cannot be.
    pub(crate) fn usage(message: String) -> Self {
        Self {
            message,
            status: USAGE_STATUS,
        }
    }
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, Wrong> {
    let arguments: Vec<OsString> = arguments.collect();
    let command = arguments.get(1).and_then(|word| word.to_str());
    let command = command.unwrap_or_default().to_owned();
    match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine {
            command: Command::Serve(options),
        }) => Ok(Asked::Serve(options)),
        Ok(CommandLine {
            command: Command::Replay(options),
        }) => Ok(Asked::Replay(options)),
        Ok(CommandLine {
            command: Command::Inspect(options),
        }) => Ok(Asked::Inspect(options)),
        Ok(CommandLine {
            command: Command::Scrub(options),
        }) => Ok(Asked::Scrub(options)),
        Ok(CommandLine {
            command: Command::Drain(options),
        }) => Ok(Asked::Drain(options)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let text = error.render();
                let _ = write!(std::io::stdout(), "{text}");
                Ok(Asked::Told)
            }
            _ => Err(match &*command {
                "inspect" | "scrub" | "drain" => Wrong::usage(wrong(&error, &command)),
                "replay" => Wrong::refusal(wrong(&error, &command)),
                _ => Wrong::refusal(wrong(&error, "serve")),
            }),
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

    fn asked(arguments: &[&str]) -> Result<Asked, Wrong> {
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
            (
                &["inspect", "--range", "x"],
                "--range: there is no such option; did you mean --ranges? (larder inspect --help tells more)",
            ),
            (
                &["scrub", "--ranges", "x"],
                "--ranges: there is no such option (larder scrub --help tells more)",
            ),
        ] {
            let Wrong { message, status } = asked(arguments).expect_err("refused");
            assert!(message.starts_with(told), "{message}");
            assert!(!message.contains('\n'), "{message}");
            let is_tool = ["inspect", "scrub"].contains(arguments.first().unwrap_or(&""));
            assert_eq!(status, if is_tool { 2 } else { 1 }, "{message}");
        }
    }

    #[test]
    fn manual_names_every_option() {
        let manual = include_str!("../larder.1").replace("\\-", "-");
        let command = CommandLine::command();
        for (name, at_least) in [
            ("serve", 20),
            ("replay", 8),
            ("inspect", 2),
            ("scrub", 1),
            ("drain", 7),
        ] {
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
