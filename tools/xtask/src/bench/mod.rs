//! `cargo xtask bench`: Stead beside its peers on the same work in one run, as ratios.

mod application;
mod killed;
mod lag;
mod leased;
mod memory;
mod micro;
mod mirror;
mod pair;
mod peers;
mod reconnect;
mod resources;
mod restart;
mod several;
mod slow;
mod standin;
mod sustained;
mod synchronous;
mod table;
mod wire;

use anyhow::{Context, Result, bail};
use stead_tests::apt;

use crate::build;
use table::{Line, Table};

const PACKAGES: &[&str] = &[
    "e2fsprogs",
    "fuse3",
    "gcc",
    "keepalived",
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
    /// Files of the rows that need many: memory, restart.
    pub files: u64,
    /// Minutes of load in the memory row.
    pub minutes: u64,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Size { rounds, files, minutes } = self;
        write!(f, "--rounds {rounds} --files {files} --minutes {minutes}")
    }
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
    Row { name: "reconnect", run: reconnect::run },
    Row { name: "restart", run: restart::run },
    Row { name: "slow-line", run: slow::run },
    Row { name: "killed", run: killed::run },
    Row { name: "synchronous", run: synchronous::run },
    Row { name: "three-targets", run: several::run },
    Row { name: "lease", run: leased::run },
    Row { name: "stand-in", run: standin::run },
    Row { name: "resources", run: resources::run },
    Row { name: "calm", run: standin::calm },
    Row { name: "memory", run: memory::run },
];

/// What is measured.
struct Choice {
    size: Size,
    /// Rows, by name; empty: all.
    only: Vec<String>,
    skip: Vec<String>,
}

impl Choice {
    fn takes(&self, row: &Row) -> bool {
        let names = |rows: &[String]| rows.iter().any(|name| name == row.name);
        (self.only.is_empty() || names(&self.only)) && !names(&self.skip)
    }
}

/// Measures the chosen rows, or all; prints what it finds and writes it into the documents.
pub fn main(args: &[String]) -> Result<()> {
    let Some(choice) = read(args)? else {
        ROWS.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    };
    apt::install("the bench", PACKAGES)?;
    build::use_binary(&build::stead("release")?)?;
    let mut table = Table::new();
    for row in ROWS.iter().filter(|row| choice.takes(row)) {
        println!("--- {}", row.name);
        match (row.run)(choice.size) {
            Ok(lines) => table.add(row.name, lines),
            Err(e) => table.fail(row.name, &e),
        }
    }
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    table.write(&build::root().join("docs/reference/benchmarks.md"), choice.size, &names)?;
    table.conclude()
}

/// What the arguments ask for; `None`: the names of the rows.
fn read(args: &[String]) -> Result<Option<Choice>> {
    let size = Size { rounds: 3, files: 100_000, minutes: 5 };
    let mut choice = Choice { size, only: Vec::new(), skip: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--full" => choice.size = Size { rounds: 5, files: 1_000_000, minutes: 60 },
            "--files" => choice.size.files = value()?.parse().context("--files needs a number")?,
            "--minutes" => choice.size.minutes = value()?.parse().context("--minutes needs a number")?,
            "--rounds" => choice.size.rounds = value()?.parse().context("--rounds needs a number")?,
            "--only" => choice.only.push(row(value()?)?),
            "--skip" => choice.skip.push(row(value()?)?),
            "--list" => return Ok(None),
            name => choice.only.push(row(name)?),
        }
    }
    Ok(Some(choice))
}

fn row(name: &str) -> Result<String> {
    if ROWS.iter().any(|row| row.name == name) {
        return Ok(name.into());
    }
    bail!("no row is called {name}; --list names them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Result<Vec<&'static str>> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        let choice = read(&args)?.expect("no list was asked for");
        Ok(ROWS.iter().filter(|row| choice.takes(row)).map(|row| row.name).collect())
    }

    #[test]
    fn rows_are_chosen_and_skipped_by_name() {
        assert_eq!(chosen("").unwrap().len(), ROWS.len());
        assert_eq!(chosen("--only reconnect").unwrap(), ["reconnect"]);
        assert_eq!(chosen("wire --only reconnect").unwrap(), ["wire", "reconnect"]);
        assert_eq!(chosen("--skip memory --minutes 60").unwrap().len(), ROWS.len() - 1);
        assert!(chosen("--only recon").is_err() && chosen("--minutes").is_err() && chosen("--files few").is_err());
    }
}
