//! The table of a bench: a line for each aim.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use stead_tests::command::{run, text};

use super::Size;
use crate::machine;

/// One aim and what was measured for it.
pub struct Line {
    /// What was done.
    pub work: String,
    /// What was measured of Stead.
    pub stead: String,
    /// What was measured of the others.
    pub others: String,
    /// The number that the aim speaks of.
    pub figure: f64,
    /// How the figure is written: `×`, `ms`, `B` …
    pub unit: &'static str,
    /// The figure may be as large as this; `None`: for information.
    pub aim: Option<f64>,
}

/// Why a row has nothing to measure: this release lacks what it is about.
#[derive(Debug)]
pub struct NotAvailable(pub String);

impl std::fmt::Display for NotAvailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAvailable {}

/// All lines, and the rows that could not be measured.
pub struct Table {
    lines: Vec<Line>,
    failed: Vec<(String, String)>,
    lacking: Vec<(String, String)>,
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table { lines: Vec::new(), failed: Vec::new(), lacking: Vec::new() }
    }

    /// Adds a line and prints it.
    pub fn add(&mut self, line: Line) {
        println!("{}", line.row());
        self.lines.push(line);
    }

    /// Notes a row that could not be measured, or has nothing to measure yet.
    pub fn fail(&mut self, row: &str, e: &anyhow::Error) {
        let why = format!("{e:#}");
        if e.is::<NotAvailable>() {
            println!("{row}: not available: {why}");
            self.lacking.push((row.into(), why));
        } else {
            println!("{row} could not be measured: {why}");
            self.failed.push((row.into(), why));
        }
    }

    /// Writes the page of the documents.
    pub fn write(&self, path: &Path, size: Size) -> Result<()> {
        Ok(std::fs::write(path, self.page(size)?)?)
    }

    /// Tells how many aims were met.
    pub fn conclude(&self) -> Result<()> {
        let aims = self.lines.iter().filter(|line| line.aim.is_some()).count();
        let missed: Vec<&Line> = self.lines.iter().filter(|line| line.is_missed()).collect();
        println!("\n{} of {aims} aims met", aims - missed.len());
        missed.iter().for_each(|line| println!("  missed: {}", line.row()));
        self.lacking.iter().for_each(|(row, why)| println!("  not available: {row}: {why}"));
        if !self.failed.is_empty() {
            bail!("{} rows could not be measured", self.failed.len());
        }
        Ok(())
    }

    fn page(&self, size: Size) -> Result<String> {
        let date = run(std::process::Command::new("date").arg("+%Y-%m-%d"))?;
        let mut page = String::from("# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit.\n\n");
        writeln!(page, "* Date: {}", date.trim())?;
        writeln!(page, "* Machine: {}", machine::described())?;
        let Size { rounds, files, minutes } = size;
        writeln!(page, "* {rounds} rounds, medians; {files} files and {minutes} minutes of load in the memory row.")?;
        writeln!(page, "* {}", versions())?;
        page.push_str(METHOD);
        page.push_str("\n| work | Stead | others | figure | aim | |\n|---|---|---|---|---|---|\n");
        for line in &self.lines {
            writeln!(page, "{}", line.row())?;
        }
        for (row, why) in &self.failed {
            writeln!(page, "\n`{row}` could not be measured: {}", why.lines().next().unwrap_or(""))?;
        }
        for (row, why) in &self.lacking {
            writeln!(page, "\n`{row}` is not available: {}", why.lines().next().unwrap_or(""))?;
        }
        Ok(page)
    }
}

impl Line {
    fn is_missed(&self) -> bool {
        // A figure that is no number is missed, too.
        self.aim.is_some_and(|aim| !matches!(self.figure.partial_cmp(&aim), Some(o) if o.is_le()))
    }

    fn row(&self) -> String {
        let aim = self.aim.map_or("–".into(), |aim| format!("≤ {aim} {}", self.unit));
        let verdict = match self.aim {
            None => "",
            Some(_) if self.is_missed() => "missed",
            Some(_) => "met",
        };
        let Line { work, stead, others, figure, unit, .. } = self;
        format!("| {work} | {stead} | {others} | {} {unit} | {aim} | {verdict} |", short(*figure))
    }
}

const METHOD: &str = "
Two hosts on one machine: network namespaces joined by virtual network cards; each has an ext4 with a journal of its own
in a loop image, mounted without atime. All share the machine's CPUs, so that what the target does is taken from the
source. Everything is measured in one run, Stead and the others in turns. Mirrors end with a sync of the target's file
system; wire bytes are those that left the source's network card, headers and
encryption included. Lag is the time from the return of the call on the
source until the change is seen on the target, looked for every 50 µs. Application costs are medians of alternating runs
on the bare file system, through Stead and through libfuse's `passthrough_ll`; *held* means that the daemons stood still
while the run lasted, so that the figure is that of the mount driver alone; *live* means with replication going on.
";

fn versions() -> String {
    let first = |program: &str| {
        let output = std::process::Command::new(program).arg("--version").output();
        let text = output.map(|output| text(&output.stdout)).unwrap_or_default();
        text.lines().next().unwrap_or("").split("  ").next().unwrap_or("").to_string()
    };
    let all = ["rsync", "tar", "lsyncd"].map(first);
    format!("Peers: {}", all.iter().filter(|version| !version.is_empty()).cloned().collect::<Vec<_>>().join(", "))
}

/// A number with as many digits as matter.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// The middle of the numbers; not a number where there is none.
pub fn median(numbers: &[f64]) -> f64 {
    percentile(numbers, 50)
}

/// The number below which that many percent of the numbers are.
pub fn percentile(numbers: &[f64], percent: usize) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
