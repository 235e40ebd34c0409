//! Memory of everything that is Stead, for many files in a set.

use std::fs;

use anyhow::Result;
use stead_tests::host::Hosts;
use stead_tests::tree;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, short};

/// For a million files, both hosts together.
const AIM_MIB: f64 = 600.0;

/// Proportional set size after the mirror of `size.files` files, with both hosts' processes and shared memory.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    tree::even(&source, size.files, 10, 1)?;
    let pair = Pair::new(&hosts)?;
    let before = pss_mib(&hosts);
    let took = pair.protect("bench", &source, &target, &[])?;
    let mirrored = pss_mib(&hosts);
    // Every node known to the kernel: what a long-lived server ends up with.
    stead_tests::command::run(std::process::Command::new("find").arg(&source).args(["-newermt", "2100-01-01"]))?;
    let walked = pss_mib(&hosts);
    let peak = mirrored.max(walked);
    Ok(vec![Line {
        work: format!("memory of both nodes (PSS), {} files", size.files),
        stead: format!(
            "idle {} MiB, after the mirror ({} s) {}, all files seen {}",
            short(before),
            short(took.as_secs_f64()),
            short(mirrored),
            short(walked)
        ),
        others: String::new(),
        figure: peak,
        unit: "MiB",
        aim: Some(AIM_MIB),
    }])
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
