//! Programs that are started under other names than their node's.
//!
//! A process takes the names in namespaces of its own (`uts_namespaces(7)`, `mount_namespaces(7)`), and whatever it starts
//! inherits them; everyone else goes on with the node's. The files that tell the names are laid over the node's by mounts
//! of those namespaces alone, and are gone with the last process in them. What is mounted and unmounted on the node
//! meanwhile arrives there as far as the node's mounts are shared.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use stead_model::plan::IdentityPlan;

use crate::{Failure, sys};

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
/// The second one is of D-Bus, and mostly a link to the first.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// Where the files are made before they are laid over the node's: it is there on every machine.
const WORKSHOP: &str = "/etc";
/// Others than root read them, whatever is usual for new files of this process.
const READABLE: Mode = Mode::from_bits_truncate(0o644);

/// Gives this thread, and what it starts from now on, those names. A process has to have no other thread.
///
/// # Errors
/// [`Failure::Unusable`]: names that cannot be, a missing right, a missing file; the process is to end then.
pub fn assume(identity: &IdentityPlan) -> Result<(), Failure> {
    identity.check().map_err(|(field, why)| Failure::Unusable(format!("{field} {why}")))?;
    let files = files(identity)?;
    sys::unshare_names().map_err(|e| Failure::Unusable(unshared(e)))?;
    let refused = |what: &str, e: io::Error| Failure::Unusable(format!("{what}: {e}"));
    // The other way round, what is mounted in here would appear on the node.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| refused("its mounts cannot be told from the node's", e.into()))?;
    rustix::system::sethostname(identity.host.as_bytes())
        .map_err(|e| refused("the host name cannot be set", e.into()))?;
    lay_over(&files).map_err(|e| refused("files cannot be laid over those of the node", e))
}

fn unshared(e: io::Error) -> String {
    match e.kind() {
        ErrorKind::PermissionDenied => {
            "it may have no names of its own: that takes root, with the capability SYS_ADMIN, \
                                        which containers often withhold"
                .into()
        }
        _ => format!("the kernel gives it no names of its own: {e}"),
    }
}

/// What is laid over which files of the node.
fn files(identity: &IdentityPlan) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut files = Vec::new();
    // Whoever has no such file asks the kernel.
    files.extend(place(HOSTNAME)?.map(|place| (place, format!("{}\n", identity.host))));
    let lines = identity.hosts.as_deref().unwrap_or_default();
    if !lines.is_empty() {
        let place = needed(HOSTS, place(HOSTS)?)?;
        let own = fs::read_to_string(&place).map_err(|e| Failure::Unusable(format!("{HOSTS} cannot be read: {e}")))?;
        files.push((place, lines.iter().map(|line| format!("{line}\n")).chain([own]).collect()));
    }
    if let Some(id) = &identity.machine_id {
        let places = MACHINE_IDS.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
        needed(MACHINE_IDS[0], places[0].clone())?;
        let places: BTreeSet<PathBuf> = places.into_iter().flatten().collect();
        files.extend(places.into_iter().map(|place| (place, format!("{id}\n"))));
    }
    Ok(files)
}

/// Where the file is, all links followed; none: it is not there.
fn place(path: &str) -> Result<Option<PathBuf>, Failure> {
    match fs::canonicalize(path) {
        Ok(place) => Ok(Some(place)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::Unusable(format!("{path} cannot be found: {e}"))),
    }
}

fn needed(path: &str, place: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let missing = || Failure::Unusable(format!("there is no {path} that could be laid over; make an empty one"));
    place.ok_or_else(missing)
}

/// They are made on a file system in memory, which is in the way while they are made and nowhere afterwards.
fn lay_over(files: &[(PathBuf, String)]) -> io::Result<()> {
    let places = files.iter().map(|(place, _)| open(place)).collect::<io::Result<Vec<_>>>()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("stead", WORKSHOP, "tmpfs", flags, c"mode=755")?;
    let made = files.iter().enumerate().map(|(at, (_, text))| make(at, text)).collect::<io::Result<Vec<_>>>();
    rustix::mount::unmount(WORKSHOP, UnmountFlags::DETACH)?;
    let over = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    for (file, place) in made?.iter().zip(&places) {
        rustix::mount::move_mount(file, c"", place, c"", over)?;
    }
    Ok(())
}

fn open(place: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A file with that text, as a mount that is nowhere yet.
fn make(at: usize, text: &str) -> io::Result<OwnedFd> {
    let path = Path::new(WORKSHOP).join(at.to_string());
    let mut file = File::create_new(&path)?;
    file.write_all(text.as_bytes())?;
    rustix::fs::fchmod(&file, READABLE)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, &path, clone)?)
}
