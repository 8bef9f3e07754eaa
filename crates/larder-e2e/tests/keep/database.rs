//! A database in WAL mode, in which one transaction after the other is committed, and told of once its COMMIT has returned.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use larder_e2e::run;

const PYTHON: &str = "/usr/bin/python3";
const TRANSACTIONS: &str = include_str!("transactions.py");

/// Commits until that fails. Returns the number of the last transaction that was told of, if any was.
pub fn commit(database: &Path) -> Option<u64> {
    let mut child = Command::new(PYTHON)
        .args(["-c", TRANSACTIONS, "write"])
        .arg(database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {PYTHON}: {error}"));
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = told.map(|line| line.unwrap().parse().unwrap()).last();
    let status = child.wait().unwrap();
    assert!(status.success(), "the writer: {status}");
    last
}

/// Asserts that the database is whole, with all transactions up to the last. Returns the number of that.
pub fn check(database: &Path) -> u64 {
    let database = database.display().to_string();
    let told = run(PYTHON, ["-c", TRANSACTIONS, "check", &database]);
    told.trim().parse().unwrap()
}
