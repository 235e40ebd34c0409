//! Can a directory be mounted over?

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use stead_model::handle::HandleShape;

use crate::sys;

/// What a usable directory holds that its owner should know about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The directory, absolute, without symlinks.
    pub path: PathBuf,
    /// Mount points beneath it: they stay visible and are left out of the set.
    pub nested: Vec<PathBuf>,
    /// Type of its file system, as in `/proc/self/mountinfo`.
    pub fs_type: String,
}

/// Why a directory cannot be mounted over.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what they are")]
pub enum Refusal {
    #[error("{path} does not exist; create it first")]
    Missing { path: PathBuf },
    #[error("{path} is not a directory; only directories can be mounted over")]
    NotDirectory { path: PathBuf },
    #[error("/ cannot be protected as a whole; name the directories that hold data")]
    Root,
    #[error(
        "{path} is on a {fs_type} file system, which gives no lasting file handles; files there cannot be told apart"
    )]
    NoHandles { path: PathBuf, fs_type: String },
    #[error("{path} is protected already: a capture mount is there")]
    Captured { path: PathBuf },
    #[error(
        "the capture process that served {path} has died, and nothing there can be reached until another is started"
    )]
    Dead { path: PathBuf },
    #[error(
        "/dev/fuse cannot be opened ({why}); load the module with `modprobe fuse`, or pass the device into the container"
    )]
    NoFuse { why: std::io::Error },
    #[error("only root can mount; run it as root")]
    NotRoot,
    #[error("{path} cannot be looked at: {source}")]
    System { path: PathBuf, source: std::io::Error },
}

/// Checks whether `path` can be mounted over by the `mount` driver; changes nothing.
///
/// # Errors
/// The reason why it cannot, and what to do.
pub fn check(path: &Path) -> Result<Checked, Refusal> {
    let system = |source: std::io::Error| Refusal::System { path: path.into(), source };
    let given = path;
    let path = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::Missing { path: given.into() },
        std::io::ErrorKind::NotConnected => Refusal::Dead { path: given.into() },
        _ => system(error),
    })?;
    if path == Path::new("/") {
        return Err(Refusal::Root);
    }
    let is_dead = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotConnected;
    let is_dir = match std::fs::metadata(&path) {
        Err(error) if is_dead(&error) => return Err(Refusal::Dead { path }),
        meta => meta.map_err(system)?.is_dir(),
    };
    // The kernel tells attributes that it keeps also where nobody serves them any more; this it has to ask for.
    if rustix::fs::statvfs(&path).is_err_and(|error| is_dead(&error.into())) {
        return Err(Refusal::Dead { path });
    }
    if !is_dir {
        return Err(Refusal::NotDirectory { path });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Refusal::NotRoot);
    }
    let mounts = read_mounts().map_err(system)?;
    let fs_type = mounts.iter().rev().find(|mount| path.starts_with(&mount.point)).map(|mount| mount.fs_type.clone());
    let fs_type = fs_type.unwrap_or_default();
    if fs_type == "fuse.stead" {
        return Err(Refusal::Captured { path });
    }
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| system(error.into()))?;
    let handle = sys::handle_at(libc::AT_FDCWD, &name).ok();
    let shape = handle.and_then(|handle| HandleShape::of(handle.kind, &handle.bytes[..handle.len]));
    if shape.is_none() || fs_type.starts_with("fuse") {
        return Err(Refusal::NoHandles { path, fs_type });
    }
    crate::fuse::device::open().map_err(|why| Refusal::NoFuse { why })?;
    let nested = nested_beneath(&path, &mounts);
    Ok(Checked { path, nested, fs_type })
}

/// Unmounts what a capture process that died left over `path`. It changes nothing where one lives.
pub fn clear_dead(path: &Path) {
    while matches!(check(path), Err(Refusal::Dead { .. })) {
        let ours = |mounts: Vec<Mount>| mounts.iter().any(|mount| mount.point == path && mount.fs_type == "fuse.stead");
        if !read_mounts().is_ok_and(ours) || rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).is_err()
        {
            return;
        }
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    point: PathBuf,
    fs_type: String,
}

fn nested_beneath(path: &Path, mounts: &[Mount]) -> Vec<PathBuf> {
    let inside = |mount: &&Mount| mount.point != path && mount.point.starts_with(path);
    let mut nested: Vec<_> = mounts.iter().filter(inside).map(|mount| mount.point.clone()).collect();
    nested.sort();
    nested.dedup();
    nested
}

fn read_mounts() -> std::io::Result<Vec<Mount>> {
    Ok(std::fs::read("/proc/self/mountinfo")?.split(|byte| *byte == b'\n').filter_map(parse_mount).collect())
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { point: OsString::from_vec(point).into(), fs_type: String::from_utf8_lossy(fs_type).into() })
}

/// Space, tab, newline and backslash stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match digits {
            Some(digits) => {
                out.push(digits.iter().fold(0, |n: u8, digit| n.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_whatever_the_path() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\012x rw,noatime master:1 - ext4 /dev/root rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!((mount.point.as_os_str().as_bytes(), mount.fs_type.as_str()), (&b"/mnt 2\nx"[..], "ext4"));
        assert!(parse_mount(b"").is_none());
    }

    #[test]
    fn what_cannot_be_mounted_over_is_refused_with_the_reason() {
        assert!(matches!(check(Path::new("/no/such/dir")), Err(Refusal::Missing { .. })));
        assert!(matches!(check(Path::new("/")), Err(Refusal::Root)));
        assert!(matches!(check(Path::new("/etc/passwd")), Err(Refusal::NotDirectory { .. })));
        if rustix::process::geteuid().is_root() {
            assert!(matches!(check(Path::new("/proc/sys")), Err(Refusal::NoHandles { .. })));
        }
    }
}
