//! `sim [--what replication|failover] [--seeds N] [--from S] [--threads T] [--refused-max N]`: runs the simulation of
//! source and targets, or of a group on its nodes, over many seeds and prints what they did. Ends with 1 once more than
//! that many seeds (0) were refused by a checker; such a seed shows it again, with `STEAD_TRACE=1` in every detail.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use stead_failover::sim as failover;
use stead_replication::sim as replication;

struct Arguments {
    failover: bool,
    seeds: u64,
    from: u64,
    threads: u64,
    refused_max: u64,
}

const USAGE: &str = "[--what replication|failover] [--seeds N] [--from S] [--threads T] [--refused-max N]";

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(arguments) if arguments.failover => simulate(&arguments, failover::run, |a, b| a + b),
        Ok(arguments) => simulate(&arguments, replication::run, add),
        Err(wrong) => {
            eprintln!("sim: {wrong}; usage: sim {USAGE}");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { failover: false, seeds: 10_000, from: 0, threads: 2, refused_max: 0 };
    while let Some(name) = given.next() {
        let value = given.next().unwrap_or_default();
        if name == "--what" {
            arguments.failover = match value.as_str() {
                "replication" => false,
                "failover" => true,
                _ => return Err(format!("{value:?} cannot be simulated")),
            };
            continue;
        }
        let value = value.parse().map_err(|_| format!("{name} needs a number"))?;
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

fn simulate<R: Default + Debug + Send>(
    arguments: &Arguments,
    run: impl Fn(u64) -> Result<R, String> + Sync,
    add: impl Fn(R, R) -> R + Sync,
) -> ExitCode {
    let (next, refused) = (AtomicU64::new(arguments.from), AtomicU64::new(0));
    let end = arguments.from.saturating_add(arguments.seeds);
    let work = || {
        let mut sum = R::default();
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
    let results: Vec<Result<R, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err("a seed panicked (its number is not known: run with --threads 1)".into());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    match results.into_iter().try_fold(R::default(), |sum, result| result.map(|report| add(sum, report))) {
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

fn add(a: replication::Report, b: replication::Report) -> replication::Report {
    replication::Report {
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
