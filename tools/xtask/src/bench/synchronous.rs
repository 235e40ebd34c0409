//! What a commit costs that returns when the target has it, and whether the target has it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};
use stead_tests::host::Hosts;
use stead_tests::rng::Rng;
use stead_tests::synchronous::Cuts;

use super::Size;
use super::micro::{commit, flush};
use super::pair::{Pair, hosts, sync};
use super::table::{Line, NotAvailable, median, short};

const SET: &str = "bench";
const TURNS: usize = 5;
const ROUND_TRIPS: u32 = 500;
const CUTS: u64 = 50;

/// What commits cost, and how many are lost.
pub fn run(_: Size) -> Result<Vec<Line>> {
    Ok(vec![cost()?, lost()?])
}

/// SQLite commits, FULL, in turns on the bare disk and in a synchronous set.
fn cost() -> Result<Line> {
    let hosts = hosts()?;
    let (source, bare) = (hosts.paris.disk().join("source"), hosts.paris.disk().join("bare"));
    let (target, other) = (hosts.lyon.disk().join("target"), hosts.lyon.disk().join("flushed"));
    for dir in [&source, &bare, &other] {
        fs::create_dir(dir)?;
    }
    let pair = Pair::new(&hosts)?;
    let protected = pair.protect(SET, &source, &target, &["--mode", "sync"]);
    if let Err(e) = protected {
        // What the command said, without the command.
        let why = format!("{e:#}");
        let said = why.split("stead: ").last().and_then(|said| said.lines().next()).unwrap_or_default();
        return Err(if said.contains("synchronous") { NotAvailable(said.into()).into() } else { e });
    }
    let trip = round_trip(&hosts)?;
    let (mut local, mut replicated, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        sync(&bare)?;
        sync(&other)?;
        let figures = [commit(&bare)?, commit(&source)?, flush(&other)?];
        if turn > 0 {
            local.push(figures[0]);
            replicated.push(figures[1]);
            flushes.push(figures[2]);
        }
    }
    let (local, replicated, flushes) = (median(&local), median(&replicated), median(&flushes));
    Ok(Line {
        work: "synchronous mode: SQLite commit (WAL, FULL)".into(),
        stead: format!("{} µs", short(replicated)),
        others: format!(
            "local {} µs + round trip {} µs + target's flush {} µs",
            short(local),
            short(trip),
            short(flushes)
        ),
        figure: replicated / (local + trip + flushes),
        unit: "×",
        aim: Some(1.1),
    })
}

/// Commits that a program was told of, and that the target lacks after the source's power went.
fn lost() -> Result<Line> {
    let program = std::env::current_exe()?;
    let cuts = Cuts { sources: CUTS, with_targets: false, seed: Rng::seed(), program: &program };
    let outcome = cuts.run()?;
    Ok(Line {
        work: format!("synchronous mode: confirmed commits lost after {CUTS} power cuts of the source"),
        stead: format!("{} commits confirmed", outcome.confirmed),
        others: String::new(),
        figure: outcome.lost as f64,
        unit: "commits",
        aim: Some(0.0),
    })
}

/// Microseconds for a byte to the target and back over TCP.
fn round_trip(hosts: &Hosts) -> Result<f64> {
    let at = format!("{}:7999", hosts.lyon.address());
    let listener = hosts.lyon.inside(|| TcpListener::bind(&at))??;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        for _ in 0..ROUND_TRIPS {
            stream.read_exact(&mut byte)?;
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = hosts.paris.inside(|| TcpStream::connect(&at))?.context("no echo")?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    echo.join().expect("the echo does not panic")?;
    Ok(median(&times))
}
