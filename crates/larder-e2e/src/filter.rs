//! What is tested, and in which nbdkit.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::command::output_of;

/// The filter that the tests are about.
#[derive(Clone, Copy, Debug)]
pub struct FilterUnderTest;

impl FilterUnderTest {
    /// What to give to `--filter=`: a path, or the name of an installed filter.
    #[must_use]
    pub fn argument() -> String {
        if let Ok(filter) = env::var("LARDER_FILTER") {
            return filter;
        }
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/release/libnbdkit_larder_filter.so");
        let Ok(path) = path.canonicalize() else {
            panic!(
                "{} is not there: run `cargo xtask test`, or \
                 `cargo build --release --package nbdkit-larder-filter` first",
                path.display()
            );
        };
        path.display().to_string()
    }

    /// Whether this is nbdkit's own filter, which has no stats line to check.
    #[must_use]
    pub fn is_stock() -> bool {
        env::var("LARDER_FILTER").is_ok_and(|filter| filter == "cache")
    }

    /// The nbdkit to run.
    #[must_use]
    pub fn nbdkit() -> String {
        env::var("NBDKIT").unwrap_or_else(|_| "nbdkit".to_owned())
    }

    /// The major and minor version of that nbdkit.
    #[must_use]
    pub fn nbdkit_version() -> (u32, u32) {
        static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
        *VERSION.get_or_init(|| {
            let output = output_of(Command::new(Self::nbdkit()).arg("--version"));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut numbers = text
                .trim()
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .split('.')
                .map_while(|part| part.parse::<u32>().ok());
            match (numbers.next(), numbers.next()) {
                (Some(major), Some(minor)) => (major, minor),
                _ => panic!("`nbdkit --version` said {text:?}"),
            }
        })
    }
}
