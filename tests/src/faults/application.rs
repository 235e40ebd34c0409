//! What runs on the source throughout: databases whose clients remember what was confirmed to them, and a probe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::probe::{Probe, Waits};
use crate::command::run;
use crate::load::{Journal, Load, Options, acknowledged, examine_copy};
use crate::postgres::Cluster;
use crate::run::marked;
use crate::site::{Pairing, Site};

/// Commits a second of each SQLite database, and transactions a second of PostgreSQL.
const RATE: u64 = 60;

/// The loads.
pub struct Application {
    program: PathBuf,
    databases: Vec<Database>,
    cluster: Option<Cluster>,
    running: Option<Running>,
    /// What probes saw that have ended.
    waits: Waits,
    /// Bytes that processes wrote that have ended.
    written: u64,
}

struct Database {
    name: &'static str,
    options: Options,
    /// Commits that the last sample held.
    seen: u64,
}

/// What ends with the machine.
struct Running {
    loads: Vec<Load>,
    clients: Option<Child>,
    probe: Option<Probe>,
}

impl Application {
    /// Makes the cluster, which has to be done before the directory is protected: its tools are slow.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed.
    pub fn prepare(site: &Site, set: &Pairing) -> Result<Cluster> {
        Cluster::create(&site.hosts.paris, &set.source.join("pg"))
    }

    /// Starts everything on the protected directory. `program`: the loads' executable.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(site: &Site, set: &Pairing, program: &Path, mut cluster: Option<Cluster>) -> Result<Application> {
        let kinds = [("wal", Journal::Wal), ("second", Journal::Wal), ("rollback", Journal::Rollback)];
        let databases = kinds.map(|(name, journal)| Database::new(site, set, name, journal));
        for database in &databases {
            fs::create_dir(set.source.join(database.name))?;
        }
        if let Some(cluster) = &mut cluster {
            cluster.start()?;
            cluster.fill(1)?;
        }
        let (program, waits) = (program.into(), Waits::default());
        let mut application =
            Application { program, databases: databases.into(), cluster, running: None, waits, written: 0 };
        application.run(site, set)?;
        Ok(application)
    }

    fn run(&mut self, site: &Site, set: &Pairing) -> Result<()> {
        let start = |database: &Database| Load::start(&self.program, &site.hosts.paris, &database.options);
        let loads = self.databases.iter().map(start).collect::<Result<_>>()?;
        let clients = self.cluster.as_ref().map(|cluster| cluster.load_at(RATE, 100_000)).transpose()?;
        let probe = Probe::start(&set.source.join("probe"), &site.hosts.paris.disk().join("elsewhere"))?;
        self.running = Some(Running { loads, clients, probe: Some(probe) });
        Ok(())
    }

    /// Ends the probe, which would see errors.
    fn end_probe(&mut self, site: &Site, since: Instant) {
        let probe = self.running.as_mut().and_then(|running| running.probe.take());
        if let Some(probe) = probe {
            self.waits.add(&probe.finish(since));
        }
        self.written = self.written(site);
    }

    /// Its machine is about to lose its power.
    pub fn loses_power(&mut self, site: &Site, since: Instant) {
        self.end_probe(site, since);
        if let Some(cluster) = &mut self.cluster {
            cluster.cut();
        }
    }

    /// Its machine has lost its power, or the run is over.
    pub fn has_died(&mut self) {
        self.running = None;
        if let Some(cluster) = &mut self.cluster {
            cluster.kill();
        }
    }

    /// Its machine is up again: nothing that was confirmed may be missing there, and everything starts anew.
    ///
    /// # Errors
    /// Names what is missing, or does not start.
    pub fn start_again(&mut self, site: &Site, set: &Pairing) -> Result<()> {
        for database in &mut self.databases {
            database.outlived(&site.hosts.paris.dir().join("outlived"))?;
        }
        if let Some(cluster) = &mut self.cluster {
            // Its process id may be another's by now.
            let _ = fs::remove_file(set.source.join("pg/postmaster.pid"));
            cluster.start()?;
        }
        self.run(site, set)
    }

    /// Has nothing ended, and did nothing fail?
    ///
    /// # Errors
    /// Names what did.
    pub fn check(&mut self) -> Result<()> {
        let Some(Running { loads, clients, probe }) = &mut self.running else { return Ok(()) };
        probe.as_ref().map_or(Ok(()), Probe::check)?;
        for (database, load) in self.databases.iter().zip(loads) {
            load.check().with_context(|| format!("database {}", database.name))?;
        }
        match clients.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => bail!("pgbench ended with {status}"),
            None => Ok(()),
        }
    }

    /// Copies the databases out of the replica, opens them, and compares with what was confirmed.
    ///
    /// # Errors
    /// Names what is broken, went back, or was never committed.
    pub fn examine(&mut self, replica: &Path, scratch: &Path) -> Result<()> {
        for database in &mut self.databases {
            let told = database.told()?;
            let found = examine_copy(&replica.join(database.name).join("db"), scratch);
            let found = found.with_context(|| format!("database {}", database.name))?.transactions;
            ensure!(found >= database.seen, "{} went back from {} to {found}", database.name, database.seen);
            ensure!(found <= told + 1, "{} holds {found} commits, of {told} that were made", database.name);
            database.seen = found;
        }
        Ok(())
    }

    /// The same for PostgreSQL, which has to be started for it.
    ///
    /// # Errors
    /// As [`Application::examine`].
    pub fn examine_cluster(&self, site: &Site, copy: &Path) -> Result<()> {
        let _ = fs::remove_file(copy.join("postmaster.pid"));
        let mut opened = Cluster::at(&site.hosts.paris, copy)?;
        opened.start()?;
        opened.examine().map(drop)
    }

    /// Is there a cluster?
    pub fn has_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Bytes that the processes of the loads wrote so far, the probe's apart.
    pub fn written(&self, site: &Site) -> u64 {
        if self.running.is_none() {
            return self.written;
        }
        let pids = marked(site.hosts.paris.dir());
        let written = |pid: &i32| -> Option<u64> {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let counts = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            let count = counts.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())?;
            (!name.starts_with("stead\n")).then_some(count)
        };
        self.written + pids.iter().filter_map(written).sum::<u64>()
    }

    /// Ends everything; returns the waits, and the databases with the commits that were confirmed.
    ///
    /// # Errors
    /// Where what was confirmed cannot be read.
    pub fn finish(mut self, site: &Site, since: Instant) -> Result<(Waits, Vec<(PathBuf, u64)>)> {
        self.end_probe(site, since);
        self.has_died();
        let told = |database: &Database| Ok((database.options.database.clone(), database.told()?));
        Ok((self.waits, self.databases.iter().map(told).collect::<Result<_>>()?))
    }
}

impl Database {
    fn new(site: &Site, set: &Pairing, name: &'static str, journal: Journal) -> Database {
        let acknowledgements = site.hosts.paris.dir().join(format!("acknowledged-{name}"));
        let database = set.source.join(name).join("db");
        Database { name, options: Options { database, acknowledgements, journal, rate: RATE, seconds: 0 }, seen: 0 }
    }

    /// Commits that were confirmed.
    fn told(&self) -> Result<u64> {
        Ok(acknowledged(&self.options.acknowledgements)?.transactions)
    }

    /// The machine comes up: what was confirmed is there. A replica may have had one more.
    fn outlived(&mut self, scratch: &Path) -> Result<()> {
        let found = examine_copy(&self.options.database, scratch).with_context(|| format!("{} here", self.name))?;
        let (found, told) = (found.transactions, self.told()?);
        ensure!(found >= told, "{}: {found} of {told} confirmed commits outlived the source's power", self.name);
        self.seen = self.seen.min(found);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(clients) = &mut self.clients {
            let _ = clients.kill();
            let _ = clients.wait();
        }
    }
}

/// Copies a whole directory as it is.
///
/// # Errors
/// Where cp fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}
