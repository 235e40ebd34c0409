//! The tables of a bench: one for each row, with a line for each aim.

use std::collections::BTreeMap;
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

/// What was measured of each row, or why nothing was.
pub struct Table {
    rows: Vec<(&'static str, Measured)>,
}

enum Measured {
    Lines(Vec<Line>),
    Failed(String),
    Lacking(String),
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table { rows: Vec::new() }
    }

    /// Adds the lines of a row and prints them.
    pub fn add(&mut self, row: &'static str, lines: Vec<Line>) {
        lines.iter().for_each(|line| println!("{}", line.row()));
        self.rows.push((row, Measured::Lines(lines)));
    }

    /// Notes a row that could not be measured, or has nothing to measure yet.
    pub fn fail(&mut self, row: &'static str, e: &anyhow::Error) {
        let why = format!("{e:#}");
        let measured = if e.is::<NotAvailable>() { Measured::Lacking(why) } else { Measured::Failed(why) };
        println!("{row} {}", measured.excuse());
        self.rows.push((row, measured));
    }

    /// Writes what was measured into the page of the documents; rows that were not measured now stay as they were. `names`:
    /// all rows in their order.
    pub fn write(&self, path: &Path, size: Size, names: &[&str]) -> Result<()> {
        let known = std::fs::read_to_string(path).unwrap_or_default();
        let mut sections = sections(&known);
        let when = format!("{}, {}, {size}", date()?, machine::described());
        for (row, measured) in &self.rows {
            sections.insert((*row).to_owned(), measured.section(&when));
        }
        let mut page = format!("{HEAD}\n* {}\n{METHOD}", versions());
        for name in names {
            if let Some(section) = sections.get(*name) {
                write!(page, "\n## {name}\n\n{}\n", section.trim())?;
            }
        }
        Ok(std::fs::write(path, page)?)
    }

    /// Tells how many aims were met.
    pub fn conclude(&self) -> Result<()> {
        let lines = self.rows.iter().flat_map(|(_, measured)| measured.lines());
        let aims: Vec<&Line> = lines.filter(|line| line.aim.is_some()).collect();
        let missed: Vec<&&Line> = aims.iter().filter(|line| line.is_missed()).collect();
        println!("\n{} of {} aims met", aims.len() - missed.len(), aims.len());
        missed.iter().for_each(|line| println!("  missed: {}", line.row()));
        let others = self.rows.iter().filter(|(_, measured)| !matches!(measured, Measured::Lines(_)));
        others.for_each(|(row, measured)| println!("  {row} {}", measured.excuse()));
        let failed = self.rows.iter().filter(|(_, measured)| matches!(measured, Measured::Failed(_))).count();
        if failed > 0 {
            bail!("{failed} rows could not be measured");
        }
        Ok(())
    }
}

impl Measured {
    fn lines(&self) -> &[Line] {
        if let Measured::Lines(lines) = self { lines } else { &[] }
    }

    /// Why there are no lines.
    fn excuse(&self) -> String {
        match self {
            Measured::Lines(_) => String::new(),
            Measured::Failed(why) => format!("could not be measured: {}", why.lines().next().unwrap_or("")),
            Measured::Lacking(why) => format!("is not available: {}", why.lines().next().unwrap_or("")),
        }
    }

    fn section(&self, when: &str) -> String {
        let Measured::Lines(lines) = self else { return format!("{when}: it {}", self.excuse()) };
        let rows = lines.iter().map(|line| line.row() + "\n").collect::<String>();
        format!("{when}.\n\n| work | Stead | others | figure | aim | |\n|---|---|---|---|---|---|\n{rows}")
    }
}

/// The sections of a page, by their headings.
fn sections(page: &str) -> BTreeMap<String, String> {
    let parts = page.split("\n## ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, text)| (name.trim().to_owned(), text.to_owned())).collect()
}

fn date() -> Result<String> {
    Ok(run(std::process::Command::new("date").arg("+%Y-%m-%d"))?.trim().to_owned())
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

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`; do not edit. Each table says when it was measured; figures are medians.
";

const METHOD: &str = "
Two hosts on one machine: network namespaces joined by virtual network cards; each has an ext4 with a journal of its own
in a loop image, mounted without atime. All share the machine's CPUs, so that what the target does is taken from the
source. What a table compares is measured in one run, Stead and the others in turns. Mirrors end with a sync of the target's file
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(work: &str, figure: f64) -> Line {
        Line { work: work.into(), stead: "1 s".into(), others: String::new(), figure, unit: "s", aim: Some(2.0) }
    }

    #[test]
    fn what_is_not_measured_now_stays_on_the_page() {
        let dir = tempfile::TempDir::new().unwrap();
        let (path, size) = (dir.path().join("page.md"), Size { rounds: 3, files: 7, minutes: 5 });
        let mut first = Table::new();
        first.add("lag", vec![line("the first lag", 1.0)]);
        first.add("wire", vec![line("the wire", 3.0)]);
        first.write(&path, size, &["lag", "wire", "calm"]).unwrap();
        let mut second = Table::new();
        second.add("lag", vec![line("another lag", 1.5)]);
        second.fail("calm", &anyhow::anyhow!("no peer\nat all"));
        second.write(&path, size, &["lag", "wire", "calm"]).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        let places = ["## lag", "another lag", "## wire", "the wire", "missed |", "## calm", "measured: no peer\n"];
        let found = places.map(|place| page.find(place).unwrap_or_else(|| panic!("{place} is not in\n{page}")));
        assert!(found.is_sorted() && !page.contains("the first lag"), "{page}");
    }
}
