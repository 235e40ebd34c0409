//! Synchronous sets whose source loses its power: what was confirmed to a program has to be on the target.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::until;
use crate::host::{Disk, Hosts};
use crate::load::{Journal, Load, Options, examine_copy};
use crate::rng::Rng;
use crate::site::{Pairing, Site};

const SET: &str = "notes";
const LEVEL_MAX: Duration = Duration::from_secs(60);

/// Two nodes and a synchronous set, in sync.
pub struct Synchronous {
    /// The nodes.
    pub site: Site,
    /// The set.
    pub set: Pairing,
}

/// Power cuts of sources.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    /// How many sources lose their power, each under load.
    pub sources: u64,
    /// Do their targets lose it at the same time, and have to go on from their disks?
    pub with_targets: bool,
    /// Number that the moments follow from.
    pub seed: u64,
    /// Executable of the loads.
    pub program: &'a Path,
}

/// What they did to commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Commits that were confirmed.
    pub confirmed: u64,
    /// Those of them that no target had.
    pub lost: u64,
}

impl Synchronous {
    /// On the usual disks.
    ///
    /// # Errors
    /// Where any step of it fails.
    pub fn new() -> Result<Synchronous> {
        Synchronous::on(Hosts::new()?)
    }

    /// On those hosts.
    ///
    /// # Errors
    /// Where any step of it fails.
    pub fn on(hosts: Hosts) -> Result<Synchronous> {
        let site = Site::on(hosts)?;
        let set = site.pairing(SET)?;
        site.protect(&set, &["--mode", "sync"])?;
        let synchronous = Synchronous { site, set };
        synchronous.becomes("in-sync")?;
        Ok(synchronous)
    }

    /// Waits until synchronous operation is in that state.
    ///
    /// # Errors
    /// After a minute; tells how the connection stands.
    pub fn becomes(&self, state: &str) -> Result<()> {
        becomes(&self.site, state)
    }

    /// Commits to a database in the set as fast as it goes; returns when some are confirmed.
    ///
    /// # Errors
    /// Where they are not within half a minute.
    pub fn load(&self, program: &Path, journal: Journal) -> Result<(Load, Options)> {
        let options = Options {
            database: self.set.source.join("db"),
            acknowledgements: self.site.hosts.paris.dir().join("acknowledged"),
            journal,
            rate: 0,
            seconds: 0,
        };
        let load = Load::start(program, &self.site.hosts.paris, &options)?;
        until("20 commits", Duration::from_secs(30), || Ok(load.acknowledged()?.transactions > 20))?;
        Ok((load, options))
    }

    /// The source goes for good. Its network goes first: what is confirmed from then on was on the target before.
    fn cut_source(&mut self) -> Result<()> {
        let paris = &self.site.hosts.paris;
        if paris.has_network() {
            paris.link(false)?;
        }
        self.site.paris.kill_host();
        Ok(())
    }

    fn cut_target(&mut self, seed: u64) -> Result<()> {
        self.site.lyon.kill_host();
        println!("{:?}", self.site.hosts.lyon.lose_power(seed)?);
        self.site.lyon.launch()
    }

    /// Commits in the replica once it is given up.
    fn taken_over(&self) -> Result<u64> {
        self.site.lyon.cli(["unprotect", SET, "--force"])?;
        Ok(examine_copy(&self.set.replica.join("db"), &self.site.hosts.lyon.dir().join("copy"))?.transactions)
    }
}

impl Cuts<'_> {
    /// Does it, each time with new machines; what happens is printed.
    ///
    /// # Errors
    /// Where a replica is no database that opens, or a step fails; names the round and the seed.
    pub fn run(&self) -> Result<Outcome> {
        println!("seed {}", self.seed);
        let mut rng = Rng::new(self.seed);
        let mut outcome = Outcome::default();
        for number in 0..self.sources {
            let journal = if number % 2 == 0 { Journal::Wal } else { Journal::Rollback };
            let cut = self.cut(journal, &mut rng);
            let (confirmed, found) = cut.with_context(|| format!("cut {number} of seed {}", self.seed))?;
            println!("cut {number}, {journal:?}: {confirmed} commits confirmed, {found} on the target");
            outcome.confirmed += confirmed;
            outcome.lost += confirmed.saturating_sub(found);
        }
        Ok(outcome)
    }

    /// Commits that were confirmed, and those that the target has.
    fn cut(&self, journal: Journal, rng: &mut Rng) -> Result<(u64, u64)> {
        let lyon = Disk { image_mib: 1024, can_lose_power: self.with_targets, ..Disk::default() };
        let mut machines = Synchronous::on(Hosts::with_disks(Disk::default(), lyon)?)?;
        let (load, _) = machines.load(self.program, journal)?;
        std::thread::sleep(Duration::from_micros(rng.below(1_000_000)));
        machines.cut_source()?;
        let confirmed = load.acknowledged()?.transactions;
        if self.with_targets {
            machines.cut_target(rng.next_u64())?;
        }
        Ok((confirmed, machines.taken_over()?))
    }
}

/// Waits until synchronous operation of the set `notes` stands so.
///
/// # Errors
/// Where it does not.
pub fn becomes(site: &Site, state: &str) -> Result<()> {
    let paris = &site.paris;
    until(state, LEVEL_MAX, || Ok(paris.connection(SET)?["sync"]["state"] == state)).with_context(|| {
        let connection = paris.connection(SET).map(|found| found.to_string()).unwrap_or_default();
        format!("{connection}\n{}", paris.log())
    })
}
