//! Xattrs of open files. A descriptor that is only a path (symlinks, sockets, devices) goes by its name in /proc.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

/// An open file: with a descriptor for its content, or one that is only a path.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub fd: BorrowedFd<'a>,
    pub path_only: bool,
}

impl Target<'_> {
    /// Its name in /proc.
    pub(crate) fn path(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).expect("digits hold no zero")
    }
}

/// Is it sent and applied? Not those of Stead itself, nor what says how a file system stores a file.
pub(crate) fn is_replicated(name: &[u8]) -> bool {
    let kept: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
    // On xfs an ACL shows under a second name.
    let left_out: [&[u8]; 2] = [b"trusted.stead.", b"trusted.SGI_ACL_"];
    let has = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    has(&kept) && !has(&left_out)
}

/// Names of all replicated xattrs.
pub(crate) fn names(target: Target<'_>) -> Result<Vec<Vec<u8>>> {
    let mut small = [0u8; 1024];
    let list = match list_into(target, &mut small) {
        Ok(len) => small[..len].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 65536];
            let len = list_into(target, &mut large)?;
            large.truncate(len);
            large
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    Ok(list.split(|byte| *byte == 0).filter(|name| is_replicated(name)).map(<[u8]>::to_vec).collect())
}

fn list_into(target: Target<'_>, out: &mut [u8]) -> Result<usize> {
    if target.path_only { rustix::fs::listxattr(target.path(), out) } else { rustix::fs::flistxattr(target.fd, out) }
}

/// All replicated xattrs, sorted by name.
pub(crate) fn all(target: Target<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    for name in names(target)? {
        if let Some(value) = get(target, &name)? {
            xattrs.push((name, value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Value of one xattr; `None` where there is no such one.
pub(crate) fn get(target: Target<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut small = [0u8; 1024];
    let len = match get_into(target, name, &mut small) {
        Ok(len) => return Ok(Some(small[..len].to_vec())),
        Err(Errno::RANGE) => 65536,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut large = vec![0; len];
    let len = get_into(target, name, &mut large)?;
    large.truncate(len);
    Ok(Some(large))
}

/// Reads the value of one xattr into `out`; returns its length.
pub(crate) fn get_into(target: Target<'_>, name: &[u8], out: &mut [u8]) -> Result<usize> {
    let name = OsStr::from_bytes(name);
    if target.path_only {
        rustix::fs::getxattr(target.path(), name, out)
    } else {
        rustix::fs::fgetxattr(target.fd, name, out)
    }
}

/// Sets one xattr.
pub(crate) fn set(target: Target<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    let name = OsStr::from_bytes(name);
    if target.path_only {
        rustix::fs::setxattr(target.path(), name, value, XattrFlags::empty())
    } else {
        rustix::fs::fsetxattr(target.fd, name, value, XattrFlags::empty())
    }
}

/// Removes one xattr; it may be absent.
pub(crate) fn remove(target: Target<'_>, name: &[u8]) -> Result<()> {
    let name = OsStr::from_bytes(name);
    let done = if target.path_only {
        rustix::fs::removexattr(target.path(), name)
    } else {
        rustix::fs::fremovexattr(target.fd, name)
    };
    match done {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}
