//! A small file as a whole, and how it gets into the place of another at one instant.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

/// Longest role file: it is configuration.
const BYTES_MAX: u64 = 1 << 20;
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Content, owner, mode and xattrs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub bytes: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    /// Permissions alone.
    pub mode: u32,
    /// Those of users, and the ACL.
    xattrs: Vec<(OsString, Vec<u8>)>,
    /// Labels and capabilities: of the place of a file, not of what it holds.
    labels: Vec<(OsString, Vec<u8>)>,
}

/// May the last part of the path be a symbolic link?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Followed,
    Refused,
}

impl Image {
    /// None: there is no such file.
    pub fn read(path: &Path, links: Links) -> io::Result<Option<Image>> {
        let nofollow = if links == Links::Refused { libc::O_NOFOLLOW } else { 0 };
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | nofollow).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
                return Err(io::Error::other("it is a symbolic link; name the file that it leads to"));
            }
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        (&file).take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::other("it is longer than 1 MiB, and role files are small"));
        }
        let (labels, xattrs) = xattrs(&file)?.into_iter().partition(|(name, _)| is_label(name));
        Ok(Some(Image { bytes, uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777, xattrs, labels }))
    }

    /// The same content with the paths of a node.
    pub fn with(self, bytes: Vec<u8>) -> Image {
        Image { bytes, ..self }
    }

    /// Is that what the other one would be in its place?
    pub fn is_like(&self, other: &Image) -> bool {
        let of = |image: &Image| (image.uid, image.gid, image.mode, image.xattrs.clone());
        self.bytes == other.bytes && of(self) == of(other)
    }

    /// Makes it the file at that path, which is the old one or this one at any time. Returns when that is durable.
    pub fn put(&self, path: &Path, old: Option<&Image>) -> io::Result<()> {
        let new = beside(path);
        gone(fs::remove_file(&new))?;
        point()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&self.bytes)?;
        fchown(&file, Some(self.uid), Some(self.gid))?;
        for (name, value) in &self.xattrs {
            fsetxattr(&file, name.as_os_str(), value, XattrFlags::empty())?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        for (name, value) in &old.unwrap_or(self).labels {
            // The kernel knows better which of them it has.
            _ = fsetxattr(&file, name.as_os_str(), value, XattrFlags::empty());
        }
        file.sync_all()?;
        moved(&new, path)
    }
}

/// Gives a file that name. Returns when that is durable.
pub(super) fn moved(from: &Path, to: &Path) -> io::Result<()> {
    point()?;
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Removes a file, which may be gone. Returns when that is durable.
pub(super) fn removed(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    point()?;
    gone(fs::remove_file(path))?;
    sync_parent(path)
}

/// Makes a directory for this process alone, with those above it.
pub(super) fn made(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The name under which the new file comes to be.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".stead-new");
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn xattrs(file: &File) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut list = vec![0; XATTR_BYTES_MAX];
    let len = match flistxattr(file, &mut list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let names = list[..len].split(|byte| *byte == 0).filter(|name| is_kept(name));
    let value = |name: &[u8]| -> io::Result<_> {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let len = fgetxattr(file, OsStr::from_bytes(name), &mut value)?;
        value.truncate(len);
        Ok((OsString::from_vec(name.to_vec()), value))
    };
    let mut all = names.map(value).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"system.posix_acl_access" || name.starts_with(b"security.")
}

fn is_label(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"security.")
}

/// Right before something is changed: where the tests end it.
fn point() -> io::Result<()> {
    #[cfg(test)]
    super::tests::point()?;
    Ok(())
}
