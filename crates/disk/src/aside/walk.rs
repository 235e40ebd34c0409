//! The way through a tree, with the copy beside it.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::copy::{self, Fault, Place};
use super::{Entry, Kind, Tree, kind_of, nanoseconds};
use crate::{DiskError, HOLDING};

type Found<'a> = &'a mut dyn FnMut(Entry) -> io::Result<()>;

/// A walk that has begun.
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    to: Option<&'a Path>,
    found: Found<'a>,
    /// The directory that is being read, beneath the root.
    path: Vec<u8>,
    levels: Vec<Level>,
    device: (u32, u32),
}

/// A directory on the way down.
struct Level {
    dir: Dir,
    name: CString,
    /// Length of the path of the directory above.
    above: usize,
    stat: Statx,
    /// Its copy, once something went into it.
    copy: Option<Made>,
}

/// The copy of a directory.
struct Made {
    fd: OwnedFd,
    /// It was not there before.
    is_new: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn begin(tree: &'a Tree, to: Option<&'a Path>, found: Found<'a>) -> Result<Walk<'a>, DiskError> {
        let failed = |errno: Errno| DiskError::new("open", tree.root.display(), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &tree.root, flags, Mode::empty()).map_err(failed)?;
        let stat = stat(fd.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(failed)?;
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        let dir = Dir::new(fd).map_err(failed)?;
        let top = Level { dir, name: CString::default(), above: 0, stat, copy: None };
        Ok(Walk { tree, to, found, path: Vec::new(), levels: vec![top], device })
    }

    pub(super) fn run(mut self) -> Result<(), DiskError> {
        while let Some(level) = self.levels.last_mut() {
            match level.dir.read() {
                Some(Ok(entry)) => self.meet(entry.file_name())?,
                Some(Err(Errno::NOENT)) | None => self.leave()?,
                Some(Err(errno)) => return Err(self.error("list", c"", errno)),
            }
        }
        Ok(())
    }

    fn meet(&mut self, name: &CStr) -> Result<(), DiskError> {
        if matches!(name.to_bytes(), b"." | b"..") || self.levels.len() == 1 && name.to_bytes() == HOLDING {
            return Ok(());
        }
        let stat = match stat(self.dir(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(|errno| self.error("look at", name, errno))?,
        };
        let kind = kind_of(&stat);
        let is_here = (stat.stx_dev_major, stat.stx_dev_minor) == self.device;
        if !is_here || !self.tree.rules.take(&self.joined(name), kind == Kind::Directory) {
            return Ok(());
        }
        let is_taken = self.tree.since.is_none_or(|since| since.takes(nanoseconds(stat.stx_ctime)));
        match kind {
            Kind::Directory => self.enter(name, stat, is_taken),
            _ if is_taken => self.take(name, kind, &stat),
            _ => Ok(()),
        }
    }

    fn enter(&mut self, name: &CStr, stat: Statx, is_taken: bool) -> Result<(), DiskError> {
        let opened = copy::open_dir(self.dir(), name).and_then(Dir::new);
        let dir = match opened {
            Err(Errno::NOENT) => return Ok(()),
            dir => dir.map_err(|errno| self.error("open", name, errno))?,
        };
        let above = self.path.len();
        self.path = self.joined(name);
        self.levels.push(Level { dir, name: name.into(), above, stat, copy: None });
        if !is_taken {
            return Ok(());
        }
        let is_copied = self.to.is_some();
        if is_copied {
            self.copy_of_level()?;
        }
        self.tell(self.path.clone(), Kind::Directory, &stat, is_copied, None)
    }

    /// The directory is read: its copy becomes like it, now that nothing goes into it any more.
    fn leave(&mut self) -> Result<(), DiskError> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let failed = |errno| DiskError::new("copy", shown(&self.tree.root, &self.path), errno);
        if let Some(made) = level.copy.filter(|made| made.is_new) {
            let dir = level.dir.fd().map_err(failed)?;
            copy::dress(dir, made.fd.as_fd(), &level.stat).map_err(failed)?;
        }
        self.path.truncate(level.above);
        Ok(())
    }

    fn take(&mut self, name: &CStr, kind: Kind, stat: &Statx) -> Result<(), DiskError> {
        let path = self.joined(name);
        if self.to.is_none() || kind == Kind::Special {
            let lacks = (kind == Kind::Special).then(|| "it is a socket, a pipe or a device".to_string());
            return self.tell(path, kind, stat, false, lacks);
        }
        match self.copy(name, kind, stat)? {
            Ok(lacks) => self.tell(path, kind, stat, true, lacks),
            Err(Fault::Source(Errno::NOENT)) => Ok(()),
            Err(Fault::Source(errno)) => {
                self.tell(path, kind, stat, false, Some(format!("it cannot be read: {errno}")))
            }
            Err(Fault::Copy(errno)) => Err(self.error("copy", name, errno)),
        }
    }

    fn copy(&mut self, name: &CStr, kind: Kind, stat: &Statx) -> Result<Result<Option<String>, Fault>, DiskError> {
        self.copy_of_level()?;
        let level = self.levels.last().expect("something is being read");
        let to = Place { dir: level.copy.as_ref().expect("it was just made").fd.as_fd(), name };
        let from = Place { dir: self.dir(), name };
        let copied = if kind == Kind::File { copy::file(from, to, stat) } else { copy::symlink(from, to, stat) };
        if matches!(copied, Err(Fault::Source(_))) {
            let _ = rustix::fs::unlinkat(to.dir, name, AtFlags::empty());
        }
        Ok(copied)
    }

    /// Makes the copy of the directory that is being read, and of those above it, where they are missing.
    fn copy_of_level(&mut self) -> Result<(), DiskError> {
        let Some(to) = self.to else { return Ok(()) };
        let first = self.levels.iter().position(|level| level.copy.is_none()).unwrap_or(self.levels.len());
        for at in first..self.levels.len() {
            let made = match at {
                0 => top(to),
                _ => beneath(&self.levels[at - 1].copy.as_ref().expect("made before").fd, &self.levels[at].name),
            };
            let failed = |errno| DiskError::new("make", to.join(shown(Path::new(""), &self.path)).display(), errno);
            self.levels[at].copy = Some(made.map_err(failed)?);
        }
        Ok(())
    }

    fn tell(
        &mut self,
        path: Vec<u8>,
        kind: Kind,
        stat: &Statx,
        is_copied: bool,
        lacks: Option<String>,
    ) -> Result<(), DiskError> {
        let entry = Entry {
            path: PathBuf::from(OsStr::from_bytes(&path)),
            kind,
            size: if kind == Kind::File { stat.stx_size } else { 0 },
            allocated: stat.stx_blocks.saturating_mul(512),
            modified: nanoseconds(stat.stx_mtime),
            is_copied,
            lacks,
        };
        (self.found)(entry).map_err(|e| DiskError::new("copy", shown(&self.tree.root, &path), e))
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.levels.last().and_then(|level| level.dir.fd().ok()).expect("something is being read")
    }

    fn joined(&self, name: &CStr) -> Vec<u8> {
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        [&self.path, slash, name.to_bytes()].concat()
    }

    fn error(&self, operation: &'static str, name: &CStr, errno: Errno) -> DiskError {
        DiskError::new(operation, shown(&self.tree.root, &self.joined(name)), errno)
    }
}

fn stat(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<Statx> {
    rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
}

fn top(to: &Path) -> rustix::io::Result<Made> {
    let is_new = !to.exists();
    std::fs::create_dir_all(to).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Made { fd: rustix::fs::openat(CWD, to, flags, Mode::empty())?, is_new })
}

fn beneath(above: &OwnedFd, name: &CStr) -> rustix::io::Result<Made> {
    let is_new = match rustix::fs::mkdirat(above, name, Mode::RWXU) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true)?,
    };
    Ok(Made { fd: copy::open_dir(above.as_fd(), name)?, is_new })
}

fn shown(root: &Path, path: &[u8]) -> String {
    root.join(OsStr::from_bytes(path)).display().to_string()
}
