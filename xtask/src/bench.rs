//! `cargo xtask bench`: how fast Larder is, as ratios to others measured beside it.
//!
//! All data is in memory (`/dev/shm`), so that the programs are measured and not a disk; so are the cache files,
//! except for warm reads, where they are in their default place and in the page cache. Each round measures every contender of a row once, in turn. The table has the medians
//! of the figures, and of the rounds' ratios, which count: what else the machine does changes over
//! time.

mod case;
mod contender;
mod conversion;
mod directory;
mod file_system;
mod fio;
mod process;
mod programs;
mod server;
mod table;
mod web_server;

use crate::failure::Failure;
use crate::options::Options;
use case::{CASES, Case, Work};
use conversion::Conversion;
use directory::Directory;
use programs::Programs;
use server::Server;
use table::Row;

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (word, options) = match arguments.split_first() {
        Some((word, rest)) if !word.starts_with("--") => (word.as_str(), rest),
        _ => ("", arguments),
    };
    let rounds: usize = Options::parse(options, &["rounds"])?.number("rounds", 5)?;
    let cases: Vec<&Case> = CASES.iter().filter(|c| c.name.contains(word)).collect();
    if cases.is_empty() {
        let names = CASES.iter().map(|case| format!("\n  {}", case.name));
        let names: String = names.collect();
        return Err(Failure::new(format!(
            "no row has {word:?} in its name:{names}"
        )));
    }
    let programs = Programs::prepare()?;
    let directory = Directory::new()?;
    let mut missed = 0;
    for case in cases {
        let row = measure(case, rounds.max(1), &programs, &directory)?;
        print!("{row}");
        missed += row.missed();
    }
    match missed {
        0 => Ok(()),
        1 => Err(Failure::new("1 bound is missed")),
        _ => Err(Failure::new(format!("{missed} bounds are missed"))),
    }
}

fn measure<'c>(
    case: &'c Case,
    rounds: usize,
    programs: &Programs,
    directory: &Directory,
) -> Result<Row<'c>, Failure> {
    let conversion = match &case.work {
        Work::Load { .. } => None,
        Work::Conversion => Some(Conversion::prepare(directory)?),
    };
    let mut row = Row::new(case);
    for _ in 0..rounds {
        for (place, contender) in case.contenders.iter().enumerate() {
            let figure = match (&case.work, &conversion) {
                (
                    Work::Load {
                        disk,
                        cache_file,
                        warm,
                        load,
                    },
                    _,
                ) => {
                    let what = (*disk, *cache_file);
                    let server = Server::start(*contender, what, programs, directory)?;
                    if *warm {
                        server.read_everything()?;
                    }
                    load.run(&server)?
                }
                (Work::Conversion, Some(conversion)) => conversion.run(*contender, programs)?,
                (Work::Conversion, None) => continue,
            };
            row.add(place, figure);
        }
    }
    Ok(row)
}
