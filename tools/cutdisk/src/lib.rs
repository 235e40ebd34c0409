//! A disk whose power can be cut, for tests: a loop device over a FUSE file that holds writes back until they are
//! flushed. A cut drops a seeded subset of the writes that were not flushed, some of them in part; afterwards the disk
//! is attached again with what remains.
//!
//! What it proves: a program that syncs what it must finds everything again that it said to be durable, and one that
//! forgets a sync is caught sooner or later.

mod cache;
mod fs;
mod rng;

use std::fs as files;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fuser::{BackgroundSession, Config, MountOption};

use cache::Cache;
pub use cache::{Counts, Cut, SECTOR};

/// Longest wait for the kernel to let go of a mount or a device.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// The disk. Dropped, it is unmounted and detached, and its files go.
pub struct CutDisk {
    dir: PathBuf,
    cache: Arc<Mutex<Cache>>,
    session: Option<BackgroundSession>,
    device: Option<PathBuf>,
    mounted: Option<PathBuf>,
}

impl CutDisk {
    /// Makes a disk of zeroes in a new directory and attaches it as a loop device. The directory needs room for twice
    /// of what will be written.
    ///
    /// # Errors
    /// Where this machine has neither FUSE nor loop devices, or the directory is there already.
    pub fn create(dir: &Path, bytes: u64) -> Result<CutDisk> {
        let mount = dir.join("fuse");
        files::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        files::create_dir(&mount)?;
        let cache = Arc::new(Mutex::new(Cache::create(dir, bytes)?));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cutdisk".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(fs::OneFile(cache.clone()), &mount, &config).context("no FUSE here")?;
        let mut disk =
            CutDisk { dir: files::canonicalize(dir)?, cache, session: Some(session), device: None, mounted: None };
        disk.attach()?;
        Ok(disk)
    }

    /// The loop device; none between a cut and [`CutDisk::power_on`].
    pub fn device(&self) -> Option<&Path> {
        self.device.as_deref()
    }

    /// Makes a file system of that kind on it, durable when this returns.
    ///
    /// # Errors
    /// Where mkfs fails.
    pub fn format(&self, kind: &str, options: &[&str]) -> Result<()> {
        let quiet: &[&str] = if kind == "ext4" { &["-q", "-F"] } else { &["-q", "-f"] };
        run(Command::new(format!("mkfs.{kind}")).args(quiet).args(options).arg(self.attached()?))?;
        Ok(self.cache().flush()?)
    }

    /// Mounts its file system.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn mount(&mut self, at: &Path, options: &str) -> Result<()> {
        let device = self.attached()?;
        run(Command::new("mount").args(["-o", options]).arg(device).arg(at))?;
        // From now on the kernel detaches it with the last mount, even if this process does not live to see it.
        run(Command::new("losetup").arg("--detach").arg(device))?;
        self.mounted = Some(at.into());
        Ok(())
    }

    /// Cuts the power: from now on each request fails, and the seed decides what the medium holds. Whoever uses the file
    /// system has to be killed **before**, for a machine without power sees no error.
    ///
    /// # Errors
    /// Where the disk's own files cannot be written.
    pub fn cut(&mut self, seed: u64) -> Result<Cut> {
        Ok(self.cache().cut(seed)?)
    }

    /// Unmounts what is left of the file system, and attaches the disk again with what the cut left. Other mounts of the
    /// file system (bind mounts) have to be gone.
    ///
    /// # Errors
    /// Where something still uses the file system; `fuser -vm` names who.
    pub fn power_on(&mut self) -> Result<()> {
        self.unmount()?;
        self.detach()?;
        self.cache().power_on();
        self.attach()
    }

    /// Unmounts the file system, if it is still mounted.
    ///
    /// # Errors
    /// Where something still uses it.
    pub fn unmount(&mut self) -> Result<()> {
        let Some(at) = self.mounted.clone() else { return Ok(()) };
        if !is_mount_point(&at) {
            self.mounted = None;
            return Ok(());
        }
        until(|| run(Command::new("umount").arg(&at)).map(drop)).with_context(|| {
            let users = Command::new("fuser").arg("-vm").arg(&at).output();
            users.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default()
        })?;
        self.mounted = None;
        Ok(())
    }

    /// What was asked of the disk so far.
    pub fn counts(&self) -> Counts {
        self.cache().counts()
    }

    fn attach(&mut self) -> Result<()> {
        let file = self.dir.join("fuse").join(fs::NAME);
        let mut command = Command::new("losetup");
        let device = run(command.args(["--find", "--show", "--direct-io=on"]).arg(file))?;
        self.device = Some(device.trim().into());
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let Some(device) = self.device.take() else { return Ok(()) };
        // It goes when its last user is gone; a mount that somebody holds would keep it for ever.
        let backing = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("loop/backing_file");
        let own = self.dir.join("fuse").join(fs::NAME);
        let is_attached = || files::read_to_string(&backing).is_ok_and(|file| Path::new(file.trim_end()) == own);
        if is_attached() {
            let _ = Command::new("losetup").arg("--detach").arg(&device).output();
        }
        until(|| if is_attached() { bail!("{} is still in use", device.display()) } else { Ok(()) })
    }

    fn attached(&self) -> Result<&Path> {
        self.device().context("the disk is not attached")
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CutDisk {
    fn drop(&mut self) {
        let ended = self.unmount().and_then(|()| self.detach());
        if let Err(e) = ended {
            eprintln!("cutdisk: {e:#}");
            return;
        }
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
        let _ = files::remove_dir_all(&self.dir);
    }
}

fn is_mount_point(at: &Path) -> bool {
    let table = files::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == at))
}

fn until(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + RELEASE_MAX;
    loop {
        match attempt() {
            Err(e) if Instant::now() >= deadline => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
            Ok(()) => return Ok(()),
        }
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
