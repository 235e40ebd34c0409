//! `cargo xtask soak`: what takes longer than a test run may.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stead_tests::faults::{self, Kind, Report};
use stead_tests::rng::Rng;

use crate::build;

const ALL: &[&str] = &["faults", "sim", "fuzz", "crash", "takeovers", "random"];
/// Longest single run of faults: then everything is compared, and the next one begins with another seed.
const FAULTS_MAX: Duration = Duration::from_secs(180);

/// Runs the chosen kinds, or all, for some minutes each.
pub fn main(args: &[String]) -> Result<()> {
    let (mut minutes, mut seed, mut chosen) = (10, Rng::seed(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().with_context(|| format!("{arg} needs a number"))?.parse().context("a number");
        match arg.as_str() {
            "--minutes" => minutes = number()?,
            "--seed" => seed = number()?,
            name if ALL.contains(&name) => chosen.push(name.to_string()),
            name => bail!("soak knows {}, not {name}", ALL.join(", ")),
        }
    }
    let limit = Duration::from_secs(60 * minutes);
    for name in ALL.iter().filter(|name| chosen.is_empty() || chosen.iter().any(|chosen| chosen == *name)) {
        println!("--- {name}, {minutes} minutes");
        match *name {
            "faults" => break_things(limit, seed)?,
            "fuzz" => fuzz(limit)?,
            "sim" => simulate(limit, seed)?,
            "crash" => repeat(limit, &["test", "--package", "stead-tests", "--test", "crash", "--", "--nocapture"])?,
            "takeovers" => {
                repeat(
                    limit,
                    &["test", "--package", "stead-tests", "--test", "failover_crashes", "--", "--nocapture"],
                )?;
            }
            _ => repeat(limit, &["test", "--package", "stead-tests", "--test", "conformance", "--", "--nocapture"])?,
        }
    }
    Ok(())
}

/// Injects faults under load, in runs of a few minutes; what they did and saw is printed at the end.
fn break_things(limit: Duration, mut seed: u64) -> Result<()> {
    build::use_binary(&build::stead("test")?)?;
    let begin = Instant::now();
    let (mut all, mut runs) = (Report::default(), 0);
    while begin.elapsed() < limit {
        let options = faults::Options {
            seed,
            duration: limit.saturating_sub(begin.elapsed()).min(FAULTS_MAX),
            kinds: Kind::chosen()?,
            with_cluster: true,
            program: std::env::current_exe()?,
        };
        let ended = faults::break_things(&options);
        if ended.is_err() {
            all.print();
        }
        all.add(&ended?);
        (seed, runs) = (seed + 1, runs + 1);
    }
    println!("{runs} runs");
    all.print();
    Ok(())
}

/// Simulates source and targets, and groups, a batch of new seeds after the other.
fn simulate(limit: Duration, mut from: u64) -> Result<()> {
    const SEEDS: u64 = 2_000;
    /// A seed of a group takes a tenth of the time.
    const GROUP_SEEDS: u64 = 10 * SEEDS;
    let begin = Instant::now();
    while begin.elapsed() < limit {
        simulate_batch("replication", from, SEEDS)?;
        simulate_batch("failover", from.wrapping_mul(GROUP_SEEDS / SEEDS), GROUP_SEEDS)?;
        from += SEEDS;
    }
    Ok(())
}

fn simulate_batch(what: &str, from: u64, seeds: u64) -> Result<()> {
    let (count, first) = (seeds.to_string(), from.to_string());
    let mut sim = build::cargo();
    sim.args(["run", "--quiet", "--release", "--package", "sim", "--", "--what", what]);
    if !sim.args(["--seeds", &count, "--from", &first]).status()?.success() {
        bail!("the simulation of {what} found something in {seeds} seeds from {from}");
    }
    Ok(())
}

/// Repeats a test whose seeds are new each time.
fn repeat(limit: Duration, args: &[&str]) -> Result<()> {
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < limit {
        let mut command = build::cargo();
        command.args(args).env("STEAD_SOAK", "1").env("STEAD_BIN", build::stead("test")?);
        if !command.status()?.success() {
            bail!("failed in round {rounds}, see above; the printed seed repeats it");
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
    Ok(())
}

fn fuzz(limit: Duration) -> Result<()> {
    let dir = build::root().join("fuzz");
    let listed = std::fs::read_dir(dir.join("fuzz_targets"));
    let targets: Vec<String> = listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".rs").map(String::from))
        .collect();
    if targets.is_empty() {
        bail!("there are no targets in {}", dir.display());
    }
    let tools = build::target()?.join("programs");
    let mut install = build::cargo();
    install.args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]).arg(&tools);
    stead_tests::command::run(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
    let seconds = limit.as_secs() / targets.len() as u64;
    for target in targets {
        println!("fuzzing {target} for {seconds} s");
        let mut run = std::process::Command::new(tools.join("bin/cargo-fuzz"));
        run.current_dir(&dir).args(["run", &target, "--", &format!("-max_total_time={seconds}")]);
        // cargo-fuzz needs sanitizer flags that the stable compiler has but does not offer.
        if !run.env("RUSTC_BOOTSTRAP", "1").status()?.success() {
            bail!("{target} crashed; the input is in fuzz/artifacts/{target}");
        }
    }
    Ok(())
}
