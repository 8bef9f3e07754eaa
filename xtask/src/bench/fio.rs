//! The load: fio with its NBD engine, or on a file.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::measurement::Latency;
use crate::failure::Failure;
use crate::run::output;

/// Nothing that is measured takes as long; a server that answers no more ends here.
const LIMIT_SECONDS: &str = "900";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// In order.
    Reads,
    RandomReads,
    RandomWrites,
}

/// Requests, always so many under way on each connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) pattern: Pattern,
    pub(super) request_bytes: u64,
    pub(super) depth: u32,
    pub(super) connections: u32,
    /// Some places are asked for much more often than others, as the exponent says.
    pub(super) zipf: Option<f64>,
    /// Each connection ends after so many.
    pub(super) requests_max: Option<u64>,
    /// A second for each connection, and twice as many one after the other as there are seconds: where it is luck
    /// how quick one is.
    pub(super) in_turns: bool,
    /// A flush after each request.
    pub(super) flush_each: bool,
}

/// What the load is put on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'t> {
    /// A server, by its address.
    Server(&'t str),
    /// A file, without a server.
    File(&'t Path),
}

impl Target<'_> {
    fn options(&self) -> [String; 2] {
        match self {
            Self::Server(uri) => ["--ioengine=nbd".to_owned(), format!("--uri={uri}")],
            Self::File(path) => [
                "--ioengine=psync".to_owned(),
                format!("--filename={}", path.display()),
            ],
        }
    }
}

/// What of the disk is asked for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start_bytes: u64,
    pub(super) length_bytes: u64,
    /// None: until all of it has been asked for once.
    pub(super) seconds: Option<u32>,
}

impl Span {
    /// From the start.
    pub(super) const fn of(length_bytes: u64, seconds: u32) -> Self {
        Self {
            start_bytes: 0,
            length_bytes,
            seconds: Some(seconds),
        }
    }
}

/// What fio saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) requests: u64,
    /// Per second.
    pub(super) rate: f64,
    pub(super) latency: Latency,
}

impl Load {
    /// Puts the load on a target. `directory` is for fio's report.
    pub(super) fn run(
        &self,
        target: Target<'_>,
        span: Span,
        directory: &Path,
    ) -> Result<Seen, Failure> {
        let turns = match span.seconds {
            Some(seconds) if self.in_turns => seconds * 2,
            _ => return one(run(target, &[self.job("load", span)], directory)?),
        };
        let second = Span {
            seconds: Some(1),
            ..span
        };
        let mut job = self.job("load", second);
        job.push("--stonewall".to_owned());
        mean(&run(target, &vec![job; turns as usize], directory)?)
    }

    /// Writes all of a disk once, at random places, each block filled with its own offset, and flushes.
    pub(super) fn overwrite(
        &self,
        uri: &str,
        disk_bytes: u64,
        directory: &Path,
    ) -> Result<Seen, Failure> {
        let span = Span {
            start_bytes: 0,
            length_bytes: disk_bytes,
            seconds: None,
        };
        let mut job = self.job("load", span);
        job.extend(
            [
                "verify=pattern",
                "verify_pattern=%o",
                "do_verify=0",
                "end_fsync=1",
            ]
            .map(|option| format!("--{option}")),
        );
        one(run(Target::Server(uri), &[job], directory)?)
    }

    /// Puts two loads on a server at once, on connections of their own; what the first one saw.
    pub(super) fn run_beside(
        &self,
        span: Span,
        (other, its_span): (&Self, Span),
        uri: &str,
        directory: &Path,
    ) -> Result<Seen, Failure> {
        let jobs = [self.job("first", span), other.job("second", its_span)];
        one(run(Target::Server(uri), &jobs, directory)?)
    }

    fn job(&self, name: &str, span: Span) -> Vec<String> {
        let pattern = match self.pattern {
            Pattern::Reads => "read",
            Pattern::RandomReads => "randread",
            Pattern::RandomWrites => "randwrite",
        };
        let mut job = vec![
            format!("--name={name}"),
            format!("--rw={pattern}"),
            format!("--bs={}", self.request_bytes),
            format!("--offset={}", span.start_bytes),
            format!("--size={}", span.length_bytes),
            format!("--numjobs={}", self.connections),
            format!("--iodepth={}", self.depth),
            // Reports of connections are joined by job, not over jobs.
            "--new_group".to_owned(),
        ];
        job.extend(
            self.zipf
                .map(|theta| format!("--random_distribution=zipf:{theta}")),
        );
        job.extend(self.flush_each.then(|| "--fsync=1".to_owned()));
        job.extend(span.seconds.map(|seconds| format!("--runtime={seconds}")));
        match self.requests_max {
            Some(most) => job.push(format!("--number_ios={most}")),
            None => job.extend(span.seconds.map(|_| "--time_based".to_owned())),
        }
        job
    }
}

/// The report goes to a file: the engine prints lines of its own.
fn run(target: Target<'_>, jobs: &[Vec<String>], directory: &Path) -> Result<Vec<Seen>, Failure> {
    let report = directory.join("fio.json");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "timeout", LIMIT_SECONDS, "fio"]);
    command.args(["--group_reporting", "--output-format=json"]);
    command
        .args(target.options())
        .arg(format!("--output={}", report.display()));
    command.args(jobs.iter().flatten()).current_dir(directory);
    output(&mut command)?;
    let text = fs::read_to_string(&report).map_err(|e| Failure::at(&report, &e))?;
    parse(&text)
}

fn one(seen: Vec<Seen>) -> Result<Seen, Failure> {
    let first = seen.into_iter().next();
    first.ok_or_else(|| Failure::new("fio reported no job"))
}

/// What turns of the same length come to.
fn mean(turns: &[Seen]) -> Result<Seen, Failure> {
    if turns.is_empty() {
        return Err(Failure::new("fio reported no job"));
    }
    let mean = |value: fn(&Seen) -> f64| turns.iter().map(value).sum::<f64>() / turns.len() as f64;
    Ok(Seen {
        requests: turns.iter().map(|seen| seen.requests).sum(),
        rate: mean(|seen| seen.rate),
        latency: Latency {
            p50: mean(|seen| seen.latency.p50),
            p99: mean(|seen| seen.latency.p99),
            p999: mean(|seen| seen.latency.p999),
        },
    })
}

/// fio's report, of which this is what is read.
#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    jobname: String,
    error: i64,
    read: Direction,
    write: Direction,
}

#[derive(Deserialize)]
struct Direction {
    total_ios: u64,
    iops: f64,
    clat_ns: Times,
}

#[derive(Deserialize)]
struct Times {
    percentile: Option<Percentiles>,
}

#[derive(Deserialize)]
struct Percentiles {
    #[serde(rename = "50.000000")]
    p50: f64,
    #[serde(rename = "99.000000")]
    p99: f64,
    #[serde(rename = "99.900000")]
    p999: f64,
}

/// One for each job.
fn parse(text: &str) -> Result<Vec<Seen>, Failure> {
    // Warnings come before the report, in the same file.
    let start = text.find('{').unwrap_or(0);
    let report: Report = serde_json::from_str(&text[start..])
        .map_err(|e| Failure::new(format!("fio's report is not as expected: {e}:\n{text}")))?;
    report.jobs.into_iter().map(Job::seen).collect()
}

impl Job {
    fn seen(self) -> Result<Seen, Failure> {
        let name = self.jobname;
        if self.error != 0 {
            let error = std::io::Error::from_raw_os_error(self.error as i32);
            return Err(Failure::new(format!("fio's job {name} failed: {error}")));
        }
        let direction = match self.write.total_ios {
            0 => self.read,
            _ => self.write,
        };
        let Some(times) = direction.clat_ns.percentile else {
            return Err(Failure::new(format!(
                "fio's job {name} finished no request"
            )));
        };
        let microseconds = |nanoseconds: f64| nanoseconds / 1000.0;
        Ok(Seen {
            requests: direction.total_ios,
            rate: direction.iops,
            latency: Latency {
                p50: microseconds(times.p50),
                p99: microseconds(times.p99),
                p999: microseconds(times.p999),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: i64, percentiles: &str) -> String {
        format!(
            r#"fio: a warning
            {{"fio version": "fio-3.33", "jobs": [{{"jobname": "load", "error": {error},
              "read": {{"total_ios": 3000, "iops": 1000.5, "clat_ns": {{"min": 1 {percentiles}}}}},
              "write": {{"total_ios": 0, "iops": 0.0, "clat_ns": {{"min": 0}}}}}}]}}"#
        )
    }

    const PERCENTILES: &str =
        r#", "percentile": {"50.000000": 1500, "99.000000": 2500, "99.900000": 9000}"#;

    #[test]
    fn a_report_is_read() {
        let seen = parse(&report(0, PERCENTILES)).unwrap();
        let latency = Latency {
            p50: 1.5,
            p99: 2.5,
            p999: 9.0,
        };
        assert_eq!(
            seen,
            [Seen {
                requests: 3000,
                rate: 1000.5,
                latency
            }]
        );
    }

    #[test]
    fn a_job_that_failed_or_did_nothing_has_no_figure() {
        let failed = parse(&report(5, PERCENTILES)).unwrap_err().to_string();
        assert!(failed.contains("load failed"), "{failed}");
        let idle = parse(&report(0, "")).unwrap_err().to_string();
        assert!(idle.contains("no request"), "{idle}");
        assert!(parse("fio: killed").is_err());
    }

    #[test]
    fn turns_come_to_their_mean() {
        let turn = |requests: u64| Seen {
            requests,
            rate: requests as f64,
            latency: Latency {
                p50: 1.0,
                p99: requests as f64,
                p999: 3.0,
            },
        };
        let seen = mean(&[turn(10), turn(20)]).unwrap();
        assert_eq!(
            (seen.requests, seen.rate, seen.latency.p99),
            (30, 15.0, 15.0)
        );
        assert!(mean(&[]).is_err());
    }

    #[test]
    fn what_is_counted_is_not_timed_over_and_over() {
        let mut load = Load {
            pattern: Pattern::RandomWrites,
            request_bytes: 4096,
            depth: 16,
            connections: 1,
            zipf: None,
            requests_max: None,
            in_turns: false,
            flush_each: false,
        };
        let span = Span::of(1 << 20, 3);
        assert!(load.job("load", span).contains(&"--time_based".to_owned()));
        load.requests_max = Some(7);
        let job = load.job("load", span);
        assert!(job.contains(&"--number_ios=7".to_owned()), "{job:?}");
        assert!(!job.contains(&"--time_based".to_owned()), "{job:?}");
        assert!(!job.contains(&"--fsync=1".to_owned()), "{job:?}");
        load.flush_each = true;
        let job = load.job("load", span);
        assert!(job.contains(&"--fsync=1".to_owned()), "{job:?}");
    }
}
