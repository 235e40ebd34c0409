//! Does replication keep up with what the mount driver lets through?

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::rng::Rng;

use super::Size;
use super::pair::{Pair, hosts};
use super::table::{Line, short};

const DURATION: Duration = Duration::from_secs(10);
const SET: &str = "bench";

/// Ten seconds of 4 KiB writes, and of small files created.
pub fn run(_: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    fs::create_dir(&source)?;
    File::create(source.join("big"))?.set_len(1 << 30)?;
    let pair = Pair::new(&hosts)?;
    pair.protect(SET, &source, &target, &[])?;
    let big = File::options().write(true).open(source.join("big"))?;
    let mut rng = Rng::new(5);
    let block = rng.bytes(4096);
    let writes = measure(&pair, "4 KiB writes", |_| Ok(big.write_all_at(&block, rng.below(1 << 18) * 4096)?))?;
    fs::create_dir(source.join("files"))?;
    let creations = measure(&pair, "creation of small files", |n| create(&source, n, &block[..1000]))?;
    Ok(vec![writes, creations])
}

fn create(source: &Path, n: u64, bytes: &[u8]) -> Result<()> {
    let dir = source.join(format!("files/{}", n / 1000));
    if n.is_multiple_of(1000) {
        fs::create_dir(&dir)?;
    }
    Ok(fs::write(dir.join(format!("{n}")), bytes)?)
}

fn measure(pair: &Pair, work: &str, mut change: impl FnMut(u64) -> Result<()>) -> Result<Line> {
    let begin = Instant::now();
    let (mut count, mut queues, mut looked) = (0, Vec::new(), Instant::now());
    while begin.elapsed() < DURATION {
        change(count)?;
        count += 1;
        if looked.elapsed() > Duration::from_millis(1000) {
            let connection = pair.paris.connection(SET)?;
            queues.push(connection["queue"]["changes"].as_u64().unwrap_or(0));
            looked = Instant::now();
        }
    }
    let wrote = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    pair.paris.wait(SET)?;
    let drained = begin.elapsed().as_secs_f64();
    let state = pair.paris.state_of(SET)?;
    let queue = queues.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    Ok(Line {
        work: format!("sustained {work}: time to catch up after {} s of it", short(wrote)),
        stead: format!("{} per second, {state}, queue each second: {queue}", short(count as f64 / wrote)),
        others: String::new(),
        figure: drained / wrote,
        unit: "×",
        // Keeping up means that nothing but the pipeline's own depth is left over.
        aim: Some(0.1),
    })
}
