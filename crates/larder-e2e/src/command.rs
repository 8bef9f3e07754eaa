//! Running tools. A tool that is missing is a failure that names it.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs a tool to its end and returns what it printed. Panics with that when it fails.
pub fn run<A: AsRef<OsStr>>(tool: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let mut command = Command::new(tool);
    command.args(arguments);
    let output = output_of(&mut command);
    let text = text_of(&output);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{text}",
        output.status
    );
    text
}

/// Runs a tool that must fail, and returns what it printed.
pub fn run_expecting_failure<A: AsRef<OsStr>>(
    tool: &str,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    let mut command = Command::new(tool);
    command.args(arguments);
    let output = output_of(&mut command);
    let text = text_of(&output);
    assert!(
        !output.status.success(),
        "{command:?} should have failed\n{text}"
    );
    text
}

/// Runs a command and returns its output, whatever its status. Panics when it cannot be started.
pub fn output_of(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| {
        panic!(
            "cannot run {:?}: {e} (`cargo xtask test` installs what the tests need)",
            command.get_program()
        )
    })
}

fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}
