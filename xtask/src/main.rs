//! `cargo xtask`: what one does with this workspace, each by one command.

mod bench;
mod cargo;
mod demo;
mod failure;
mod fuzz;
mod install;
mod options;
mod port;
mod run;
mod soak;
mod test;
mod tools;
mod trixie;

use std::env;
use std::process::ExitCode;

use failure::Failure;
use options::Options;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--nbdkit trixie]      builds everything and runs every test: unit, model, end to end;
                              with Debian 13's nbdkit: those tests that run one
  install [--as cache]        puts the filter and its manual page where nbdkit and man look;
                              --as cache: in the place of nbdkit's own cache filter
  uninstall                   takes all of that away again, and puts the original back
  demo [PLUGIN [ARGS]]        serves a plugin through the filter until Ctrl-C (memory 1G)
  bench [WORD] [--rounds N] [--quick] [--traces DIR] [--out DIR]
                              measures the filter and `larder serve` against nbdkit, its own filter, qemu,
                              nbd-server and a bare server, and fails if a bound is missed; all of it, in at
                              least 3 rounds, is written into bench/results;
                              with WORD: the row of that number, or those with that in their names;
                              --quick: most of it in a few minutes, for a look;
                              --traces DIR: where arc_p3.csv.gz and cloudphysics.csv.gz are
  soak [--seconds N] [--seed S]
                              runs the random tests for that long (600 seconds)
  fuzz [--seconds N]          runs libFuzzer on the NBD messages and the cache format for that long (600 seconds)

install and uninstall also take --filterdir DIR and --mandir DIR; without them nbdkit is asked.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let Some((command, rest)) = arguments.split_first() else {
        return Err(Failure::new(format!("no command\n\n{USAGE}")));
    };
    match command.as_str() {
        "test" => test::run(&Options::parse(rest, &["nbdkit"])?),
        "install" => install::install(rest),
        "uninstall" => install::uninstall(rest),
        "demo" => demo::run(rest),
        "bench" => bench::run(rest),
        "soak" => soak::run(&Options::parse(rest, &["seconds", "seed"])?),
        "fuzz" => fuzz::run(&Options::parse(rest, &["seconds"])?),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::new(format!("no command {other}\n\n{USAGE}"))),
    }
}
