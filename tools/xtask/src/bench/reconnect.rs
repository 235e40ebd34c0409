//! Reconnecting after an outage in which one file of a hundred changed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
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
const BLOCK_BYTES: u64 = 4096;
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
    let source = hosts.paris.disk().join("source");
    tree::even(&source, files, FILE_BYTES, 1)?;
    let _daemon = peers::rsync_daemon(&hosts)?;
    peers::rsync(&hosts, &source, "rsynced")?;
    let mut pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &hosts.lyon.disk().join("target"), &[])?;
    pair.paris.wait(SET)?;
    let mut lines = Vec::new();
    for (outage, what) in [(Outage::Line, "its queue kept"), (Outage::LineAndDaemon, "the source's daemon killed, too")]
    {
        let (mut stead, mut rsync) = (Vec::new(), Vec::new());
        for round in 0..size.rounds as u64 {
            stead.push(reconnect(&hosts, &mut pair, outage, &source, files, round)?);
            let begin = Instant::now();
            peers::rsync(&hosts, &hosts.paris.beneath(&source), "rsynced")?;
            rsync.push(begin.elapsed().as_secs_f64());
        }
        lines.extend(told(&format!("reconnect, 1 % of {files} files changed, {what}"), files / 100, &stead, &rsync));
    }
    Ok(lines)
}

fn reconnect(hosts: &Hosts, pair: &mut Pair, outage: Outage, source: &Path, files: u64, round: u64) -> Result<Sample> {
    hosts.paris.link(false)?;
    let changed = change(source, files, round);
    if let Outage::LineAndDaemon = outage {
        pair.paris.kill();
        pair.paris.launch()?;
    }
    changed?;
    // A connection that has not noticed yet would hide what coming back costs.
    let gone = || Ok(pair.paris.state_of(SET)? != "replicating");
    let noticed = until("the outage is noticed", PATIENCE, gone);
    let before = hosts.paris.traffic()?;
    hosts.paris.link(true)?;
    noticed?;
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
        let path = source.join(path_of(n));
        let bytes = Rng::new(n ^ round << 32 | 1).bytes(BLOCK_BYTES as usize);
        File::options().write(true).open(path)?.write_all_at(&bytes, BLOCK_BYTES)?;
    }
    Ok(())
}

/// As [`tree::even`] names them.
fn path_of(number: u64) -> PathBuf {
    format!("d{:05}/f{number:07}", number / 1000).into()
}

fn told(work: &str, blocks: u64, stead: &[Sample], rsync: &[f64]) -> [Line; 2] {
    let of = |value: fn(&Sample) -> f64| median(&stead.iter().map(value).collect::<Vec<_>>());
    let (seconds, away) = (of(|sample| sample.seconds), of(|sample| sample.away));
    let (sent, back) = (of(|sample| sample.traffic.sent as f64), of(|sample| sample.traffic.received as f64));
    let (rsync, differs) = (median(rsync), (blocks * BLOCK_BYTES) as f64);
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
            work: format!("{work}: wire bytes"),
            stead: format!("{} MiB, {} MiB back (hashes asked for and acknowledgements)", mib(sent), mib(back)),
            others: format!("differing 4 KiB blocks {} MiB", mib(differs)),
            figure: sent / differs,
            unit: "×",
            aim: Some(1.02),
        },
    ]
}
