//! The load: fio with its NBD engine.

use super::server::Server;
use crate::failure::Failure;
use crate::run::output;

use std::process::Command;

const SECONDS: &str = "3";

/// Where the rates are in a line of fio's terse output, version 3, counted from 0.
const READ_RATE_FIELD: usize = 7;
const WRITE_RATE_FIELD: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// In order.
    Reads,
    RandomReads,
    RandomWrites,
}

/// Requests, always so many under way on each connection.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) pattern: Pattern,
    pub(super) request_bytes: u64,
    pub(super) depth: u32,
    pub(super) connections: u32,
    pub(super) disk_bytes: u64,
}

impl Load {
    /// Requests per second.
    pub(super) fn run(&self, server: &Server) -> Result<f64, Failure> {
        let (pattern, field) = match self.pattern {
            Pattern::Reads => ("read", READ_RATE_FIELD),
            Pattern::RandomReads => ("randread", READ_RATE_FIELD),
            Pattern::RandomWrites => ("randwrite", WRITE_RATE_FIELD),
        };
        let printed = output(Command::new("fio").args([
            "--name=load",
            "--ioengine=nbd",
            &format!("--uri={}", server.uri()),
            &format!("--rw={pattern}"),
            &format!("--bs={}", self.request_bytes),
            &format!("--size={}", self.disk_bytes),
            &format!("--numjobs={}", self.connections),
            &format!("--iodepth={}", self.depth),
            &format!("--runtime={SECONDS}"),
            "--time_based",
            "--group_reporting",
            "--output-format=terse",
            "--terse-version=3",
        ]))?;
        printed
            .lines()
            .find(|line| line.starts_with("3;"))
            .and_then(|line| line.split(';').nth(field)?.parse().ok())
            .filter(|rate| *rate > 0.0)
            .ok_or_else(|| Failure::new(format!("fio printed no rate:\n{printed}")))
    }
}
