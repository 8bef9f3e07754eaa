//! The version as the main program itself tells it when it is run with `--dump-config`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Version;

/// More than `--dump-config` ever prints.
const LONGEST_ANSWER_BYTES: u64 = 64 * 1024;

/// Runs the main program. The magic link comes first, since it is the running binary even if that
/// was replaced or deleted; the path it shows comes second, since under an emulator such as
/// valgrind the link may be the emulator's.
pub(super) fn ask() -> Option<Version> {
    let link = PathBuf::from("/proc/self/exe");
    let path = fs::read_link(&link).ok();
    ask_program(&link).or_else(|| ask_program(&path?))
}

fn ask_program(program: &Path) -> Option<Version> {
    // Nothing of this process's state matters to the answer but where libraries are. No SIGCHLD
    // is relied on: where it is ignored, `wait` fails and the answer is complete all the same.
    let mut command = Command::new(program);
    command
        .arg("--dump-config")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let mut child = command.spawn().ok()?;
    let mut answer = Vec::new();
    let read = child
        .stdout
        .take()
        .map(|stdout| stdout.take(LONGEST_ANSWER_BYTES).read_to_end(&mut answer));
    let _ = child.wait();
    read?.ok()?;
    version_in(&answer)
}

fn version_in(answer: &[u8]) -> Option<Version> {
    let has = |line: &[u8]| {
        answer
            .split(|&byte| byte == b'\n')
            .any(|other| other == line)
    };
    if !has(b"name=nbdkit") {
        return None;
    }
    answer
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"version="))
        .and_then(Version::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_is_found() {
        let answer = b"mandir=/m\nname=nbdkit\nversion=1.32.5\nversion_major=1\n";
        assert_eq!(version_in(answer), Version::parse(b"1.32.5"));
        assert_eq!(version_in(b"name=other\nversion=1.32.5\n"), None);
        assert_eq!(version_in(b""), None);
    }

    #[test]
    fn an_nbdkit_answers() {
        let nbdkit = std::env::var_os("NBDKIT").unwrap_or_else(|| "nbdkit".into());
        let version = ask_program(Path::new(&nbdkit));
        assert!(
            version.is_some(),
            "cannot run {nbdkit:?} (Debian package nbdkit)"
        );
    }

    #[test]
    fn another_program_does_not() {
        assert_eq!(ask_program(Path::new("true")), None);
        assert_eq!(ask_program(Path::new("/nonexistent/program")), None);
    }
}
