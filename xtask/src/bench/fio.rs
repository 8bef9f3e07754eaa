//! The load: fio with its NBD engine.

use std::process::Command;

use super::server::Server;
use crate::failure::Failure;
use crate::run::output;

const SECONDS: &str = "3";
const DEPTH: &str = "16";

/// Where the rates are in a line of fio's terse output, version 3, counted from 0.
const READ_RATE_FIELD: usize = 7;
const WRITE_RATE_FIELD: usize = 48;

/// Random requests at a depth of 16 on each connection.
pub(super) struct Load {
    pattern: &'static str,
    request_size: &'static str,
    disk_size: &'static str,
    connections: u32,
}

impl Load {
    pub(super) fn new(
        pattern: &'static str,
        request_size: &'static str,
        disk_size: &'static str,
        connections: u32,
    ) -> Self {
        Self {
            pattern,
            request_size,
            disk_size,
            connections,
        }
    }

    /// Requests per second.
    pub(super) fn run(&self, server: &Server) -> Result<f64, Failure> {
        let printed = output(Command::new("fio").args([
            "--name=load",
            "--ioengine=nbd",
            &format!("--uri={}", server.uri()),
            &format!("--rw={}", self.pattern),
            &format!("--bs={}", self.request_size),
            &format!("--size={}", self.disk_size),
            &format!("--numjobs={}", self.connections),
            &format!("--iodepth={DEPTH}"),
            &format!("--runtime={SECONDS}"),
            "--time_based",
            "--group_reporting",
            "--output-format=terse",
            "--terse-version=3",
        ]))?;
        let field = if self.pattern.ends_with("write") {
            WRITE_RATE_FIELD
        } else {
            READ_RATE_FIELD
        };
        printed
            .lines()
            .find(|line| line.starts_with("3;"))
            .and_then(|line| line.split(';').nth(field)?.parse().ok())
            .ok_or_else(|| Failure::new(format!("fio printed no rate:\n{printed}")))
    }
}
