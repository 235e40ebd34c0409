//! Where files are, and what stands in the way of moving them: flags, and directories within directories.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use stead_model::FileId;

use super::ground::DIR;
use super::handles::unlock;
use super::names::{Dir, From, find_dir};
use super::{ApplyError, Replica};
use crate::volume::file_id_of;

/// Deepest directory.
const DEPTH_MAX: u32 = 100_000;

impl Replica {
    /// From where the file can be named: `None` where it is gone.
    pub(super) fn whereabouts(&mut self, file: FileId) -> Result<Option<From>, ApplyError> {
        let Some(handle) = self.handle(file)? else { return Ok(None) };
        if self.held.contains(&file) {
            let (holding, name) = self.holding_place(file);
            return Ok(Some(From::Named(holding, name)));
        }
        if !self.map.get(file).is_some_and(|slot| slot.is_dir()) {
            return Ok(Some(From::Linked));
        }
        let located = self.locate(file, handle.fd()).map_err(|errno| self.failed("locate", file, errno))?;
        if let From::Named(old, _) = &located {
            // It will lose the name, and no record says so.
            self.keep_mtime(old)?;
        }
        Ok(Some(located))
    }

    /// Parent and name of a directory.
    fn locate(&mut self, file: FileId, fd: BorrowedFd<'_>) -> Result<From, Errno> {
        let local = self.map.get(file).ok_or(Errno::NOENT)?.local;
        let root = &self.ground.volumes[local.volume as usize].root;
        let (parent, name) = find_dir(root, local, fd)?;
        let parent_local = file_id_of(root, parent.as_fd())?;
        let dir = Dir { id: self.map.id_of(parent_local), local: parent_local, fd: Arc::new(parent) };
        Ok(From::Named(dir, name))
    }

    /// Is the directory beneath that one?
    pub(super) fn is_beneath(&mut self, dir: &Dir, above: FileId) -> Result<bool, ApplyError> {
        let root = &self.ground.volumes[dir.volume()].root;
        let climb = || -> Result<bool, Errno> {
            let mut at = rustix::fs::openat(dir.fd(), c".", DIR, Mode::empty())?;
            for _ in 0..DEPTH_MAX {
                let local = file_id_of(root, at.as_fd())?;
                if local == above {
                    return Ok(true);
                }
                let up = rustix::fs::openat(&at, c"..", DIR, Mode::empty())?;
                if local == root.id() || file_id_of(root, up.as_fd())? == local {
                    return Ok(false);
                }
                at = up;
            }
            Err(Errno::LOOP)
        };
        let beneath = climb();
        beneath.map_err(|errno| self.failed("locate", dir.id.unwrap_or(FileId::NONE), errno))
    }

    pub(super) fn is_root(&self, file: FileId) -> bool {
        self.map.get(file).is_some_and(|slot| self.ground.roots.iter().any(|root| root.local == slot.local))
    }

    /// Is it a root that is not the set's own?
    pub(super) fn is_borrowed(&self, file: FileId) -> bool {
        let mut borrowed = self.ground.roots.iter().filter(|root| root.borrowed).peekable();
        borrowed.peek().is_some()
            && self.map.get(file).is_some_and(|slot| borrowed.any(|root| root.local == slot.local))
    }

    /// Takes immutable and append flags away from the file, until the batch ends.
    pub(super) fn unlock(&mut self, file: FileId) -> Result<(), ApplyError> {
        if self.handle(file)?.is_some() {
            self.before_object(file)?;
            self.handles.unlock(file).map_err(|errno| self.failed("clear the flags of", file, errno))?;
        }
        Ok(())
    }

    pub(super) fn unlock_dir(&mut self, dir: &Dir) -> Result<(), ApplyError> {
        match dir.id {
            Some(id) => self.unlock(id),
            None => Ok(()),
        }
    }

    /// Takes the flags away from whoever has the name: for good where the replica does not know it.
    pub(super) fn unlock_name(&mut self, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let Some(local) = self.lookup(dir, name)? else { return Ok(()) };
        if let Some(id) = self.map.id_of(local) {
            return self.unlock(id);
        }
        let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW);
        if !stat.is_ok_and(|stat| matches!(stat.st_mode & 0o170_000, 0o100_000 | 0o040_000)) {
            return Ok(());
        }
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        if let Ok(fd) = rustix::fs::openat(dir.fd(), name, flags, Mode::empty()) {
            self.before_object_at(dir.volume(), fd.as_fd())?;
            unlock(fd.as_fd()).map_err(|errno| self.failed_in("clear the flags of", dir, name, errno))?;
        }
        Ok(())
    }

    pub(super) fn unlock_around(
        &mut self,
        file: FileId,
        dir: &Dir,
        name: &CStr,
        source: &From,
    ) -> Result<(), ApplyError> {
        self.unlock(file)?;
        self.unlock_dir(dir)?;
        self.unlock_name(dir, name)?;
        if let From::Named(old, _) = source {
            self.unlock_dir(old)?;
        }
        Ok(())
    }

    /// A directory that is changed although no record speaks of its times.
    pub(super) fn keep_mtime(&mut self, dir: &Dir) -> Result<(), ApplyError> {
        let Some(id) = dir.id else { return Ok(()) };
        if self.handle(id)?.is_some() {
            self.handles.keep_mtime(id).map_err(|errno| self.failed("stat", id, errno))?;
        }
        Ok(())
    }
}
