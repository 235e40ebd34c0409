//! What a replica stands on: its directories, one mount for each file system, and the holding directories.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use stead_model::{FileId, Rules};

use super::RootTarget;
use crate::volume::{Root, file_id_of, open_by_id};
use crate::{DiskError, HOLDING, guard};

pub(super) const DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOATIME).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One file system that the replica is on.
#[derive(Debug)]
pub(super) struct Volume {
    pub root: Root,
    pub holding: Arc<OwnedFd>,
}

/// One target directory.
#[derive(Debug)]
pub(super) struct RootDir {
    pub path: PathBuf,
    /// How the kernel calls it on the mount in use.
    pub inner: PathBuf,
    pub rules: Rules,
    pub local: FileId,
    pub borrowed: bool,
}

#[derive(Debug)]
pub(super) struct Ground {
    pub volumes: Vec<Volume>,
    pub roots: Vec<RootDir>,
}

impl Ground {
    pub(super) fn open(targets: &[RootTarget]) -> Result<Ground, DiskError> {
        let mut ground = Ground { volumes: Vec::new(), roots: Vec::new() };
        for target in targets {
            ground.add(target)?;
        }
        Ok(ground)
    }

    fn add(&mut self, target: &RootTarget) -> Result<(), DiskError> {
        let path = &target.path;
        let root = if guard::stands(path)? {
            Root::from_fd(guard::open_beneath(path)?, self.volumes.len() as u32)?
        } else {
            Root::open(path, self.volumes.len() as u32)?
        };
        let root = root.quiet();
        // Roots on one file system share one mount, so that files can be linked and renamed between them.
        let known =
            self.volumes.iter().position(|v| v.root.device() == root.device() && v.root.shape() == root.shape());
        let (volume, fd) = match known {
            Some(at) => {
                let on = FileId { volume: at as u32, ..root.id() };
                let fd = open_by_id(&self.volumes[at].root, on, DIR).map_err(DiskError::at("open", path.display()))?;
                (at, fd.ok_or_else(|| DiskError::new("open", path.display(), Errno::STALE))?)
            }
            None => {
                let holding = Arc::new(open_holding(&root, path)?);
                let fd = root.fd().try_clone_to_owned().map_err(DiskError::at("open", path.display()))?;
                self.volumes.push(Volume { root, holding });
                (self.volumes.len() - 1, fd)
            }
        };
        let local =
            file_id_of(&self.volumes[volume].root, fd.as_fd()).map_err(DiskError::at("identify", path.display()))?;
        let inner = path_of_fd(fd.as_fd()).map_err(DiskError::at("locate", path.display()))?;
        self.roots.push(RootDir {
            path: path.clone(),
            inner,
            rules: target.rules.clone(),
            local,
            borrowed: target.borrowed,
        });
        Ok(())
    }

    /// Path beneath a root, for people; `inner` is what the kernel says.
    pub(super) fn path_for_people(&self, inner: &Path) -> Option<(usize, PathBuf)> {
        let holds = |root: &&(usize, &RootDir)| inner.starts_with(&root.1.inner);
        let roots: Vec<_> = self.roots.iter().enumerate().collect();
        let (at, root) = roots.iter().filter(holds).max_by_key(|(_, root)| root.inner.as_os_str().len())?;
        Some((*at, inner.strip_prefix(&root.inner).ok()?.to_path_buf()))
    }

    /// Removes the holding directories where they are empty.
    pub(super) fn remove_holdings(&self) -> Result<(), Errno> {
        for volume in &self.volumes {
            keep_times(volume.root.fd(), || {
                match rustix::fs::unlinkat(volume.root.fd(), HOLDING, AtFlags::REMOVEDIR) {
                    Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
                    other => other,
                }
            })?;
        }
        Ok(())
    }
}

/// What the kernel calls an open directory.
pub(super) fn path_of_fd(fd: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStringExt;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

fn open_holding(root: &Root, path: &Path) -> Result<OwnedFd, DiskError> {
    let failed = || DiskError::at("make the holding directory in", path.display());
    let name = CString::new(HOLDING).expect("no zero");
    let made = keep_times(root.fd(), || match rustix::fs::mkdirat(root.fd(), &name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    });
    made.map_err(failed())?;
    let fd = rustix::fs::openat(root.fd(), &name, DIR, Mode::empty()).map_err(failed())?;
    clear_inherited(fd.as_fd()).map_err(failed())?;
    Ok(fd)
}

/// New files must not inherit from the root's default ACL or flags: their own come with the records.
fn clear_inherited(holding: BorrowedFd<'_>) -> Result<(), Errno> {
    use crate::xattr::{Target, remove};
    remove(Target { fd: holding, path_only: false }, b"system.posix_acl_default")?;
    rustix::fs::fchown(holding, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))?;
    rustix::fs::fchmod(holding, Mode::RWXU)?;
    let wanted = stead_model::Attr::FLAGS;
    match crate::sys::flags(holding) {
        Ok(flags) if flags & wanted != 0 => crate::sys::set_flags(holding, flags & !wanted),
        _ => Ok(()),
    }
}

/// Does something in a directory, and puts its times back.
pub(super) fn keep_times<T>(dir: BorrowedFd<'_>, act: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let before = rustix::fs::fstat(dir)?;
    let done = act()?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: before.st_atime, tv_nsec: before.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: before.st_mtime, tv_nsec: before.st_mtime_nsec as _ },
    };
    rustix::fs::futimens(dir, &times)?;
    Ok(done)
}
