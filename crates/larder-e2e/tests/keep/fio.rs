//! fio writing to a disk whose server is killed, and verifying afterwards what a flush had been answered for.
//!
//! fio itself cannot tell what that is: its saved state counts writes, not flushes, and a flush that fails is no error to it. But
//! it logs what it sends, one request after the other, so that a request that is in the log tells that the one before was
//! answered; and a write that fails ends the job. So a flush counts if a write after it was answered too, over the same connection.
//! Then fio's `verify_only` makes the first writes up to that flush once more, and compares what is there instead of writing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_e2e::{MIB, Random, Scratch, Server, output_of};

/// Each job's part of the disk.
pub const PART: u64 = 48 * MIB;

/// One connection, with one request at a time.
#[derive(Debug)]
struct Job {
    name: String,
    log: PathBuf,
    /// Says what is written where, once to each place.
    seed: u64,
    /// Of the writes that begin with the seed's, those that a flush was answered for.
    flushed_writes: u64,
}

/// Some jobs side by side.
#[derive(Debug)]
pub struct Fio {
    directory: PathBuf,
    jobs: Vec<Job>,
    writes_per_flush: u64,
}

impl Fio {
    /// Jobs on parts of a disk that lie one after the other.
    pub fn new(scratch: &Scratch, jobs: u64) -> Self {
        let directory = scratch.make_dir("fio");
        let job = |number| Job {
            name: format!("job{number}"),
            log: directory.join(format!("log{number}")),
            seed: 0,
            flushed_writes: 0,
        };
        Self {
            jobs: (0..jobs).map(job).collect(),
            directory,
            writes_per_flush: 1,
        }
    }

    /// Something else is to be written, and flushed more or less often.
    pub fn begin(&mut self, random: &mut Random) {
        self.writes_per_flush = random.between(1, 32);
        for job in &mut self.jobs {
            job.seed = random.below(1 << 31);
            job.flushed_writes = 0;
            let _ = fs::remove_file(&job.log);
        }
    }

    /// Whether all the jobs have sent something.
    pub fn is_writing(&self) -> bool {
        self.jobs.iter().all(|job| job.log.exists())
    }

    /// Writes until the server is gone, or everything is written.
    pub fn write(&self, uri: &str) {
        let mut command = self.command(uri);
        command.arg("--do_verify=0");
        for (number, job) in self.jobs.iter().enumerate() {
            self.add(&mut command, number, job);
            command.arg(format!("--write_iolog={}", job.log.display()));
        }
        let output = output_of(&mut command);
        assert!(self.is_writing(), "fio did not begin: {output:?}");
    }

    /// Notes what a flush was answered for. Returns the number of writes.
    pub fn note_what_was_flushed(&mut self) -> u64 {
        for job in &mut self.jobs {
            job.flushed_writes = flushed_writes(&job.log);
        }
        self.jobs.iter().map(|job| job.flushed_writes).sum()
    }

    /// Asserts that all of that is there.
    pub fn verify(&self, server: &Server) {
        let mut command = self.command(&server.uri());
        command.args(["--verify_only", "--verify_fatal=1"]);
        let mut expected = Vec::new();
        for (number, job) in self.jobs.iter().enumerate() {
            // None would be no limit.
            if job.flushed_writes > 0 {
                self.add(&mut command, number, job);
                command.arg(format!("--number_ios={}", job.flushed_writes));
                expected.push(job.flushed_writes);
            }
        }
        if expected.is_empty() {
            return;
        }
        let output = output_of(&mut command);
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}\n{told}\n{errors}");
        assert_eq!(numbers_read(&told), expected, "{self:?}\n{told}\n{errors}");
    }

    fn command(&self, uri: &str) -> Command {
        let mut command = Command::new("fio");
        // First, since it says which options there are.
        command.arg("--ioengine=nbd");
        command.arg(format!("--uri={uri}"));
        command.arg(format!("--aux-path={}", self.directory.display()));
        command.arg(format!("--fsync={}", self.writes_per_flush));
        // Each sector is verified by itself, and knows its place and its seed.
        let options = "--thread --rw=randwrite --bsrange=512-32k --iodepth=1 \
                       --verify=crc32c --verify_interval=512 --verify_state_save=0";
        command.args(options.split_whitespace());
        command
    }

    fn add(&self, command: &mut Command, number: usize, job: &Job) {
        command.arg(format!("--name={}", job.name));
        command.arg(format!("--randseed={}", job.seed));
        command.arg(format!("--offset={}", number as u64 * PART));
        command.arg(format!("--size={PART}"));
    }
}

/// Writes before the last flush in a log after which a write was answered.
fn flushed_writes(log: &Path) -> u64 {
    let log = fs::read_to_string(log).unwrap_or_default();
    let requests: Vec<bool> = log
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|what| ["write", "sync"].contains(what))
        .map(|what| what == "sync")
        .collect();
    // The flush, a write that was answered, and whatever came then.
    let followed = requests.len().saturating_sub(2);
    let is_flush = |index: &usize| requests[*index] && !requests[index + 1];
    let last = (0..followed).rfind(is_flush).unwrap_or(0);
    let writes = requests[..last].iter().filter(|is_flush| !**is_flush);
    writes.count() as u64
}

/// How many requests each job has read, says fio.
fn numbers_read(told: &str) -> Vec<u64> {
    let numbers = told.lines().filter_map(|line| {
        let (_, totals) = line.split_once("issued rwts: total=")?;
        totals.split(',').next()?.parse().ok()
    });
    numbers.collect()
}
