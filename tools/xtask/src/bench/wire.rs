//! Bytes on the wire for small changes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Result;
use stead_tests::host::{Hosts, Traffic};
use stead_tests::rng::Rng;
use stead_tests::tree;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, short};

const CHANGES: u64 = 100;
const QUIET: Duration = Duration::from_secs(3);

/// A 4 KiB overwrite in 1 GiB, and a rename: each change alone, the connection's idle chatter taken off.
pub fn run(_: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    fs::create_dir(&source)?;
    tree::big(&source.join("big"), 1 << 30, 1)?;
    fs::write(source.join("name-0"), "x")?;
    let pair = Pair::new(&hosts)?;
    pair.protect("bench", &source, &target, &[])?;
    pair.paris.wait("bench")?;

    let big = File::options().write(true).open(source.join("big"))?;
    let overwrite =
        per_change(&hosts, |n| Ok(big.write_all_at(&Rng::new(n + 1).bytes(4096), n * 7_919 * 4096 % (1 << 30))?))?;
    let rename = per_change(&hosts, |n| {
        Ok(fs::rename(source.join(format!("name-{n}")), source.join(format!("name-{}", n + 1)))?)
    })?;
    pair.paris.wait("bench")?;
    let line = |work: &str, (sent, received): (f64, f64), aim: f64| Line {
        work: format!("wire bytes, {work}"),
        stead: format!("{} B back", short(received)),
        others: String::new(),
        figure: sent,
        unit: "B",
        aim: Some(aim),
    };
    Ok(vec![line("4 KiB overwrite in 1 GiB", overwrite, 4_500.0), line("rename", rename, 500.0)])
}

/// Bytes sent and received for each change.
fn per_change(hosts: &Hosts, mut change: impl FnMut(u64) -> Result<()>) -> Result<(f64, f64)> {
    let quiet = during(hosts, || {
        std::thread::sleep(QUIET);
        Ok(())
    })?;
    let step = QUIET / CHANGES as u32;
    let busy = during(hosts, || {
        for n in 0..CHANGES {
            change(n)?;
            // Apart, so that each travels alone: the dearest case.
            std::thread::sleep(step);
        }
        Ok(())
    })?;
    let each = |busy: u64, quiet: u64| busy.saturating_sub(quiet) as f64 / CHANGES as f64;
    Ok((each(busy.sent, quiet.sent), each(busy.received, quiet.received)))
}

fn during(hosts: &Hosts, work: impl FnOnce() -> Result<()>) -> Result<Traffic> {
    let before = hosts.paris.traffic()?;
    work()?;
    Ok(hosts.paris.traffic()?.since(before))
}
