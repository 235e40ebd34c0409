//! Memory of everything that is Stead, for many files in a set, while an application works.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::host::Hosts;
use stead_tests::rng::Rng;
use stead_tests::tree;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, short};

const SET: &str = "bench";
/// For a million files, both hosts together.
const AIM_MIB: f64 = 600.0;
/// The last quarter of the load beside the second.
const AIM_GROWTH: f64 = 1.05;
/// How often memory is looked at while an application works.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Changes each second: enough to touch every part, not so many that the queue decides.
const PAUSE: Duration = Duration::from_millis(1);

/// Proportional set size of both hosts' processes and shared memory: after the mirror of `size.files` files, when all of
/// them were seen, and during `size.minutes` of load.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    tree::even(&source, size.files, 10, 1)?;
    let pair = Pair::new(&hosts)?;
    let before = pss_mib(&hosts);
    let took = pair.protect(SET, &source, &target, &[])?;
    let mirrored = pss_mib(&hosts);
    // Every node known to the kernel: what a long-lived server ends up with.
    stead_tests::command::run(std::process::Command::new("find").arg(&source).args(["-newermt", "2100-01-01"]))?;
    let walked = pss_mib(&hosts);
    let loaded = load(&hosts, &source, size)?;
    pair.paris.wait(SET)?;
    let peak = loaded.iter().copied().fold(mirrored.max(walked), f64::max);
    let quarter = |n: usize| mean(&loaded[loaded.len() * n / 4..loaded.len() * (n + 1) / 4]);
    let (second, last) = (quarter(1), quarter(3));
    let work = format!("memory of both nodes (PSS), {} files, {} minutes of load", size.files, size.minutes);
    Ok(vec![
        Line {
            work: format!("{work}: largest"),
            stead: format!(
                "idle {} MiB, after the mirror ({} s) {}, all files seen {}, under load {}",
                short(before),
                short(took.as_secs_f64()),
                short(mirrored),
                short(walked),
                short(mean(&loaded))
            ),
            others: String::new(),
            figure: peak,
            unit: "MiB",
            aim: Some(AIM_MIB),
        },
        Line {
            work: format!("{work}: growth from the second quarter to the last"),
            stead: format!("{} MiB, then {} MiB", short(second), short(last)),
            others: String::new(),
            figure: last / second,
            unit: "×",
            aim: Some(AIM_GROWTH),
        },
    ])
}

/// Overwrites, creates, renames and removes files all over the tree; what memory was in use meanwhile.
fn load(hosts: &Hosts, source: &Path, size: Size) -> Result<Vec<f64>> {
    let (begin, mut looked, mut seen) = (Instant::now(), Instant::now(), Vec::new());
    let mut rng = Rng::new(11);
    let mut n = 0_u64;
    while begin.elapsed() < Duration::from_secs(size.minutes * 60) || seen.len() < 8 {
        change(source, size.files, n, &mut rng)?;
        n += 1;
        std::thread::sleep(PAUSE);
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            seen.push(pss_mib(hosts));
        }
    }
    Ok(seen)
}

fn change(source: &Path, files: u64, n: u64, rng: &mut Rng) -> Result<()> {
    let number = rng.below(files);
    let file = source.join(format!("d{:05}/f{number:07}", number / 1000));
    let (old, new) = (source.join(format!("new-{}", n / 3 % 100)), source.join(format!("newer-{}", n / 3 % 100)));
    match n % 3 {
        0 => File::options().write(true).open(file)?.write_all_at(&rng.bytes(10), 0)?,
        1 => fs::write(old, rng.bytes(4096))?,
        _ => fs::rename(old, new)?,
    }
    Ok(())
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn pss_mib(hosts: &Hosts) -> f64 {
    let mut kib = 0;
    for pid in hosts.paris.pids().into_iter().chain(hosts.lyon.pids()) {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        kib += pss.and_then(|pss| pss.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    }
    kib as f64 / 1024.0
}
