//! A line of 2 Mbit/s that carries 64 KiB of changes each second.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use stead_tests::command::run as command;
use stead_tests::host::Host;
use stead_tests::rng::Rng;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, median, percentile, short};

const SET: &str = "bench";
const RATE: &str = "2mbit";
const DURATION: Duration = Duration::from_secs(30);
/// Changes are made in pieces of that size, evenly over time.
const PIECE_BYTES: usize = 4096;
const PIECES_EACH_SECOND: u32 = 16;

/// What does not compress, and what logs look like.
pub fn run(_: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let source = hosts.paris.disk().join("source");
    std::fs::create_dir(&source)?;
    let pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &hosts.lyon.disk().join("target"), &[])?;
    let limited = [&hosts.paris, &hosts.lyon].map(limit);
    limited.into_iter().collect::<Result<Vec<_>>>()?;
    let random =
        measure(&pair, &source.join("random"), "that do not compress", |n| Rng::new(n + 1).bytes(PIECE_BYTES))?;
    let text = measure(&pair, &source.join("log"), "of a log", log)?;
    Ok(random.into_iter().chain(text).collect())
}

/// Slows down what leaves a host.
fn limit(host: &Host) -> Result<()> {
    let mut tc = host.command("tc");
    tc.args(["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", RATE, "burst", "32kbit", "latency", "400ms"]);
    command(&mut tc).map(drop).context("the line cannot be slowed down here (tc, tbf)")
}

fn log(n: u64) -> Vec<u8> {
    let mut rng = Rng::new(n + 1);
    let mut text = Vec::new();
    while text.len() < PIECE_BYTES {
        let (address, size) = (rng.below(1 << 32), rng.below(100_000));
        let _ = writeln!(text, "10.0.0.{} GET /notes/{address:08x} HTTP/1.1 200 {size}", address % 250);
    }
    text.truncate(PIECE_BYTES);
    text
}

fn measure(pair: &Pair, path: &Path, of: &str, piece: impl Fn(u64) -> Vec<u8>) -> Result<[Line; 2]> {
    let mut file = File::create(path)?;
    let host = pair.paris.host().clone();
    let before = host.traffic()?;
    let (begin, mut lags, mut count) = (Instant::now(), Vec::new(), 0_u32);
    while begin.elapsed() < DURATION {
        file.write_all(&piece(count.into()))?;
        count += 1;
        if count.is_multiple_of(PIECES_EACH_SECOND) {
            lags.push(pair.paris.connection(SET)?["lag_seconds"].as_f64().unwrap_or(f64::NAN));
        }
        let due = Duration::from_secs(1) * count / PIECES_EACH_SECOND;
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    let (wrote, made) = (begin.elapsed().as_secs_f64(), f64::from(count) * PIECE_BYTES as f64);
    let begin = Instant::now();
    pair.paris.wait(SET)?;
    let caught_up = begin.elapsed().as_secs_f64();
    let sent = host.traffic()?.since(before).sent as f64;
    let late = &lags[lags.len() / 2..];
    let work = format!("2 Mbit/s line, 64 KiB/s of changes {of}");
    Ok([
        Line {
            work: format!("{work}: lag, largest in the second half of {} s", short(wrote)),
            stead: format!("median {} s; caught up {} s after the last", short(median(&lags)), short(caught_up)),
            others: String::new(),
            figure: percentile(late, 100),
            unit: "s",
            // One round trip with a full bucket in front of it, and what status rounds.
            aim: Some(1.0),
        },
        Line {
            work: format!("{work}: wire bytes of it"),
            stead: format!("{} KiB", short(sent / 1024.0)),
            others: format!("changes {} KiB", short(made / 1024.0)),
            figure: sent / made,
            unit: "×",
            aim: None,
        },
    ])
}
