//! SEMANTICS.md names tests that exist.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The folders where the page's tests are.
const CRATES: [&str; 7] = [
    "larder",
    "larder-testing",
    "nbdkit-filter",
    "larder-origins",
    "larder-server",
    "nbd-wire",
    "larder-e2e",
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The source of the test file of that name.
fn test_file(name: &str) -> Option<String> {
    CRATES.iter().find_map(|krate| {
        let path = crates()
            .join(krate)
            .join("tests")
            .join(format!("{name}.rs"));
        fs::read_to_string(path).ok()
    })
}

fn has_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    source.find(&function).is_some_and(|at| {
        let before = &source[..at];
        // Nothing but attributes between.
        before
            .rfind("#[test]")
            .is_some_and(|attribute| !before[attribute..].contains("fn "))
    })
}

#[test]
fn every_test_named_here_exists() {
    let page = fs::read_to_string(crates().join("../SEMANTICS.md")).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .collect();
    assert!(named.len() > 100, "only {} tests are named", named.len());
    let missing: Vec<String> = named
        .iter()
        .filter(|(file, test)| {
            *file != "file" && !test_file(file).is_some_and(|source| has_test(&source, test))
        })
        .map(|(file, test)| format!("{file}::{test}"))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn a_test_that_is_only_a_helper_does_not_count() {
    let source = "#[test]\nfn real() {}\n\nfn helper() {}\n";
    assert!(has_test(source, "real"));
    assert!(!has_test(source, "helper"));
    assert!(!has_test(source, "absent"));
}
