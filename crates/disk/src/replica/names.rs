//! Names: "this file is at this parent, by this name".

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;
use stead_model::{FileId, Kind, Record};

use super::ground::{DIR, path_of_fd};
use super::{ApplyError, Orphans, Replica};
use crate::volume::{Root, file_id_at};

/// How often a name is tried for: each try removes another obstacle.
const TRIES: u32 = 8;

/// A directory of the replica.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    /// Its id at the source; `None` for a holding directory.
    pub id: Option<FileId>,
    pub local: FileId,
    pub fd: Arc<OwnedFd>,
}

impl Dir {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
    pub(super) fn volume(&self) -> usize {
        self.local.volume as usize
    }
}

/// Where a file can be taken from to be named.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// It has this name, and loses it.
    Named(Dir, CString),
    /// It gets one name more.
    Linked,
}

/// A name that is one component.
pub(super) fn checked_name(record: &Record<'_>, name: &[u8]) -> Result<CString, ApplyError> {
    let what = match name {
        b"" | b"." | b".." => Some("a name that names nothing"),
        _ if name.contains(&b'/') => Some("a name with a slash"),
        _ => None,
    };
    let corrupt = |what| ApplyError::Corrupt { file: record.file, kind: record.kind, what };
    match what {
        Some(what) => Err(corrupt(what)),
        None => CString::new(name).map_err(|_| corrupt("a name with a zero")),
    }
}

impl Replica {
    /// The directory; `None` where the replica does not have it, or has something else under that id.
    pub(super) fn dir(&mut self, id: FileId) -> Result<Option<Dir>, ApplyError> {
        let Some(handle) = self.handle(id)? else { return Ok(None) };
        let slot = self.map.get(id).filter(|slot| slot.is_dir());
        Ok(slot.map(|slot| Dir { id: Some(id), local: slot.local, fd: handle.fd }))
    }

    /// Who has the name.
    pub(super) fn lookup(&mut self, dir: &Dir, name: &CStr) -> Result<Option<FileId>, ApplyError> {
        let root = &self.ground.volumes[dir.volume()].root;
        file_id_at(root, dir.fd(), name).map_err(|errno| self.failed_in("look up", dir, name, errno))
    }

    pub(super) fn is_at(&mut self, file: FileId, dir: &Dir, name: &CStr) -> Result<bool, ApplyError> {
        let Some(local) = self.map.get(file).map(|slot| slot.local) else { return Ok(false) };
        Ok(self.lookup(dir, name)? == Some(local))
    }

    /// Sees to it that the known `file` has the name; what had it goes to the holding directory, unless it is `dead` or
    /// has other names.
    pub(super) fn put(
        &mut self,
        file: FileId,
        dir: &Dir,
        name: &CStr,
        from: Option<From>,
        dead: FileId,
    ) -> Result<(), ApplyError> {
        if self.put_named(file, dir, name, from, dead)? {
            self.deferred.remove(&file);
            self.stated(dir, name);
        }
        Ok(())
    }

    /// Directories that could not be put where they belong, because that lies beneath them now: by the end of a replay or
    /// scan everything else is in its place, so they can go to theirs.
    pub(super) fn put_deferred(&mut self) -> Result<(), ApplyError> {
        let deferred: Vec<_> = self.deferred.drain().collect();
        for (file, _) in &deferred {
            self.hold(*file)?;
        }
        for (file, (parent, name)) in deferred {
            if let Some(dir) = self.dir(parent)? {
                self.keep_mtime(&dir)?;
                self.put(file, &dir, &name, None, FileId::NONE)?;
            }
        }
        Ok(())
    }

    /// Has the file the name now? (Else it is gone, or has to wait.)
    fn put_named(
        &mut self,
        file: FileId,
        dir: &Dir,
        name: &CStr,
        from: Option<From>,
        dead: FileId,
    ) -> Result<bool, ApplyError> {
        let Some(slot) = self.map.get(file).copied() else { return Ok(false) };
        let mut source = match from {
            Some(source) => source,
            None if self.lookup(dir, name)? == Some(slot.local) => return self.unhold(file).map(|()| true),
            None => match self.whereabouts(file)? {
                Some(source) => source,
                None => return Ok(false),
            },
        };
        let mut unlocked = false;
        for _ in 0..TRIES {
            self.before_names(dir, name, &source)?;
            // Most names are free: try first, look afterwards.
            let done = match self.put_free(file, dir, name, &source) {
                Err(Errno::EXIST) => match self.lookup(dir, name)? {
                    Some(local) if local == slot.local => return self.leave(file, &source).map(|()| true),
                    Some(occupant) => self.put_over(file, dir, name, &source, occupant, dead)?,
                    None => continue,
                },
                done => done,
            };
            match done {
                Ok(()) => return self.named(file, &source).map(|()| true),
                Err(Errno::PERM | Errno::ACCESS) if !unlocked => {
                    unlocked = true;
                    self.unlock_around(file, dir, name, &source)?;
                }
                Err(Errno::INVAL) => {
                    if slot.is_dir() && self.is_beneath(dir, slot.local)? {
                        self.deferred.extend(dir.id.map(|parent| (file, (parent, name.to_owned()))));
                        return Ok(false);
                    }
                    let Some(occupant) = self.lookup(dir, name)? else {
                        return Err(self.failed_in("name", dir, name, Errno::INVAL));
                    };
                    // It lies beneath what has the name: out of the way with that.
                    self.move_to_holding(self.map.id_of(occupant), dir, name)?;
                }
                Err(Errno::NOENT) if matches!(source, From::Linked) => {
                    self.forget(file);
                    return Ok(false);
                }
                Err(Errno::NOENT) => match self.whereabouts(file)? {
                    Some(found) => source = found,
                    None => return Ok(false),
                },
                Err(errno) => return Err(self.failed_in("name", dir, name, errno)),
            }
        }
        Err(self.failed_in("name", dir, name, Errno::LOOP))
    }

    /// Takes the name away from `file` if it has it. Its last name is kept in the holding directory while it lives.
    pub(super) fn take_name(&mut self, file: FileId, dir: &Dir, name: &CStr, dies: bool) -> Result<(), ApplyError> {
        let occupant = self.lookup(dir, name)?;
        let Some(slot) = self.map.get(file).copied() else {
            return match occupant {
                Some(local) if self.carries_id(dir, name, local, file)? => self.remove_name(dir, name, false),
                _ => Ok(()),
            };
        };
        if occupant != Some(slot.local) {
            return Ok(());
        }
        if slot.is_dir() {
            return match self.try_remove(dir, name, true)? {
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.hold(file),
                Err(errno) => Err(self.failed_in("remove", dir, name, errno)),
                Ok(()) => {
                    self.touched(dir, name);
                    Ok(())
                }
            };
        }
        if !dies {
            let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| self.failed_in("stat", dir, name, errno))?;
            let last = stat.st_nlink <= 1;
            if last && (self.replaying || self.scan.is_some() || !self.doubts.is_empty()) {
                self.note_leaving(dir, name, &stat)?;
                self.hold(file)?;
            } else if last {
                // It lives on outside of the set.
                self.forget(file);
            }
        }
        self.remove_name(dir, name, false)
    }

    pub(super) fn remove_name(&mut self, dir: &Dir, name: &CStr, is_dir: bool) -> Result<(), ApplyError> {
        self.try_remove(dir, name, is_dir)?.map_err(|errno| self.failed_in("remove", dir, name, errno))?;
        self.touched(dir, name);
        Ok(())
    }

    fn try_remove(&mut self, dir: &Dir, name: &CStr, is_dir: bool) -> Result<Result<(), Errno>, ApplyError> {
        match self.remove_once(dir, name, is_dir)? {
            Err(Errno::PERM | Errno::ACCESS) => {
                self.unlock_dir(dir)?;
                self.unlock_name(dir, name)?;
                self.remove_once(dir, name, is_dir)
            }
            Err(Errno::NOENT) => Ok(Ok(())),
            done => Ok(done),
        }
    }

    fn remove_once(&mut self, dir: &Dir, name: &CStr, is_dir: bool) -> Result<Result<(), Errno>, ApplyError> {
        if self.keeps() {
            return self.remove_and_keep(dir, name, is_dir);
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(dir.fd(), name, flags))
    }

    /// Saves who has the names that an object leaves and gets.
    fn before_names(&mut self, dir: &Dir, name: &CStr, source: &From) -> Result<(), ApplyError> {
        if self.images.is_none() {
            return Ok(());
        }
        self.note_name(dir, name)?;
        if let From::Named(old, old_name) = source {
            self.note_name(old, old_name)?;
        }
        self.commit_images()
    }

    /// Both files have changed places at once.
    pub(super) fn exchange(&mut self, dir: &Dir, name: &CStr, dir2: &Dir, name2: &CStr) -> Result<(), ApplyError> {
        self.before_name(dir, name)?;
        self.before_name(dir2, name2)?;
        let swap = || rustix::fs::renameat_with(dir.fd(), name, dir2.fd(), name2, RenameFlags::EXCHANGE);
        let mut done = swap();
        if matches!(done, Err(Errno::PERM | Errno::ACCESS)) {
            for (dir, name) in [(dir, name), (dir2, name2)] {
                self.unlock_dir(dir)?;
                self.unlock_name(dir, name)?;
            }
            done = swap();
        }
        done.map_err(|errno| self.failed_in("exchange", dir, name, errno))?;
        self.stated(dir, name);
        self.stated(dir2, name2);
        Ok(())
    }

    fn put_free(&mut self, file: FileId, dir: &Dir, name: &CStr, source: &From) -> Result<(), Errno> {
        match source {
            From::Named(old, old_name) => {
                rustix::fs::renameat_with(old.fd(), old_name, dir.fd(), name, RenameFlags::NOREPLACE)
            }
            From::Linked => {
                let handle = self.handles.get(file).ok_or(Errno::NOENT)?;
                rustix::fs::linkat(handle.fd(), c"", dir.fd(), name, AtFlags::EMPTY_PATH)
            }
        }
    }

    /// Names the file where another has the name.
    fn put_over(
        &mut self,
        file: FileId,
        dir: &Dir,
        name: &CStr,
        source: &From,
        occupant: FileId,
        dead: FileId,
    ) -> Result<Result<(), Errno>, ApplyError> {
        let (old, old_name) = match source {
            From::Named(old, old_name) => (old.clone(), old_name.clone()),
            From::Linked => {
                self.hold(file)?;
                self.holding_place(file)
            }
        };
        let stat = match rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return Ok(Err(errno)),
        };
        let known = self.map.id_of(occupant);
        if known.is_none() && self.policy.orphans != Orphans::Delete && dir.id.is_some() {
            self.move_aside(dir, name)?;
            return Ok(self.put_free(file, dir, name, source));
        }
        let is_dir = stat.st_mode & 0o170_000 == 0o040_000;
        let moves_dir = self.map.get(file).is_some_and(|slot| slot.is_dir());
        let keep = match known {
            Some(id) => id != dead && (is_dir || stat.st_nlink <= 1),
            None => self.scan.is_some() || !self.doubts.is_empty(),
        };
        let replace = || rustix::fs::renameat(old.fd(), &old_name, dir.fd(), name);
        if !is_dir && !moves_dir {
            if keep {
                self.hold_name_of(known, dir, name)?;
            } else if self.keeps()
                && let Err(errno) = self.try_remove(dir, name, false)?
            {
                return Ok(Err(errno));
            }
            return Ok(replace());
        }
        if is_dir && moves_dir && !keep {
            let emptied = if self.keeps() { self.try_remove(dir, name, true)? } else { Ok(()) };
            match emptied.and_then(|()| replace()) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                done => return Ok(done),
            }
        }
        self.keep_mtime(&old)?;
        if let Err(errno) = rustix::fs::renameat_with(old.fd(), &old_name, dir.fd(), name, RenameFlags::EXCHANGE) {
            return Ok(Err(errno));
        }
        if keep || self.try_remove(&old, &old_name, is_dir)?.is_err() {
            self.move_to_holding(known, &old, &old_name)?;
        }
        Ok(Ok(()))
    }

    /// The file has got its name: notes what that means for scans and the holding directory.
    fn named(&mut self, file: FileId, source: &From) -> Result<(), ApplyError> {
        self.map.set_unnamed(file, false);
        if let From::Named(old, old_name) = source {
            self.touched(old, old_name);
            if old.id.is_none() {
                self.held.remove(&file);
            }
            return Ok(());
        }
        self.unhold(file)
    }

    /// The file had the name already: it leaves where it would have come from.
    fn leave(&mut self, file: FileId, source: &From) -> Result<(), ApplyError> {
        match source {
            From::Named(old, old_name) if old.id.is_some() => self.remove_name(old, old_name, false),
            _ => self.unhold(file),
        }
    }

    /// Moves the file to the holding directory (a directory), or gives it a name there as well (anything else).
    pub(super) fn hold(&mut self, file: FileId) -> Result<(), ApplyError> {
        if self.held.contains(&file) || self.is_root(file) {
            return Ok(());
        }
        let Some(source) = self.whereabouts(file)? else { return Ok(()) };
        if let From::Named(old, name) = &source {
            self.before_name(old, name)?;
        }
        let (holding, hold_name) = self.holding_place(file);
        if let From::Named(old, name) = &source {
            self.keep_mtime(old)?;
            self.move_to_holding(Some(file), old, name)?;
            return Ok(());
        }
        let mut done = self.put_free(file, &holding, &hold_name, &source);
        if done == Err(Errno::PERM) {
            self.unlock(file)?;
            done = self.put_free(file, &holding, &hold_name, &source);
        }
        if done == Err(Errno::EXIST) {
            self.clear_holding_name(&holding, &hold_name)?;
            done = self.put_free(file, &holding, &hold_name, &source);
        }
        if done == Err(Errno::NOENT) {
            // Somebody removed it while it was open here.
            self.forget(file);
            return Ok(());
        }
        done.map_err(|errno| self.failed("hold", file, errno))?;
        self.held.insert(file);
        Ok(())
    }

    pub(super) fn failed_in(&mut self, operation: &'static str, dir: &Dir, name: &CStr, errno: Errno) -> ApplyError {
        self.failed_at(operation, dir.id.unwrap_or(FileId::NONE), name.to_bytes(), errno)
    }

    /// The times of the directories that a name record changed.
    pub(super) fn stamp_parents(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let names = &record.names;
        self.stamp(record.parent, names.stamp)?;
        if record.kind == Kind::Rename && names.parent2 != record.parent {
            self.stamp(names.parent2, names.stamp2)?;
        }
        Ok(())
    }

    fn stamp(&mut self, dir: FileId, stamp: stead_model::Stamp) -> Result<(), ApplyError> {
        if dir.is_none()
            || stamp == stead_model::Stamp::default()
            || self.is_borrowed(dir)
            || self.handle(dir)?.is_none()
        {
            return Ok(());
        }
        self.before_object(dir)?;
        self.handles.set_times(dir, None, Some(stamp.mtime()));
        if let Some((_, size)) = self.proven(dir) {
            self.advance(dir, stamp.ctime(), size);
        } else {
            self.map.touch(dir);
        }
        Ok(())
    }
}

/// Parent of a directory, and its name there.
pub(super) fn find_dir(root: &Root, local: FileId, fd: BorrowedFd<'_>) -> Result<(OwnedFd, CString), Errno> {
    use std::os::unix::ffi::OsStrExt;
    let parent = rustix::fs::openat(fd, c"..", DIR, Mode::empty())?;
    let path = path_of_fd(fd).ok();
    let guess = path.and_then(|path| CString::new(path.file_name()?.as_bytes()).ok());
    if let Some(name) = guess.filter(|name| file_id_at(root, parent.as_fd(), name) == Ok(Some(local))) {
        return Ok((parent, name));
    }
    let mut buf = vec![std::mem::MaybeUninit::uninit(); 1 << 15];
    let listing = rustix::fs::openat(&parent, c".", DIR, Mode::empty())?;
    let mut names = rustix::fs::RawDir::new(listing, &mut buf);
    while let Some(entry) = names.next() {
        let entry = entry?;
        if entry.ino() == local.ino && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            let name = entry.file_name().into();
            return Ok((parent, name));
        }
    }
    Err(Errno::NOENT)
}
