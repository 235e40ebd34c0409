//! `sim [--seeds N] [--from S] [--threads T] [--refused-max N]`: runs the simulation of source and targets over many
//! seeds and prints what they did. Ends with 1 once more than that many seeds (0) were refused by a checker; such a seed
//! shows it again, with `STEAD_TRACE=1` as records.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use stead_replication::sim::{Report, run};

struct Arguments {
    seeds: u64,
    from: u64,
    threads: u64,
    refused_max: u64,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(arguments) => simulate(&arguments),
        Err(wrong) => {
            eprintln!("sim: {wrong}; usage: sim [--seeds N] [--from S] [--threads T] [--refused-max N]");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 10_000, from: 0, threads: 2, refused_max: 0 };
    while let Some(name) = given.next() {
        let value = given.next().and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a number"))?;
        match name.as_str() {
            "--seeds" => arguments.seeds = value,
            "--from" => arguments.from = value,
            "--threads" => arguments.threads = value,
            "--refused-max" => arguments.refused_max = value,
            _ => return Err(format!("{name} is unknown")),
        }
    }
    Ok(arguments)
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let (next, refused) = (AtomicU64::new(arguments.from), AtomicU64::new(0));
    let end = arguments.from.saturating_add(arguments.seeds);
    let work = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(sum);
            }
            match run(seed) {
                Ok(report) => sum = add(sum, report),
                Err(found) if refused.fetch_add(1, Ordering::Relaxed) < arguments.refused_max => {
                    eprintln!("seed {seed}: {}", found.lines().take(2).collect::<Vec<_>>().join(" "));
                }
                Err(found) => {
                    next.store(end, Ordering::Relaxed);
                    return Err(format!("seed {seed}: {found}"));
                }
            }
        }
    };
    let results: Vec<Result<Report, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err("a seed panicked (its number is not known: run with --threads 1)".into());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    match results.into_iter().try_fold(Report::default(), |sum, result| result.map(|report| add(sum, report))) {
        Ok(sum) => {
            println!("{} seeds from {}: {sum:?}", arguments.seeds, arguments.from);
            ExitCode::SUCCESS
        }
        Err(found) => {
            eprintln!("{found}");
            ExitCode::FAILURE
        }
    }
}

fn add(a: Report, b: Report) -> Report {
    Report {
        operations: a.operations + b.operations,
        points: a.points + b.points,
        events: a.events + b.events,
        faults: a.faults + b.faults,
        verifies: a.verifies + b.verifies,
        marks: a.marks + b.marks,
        warm: a.warm + b.warm,
        stood_in: a.stood_in + b.stood_in,
        rolled_back: a.rolled_back + b.rolled_back,
        braked: a.braked + b.braked,
        undone: a.undone + b.undone,
        source_cuts: a.source_cuts + b.source_cuts,
        fetched: a.fetched + b.fetched,
        disk_faults: a.disk_faults + b.disk_faults,
    }
}
