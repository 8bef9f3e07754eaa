//! Requests that fio does not time one by one: a small client with libnbd's Python module.

use std::process::Command;

use super::measurement::Measurement;
use crate::failure::Failure;
use crate::run::output;
use crate::tools::PYTHON;

const SCRIPT: &str = include_str!("client.py");

/// Seconds of a flush after so many bytes have been written in order.
pub(super) fn flush(uri: &str, bytes: u64) -> Result<Measurement, Failure> {
    run("flush", uri, bytes)
}

/// Seconds of zeroing so many bytes.
pub(super) fn zero(uri: &str, bytes: u64) -> Result<Measurement, Failure> {
    run("zero", uri, bytes)
}

fn run(what: &str, uri: &str, bytes: u64) -> Result<Measurement, Failure> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", PYTHON, "-c", SCRIPT, what, uri]);
    let printed = output(command.arg(bytes.to_string()))?;
    let seconds: f64 = printed
        .trim()
        .parse()
        .map_err(|_| Failure::new(format!("the client printed {printed:?} and not seconds")))?;
    Ok(Measurement {
        figure: seconds,
        ..Measurement::default()
    })
}
