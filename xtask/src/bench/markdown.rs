//! The page for readers.

use std::fmt::Write;

use super::contender::Contender::{self, Engine, Filter, Serve};
use super::limits;
use super::measurement::{Measurement, median, spread};
use super::outcome::{Outcome, Verdict, short};
use super::results::Results;
use super::rows::{ALL, FEW};
use super::text::details;

const INTRODUCTION: &str = "\
Larder's filter in nbdkit and `larder serve`, side by side with what else there is. Written by `cargo xtask bench`, \
which builds and installs whatever it needs, starts every contender itself, and measures them in turns: each round \
measures every contender of a row once, and each round begins with another one. A figure is the median of the rounds, \
with the least and the most beside it; a ratio is the median of the rounds' ratios, since what else the machine does \
changes over time. Client and server share the processors, so that the client is often what limits: the processor \
time that the server took is beside every figure.

To measure again: `cargo xtask bench --traces DIR` (all rows, about 50 minutes, writes this page; DIR has the two traces of row 15), `cargo xtask bench 'warm \
randread' --rounds 5` (rows with that in their names), `cargo xtask bench --quick` (a look at most of it, with less data \
and shorter times). The numbers of each round are in [results.json](results.json).

";

const COLUMNS: &str = "\
- **CPU**: user and system time of the server, its children included and its origin excluded, in seconds per million \
requests; where it is not requests that are counted, in seconds.
- **peak**: the most memory that was ever resident (`VmHWM`), mapped files included. **anonymous**: what is resident at \
the end and has no file behind it (`RssAnon`).
- **p50**, **p99**, **p99.9**: of the time from submission to completion that fio saw, in microseconds.
";

const QUICK: &str =
    "> **A quick run: less data, shorter times, fewer rounds. These figures are no result.**\n\n";

/// BENCHMARKS.md.
pub(super) fn page(results: &Results<'_>, pictures: &[&str]) -> String {
    let mut page = "# Benchmarks\n\n".to_owned();
    if results.is_quick {
        page.push_str(QUICK);
    }
    page.push_str(INTRODUCTION);
    summary(&mut page, results);
    on_disk(&mut page, results);
    for picture in pictures {
        let name = picture.trim_end_matches(".svg");
        let _ = writeln!(page, "![{name}]({picture})\n");
    }
    if pictures.contains(&"misses.svg") {
        page.push_str(
            "The misses are those of one round, counted by nbdkit's stats filter on the origin, with an empty \
             cache at the start.\n\n",
        );
    }
    page.push_str("## Rows in full\n\n");
    page.push_str(COLUMNS);
    for outcome in &results.outcomes {
        page.push('\n');
        row(&mut page, outcome, results);
    }
    settings(&mut page, results);
    page
}

/// The bounds and what came out.
fn summary(page: &mut String, results: &Results<'_>) {
    let rounds = results.rounds;
    let plural = if rounds == 1 { "" } else { "s" };
    let _ = writeln!(page, "## Bounds, {rounds} round{plural}\n");
    page.push_str("Everything is in memory (`/dev/shm`): images, caches, origins; but where a row says \"on disk\". What is wanted is in parentheses.\n\n");
    page.push_str("| # | workload | filter in nbdkit | `larder serve` |\n|---|---|---|---|\n");
    for outcome in with_bounds(results, true) {
        let verdicts = outcome.verdicts(&results.outcomes);
        let told = |contender: Contender| {
            let of_it = verdicts
                .iter()
                .filter(|verdict| [contender, Engine].contains(&verdict.of.front()));
            let told: Vec<String> = of_it.map(Verdict::told).collect();
            told.join("<br>")
        };
        let (number, name) = (outcome.row.number, outcome.row.name);
        let _ = writeln!(
            page,
            "| {number} | {name} | {} | {} |",
            told(Filter),
            told(Serve)
        );
    }
    let missed = results.missed();
    let _ = match missed {
        0 => writeln!(page, "\nNo bound is missed.\n"),
        1 => writeln!(page, "\n**1 bound is missed.**\n"),
        _ => writeln!(page, "\n**{missed} bounds are missed.**\n"),
    };
}

/// The figures of the rows without bounds: they are measured on a disk.
fn on_disk(page: &mut String, results: &Results<'_>) {
    let outcomes: Vec<&Outcome<'_>> = with_bounds(results, false).collect();
    if outcomes.is_empty() {
        return;
    }
    page.push_str("## On a disk\n\nImages and caches in `/var/tmp`, requests per second:\n\n| |");
    let contenders = ALL
        .iter()
        .filter(|c| outcomes.iter().any(|o| !o.of(**c).is_empty()));
    let contenders: Vec<Contender> = contenders.copied().collect();
    for contender in &contenders {
        let _ = write!(page, " {contender} |");
    }
    let _ = writeln!(page, "\n|---|{}", "---:|".repeat(contenders.len()));
    for outcome in outcomes {
        let _ = write!(page, "| {} |", outcome.row.name);
        for contender in &contenders {
            let figure = median(outcome.figures(*contender));
            let figure =
                figure.map_or(String::new(), |figure| outcome.row.work.unit().show(figure));
            let _ = write!(page, " {figure} |");
        }
        page.push('\n');
    }
    page.push('\n');
}

fn with_bounds<'r, 'o>(
    results: &'o Results<'r>,
    has_bounds: bool,
) -> impl Iterator<Item = &'o Outcome<'r>> {
    results
        .outcomes
        .iter()
        .filter(move |outcome| outcome.row.bounds.is_empty() != has_bounds)
}

/// All that is known of a row.
fn row(page: &mut String, outcome: &Outcome<'_>, results: &Results<'_>) {
    let (number, name, what) = (outcome.row.number, outcome.row.name, outcome.row.what);
    let _ = writeln!(page, "### {number}. {name}\n");
    if !what.is_empty() {
        let _ = writeln!(page, "{what}\n");
    }
    if let Some(failure) = &outcome.failure {
        let _ = writeln!(page, "**NOT MEASURED**: {}\n", failure.replace('\n', " "));
    }
    let unit = outcome.row.work.unit();
    let is_timed = outcome
        .row
        .contenders
        .iter()
        .any(|c| latency_of(outcome.of(*c)).is_some());
    let percentiles = if is_timed { " p50 | p99 | p99.9 |" } else { "" };
    let _ = writeln!(
        page,
        "| | {} | least to most |{percentiles} CPU | peak MiB | anonymous MiB |",
        unit.name()
    );
    let _ = writeln!(
        page,
        "|---|---:|---|{}",
        "---:|".repeat(if is_timed { 6 } else { 3 })
    );
    for contender in outcome.row.contenders {
        let measurements = outcome.of(*contender);
        let Some((least, most)) = spread(outcome.figures(*contender)) else {
            continue;
        };
        let figure = median(outcome.figures(*contender)).unwrap_or_default();
        let _ = write!(
            page,
            "| {contender} | {} | {} to {} |",
            unit.show(figure),
            unit.show(least),
            unit.show(most)
        );
        if is_timed {
            let [p50, p99, p999] = latency_of(measurements).unwrap_or_default();
            let _ = write!(page, " {} | {} | {} |", short(p50), short(p99), short(p999));
        }
        usage(page, measurements);
    }
    page.push('\n');
    for contender in outcome.row.contenders {
        for (name, value) in details(outcome, *contender) {
            let _ = writeln!(page, "- {contender}: {value} {name}");
        }
    }
    if let Some(limit) = limits::of(number) {
        let _ = writeln!(page, "- What limits it: {limit}");
    }
    for verdict in outcome.verdicts(&results.outcomes) {
        let (of, told) = (verdict.of, verdict.told());
        let spread = verdict
            .spread
            .map(|(least, most)| (short(least), short(most)));
        let _ = match spread {
            Some((least, most)) => writeln!(page, "- {of}: {told}, rounds from {least} to {most}"),
            None => writeln!(page, "- {of}: {told}"),
        };
    }
}

/// The rest of a contender's line.
fn usage(page: &mut String, measurements: &[Measurement]) {
    let cpu = median(
        measurements
            .iter()
            .filter_map(|measurement| match measurement.requests {
                0 => measurement.cpu_seconds,
                _ => measurement.cpu_seconds_per_million(),
            }),
    );
    let mebibytes = |bytes: Option<u64>| Some(bytes? as f64 / f64::from(1 << 20));
    let peak = median(measurements.iter().filter_map(|m| mebibytes(m.peak_bytes)));
    let anonymous = median(
        measurements
            .iter()
            .filter_map(|m| mebibytes(m.anonymous_bytes)),
    );
    for value in [cpu, peak, anonymous] {
        let _ = write!(page, " {} |", value.map_or(String::new(), short));
    }
    page.push('\n');
}

/// The medians of the percentiles.
fn latency_of(measurements: &[Measurement]) -> Option<[f64; 3]> {
    let latencies = || measurements.iter().filter_map(|m| m.latency_microseconds);
    Some([
        median(latencies().map(|latency| latency.p50))?,
        median(latencies().map(|latency| latency.p99))?,
        median(latencies().map(|latency| latency.p999))?,
    ])
}

/// How this came about.
fn settings(page: &mut String, results: &Results<'_>) {
    page.push_str("\n## Contenders\n\n| | |\n|---|---|\n");
    for contender in ALL.iter().chain(FEW) {
        let _ = writeln!(page, "| {contender} | {} |", contender.settings());
    }
    page.push_str("\n## Machine\n\n| | |\n|---|---|\n");
    for (name, value) in &results.machine.0 {
        let _ = writeln!(page, "| {name} | {value} |");
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::row::LOST;
    use super::super::rows;
    use super::*;

    /// Rows 6 and 9 with one round, in which Larder's filter was slow and the C filter lost something.
    fn results() -> Results<'static> {
        let outcome = |number: &str, figures: [f64; 4]| {
            let row = rows::all().find(|row| row.number == number).unwrap();
            let mut outcome = Outcome::new(row);
            for (contender, figure) in row.contenders.iter().zip(figures) {
                let lost = f64::from(u8::from(*contender == Contender::Stock));
                let measurement = Measurement {
                    figure,
                    requests: 2_000_000,
                    cpu_seconds: Some(5.0),
                    peak_bytes: Some(10 << 20),
                    details: [(LOST.to_owned(), lost)].into(),
                    ..Measurement::default()
                };
                outcome.add(*contender, measurement);
            }
            outcome
        };
        Results {
            machine: Machine(vec![("kernel", "Linux 6".to_owned())]),
            is_quick: true,
            rounds: 1,
            outcomes: vec![outcome("9", [90_000.0, 10_000.0, 30_000.0, 60_000.0])],
            sweeps: Vec::new(),
        }
    }

    #[test]
    fn the_page_tells_what_was_missed_and_what_it_took() {
        let page = page(&results(), &["throughput.svg"]);
        for expected in [
            "A quick run",
            "| 9 | randwrite 4k over 16 times the cache | **MISSED** 3.00 (≥ 4 of C filter)<br>0 (≤ 0, blocks lost) \
             | 6.00 (≥ 5 of C filter)<br>0 (≤ 0, blocks lost) |",
            "**1 bound is missed.**",
            "| larder serve | 60,000 | 60,000 to 60,000 | 2.50 | 10.0 |  |",
            "- C filter: 1.00 blocks lost",
            "![throughput](throughput.svg)",
            "| kernel | Linux 6 |",
        ] {
            assert!(page.contains(expected), "{expected}\nis not in\n{page}");
        }
    }

    #[test]
    fn the_json_has_every_round() {
        let json = results().to_json();
        let at = |pointer: &str| json.pointer(pointer).unwrap().clone();
        assert_eq!(at("/rows/0/number"), "9");
        assert_eq!(at("/rows/0/contenders/1/rounds/0/details/blocks lost"), 1.0);
        assert_eq!(at("/rows/0/bounds/0/held"), false);
        assert_eq!(at("/rows/0/bounds/1/held"), true);
        assert_eq!(at("/machine/kernel"), "Linux 6");
    }

    #[test]
    fn missed_bounds_are_counted_and_a_failed_row_is_one() {
        let mut results = results();
        assert_eq!(results.missed(), 1);
        let row = rows::all().find(|row| row.bounds.is_empty()).unwrap();
        let mut failed = Outcome::new(row);
        failed.failure = Some("no socket".to_owned());
        results.outcomes.push(failed);
        assert_eq!(results.missed(), 2);
    }
}
