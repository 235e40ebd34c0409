//! Probes before something is protected or used as a target.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use stead_model::handle::HandleShape;

use crate::mounts::{mount_of, mounts, topmost_at};
use crate::xattr::{self, Target};
use crate::{DiskError, HOLDING, sys};

const PROBE: &str = ".stead-probe";

/// Free room at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes that may still be written.
    pub bytes: u64,
    /// Files that can still be made; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// What a file system can keep, tried out in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `user.*` xattrs.
    pub user_xattrs: bool,
    /// `trusted.*` xattrs.
    pub trusted_xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// File handles with generations, of a shape that Stead knows.
    pub handles: bool,
    /// Files without a name (O_TMPFILE).
    pub unnamed_files: bool,
}

/// Free room of the file system at `path`.
///
/// # Errors
/// What the kernel said.
pub fn free(path: &Path) -> Result<Free, DiskError> {
    let stat = rustix::fs::statvfs(path).map_err(DiskError::at("stat the file system of", path.display()))?;
    let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    Ok(Free { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes })
}

/// What the file system at directory `path` can keep: makes a file there and removes it.
///
/// # Errors
/// What the kernel said.
pub fn abilities(path: &Path) -> Result<Abilities, DiskError> {
    let failed = || DiskError::at("try out", path.display());
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let unnamed = rustix::fs::openat(CWD, path, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR);
    let unnamed_files = unnamed.is_ok();
    let probe = path.join(PROBE);
    let fd = match unnamed {
        Ok(fd) => fd,
        Err(_) => {
            let fd = rustix::fs::openat(CWD, &probe, flags | OFlags::CREATE, Mode::RUSR | Mode::WUSR);
            let fd = fd.map_err(failed())?;
            rustix::fs::unlinkat(CWD, &probe, AtFlags::empty()).map_err(failed())?;
            fd
        }
    };
    let target = Target { fd: fd.as_fd(), path_only: false };
    let keeps = |name: &[u8], value: &[u8]| xattr::set(target, name, value).is_ok();
    let handle = sys::name_to_handle(fd.as_fd(), c"");
    Ok(Abilities {
        user_xattrs: keeps(b"user.stead.probe", b"1"),
        trusted_xattrs: keeps(b"trusted.stead.probe", b"1"),
        acls: keeps(b"system.posix_acl_access", &ACL),
        handles: handle.is_ok_and(|handle| HandleShape::of(handle.kind, &handle.bytes[..handle.len]).is_some()),
        unnamed_files,
    })
}

/// Version 2; owner, one named user, group, mask and others, each tag, permissions and id.
const ACL: [u8; 44] = {
    let entries: [(u8, u8, u32); 5] =
        [(0x01, 6, u32::MAX), (0x02, 4, 1), (0x04, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];
    let mut acl = [0; 44];
    acl[0] = 2;
    let mut n = 0;
    while n < entries.len() {
        let (tag, permissions, id) = entries[n];
        acl[4 + n * 8] = tag;
        acl[6 + n * 8] = permissions;
        let id = id.to_le_bytes();
        let mut byte = 0;
        while byte < 4 {
            acl[8 + n * 8 + byte] = id[byte];
            byte += 1;
        }
        n += 1;
    }
    acl
};

/// Is the directory empty (but for what Stead holds), or absent?
///
/// # Errors
/// What the kernel said; where it is no directory.
pub fn is_empty(path: &Path) -> Result<bool, DiskError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(DiskError::at("list", path.display()))?,
    };
    for entry in entries {
        let name = entry.map_err(DiskError::at("list", path.display()))?.file_name();
        if name.as_encoded_bytes() != HOLDING {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Mount points beneath `path`, itself not included, sorted.
///
/// # Errors
/// Where `path` does not exist or the table of mounts cannot be read.
pub fn mounts_beneath(path: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let path = resolve(path)?;
    let beneath =
        mounts()?.into_iter().map(|mount| mount.point).filter(|point| *point != path && point.starts_with(&path));
    let mut points: Vec<_> = beneath.collect();
    points.sort();
    points.dedup();
    Ok(points)
}

/// Is `path` itself a mount point?
///
/// # Errors
/// Where `path` does not exist or the table of mounts cannot be read.
pub fn is_mount_point(path: &Path) -> Result<bool, DiskError> {
    let path = resolve(path)?;
    Ok(topmost_at(&mounts()?, &path).is_some())
}

/// Type of the file system at `path`, as "ext4" or "fuse.stead".
///
/// # Errors
/// Where `path` does not exist or the table of mounts cannot be read.
pub fn file_system(path: &Path) -> Result<String, DiskError> {
    let path = resolve(path)?;
    let mounts = mounts()?;
    Ok(mount_of(&mounts, &path).map_or_else(|| "unknown".into(), |mount| mount.file_system.clone()))
}

fn resolve(path: &Path) -> Result<PathBuf, DiskError> {
    path.canonicalize().map_err(DiskError::at("resolve", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file_system_can_keep_everything() {
        let dir = tempfile::tempdir().unwrap();
        let all = Abilities { user_xattrs: true, trusted_xattrs: true, acls: true, handles: true, unnamed_files: true };
        assert_eq!(abilities(dir.path()).unwrap(), all);
        assert!(is_empty(dir.path()).unwrap(), "the probe leaves nothing");
        assert!(is_empty(&dir.path().join("absent")).unwrap());
        assert!(free(dir.path()).unwrap().bytes > 0);
    }

    #[test]
    fn mounts_beneath_are_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a b");
        std::fs::create_dir(&inner).unwrap();
        assert_eq!(mounts_beneath(dir.path()).unwrap(), Vec::<PathBuf>::new());
        rustix::mount::mount("none", &inner, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let (beneath, is_point, kind) = (mounts_beneath(dir.path()), is_mount_point(&inner), file_system(&inner));
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(beneath.unwrap(), vec![inner]);
        assert!(is_point.unwrap());
        assert_eq!(kind.unwrap(), "tmpfs");
    }
}
