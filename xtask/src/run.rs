//! Running other programs.

use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;

/// Runs a command to its end; a status other than 0 is a failure that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .status()
        .map_err(|e| Failure::new(format!("cannot run {:?}: {e}", command.get_program())))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("{command:?} failed: {status}")))
    }
}

/// Runs a command and returns what it printed; what it has to say on stderr goes to ours.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let (status, printed) = run_and_collect(command)?;
    match status.success() {
        true => Ok(printed),
        false => Err(Failure::new(format!("{command:?} failed: {status}"))),
    }
}

/// Runs a command and returns what it printed, whatever its status.
pub(crate) fn printed(command: &mut Command) -> Result<String, Failure> {
    run_and_collect(command).map(|(_, printed)| printed)
}

fn run_and_collect(command: &mut Command) -> Result<(ExitStatus, String), Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::new(format!("cannot run {:?}: {e}", command.get_program())))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status, printed))
}

/// Whether a command can be run and ends well, silently.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
