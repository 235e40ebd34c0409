//! PostgreSQL on a test host: a cluster in a protected directory, pgbench against it, a server on a copied replica.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::command::{run, until};
use crate::host::Host;
use crate::run::{MARK, signal};

/// A cluster: a data directory and, while it runs, its server. It listens on a Unix socket only.
pub struct Cluster {
    bin: PathBuf,
    data: PathBuf,
    mark: PathBuf,
    ids: (u32, u32),
    server: Option<Child>,
}

impl Cluster {
    /// Makes a new cluster in `data`.
    ///
    /// # Errors
    /// Where initdb fails.
    pub fn create(host: &Host, data: &Path) -> Result<Cluster> {
        let cluster = Cluster::at(host, data)?;
        fs::create_dir_all(data)?;
        chown(data, Some(cluster.ids.0), Some(cluster.ids.1))?;
        let mut initdb = cluster.tool("initdb");
        run(initdb.args(["--no-sync", "--data-checksums", "-A", "trust", "-U", "postgres", "-D"]).arg(data))?;
        Ok(cluster)
    }

    /// The cluster that lies in `data`, for instance a copied replica.
    ///
    /// # Errors
    /// Where PostgreSQL is not installed.
    pub fn at(host: &Host, data: &Path) -> Result<Cluster> {
        let bin = Cluster::programs()?;
        let id = |flag: &str| -> Result<u32> { Ok(run(Command::new("id").args([flag, "postgres"]))?.trim().parse()?) };
        Ok(Cluster { bin, data: data.into(), mark: host.dir().into(), ids: (id("-u")?, id("-g")?), server: None })
    }

    /// Where PostgreSQL's own programs are.
    ///
    /// # Errors
    /// Where it is not installed.
    pub fn programs() -> Result<PathBuf> {
        let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .context("PostgreSQL is not installed")?
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        versions.sort();
        versions.pop().context("PostgreSQL is not installed")
    }

    /// Starts the server and waits until it answers; crash recovery is part of that.
    ///
    /// # Errors
    /// Where it does not come up; its log is named.
    pub fn start(&mut self) -> Result<()> {
        let sockets = self.sockets();
        fs::create_dir_all(&sockets)?;
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o777))?;
        let log = fs::File::create(self.log())?;
        let mut server = self.tool("postgres");
        server.arg("-D").arg(&self.data).arg("-k").arg(&sockets);
        server.args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_wal_size=64MB"]);
        server.args(["-c", "checkpoint_timeout=30s", "-c", "shared_buffers=32MB"]).process_group(0);
        self.server = Some(server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        until("PostgreSQL answers", Duration::from_secs(60), || Ok(self.sql("SELECT 1").is_ok()))
            .with_context(|| fs::read_to_string(self.log()).unwrap_or_default())
    }

    /// Fills pgbench's tables.
    ///
    /// # Errors
    /// Where pgbench fails.
    pub fn fill(&self, scale: u32) -> Result<()> {
        let mut tool = self.tool("pgbench");
        run(tool.args(["-q", "-i", "-U", "postgres", "-s", &scale.to_string(), "-h"]).arg(self.sockets())).map(drop)
    }

    /// Starts pgbench against it for at most that many seconds.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn load(&self, seconds: u32) -> Result<Child> {
        let mut tool = self.tool("pgbench");
        tool.args(["-n", "-U", "postgres", "-c", "4", "-T", &seconds.to_string(), "-h"]).arg(self.sockets());
        Ok(tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Starts pgbench with that many transactions a second for at most that many seconds.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn load_at(&self, rate: u64, seconds: u32) -> Result<Child> {
        let mut tool = self.tool("pgbench");
        tool.args(["-n", "-U", "postgres", "-c", "2", "-R", &rate.to_string(), "-T", &seconds.to_string(), "-h"]);
        Ok(tool.arg(self.sockets()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Checks the tables' structure with pg_amcheck and pgbench's invariant: every transaction moved its amount in
    /// accounts, tellers and branches alike. Returns how many transactions are there.
    ///
    /// # Errors
    /// Names what is broken.
    pub fn examine(&self) -> Result<u64> {
        let mut amcheck = self.tool("pg_amcheck");
        amcheck.args(["-U", "postgres", "--install-missing", "--heapallindexed", "-d", "postgres", "-h"]);
        run(amcheck.arg(self.sockets())).context("pg_amcheck")?;
        let sums = self.sql(
            "SELECT (SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT sum(abalance) FROM pgbench_accounts),
                    (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches)",
        )?;
        let sums: Vec<&str> = sums.trim().split('|').collect();
        ensure!(sums.iter().all(|sum| *sum == sums[0]), "history, accounts, tellers and branches disagree: {sums:?}");
        Ok(self.sql("SELECT count(*) FROM pgbench_history")?.trim().parse()?)
    }

    /// Runs one statement; returns the bare rows.
    ///
    /// # Errors
    /// Where the server refuses it.
    pub fn sql(&self, statement: &str) -> Result<String> {
        run(self.tool("psql").args(["-U", "postgres", "-qAtc", statement, "-h"]).arg(self.sockets()))
    }

    /// Ends the server in order.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id() as i32, Signal::INT);
            let _ = server.wait();
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id() as i32, Signal::QUIT);
            let _ = server.wait();
        }
    }

    /// Kills all its processes, as a power cut would. They carry no mark, since PostgreSQL writes their titles over their
    /// environment, and one that waits for a lock of another outlives its server.
    pub fn cut(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = server.id() as i32;
        signal(pid, Signal::STOP);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.chain([pid]).for_each(|pid| signal(pid, Signal::KILL));
        let _ = server.wait();
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.uid(self.ids.0).gid(self.ids.1).env(MARK, &self.mark).current_dir("/");
        command
    }

    fn sockets(&self) -> PathBuf {
        // A socket's path has at most 107 bytes.
        self.mark.join(format!("pg-{}", self.data.file_name().unwrap_or_default().to_string_lossy()))
    }

    fn log(&self) -> PathBuf {
        self.sockets().join("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}
