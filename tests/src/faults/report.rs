//! What a run did and saw.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kind::{ALL, Kind};
use super::probe::Waits;

/// What a run did and saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The run's number.
    pub seed: u64,
    /// From the first fault to the last comparison.
    pub duration: Duration,
    /// Faults by kind.
    pub injected: BTreeMap<Kind, u64>,
    /// Samples of the replica that were opened and were good.
    pub samples: u64,
    /// Looks at the replica at which it did not say to be an image of one instant.
    pub samples_unconsistent: u64,
    /// How long it took to replicate again after all faults had ended.
    pub recoveries: Vec<Duration>,
    /// Commits that SQLite confirmed.
    pub commits: u64,
    /// Bytes that the source's network card sent.
    pub sent: u64,
    /// Bytes that the databases' processes wrote.
    pub written: u64,
    /// How long the application waited.
    pub waits: Waits,
}

impl Report {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Report) {
        self.duration += other.duration;
        for (kind, count) in &other.injected {
            *self.injected.entry(*kind).or_default() += count;
        }
        self.samples += other.samples;
        self.samples_unconsistent += other.samples_unconsistent;
        self.recoveries.extend(&other.recoveries);
        self.commits += other.commits;
        self.sent += other.sent;
        self.written += other.written;
        self.waits.add(&other.waits);
    }

    /// Prints it as a table.
    pub fn print(&self) {
        println!("faults injected in {:.0} s", self.duration.as_secs_f64());
        for kind in ALL {
            println!("  {:>5}  {kind:?}", self.injected.get(&kind).copied().unwrap_or(0));
        }
        let slowest = self.recoveries.iter().max().copied().unwrap_or_default();
        println!("samples: {} opened and good, {} looks at no image", self.samples, self.samples_unconsistent);
        println!("recoveries: {}, the slowest {slowest:.2?}", self.recoveries.len());
        println!("SQLite commits confirmed: {}", self.commits);
        println!("bytes sent: {} MiB; written by the databases: {} MiB", self.sent >> 20, self.written >> 20);
        println!("operations of the probe: {}", self.waits.operations);
        for (name, own, bare) in &self.waits.longest {
            println!("  {name:<8} longest {own:>10.1?}, unprotected {bare:>10.1?}");
        }
        for stall in &self.waits.stalls {
            println!("  stall: {stall:?}");
        }
    }
}
