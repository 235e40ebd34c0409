//! The state directory: who may use it, and what lies where in it.
//!
//! ```text
//!   lock  version                  one daemon at a time; format of everything below
//!   node.toml  node.key  node.crt  this node
//!   peers.toml  invites.toml       trust
//!   rotation.toml                  a change of this node's key that is not over
//!   plan.toml                      what is wanted
//!   sets/NAME/set.toml             epoch, lineage, what was made for the set
//!   sets/NAME/source  …/target     the data path's own
//!   heartbeats.json                secrets for heartbeats, number of this start, starts of peers
//!   groups/NAME/                   record or ballot, timeline, what addresses replaced, units and programs
//!   forks/NAME/EPOCH/…             what only this node had when another one stood in (`forks`)
//! ```
//! Everything is written to a new file, synced, renamed over the old one, and the directory synced.

pub(crate) mod backup;
#[cfg(test)]
mod crash_tests;
pub(crate) mod files;
pub(crate) mod invites;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod replaced;
pub(crate) mod restore;
pub(crate) mod rotation;
pub(crate) mod sets;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use stead_api::Failure;
use stead_model::SetName;

/// Version of the state directory that this build writes.
const VERSION: u32 = 1;

/// A file that is there while a restore is at work.
pub(crate) const RESTORING: &str = "restoring";

/// The state directory, locked for this process.
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory where it is missing, locks it, checks its version.
    pub(crate) fn open(path: &Path) -> Result<StateDir, Failure> {
        let state = StateDir::lock(path)?;
        let what = format!("the state directory {} cannot be used", path.display());
        if state.file(RESTORING).exists() {
            let remedy = "Restore it again: stead state restore FILE";
            return Err(Failure::new(what, "a restore of it did not come to its end", remedy));
        }
        check_version(&state.file("version"), &what)?;
        Ok(state)
    }

    /// Makes the directory where it is missing and locks it, whatever is in it.
    pub(crate) fn lock(path: &Path) -> Result<StateDir, Failure> {
        let what = format!("the state directory {} cannot be used", path.display());
        let failed =
            |e: io::Error| Failure::new(&what, e.to_string(), "Choose another one with --state or STEAD_STATE");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path.join("lock")).map_err(failed)?;
        self::lock(&lock).map_err(|e| {
            if e == Errno::WOULDBLOCK {
                let remedy = "End that daemon first, or name another state directory with --state";
                Failure::new(&what, "a daemon is running on it", remedy)
            } else {
                failed(e.into())
            }
        })?;
        Ok(StateDir { path, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory of a set.
    pub(crate) fn set(&self, set: &SetName) -> PathBuf {
        self.path.join("sets").join(set.as_str())
    }
}

/// Who only looks whether a file is locked has it locked for a moment.
const PATIENCE: Duration = Duration::from_millis(200);

/// Locks a file for this process.
pub(crate) fn lock(file: &File) -> Result<(), Errno> {
    let moment = Instant::now() + PATIENCE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < moment => thread::sleep(Duration::from_millis(10)),
            locked => return locked,
        }
    }
}

/// The content of a backup of that state directory, on which no daemon runs.
///
/// # Errors
/// Where there is no state, it cannot be read, or a daemon runs on it.
pub fn take_backup(path: &Path) -> Result<Vec<u8>, Failure> {
    if !path.join("version").exists() {
        let why = format!("{} is not the state directory of a node", path.display());
        return Err(Failure::new("no backup was made", why, "Name it with --state or STEAD_STATE"));
    }
    backup::take(&StateDir::open(path)?)
}

fn check_version(file: &Path, what: &str) -> Result<(), Failure> {
    if !file.exists() {
        return files::write(file, format!("{VERSION}\n").as_bytes(), 0o600);
    }
    let text = String::from_utf8_lossy(&files::read(file)?).trim().to_string();
    let remedy = "Use the release of Stead that wrote it, or a newer one";
    match text.parse::<u32>() {
        Ok(version) if version <= VERSION => Ok(()),
        Ok(version) => {
            let why = format!("it has version {version}, and this build knows versions up to {VERSION}");
            Err(Failure::new(what, why, remedy))
        }
        Err(_) => Err(Failure::new(what, format!("its version {text:?} is not a number"), remedy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_the_same_state_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let refused = StateDir::open(dir.path()).err().unwrap();
        assert!(refused.why.contains("a daemon is running"), "{refused}");
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn a_state_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path()).unwrap());
        for (version, expected) in [("2", "version 2"), ("", "not a number")] {
            fs::write(dir.path().join("version"), version).unwrap();
            let refused = StateDir::open(dir.path()).err().unwrap();
            assert!(refused.why.contains(expected), "{refused}");
        }
    }
}
