//! How long a change takes until it is seen on the target.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use stead_tests::rng::Rng;
use stead_tests::tree;

use super::pair::{Pair, hosts, sync};
use super::table::{Line, median, percentile, short};
use super::{Size, peers};

const SAMPLES: usize = 200;
/// Peers that copy whole files need seconds for some of it.
const PEER_SAMPLES: usize = 5;
const LOOK_EVERY: Duration = Duration::from_micros(50);
const GIB: u64 = 1 << 30;

/// The five kinds of change, order strict, beside lsyncd.
pub fn run(_: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    let (peer, copy) = (hosts.paris.disk().join("peer"), hosts.lyon.disk().join("peer"));
    prepare(&source)?;
    let mut lsyncd = Vec::new();
    {
        prepare(&peer)?;
        let _daemon = peers::rsync_daemon(&hosts)?;
        let _lsyncd = peers::lsyncd(&hosts, &peer, "peer")?;
        for kind in KINDS {
            lsyncd.push(kind.sample(&peer, &copy, PEER_SAMPLES, Duration::from_secs(60)));
        }
    }
    fs::remove_dir_all(&peer)?;
    fs::remove_dir_all(&copy)?;
    sync(&source)?;
    let pair = Pair::new(&hosts)?;
    pair.protect("bench", &source, &target, &["--order", "strict"])?;
    let mut lines = Vec::new();
    for (kind, peer) in KINDS.iter().zip(lsyncd) {
        let samples = kind.sample(&source, &target, SAMPLES, Duration::from_secs(5))?;
        pair.paris.wait("bench")?;
        lines.extend(kind.lines(&samples, &peer.map(|peer| format!("lsyncd {} ms", short(median(&peer))))));
    }
    Ok(lines)
}

fn prepare(root: &Path) -> Result<()> {
    fs::create_dir(root)?;
    tree::even(&root.join("tree-0"), 5_000, 100, 2)?;
    tree::big(&root.join("big"), GIB, 1)?;
    tree::big(&root.join("moved-0"), GIB, 3)?;
    Ok(fs::write(root.join("log"), "")?)
}

struct Kind {
    name: &'static str,
    /// Makes change number n on the source.
    make: fn(&Path, usize) -> Result<()>,
    /// Is change number n on the target?
    seen: fn(&Path, usize) -> bool,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "create",
        make: |root, n| Ok(fs::write(root.join(format!("created-{n}")), "new")?),
        seen: |root, n| fs::metadata(root.join(format!("created-{n}"))).is_ok_and(|meta| meta.len() == 3),
    },
    Kind {
        name: "append",
        make: |root, _| Ok(File::options().append(true).open(root.join("log"))?.write_all(&[b'x'; 100])?),
        seen: |root, n| fs::metadata(root.join("log")).is_ok_and(|meta| meta.len() >= 100 * (n as u64 + 1)),
    },
    Kind {
        name: "4 KiB overwrite in 1 GiB",
        make: |root, n| {
            let mut bytes = Rng::new(n as u64 + 9).bytes(4096);
            bytes[..8].copy_from_slice(&stamp(n));
            Ok(File::options().write(true).open(root.join("big"))?.write_all_at(&bytes, place(n))?)
        },
        seen: |root, n| {
            let mut bytes = [0; 8];
            let file = File::open(root.join("big"));
            file.and_then(|file| file.read_exact_at(&mut bytes, place(n))).is_ok() && bytes == stamp(n)
        },
    },
    Kind {
        name: "rename of 1 GiB",
        make: |root, n| Ok(fs::rename(root.join(format!("moved-{n}")), root.join(format!("moved-{}", n + 1)))?),
        seen: |root, n| fs::metadata(root.join(format!("moved-{}", n + 1))).is_ok_and(|meta| meta.len() == GIB),
    },
    Kind {
        name: "rename of a directory of 5,000 files",
        make: |root, n| Ok(fs::rename(root.join(format!("tree-{n}")), root.join(format!("tree-{}", n + 1)))?),
        seen: |root, n| root.join(format!("tree-{}/d00004/f0004999", n + 1)).exists(),
    },
];

fn stamp(n: usize) -> [u8; 8] {
    (n as u64 + 0x5153_0000).to_le_bytes()
}

fn place(n: usize) -> u64 {
    (n as u64 * 7_919 * 4096) % GIB
}

impl Kind {
    /// Milliseconds of each sample.
    fn sample(&self, source: &Path, target: &Path, samples: usize, limit: Duration) -> Result<Vec<f64>> {
        let mut taken = Vec::new();
        for n in 0..samples {
            (self.make)(source, n)?;
            let begin = Instant::now();
            while !(self.seen)(target, n) {
                if begin.elapsed() > limit {
                    bail!("{} number {n} was not seen within {limit:?}", self.name);
                }
                std::thread::sleep(LOOK_EVERY);
            }
            taken.push(begin.elapsed().as_secs_f64() * 1e3);
            // Each change on its own, at no fixed beat.
            std::thread::sleep(Duration::from_micros(3_000 + (n as u64 * 977) % 5_000));
        }
        Ok(taken)
    }

    fn lines(&self, samples: &[f64], peer: &Result<String>) -> [Line; 2] {
        let others = peer.as_ref().map_or_else(|e| format!("lsyncd: {e:#}"), String::clone);
        let line = |what: &str, figure: f64, aim: f64| Line {
            work: format!("lag, {}, {what}", self.name),
            stead: format!("{} samples", samples.len()),
            others: others.clone(),
            figure,
            unit: "ms",
            aim: Some(aim),
        };
        [line("median", median(samples), 3.0), line("p99", percentile(samples, 99), 20.0)]
    }
}

/// A directory of 5,000 files is deleted.
pub fn delete(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (source, target) = (hosts.paris.disk().join("source"), hosts.lyon.disk().join("target"));
    let trees: Vec<PathBuf> = (0..size.rounds).map(|n| source.join(format!("tree-{n}"))).collect();
    for tree in &trees {
        tree::even(tree, 5_000, 100, 2)?;
    }
    let pair = Pair::new(&hosts)?;
    pair.protect("bench", &source, &target, &[])?;
    let mut after = Vec::new();
    for tree in &trees {
        fs::remove_dir_all(tree)?;
        let begin = Instant::now();
        let there = target.join(tree.file_name().expect("has a name"));
        while there.exists() {
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("the deletion was not seen within a minute");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        after.push(begin.elapsed().as_secs_f64());
    }
    Ok(vec![Line {
        work: "delete of a directory of 5,000 files, until it is gone from the target".into(),
        stead: format!("{} rounds", after.len()),
        others: String::new(),
        figure: median(&after),
        unit: "s",
        aim: Some(0.3),
    }])
}
