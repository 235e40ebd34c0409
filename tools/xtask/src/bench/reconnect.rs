//! Reconnecting after an outage in which one file of a hundred changed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stead_tests::command::until;
use stead_tests::host::{Hosts, Traffic};
use stead_tests::rng::Rng;
use stead_tests::tree;

use super::pair::{Pair, hosts};
use super::table::{Line, median, short};
use super::{Size, peers};

/// Files of the set, unless fewer are asked for.
const FILES: u64 = 100_000;
const FILE_BYTES: usize = 8192;
const BLOCK_BYTES: usize = 4096;
const SET: &str = "bench";
/// How long a connection may take to notice, or to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens to the source while the line is down.
#[derive(Clone, Copy)]
enum Outage {
    /// Its daemon goes on, and keeps what changes in its queue.
    Line,
    /// Its daemon is killed and started again: the queue is gone, the difference has to be found.
    LineAndDaemon,
}

struct Sample {
    /// From the first frame after the outage until everything is applied.
    seconds: f64,
    /// From the return of the line until the nodes talk again.
    away: f64,
    traffic: Traffic,
}

/// Both kinds of outage, each beside rsync over the same trees.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let files = size.files.min(FILES);
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    tree::even(&source, files, FILE_BYTES, 1)?;
    let _daemon = peers::rsync_daemon(&hosts)?;
    peers::rsync(&hosts, &source, "rsynced")?;
    let mut pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &target, &[])?;
    pair.paris.wait(SET)?;
    let mut lines = Vec::new();
    let mut rounds = 0..;
    for (outage, what) in [(Outage::Line, "its queue kept"), (Outage::LineAndDaemon, "the source's daemon killed, too")]
    {
        let (mut stead, mut rsync) = (Vec::new(), Vec::new());
        // What finding out costs where nothing differs: names, attributes, hashes.
        let idle = reconnect(&hosts, &mut pair, outage, || Ok(()))?;
        for round in rounds.by_ref().take(size.rounds) {
            stead.push(reconnect(&hosts, &mut pair, outage, || change(&source, files, round))?);
            arrived(&target, files, round)?;
            let begin = Instant::now();
            peers::rsync(&hosts, &hosts.paris.beneath(&source), "rsynced")?;
            rsync.push(begin.elapsed().as_secs_f64());
        }
        let work = format!("reconnect, 1 % of {files} files changed, {what}");
        lines.extend(told(&work, files / 100, &idle, &stead, &rsync));
    }
    Ok(lines)
}

fn reconnect(hosts: &Hosts, pair: &mut Pair, outage: Outage, change: impl FnOnce() -> Result<()>) -> Result<Sample> {
    hosts.paris.link(false)?;
    let changed = change();
    if let Outage::LineAndDaemon = outage {
        pair.paris.kill();
        pair.paris.launch()?;
    }
    // A connection that has not noticed yet would hide what coming back costs.
    let noticed = until("the outage is noticed", PATIENCE, || Ok(pair.paris.state_of(SET)? != "replicating"));
    let before = hosts.paris.traffic()?;
    hosts.paris.link(true)?;
    changed.and(noticed)?;
    let begin = Instant::now();
    until("the nodes talk again", PATIENCE, || Ok(pair.paris.state_of(SET)? != "disconnected"))?;
    let away = begin.elapsed().as_secs_f64();
    pair.paris.wait(SET)?;
    until("the set replicates", PATIENCE, || Ok(pair.paris.state_of(SET)? == "replicating"))?;
    let seconds = begin.elapsed().as_secs_f64() - away;
    Ok(Sample { seconds, away, traffic: hosts.paris.traffic()?.since(before) })
}

/// Overwrites the second block of one file of a hundred, other ones each round.
fn change(source: &Path, files: u64, round: u64) -> Result<()> {
    for n in (round % 100..files).step_by(100) {
        let file = File::options().write(true).open(source.join(path_of(n)))?;
        file.write_all_at(&block(n, round), BLOCK_BYTES as u64)?;
    }
    Ok(())
}

/// Is it on the target?
fn arrived(target: &Path, files: u64, round: u64) -> Result<()> {
    for n in (round % 100..files).step_by(100) {
        let mut found = [0; BLOCK_BYTES];
        File::open(target.join(path_of(n)))?.read_exact_at(&mut found, BLOCK_BYTES as u64)?;
        ensure!(found[..] == block(n, round), "{} is not on the target", path_of(n).display());
    }
    Ok(())
}

fn block(n: u64, round: u64) -> Vec<u8> {
    Rng::new((round + 1) << 32 | n).bytes(BLOCK_BYTES)
}

/// As [`tree::even`] names them.
fn path_of(number: u64) -> PathBuf {
    format!("d{:05}/f{number:07}", number / 1000).into()
}

fn told(work: &str, blocks: u64, idle: &Sample, stead: &[Sample], rsync: &[f64]) -> [Line; 2] {
    let of = |value: fn(&Sample) -> f64| median(&stead.iter().map(value).collect::<Vec<_>>());
    let (seconds, away) = (of(|sample| sample.seconds), of(|sample| sample.away));
    let (sent, back) = (of(|sample| sample.traffic.sent as f64), of(|sample| sample.traffic.received as f64));
    let (rsync, differs) = (median(rsync), blocks as f64 * BLOCK_BYTES as f64);
    let finding = (idle.traffic.sent as f64).min(sent);
    let mib = |bytes: f64| short(bytes / f64::from(1 << 20));
    [
        Line {
            work: format!("{work}: time"),
            stead: format!("{} s, and {} s until the nodes talk", short(seconds), short(away)),
            others: format!("rsync -aHAXS {} s", short(rsync)),
            figure: seconds / rsync,
            unit: "×",
            aim: Some(0.5),
        },
        Line {
            work: format!("{work}: wire bytes without those of finding out"),
            stead: format!("{} MiB, of which {} to find out; {} MiB back", mib(sent), mib(finding), mib(back)),
            others: format!("differing 4 KiB blocks {} MiB", mib(differs)),
            figure: (sent - finding) / differs,
            unit: "×",
            aim: Some(1.02),
        },
    ]
}
