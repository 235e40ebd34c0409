//! The source as a machine: its power, and the disk of its queue.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::inject::{BALLAST, World, fill};
use crate::command::{run, until};
use crate::compare::Compare;
use crate::relay::Flow;
use crate::rng::Rng;
use crate::run::mounts_beneath;

/// Files that nobody syncs, written just before the source loses its power.
const FORGOTTEN: &str = "forgotten";
/// How long the replica may take to have the last of them; without a line it never has.
const ARRIVAL_MAX: Duration = Duration::from_millis(300);
/// Beyond 8 MiB of memory, and far below 256.
const BURST_BYTES: usize = 24 << 20;
const BOOT_MAX: Duration = Duration::from_secs(20);

impl World {
    /// Lets the queue have a disk of its own, and as much memory as the seed says: from too little to plenty.
    pub(super) fn limit_queue(&self, rng: &mut Rng) -> Result<()> {
        let memory = *rng.pick(&["1MiB", "8MiB", "256MiB"]);
        println!("queue-limit {memory}");
        self.mount_queue()?;
        self.site.paris.set_in_plan(&format!("queue-limit = \"{memory}\"\nqueue-disk = \"64MiB\""))
    }

    fn mount_queue(&self) -> Result<()> {
        let dir = self.queue();
        fs::create_dir_all(&dir)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"]).arg(dir)).map(drop)
    }

    fn queue(&self) -> PathBuf {
        self.site.paris.state().join("sets").join(&self.set.set).join("source/queue")
    }

    /// The line goes, the queue's disk has no room, and more is written than the least memory takes.
    pub(super) fn fill_queue(&self, seed: u64) -> Result<()> {
        self.relay.flow(Flow::Cut);
        fill(&self.queue().join(BALLAST))?;
        Ok(fs::write(self.set.source.join("burst"), Rng::new(seed).bytes(BURST_BYTES))?)
    }

    pub(super) fn empty_queue(&self) -> Result<()> {
        if let Ok(connection) = self.site.paris.connection(&self.set.set) {
            println!("           without room it is {} {}", connection["state"], connection["reason"]);
        }
        fs::remove_file(self.queue().join(BALLAST))?;
        self.relay.flow(Flow::Through);
        Ok(())
    }

    /// Everything on the source ends at once, and what was not synced is lost there as far as the seed says.
    pub(super) fn cut_source(&mut self, seed: u64) -> Result<()> {
        self.write_forgotten(seed)?;
        self.site.paris.kill_host();
        self.stranger.kill_host();
        println!("           {:?}", self.site.hosts.paris.lose_power(seed)?);
        Ok(())
    }

    /// The replica may have what the source forgets.
    fn write_forgotten(&self, seed: u64) -> Result<()> {
        let name = seed.to_string();
        fs::create_dir_all(self.set.source.join(FORGOTTEN))?;
        fs::write(self.source_of(name.as_ref()), Rng::new(seed).bytes(9_000))?;
        let replica = self.set.replica.join(FORGOTTEN).join(name);
        let _ = until("the replica has it", ARRIVAL_MAX, || Ok(replica.exists()));
        Ok(())
    }

    /// The source comes up: its daemon before anything else, and with it the mount.
    pub(super) fn boot_source(&mut self) -> Result<()> {
        println!("           files of which the source lost what the replica has: {}", self.lost());
        self.mount_queue()?;
        self.site.paris.reboot()?;
        self.site.paris.launch()?;
        self.stranger.launch()?;
        let source = &self.set.source;
        until("the set is mounted", BOOT_MAX, || Ok(mounts_beneath(source).contains(source)))
            .with_context(|| self.site.paris.log())
    }

    fn lost(&self) -> usize {
        let files = fs::read_dir(self.set.replica.join(FORGOTTEN)).into_iter().flatten().flatten();
        let here = |path: &Path| path.file_name().and_then(|name| fs::read(self.source_of(name)).ok());
        files.map(|file| file.path()).filter(|path| here(path) != fs::read(path).ok()).count()
    }

    fn source_of(&self, name: &OsStr) -> PathBuf {
        self.set.source.join(FORGOTTEN).join(name)
    }

    /// The source wins over a replica that has what it lost.
    pub(super) fn source_has_won(&self) -> Result<()> {
        let [source, replica] = [&self.set.beneath, &self.set.replica].map(|tree| tree.join(FORGOTTEN));
        if !source.exists() && !replica.exists() {
            return Ok(());
        }
        let compare = Compare { holes: false, ..Compare::default() };
        compare.same(&source, &replica).context("what was not synced when the source lost its power")
    }
}
