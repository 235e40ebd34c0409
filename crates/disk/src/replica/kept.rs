//! What was removed and is kept for a while, in `kept` in the holding directory: because images of an earlier state
//! need it, or because it may have to be put back. [`Replica::tidy`] destroys what nobody needs any more, little by
//! little.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use stead_model::FileId;

use super::ground::{DIR, Volume};
use super::holding::{KEPT_NAME, entries_of};
use super::images::unlock_object;
use super::names::Dir;
use super::{ApplyError, Replica};
use crate::volume::{Root, file_id_at};

/// What waits to be destroyed.
#[derive(Debug, Default)]
pub(super) struct Tidy {
    /// The kept directories may hold something that nobody needs.
    again: bool,
    /// Volume and name in its kept directory.
    waiting: VecDeque<(usize, CString)>,
    /// Number of the next directory that is taken out of another.
    next: u64,
}

impl Tidy {
    /// Before anybody has looked.
    pub(super) fn at_start() -> Tidy {
        Tidy { again: true, ..Tidy::default() }
    }
}

impl Replica {
    /// Are removed objects kept now?
    pub(super) fn keeps(&self) -> bool {
        self.images.is_some() || self.trash.is_on()
    }

    /// Takes a name away; an object that loses its last one is kept.
    pub(super) fn remove_and_keep(
        &mut self,
        dir: &Dir,
        name: &CStr,
        is_dir: bool,
    ) -> Result<Result<(), Errno>, ApplyError> {
        let Some(local) = self.lookup(dir, name)? else { return Ok(Ok(())) };
        self.before_name(dir, name)?;
        let stat = match rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return Ok(Err(errno)),
        };
        if is_dir != (stat.st_mode & 0o170_000 == 0o040_000) {
            return Ok(Err(if is_dir { Errno::NOTDIR } else { Errno::ISDIR }));
        }
        if is_dir && !self.is_empty_dir(dir, name)? {
            return Ok(Err(Errno::NOTEMPTY));
        }
        let needed = self.images.as_ref().is_some_and(|images| !images.is_new(local));
        let noted = self.note_removed(dir, name, local, &stat);
        if !is_dir && stat.st_nlink > 1 || !needed && !noted {
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            return Ok(rustix::fs::unlinkat(dir.fd(), name, flags));
        }
        let kept = open(&self.ground.volumes[dir.volume()]);
        let kept = kept.map_err(|errno| self.failed_in("keep", dir, name, errno))?;
        let rename = |to: &CStr| rustix::fs::renameat_with(dir.fd(), name, &kept, to, RenameFlags::NOREPLACE);
        Ok(match rename(&name_of(local)) {
            Err(Errno::EXIST) => self.rename_anyhow(rename),
            done => done,
        })
    }

    /// What an earlier use of the number left has the name.
    fn rename_anyhow(&mut self, rename: impl Fn(&CStr) -> Result<(), Errno>) -> Result<(), Errno> {
        loop {
            self.tidy.next += 1;
            match rename(&CString::new(format!("t{:x}", self.tidy.next)).expect("no zero")) {
                Err(Errno::EXIST) => {}
                done => return done,
            }
        }
    }

    fn is_empty_dir(&mut self, dir: &Dir, name: &CStr) -> Result<bool, ApplyError> {
        let listed = rustix::fs::openat(dir.fd(), name, DIR, Mode::empty()).and_then(|fd| names_in(fd.as_fd()));
        Ok(listed.map_err(|errno| self.failed_in("list", dir, name, errno))?.is_empty())
    }

    pub(super) fn tidy_again(&mut self) {
        self.tidy.again = true;
        self.tidy.waiting.clear();
    }

    /// An object need not be kept any more.
    pub(super) fn tidy_one(&mut self, local: FileId) {
        self.tidy.waiting.push_back((local.volume as usize, name_of(local)));
    }

    /// Destroys up to `objects_max` of the removed objects that need not be kept any more; call it now and then between
    /// batches. Is there more to do?
    ///
    /// # Errors
    /// What the kernel said.
    pub fn tidy(&mut self, objects_max: usize) -> Result<bool, ApplyError> {
        self.purge_slice(objects_max)?;
        self.expire_removed()?;
        if self.images.is_some() {
            return Ok(!self.purging.is_empty());
        }
        if std::mem::take(&mut self.tidy.again) {
            self.list_unneeded()?;
        }
        for _ in 0..objects_max {
            let Some((volume, name)) = self.tidy.waiting.pop_front() else { break };
            if parse(name.to_bytes()).is_some_and(|local| self.trash.needs(local)) {
                continue;
            }
            if let Err(errno) = self.destroy(volume, &name) {
                self.tidy_again();
                return Err(self.failed("destroy what was removed from", FileId::NONE, errno));
            }
        }
        Ok(!self.tidy.waiting.is_empty() || !self.purging.is_empty())
    }

    fn list_unneeded(&mut self) -> Result<(), ApplyError> {
        for volume in 0..self.ground.volumes.len() {
            let listed = open(&self.ground.volumes[volume]).and_then(|kept| names_in(kept.as_fd()));
            let listed = listed.map_err(|errno| self.failed("list what was removed from", FileId::NONE, errno))?;
            for name in listed {
                let needed = parse(name.to_bytes()).is_some_and(|local| self.trash.needs(local));
                if !needed {
                    self.tidy.waiting.push_back((volume, name));
                }
            }
        }
        Ok(())
    }

    /// Destroys one object; the directories in a directory are taken out and wait for their own turn.
    fn destroy(&mut self, volume: usize, name: &CStr) -> Result<(), Errno> {
        let kept = open(&self.ground.volumes[volume])?;
        let root = &self.ground.volumes[volume].root;
        match unlocked(root, kept.as_fd(), name, || rustix::fs::unlinkat(&kept, name, AtFlags::empty())) {
            Err(Errno::ISDIR) => {}
            Err(Errno::NOENT) => return Ok(()),
            done => return done,
        }
        let fd = rustix::fs::openat(&kept, name, DIR, Mode::empty())?;
        super::handles::unlock(fd.as_fd())?;
        for (inner, kind) in entries_of(fd.as_fd())? {
            if kind == FileType::Directory {
                self.take_out(fd.as_fd(), &inner, kept.as_fd(), volume)?;
            } else {
                let root = &self.ground.volumes[volume].root;
                unlocked(root, fd.as_fd(), &inner, || rustix::fs::unlinkat(&fd, &inner, AtFlags::empty()))?;
            }
        }
        rustix::fs::unlinkat(&kept, name, AtFlags::REMOVEDIR)
    }

    fn take_out(&mut self, dir: BorrowedFd<'_>, name: &CStr, kept: BorrowedFd<'_>, volume: usize) -> Result<(), Errno> {
        let root = &self.ground.volumes[volume].root;
        loop {
            self.tidy.next += 1;
            let other = CString::new(format!("t{:x}", self.tidy.next)).expect("no zero");
            let rename = || rustix::fs::renameat_with(dir, name, kept, &other, RenameFlags::NOREPLACE);
            match unlocked(root, dir, name, rename) {
                Err(Errno::EXIST) => {}
                done => {
                    self.tidy.waiting.push_back((volume, other));
                    return done;
                }
            }
        }
    }
}

/// Does something with what has the name; where its flags forbid that, without them.
fn unlocked(root: &Root, dir: BorrowedFd<'_>, name: &CStr, act: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match act() {
        Err(Errno::PERM | Errno::ACCESS) => {
            if let Some(local) = file_id_at(root, dir, name)? {
                unlock_object(root, local)?;
            }
            act()
        }
        done => done,
    }
}

/// The directory of what is kept.
pub(super) fn open(volume: &Volume) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(&volume.holding, KEPT_NAME, DIR, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    match rustix::fs::mkdirat(&volume.holding, KEPT_NAME, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        made => made?,
    }
    rustix::fs::openat(&volume.holding, KEPT_NAME, DIR, Mode::empty())
}

/// Removes the directory where it is empty.
pub(super) fn remove(volume: &Volume) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&volume.holding, KEPT_NAME, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        done => done,
    }
}

/// Is the object there?
pub(super) fn holds(volume: &Volume, local: FileId) -> Result<bool, Errno> {
    let kept = open(volume)?;
    Ok(file_id_at(&volume.root, kept.as_fd(), &name_of(local))? == Some(local))
}

/// Names in a directory.
pub(super) fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    Ok(entries_of(dir)?.into_iter().map(|(name, _)| name).collect())
}

fn name_of(local: FileId) -> CString {
    CString::new(format!("{:x}.{:x}.{:x}", local.volume, local.ino, local.generation)).expect("no zero")
}

fn parse(name: &[u8]) -> Option<FileId> {
    let mut parts = std::str::from_utf8(name).ok()?.split('.');
    let volume = u32::from_str_radix(parts.next()?, 16).ok()?;
    let ino = u64::from_str_radix(parts.next()?, 16).ok()?;
    let generation = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some(FileId { ino, generation, volume })
}
