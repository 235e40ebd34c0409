//! What runs on the source throughout: databases whose clients remember what was confirmed to them, and a probe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::probe::{Probe, Waits};
use crate::command::run;
use crate::load::{Journal, Load, Options, examine_copy};
use crate::postgres::Cluster;
use crate::run::marked;
use crate::site::{Pairing, Site};

/// Commits a second of each SQLite database, and transactions a second of PostgreSQL.
const RATE: u64 = 60;

/// The loads.
pub struct Application {
    databases: Vec<Database>,
    cluster: Option<(Cluster, Child)>,
    probe: Probe,
}

struct Database {
    name: &'static str,
    options: Options,
    load: Load,
    /// Commits that the last sample held.
    seen: u64,
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
    pub fn start(site: &Site, set: &Pairing, program: &Path, cluster: Option<Cluster>) -> Result<Application> {
        let mut databases = Vec::new();
        for (name, journal) in [("wal", Journal::Wal), ("second", Journal::Wal), ("rollback", Journal::Rollback)] {
            let dir = set.source.join(name);
            fs::create_dir(&dir)?;
            let options = Options {
                database: dir.join("db"),
                acknowledgements: site.hosts.paris.dir().join(format!("acknowledged-{name}")),
                journal,
                rate: RATE,
                seconds: 0,
            };
            let load = Load::start(program, &site.hosts.paris, &options)?;
            databases.push(Database { name, options, load, seen: 0 });
        }
        let cluster = cluster.map(serve).transpose()?;
        let probe = Probe::start(&set.source.join("probe"), &site.hosts.paris.disk().join("elsewhere"))?;
        Ok(Application { databases, cluster, probe })
    }

    /// Has nothing ended, and did nothing fail?
    ///
    /// # Errors
    /// Names what did.
    pub fn check(&mut self) -> Result<()> {
        self.probe.check()?;
        for database in &mut self.databases {
            database.load.check().with_context(|| format!("database {}", database.name))?;
        }
        if let Some((_, clients)) = &mut self.cluster
            && let Some(status) = clients.try_wait()?
        {
            bail!("pgbench ended with {status}");
        }
        Ok(())
    }

    /// Copies the databases out of the replica, opens them, and compares with what was confirmed.
    ///
    /// # Errors
    /// Names what is broken, went back, or was never committed.
    pub fn examine(&mut self, replica: &Path, scratch: &Path) -> Result<()> {
        for database in &mut self.databases {
            let told = database.load.acknowledged()?.transactions;
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
        let pids = marked(site.hosts.paris.dir());
        let written = |pid: &i32| -> Option<u64> {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let counts = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            let count = counts.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())?;
            (!name.starts_with("stead\n")).then_some(count)
        };
        pids.iter().filter_map(written).sum()
    }

    /// Ends everything; returns the waits.
    pub fn finish(self, since: Instant) -> (Waits, Vec<(PathBuf, u64)>) {
        let waits = self.probe.finish(since);
        let mut told = Vec::new();
        for database in self.databases {
            database.load.kill();
            let count =
                crate::load::acknowledged(&database.options.acknowledgements).map_or(0, |found| found.transactions);
            told.push((database.options.database, count));
        }
        if let Some((mut cluster, mut clients)) = self.cluster {
            let _ = clients.kill();
            let _ = clients.wait();
            cluster.kill();
        }
        (waits, told)
    }
}

fn serve(mut cluster: Cluster) -> Result<(Cluster, Child)> {
    cluster.start()?;
    cluster.fill(1)?;
    let clients = cluster.load_at(RATE, 100_000)?;
    Ok((cluster, clients))
}

/// Copies a whole directory as it is.
///
/// # Errors
/// Where cp fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}
