//! First mirrors, and a mirror that finds nothing changed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::command::{run, until};
use stead_tests::host::Hosts;
use stead_tests::tree;

use super::pair::{Pair, fresh, hosts, sync, warm};
use super::table::{Line, median, short};
use super::{Size, peers};

/// 20,000 files of 4 KiB.
pub fn small(size: Size) -> Result<Vec<Line>> {
    first("20,000 × 4 KiB", size, |source| tree::even(source, 20_000, 4096, 1))
}

/// One file of 2 GiB.
pub fn big(size: Size) -> Result<Vec<Line>> {
    first("2 GiB in one file", size, |source| {
        std::fs::create_dir(source)?;
        tree::big(&source.join("big"), 2 << 30, 1)
    })
}

/// What Debian installs under /usr/share.
pub fn usr(size: Size) -> Result<Vec<Line>> {
    first("/usr/share", size, |source| run(Command::new("cp").arg("-a").arg("/usr/share").arg(source)).map(drop))
}

/// 100 MiB of data in a file of 4 GiB.
pub fn sparse(size: Size) -> Result<Vec<Line>> {
    first("4 GiB with 100 MiB of data", size, |source| {
        std::fs::create_dir(source)?;
        tree::sparse(&source.join("sparse"), 4 << 30, 100 << 20, 1)
    })
}

struct Sample {
    seconds: f64,
    wire: f64,
    back: f64,
}

fn first(work: &str, size: Size, make: fn(&Path) -> Result<()>) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let source = hosts.paris.disk().join("source");
    make(&source)?;
    sync(&source)?;
    warm(&source)?;
    let data = data_bytes(&source)?;
    let _daemon = peers::rsync_daemon(&hosts)?;
    let (mut stead, mut rsync, mut tar) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        tar.push(sample(&hosts, |target| peers::tar(&hosts, &source, target))?);
        rsync.push(sample(&hosts, |_| peers::rsync(&hosts, &source, "target"))?);
        let pair = Pair::new(&hosts)?;
        stead.push(sample(&hosts, |target| pair.protect("bench", &source, target, &[]).map(drop))?);
    }
    let seconds = |samples: &[Sample]| median(&samples.iter().map(|sample| sample.seconds).collect::<Vec<_>>());
    let of = |value: fn(&Sample) -> f64| median(&stead.iter().map(value).collect::<Vec<_>>());
    let (wire, back) = (of(|sample| sample.wire), of(|sample| sample.back));
    let (s, r, t) = (seconds(&stead), seconds(&rsync), seconds(&tar));
    let line = |others: String, ratio: f64, aim: f64| Line {
        work: format!("first mirror, {work}"),
        stead: format!("{} s", short(s)),
        others,
        figure: ratio,
        unit: "×",
        aim: Some(aim),
    };
    let mib = |bytes: f64| short(bytes / f64::from(1 << 20));
    Ok(vec![
        line(format!("tar -S \\| socat {} s", short(t)), s / t, 1.0),
        line(format!("rsync -aHAXS {} s", short(r)), s / r, 0.7),
        Line {
            work: format!("wire bytes of it, {work}"),
            stead: format!("{} MiB, {} MiB back", mib(wire), mib(back)),
            others: format!("data {} MiB", mib(data)),
            figure: wire / data,
            unit: "×",
            aim: Some(1.02),
        },
    ])
}

fn sample(hosts: &Hosts, copy: impl FnOnce(&Path) -> Result<()>) -> Result<Sample> {
    let target = fresh(&hosts.lyon.disk(), "target")?;
    let before = hosts.paris.traffic()?;
    let begin = Instant::now();
    copy(&target)?;
    sync(&hosts.lyon.disk())?;
    let seconds = begin.elapsed().as_secs_f64();
    let traffic = hosts.paris.traffic()?.since(before);
    Ok(Sample { seconds, wire: traffic.sent as f64, back: traffic.received as f64 })
}

/// Bytes that any copy must carry: the content without holes, and for each file its attributes and name.
fn data_bytes(source: &Path) -> Result<f64> {
    let listed = run(Command::new("find").arg(source).args(["-printf", "%b %s %y %f\\n"]))?;
    let mut total = 0.0;
    for line in listed.lines() {
        let mut fields = line.splitn(4, ' ');
        let mut number = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let (blocks, size) = (number(), number());
        if fields.next() == Some("f") {
            total += size.min(blocks * 512.0);
        }
    }
    Ok(total)
}

/// A mirror of 100,000 files of which none has changed.
pub fn unchanged(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let source = hosts.paris.disk().join("source");
    tree::even(&source, 100_000, 1000, 1)?;
    sync(&source)?;
    let _daemon = peers::rsync_daemon(&hosts)?;
    peers::rsync(&hosts, &source, "rsynced")?;
    let pair = Pair::new(&hosts)?;
    pair.protect("bench", &source, &hosts.lyon.disk().join("target"), &[])?;
    let (mut stead, mut rsync) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let begin = Instant::now();
        peers::rsync(&hosts, &hosts.paris.beneath(&source), "rsynced")?;
        rsync.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        pair.paris.cli(["mirror", "bench"])?;
        until("the mirror ends", Duration::from_secs(120), || Ok(pair.paris.state_of("bench")? == "replicating"))?;
        stead.push(begin.elapsed().as_secs_f64());
    }
    let (s, r) = (median(&stead), median(&rsync));
    Ok(vec![Line {
        work: "difference mirror, nothing changed, 100,000 files".into(),
        stead: format!("{} s", short(s)),
        others: format!("rsync -aHAXS {} s", short(r)),
        figure: s / r,
        unit: "×",
        aim: Some(0.7),
    }])
}
