//! Until when a group may be served, for a watchdog that does not depend on the daemon: `groups/NAME/lease`.
//! [`stead_model::lease`] draws it. The name is a symbolic link to a file in memory, where there is a file system in memory: a
//! page of a file on disk cannot be written while the disk is written to, and a disk that hangs would cost the lease.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{StatFs, statfs};
use stead_api::Failure;
use stead_failover::machine::Lease;
use stead_model::lease::{BEATS_AT, BOOT_AT, BYTES, DEADLINE_AT, MAGIC, NONE, UNLIMITED, VERSION, VERSION_AT};

use super::sys::Words;
use crate::clock;

const NAME: &str = "lease";

/// Where files are in memory, where they are.
const MEMORY: [&str; 2] = ["/run", "/dev/shm"];
/// Names of files in memory begin with that.
const PREFIX: &str = "stead-lease-";

/// The daemon's side of it.
pub(crate) struct LeaseFile(Words);

/// The watchdog's side.
pub(crate) struct LeaseView {
    words: Words,
    /// Which file it is.
    id: (u64, u64),
}

impl LeaseFile {
    /// The one in the group's directory, as it is where it is of this boot; else a new one without a deadline.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn open(dir: &Path) -> Result<LeaseFile, Failure> {
        let name = dir.join(NAME);
        let opened = match open(&name, true) {
            // Else it may be good, and the watchdog looks at it.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                make(&name).and_then(|()| open(&name, true))
            }
            opened => opened,
        };
        opened.map(|(words, _)| LeaseFile(words)).map_err(|e| {
            Failure::new(format!("{} cannot be made", name.display()), e.to_string(), "Make room there and in /run")
        })
    }

    /// Tells the watchdog. Where nothing may be served any more, what was told before stays until it ends: the machine takes
    /// down what is up, and the watchdog does where the machine does not come to it. Never blocks.
    pub(crate) fn set(&self, lease: Lease) {
        match lease {
            Lease::Until(at) => self.0.store(DEADLINE_AT, clock::boot_ns(at).clamp(NONE + 1, UNLIMITED - 1)),
            Lease::Unlimited => self.0.store(DEADLINE_AT, UNLIMITED),
            Lease::None if self.deadline() == UNLIMITED => self.0.store(DEADLINE_AT, NONE),
            Lease::None => {}
        }
    }

    /// Everything is down, by evidence: the watchdog has nothing to do. Never blocks.
    pub(crate) fn clear(&self) {
        self.0.store(DEADLINE_AT, NONE);
    }

    /// The daemon lives. Never blocks.
    pub(crate) fn beat(&self) {
        self.0.store(BEATS_AT, self.0.load(BEATS_AT).wrapping_add(1));
    }

    /// What the watchdog and the captures see.
    pub(crate) fn deadline(&self) -> u64 {
        self.0.load(DEADLINE_AT)
    }
}

/// The file of the group in that directory, for whoever maps it by itself.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Was a lease ever held by that group in this boot?
pub(crate) fn is_begun(dir: &Path) -> bool {
    LeaseView::open(dir).is_ok_and(|view| view.deadline() != NONE)
}

impl LeaseView {
    /// The one in the group's directory.
    ///
    /// # Errors
    /// Where it is of another boot or version, or there is none.
    pub(crate) fn open(dir: &Path) -> io::Result<LeaseView> {
        open(&dir.join(NAME), false).map(|(words, id)| LeaseView { words, id })
    }

    /// Is it still the one in the group's directory?
    pub(super) fn is_of(&self, dir: &Path) -> bool {
        fs::metadata(dir.join(NAME)).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id)
    }

    pub(super) fn deadline(&self) -> u64 {
        self.words.load(DEADLINE_AT)
    }

    pub(crate) fn beats(&self) -> u64 {
        self.words.load(BEATS_AT)
    }
}

/// Forgets it. The group's directory may go then.
pub(crate) fn remove(dir: &Path) {
    let name = dir.join(NAME);
    remove_target(&name);
    let _ = fs::remove_file(name);
}

fn open(name: &Path, writable: bool) -> io::Result<(Words, (u64, u64))> {
    let file = OpenOptions::new().read(true).write(writable).open(name)?;
    let meta = file.metadata()?;
    let words = Words::map(&file, writable)?;
    let told: Vec<u64> = (0..DEADLINE_AT).map(|at| words.load(at)).collect();
    if told == header()? {
        return Ok((words, (meta.dev(), meta.ino())));
    }
    let is_ours = told[0] == MAGIC;
    let why = match told[VERSION_AT] {
        _ if !is_ours => "it is not a lease".into(),
        VERSION => "it is of another boot".into(),
        version => format!("it has version {version}"),
    };
    Err(io::Error::new(ErrorKind::InvalidData, why))
}

/// A new file appears whole, or not at all.
fn make(name: &Path) -> io::Result<()> {
    remove_target(name);
    let new = name.with_extension("new");
    let _ = fs::remove_file(&new);
    match memory() {
        Some(file) => {
            fill(&file)?;
            symlink(&file, &new)?;
        }
        None => fill(&new)?,
    }
    fs::rename(new, name)
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut bytes: Vec<u8> = header()?.into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.resize(BYTES, 0);
    file.write_all(&bytes)
}

fn header() -> io::Result<[u64; 4]> {
    let mut header = [MAGIC, VERSION, 0, 0];
    header[BOOT_AT..].copy_from_slice(&boot()?);
    Ok(header)
}

fn boot() -> io::Result<[u64; 2]> {
    let text = clock::boot_id().map_err(io::Error::other)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok([(id >> 64) as u64, id as u64])
}

/// A new name of a file in memory; none where files there are not in memory.
fn memory() -> Option<PathBuf> {
    let is_memory = |stat: StatFs| stat.f_type == libc::TMPFS_MAGIC;
    let dir = MEMORY.into_iter().find(|dir| statfs(*dir).is_ok_and(is_memory))?;
    let (pid, now) = (std::process::id(), clock::boot_ns(clock::now()));
    Some(Path::new(dir).join(format!("{PREFIX}{pid}-{now}")))
}

fn remove_target(name: &Path) {
    let Ok(target) = fs::read_link(name) else { return };
    let is_ours = target.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if is_ours && MEMORY.iter().any(|dir| target.parent() == Some(Path::new(dir))) {
        let _ = fs::remove_file(target);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_sides_see_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = LeaseFile::open(dir.path()).unwrap();
        let watchdog = LeaseView::open(dir.path()).unwrap();
        assert_eq!((watchdog.deadline(), watchdog.beats()), (NONE, 0));
        let at = clock::now() + Duration::from_secs(3);
        daemon.set(Lease::Until(at));
        daemon.beat();
        assert_eq!((watchdog.deadline(), watchdog.beats()), (clock::boot_ns(at), 1));
        daemon.set(Lease::None);
        assert_eq!(watchdog.deadline(), clock::boot_ns(at), "the old end stays");
        daemon.set(Lease::Unlimited);
        assert_eq!(watchdog.deadline(), UNLIMITED);
        daemon.set(Lease::None);
        assert_eq!(watchdog.deadline(), NONE);
        daemon.set(Lease::Until(at));
        daemon.clear();
        assert_eq!(watchdog.deadline(), NONE);
        remove(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!watchdog.is_of(dir.path()));
    }

    #[test]
    fn the_next_daemon_finds_what_the_last_one_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = clock::now() + Duration::from_secs(3);
        LeaseFile::open(dir.path()).unwrap().set(Lease::Until(at));
        let watchdog = LeaseView::open(dir.path()).unwrap();
        let next = LeaseFile::open(dir.path()).unwrap();
        assert_eq!(next.deadline(), clock::boot_ns(at));
        next.beat();
        assert!(watchdog.beats() == 1 && watchdog.is_of(dir.path()));
        remove(dir.path());
    }

    /// Golden: eight numbers of version 1, of this boot.
    #[test]
    fn the_file_is_as_in_the_first_version() {
        let dir = tempfile::tempdir().unwrap();
        let lease = LeaseFile::open(dir.path()).unwrap();
        lease.0.store(DEADLINE_AT, 0x0102_0304_0506_0708);
        lease.beat();
        let boot = boot().unwrap().map(u64::to_le_bytes).concat();
        let golden = [
            b"steadlse\x01\0\0\0\0\0\0\0".as_slice(),
            &boot,
            b"\x08\x07\x06\x05\x04\x03\x02\x01\x01\0\0\0\0\0\0\0",
            &[0; 16],
        ]
        .concat();
        assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), golden);
        remove(dir.path());
    }

    #[test]
    fn what_is_no_lease_of_this_boot_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        drop(LeaseFile::open(dir.path()).unwrap());
        let name = dir.path().join(NAME);
        let good = fs::read(&name).unwrap();
        for (at, why) in [(0, "not a lease"), (8, "version"), (16, "another boot"), (31, "another boot")] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x80;
            fs::write(&name, &bytes).unwrap();
            let refused = LeaseView::open(dir.path()).err().unwrap();
            assert!(refused.to_string().contains(why), "{refused}");
            assert_eq!(LeaseFile::open(dir.path()).unwrap().deadline(), NONE);
        }
        fs::write(&name, &good[..40]).unwrap();
        assert!(LeaseView::open(dir.path()).is_err() && LeaseFile::open(dir.path()).is_ok());
        remove(dir.path());
        fs::write(&name, good).unwrap();
        assert!(LeaseFile::open(dir.path()).is_ok(), "without files in memory it is the file itself");
    }
}
