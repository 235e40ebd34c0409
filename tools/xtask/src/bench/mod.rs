//! `cargo xtask bench`: Stead beside its peers on the same work in one run, as ratios.

mod application;
mod lag;
mod memory;
mod micro;
mod mirror;
mod pair;
mod peers;
mod sustained;
mod table;
mod wire;

use anyhow::{Result, bail};
use stead_tests::apt;

use crate::build;
use table::{Line, Table};

const PACKAGES: &[&str] = &[
    "e2fsprogs",
    "fuse3",
    "gcc",
    "iproute2",
    "libc6-dev",
    "libfuse3-dev",
    "lsyncd",
    "pkg-config",
    "procps",
    "psmisc",
    "rsync",
    "socat",
    "util-linux",
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Repetitions of a long measurement.
    pub rounds: usize,
    /// Files of the memory row.
    pub files: u64,
}

struct Row {
    name: &'static str,
    run: fn(Size) -> Result<Vec<Line>>,
}

const ROWS: &[Row] = &[
    Row { name: "mirror-small", run: mirror::small },
    Row { name: "mirror-big", run: mirror::big },
    Row { name: "mirror-usr", run: mirror::usr },
    Row { name: "mirror-sparse", run: mirror::sparse },
    Row { name: "unchanged", run: mirror::unchanged },
    Row { name: "lag", run: lag::run },
    Row { name: "wire", run: wire::run },
    Row { name: "delete", run: lag::delete },
    Row { name: "sustained", run: sustained::run },
    Row { name: "application", run: application::run },
    Row { name: "memory", run: memory::run },
];

/// Measures the chosen rows, or all; prints the table and, for all rows, writes it into the documents.
pub fn main(args: &[String]) -> Result<()> {
    let (mut size, mut chosen) = (Size { rounds: 3, files: 100_000 }, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => size = Size { rounds: 5, files: 1_000_000 },
            "--files" => size.files = args.next().and_then(|n| n.parse().ok()).unwrap_or(size.files),
            "--list" => {
                ROWS.iter().for_each(|row| println!("{}", row.name));
                return Ok(());
            }
            name if ROWS.iter().any(|row| row.name == name) => chosen.push(name.to_string()),
            name => bail!("no row is called {name}; --list names them"),
        }
    }
    apt::install("the bench", PACKAGES)?;
    build::use_binary(&build::stead("release")?)?;
    let mut table = Table::new();
    for row in ROWS.iter().filter(|row| chosen.is_empty() || chosen.iter().any(|name| name == row.name)) {
        println!("--- {}", row.name);
        match (row.run)(size) {
            Ok(lines) => lines.into_iter().for_each(|line| table.add(line)),
            Err(e) => table.fail(row.name, &format!("{e:#}")),
        }
    }
    if chosen.is_empty() {
        table.write(&build::root().join("docs/reference/benchmarks.md"), size)?;
    }
    table.conclude()
}
