//! The holding directories: objects without a name, as `volume.ino.generation` of the source's file in hexadecimal, and
//! `x` and a number for what the replica does not know.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, RawDir, RenameFlags};
use rustix::io::Errno;
use stead_model::FileId;

use super::ground::{DIR, Volume};
use super::names::Dir;
use super::{ApplyError, Replica};

/// About so many objects are removed at once where applying would have to wait for more.
pub(super) const SLICE_OBJECTS: usize = 256;
/// In a holding directory: what was removed and is kept for a while.
pub(super) const KEPT_NAME: &CStr = c"kept";
const KEPT: &[u8] = KEPT_NAME.to_bytes();
/// In a holding directory: what never came from the source and was moved aside.
pub(super) const ASIDE: &[u8] = b"aside";

impl Replica {
    /// Finds what was held when the replica was closed.
    pub(super) fn find_held(&mut self) -> rustix::io::Result<()> {
        for volume in 0..self.ground.volumes.len() {
            for (name, _) in entries(&self.holding(volume))? {
                match parse(name.to_bytes()) {
                    Some(Held::File(file)) => {
                        let local = crate::volume::file_id_at(
                            &self.ground.volumes[volume].root,
                            self.holding(volume).fd(),
                            &name,
                        )?;
                        if self.map.get(file).map(|slot| slot.local) == local {
                            self.held.insert(file);
                        }
                    }
                    Some(Held::Anonymous(number)) => self.anonymous = self.anonymous.max(number + 1),
                    None => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn holding(&self, volume: usize) -> Dir {
        let local = FileId { ino: 0, generation: 0, volume: volume as u32 };
        Dir { id: None, local, fd: Arc::clone(&self.ground.volumes[volume].holding) }
    }

    /// Where the file is held, or would be.
    pub(super) fn holding_place(&self, file: FileId) -> (Dir, CString) {
        let volume = self.map.get(file).map_or(0, |slot| slot.local.volume as usize);
        (self.holding(volume), name_of(file))
    }

    /// The file has a proper name: the one in the holding directory goes.
    pub(super) fn unhold(&mut self, file: FileId) -> Result<(), ApplyError> {
        if self.held.contains(&file) {
            let (holding, name) = self.holding_place(file);
            self.remove_name(&holding, &name, false)?;
            self.held.remove(&file);
        }
        Ok(())
    }

    /// Gives what has that name a name in the holding directory besides.
    pub(super) fn hold_name_of(&mut self, known: Option<FileId>, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        if known.is_some_and(|file| self.held.contains(&file)) {
            return Ok(());
        }
        let holding = self.holding(dir.volume());
        let hold_name = self.hold_name(known);
        let link = || rustix::fs::linkat(dir.fd(), name, holding.fd(), &hold_name, AtFlags::empty());
        let mut done = link();
        if done == Err(Errno::PERM) {
            self.unlock_name(dir, name)?;
            done = link();
        }
        if done == Err(Errno::EXIST) {
            self.clear_holding_name(&holding, &hold_name)?;
            done = link();
        }
        done.map_err(|errno| self.failed_in("hold", dir, name, errno))?;
        self.held.extend(known);
        Ok(())
    }

    /// Moves what has that name to the holding directory.
    pub(super) fn move_to_holding(&mut self, known: Option<FileId>, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let hold_name = self.hold_name(known);
        self.move_to_holding_as(&hold_name, dir, name)?;
        self.held.extend(known);
        Ok(())
    }

    fn move_to_holding_as(&mut self, hold_name: &CStr, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let holding = self.holding(dir.volume());
        if dir.id.is_none() && *hold_name == *name {
            return Ok(());
        }
        self.before_name(dir, name)?;
        let rename = || rustix::fs::renameat_with(dir.fd(), name, holding.fd(), hold_name, RenameFlags::NOREPLACE);
        let mut done = rename();
        if matches!(done, Err(Errno::PERM | Errno::ACCESS)) {
            self.unlock_dir(dir)?;
            self.unlock_name(dir, name)?;
            done = rename();
        }
        if done == Err(Errno::EXIST) {
            self.clear_holding_name(&holding, hold_name)?;
            done = rename();
        }
        done.map_err(|errno| self.failed_in("hold", dir, name, errno))?;
        self.touched(dir, name);
        Ok(())
    }

    /// Something that a crash left over has the name: it becomes nameless.
    pub(super) fn clear_holding_name(&mut self, holding: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let other = self.hold_name(None);
        rustix::fs::renameat(holding.fd(), name, holding.fd(), &other)
            .map_err(|errno| self.failed_in("hold", holding, name, errno))
    }

    /// The file is dead: nothing of it stays.
    pub(super) fn kill(&mut self, file: FileId) -> Result<(), ApplyError> {
        if self.held.contains(&file) {
            let (holding, name) = self.holding_place(file);
            let is_dir = self.map.get(file).is_some_and(|slot| slot.is_dir());
            match self.remove_name(&holding, &name, is_dir) {
                Err(ApplyError::Failed { errno: Errno::NOTEMPTY | Errno::EXIST, .. }) => {
                    self.clear_holding_name(&holding, &name)?;
                }
                done => done?,
            }
        }
        self.forget(file);
        Ok(())
    }

    /// Removes what is held, except living files: some at once, the rest by and by.
    pub(super) fn purge_holding(&mut self) -> Result<(), ApplyError> {
        self.purging.clear();
        for volume in 0..self.ground.volumes.len() {
            let holding = self.holding(volume);
            let names = entries(&holding);
            let mut names = names.map_err(|errno| self.failed("list the holding directory of", FileId::NONE, errno))?;
            names.retain(|(name, _)| !is_apart(name));
            self.purging.extend(names.into_iter().map(|(name, kind)| (volume, name, kind)));
        }
        self.purge_slice(SLICE_OBJECTS)
    }

    /// Goes on with [`Replica::purge_holding`], by about so many objects: applying must not have to wait for it.
    pub(super) fn purge_slice(&mut self, objects_max: usize) -> Result<(), ApplyError> {
        let mut left = objects_max;
        while left > 0 {
            let Some((volume, name, kind)) = self.purging.pop() else { break };
            let holding = self.holding(volume);
            let mut names = Vec::new();
            if let Err(error) = self.purge_one(&holding, &name, kind, &mut names, Some(&mut left)) {
                self.purging.push((volume, name, kind));
                return Err(error);
            }
            self.purging.extend(names.into_iter().map(|(name, kind)| (volume, name, kind)));
        }
        Ok(())
    }

    /// Goes on with it to the end.
    pub(super) fn purge_rest(&mut self) -> Result<(), ApplyError> {
        while !self.purging.is_empty() {
            self.purge_slice(SLICE_OBJECTS)?;
        }
        Ok(())
    }

    /// How many objects [`Replica::purge_holding`] would remove.
    pub(super) fn count_unclaimed(&mut self) -> Result<u64, ApplyError> {
        let mut count = 0;
        for volume in 0..self.ground.volumes.len() {
            let counted = self.count_in(volume);
            count += counted.map_err(|errno| self.failed("list the holding directory of", FileId::NONE, errno))?;
        }
        Ok(count)
    }

    fn count_in(&self, volume: usize) -> Result<u64, Errno> {
        let holding = self.holding(volume);
        let root = &self.ground.volumes[volume].root;
        let mut count = 0;
        let mut waiting = Vec::new();
        let mut look = |dir: &Dir, waiting: &mut Vec<FileId>| -> Result<(), Errno> {
            for (name, kind) in entries(dir)? {
                if is_apart(&name) && Arc::ptr_eq(&dir.fd, &holding.fd) {
                    continue;
                }
                let Some(local) = crate::volume::file_id_at(root, dir.fd(), &name)? else { continue };
                if self.map.id_of(local).is_some_and(|file| self.lives(file)) {
                    continue;
                }
                count += 1;
                if kind == FileType::Directory {
                    waiting.push(local);
                }
            }
            Ok(())
        };
        look(&holding, &mut waiting)?;
        while let Some(local) = waiting.pop() {
            if let Some(fd) = crate::volume::open_by_id(root, local, DIR)? {
                look(&Dir { id: None, local, fd: Arc::new(fd) }, &mut waiting)?;
            }
        }
        Ok(count)
    }

    /// Removes what has that name, with all beneath it.
    pub(super) fn remove_tree(&mut self, known: Option<FileId>, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        if let Ok(stat) = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            self.note_leaving(dir, name, &stat)?;
        }
        let holding = self.holding(dir.volume());
        let hold_name = self.hold_name(None);
        self.move_to_holding_as(&hold_name, dir, name)?;
        if let Some(file) = known {
            self.forget(file);
        }
        let stat = rustix::fs::statat(holding.fd(), &hold_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed_in("stat", &holding, &hold_name, errno))?;
        let mut names = vec![(hold_name, FileType::from_raw_mode(stat.st_mode))];
        while let Some((name, kind)) = names.pop() {
            self.purge_one(&holding, &name, kind, &mut names, None)?;
        }
        Ok(())
    }

    /// Removes a held object. Where `left` says how much may be done, what lives is rescued, and a directory that is not
    /// empty by then comes back in `names`, before the directories that were in it.
    fn purge_one(
        &mut self,
        holding: &Dir,
        name: &CStr,
        kind: FileType,
        names: &mut Vec<(CString, FileType)>,
        mut left: Option<&mut usize>,
    ) -> Result<(), ApplyError> {
        let known = match parse(name.to_bytes()) {
            Some(Held::File(file)) if self.held.contains(&file) => Some(file),
            _ => None,
        };
        if let Some(left) = &mut left {
            **left = left.saturating_sub(1);
        }
        if let Some(file) = known.filter(|_| kind != FileType::Directory) {
            let stat = match rustix::fs::statat(holding.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                stat => stat.map_err(|errno| self.failed_in("stat", holding, name, errno))?,
            };
            if stat.st_nlink > 1 {
                // It has a proper name as well.
                return self.unhold(file);
            }
        }
        if left.is_some() && known.is_some_and(|file| self.lives(file)) {
            return Ok(());
        }
        if kind == FileType::Directory && !self.empty_held(holding, name, names, left)? {
            names.insert(0, (name.to_owned(), kind));
            return Ok(());
        }
        self.remove_name(holding, name, kind == FileType::Directory)?;
        known.into_iter().for_each(|file| self.forget(file));
        Ok(())
    }

    /// Removes the files in a held directory; its directories become nameless ones, for their turn. Is it empty now?
    fn empty_held(
        &mut self,
        holding: &Dir,
        name: &CStr,
        names: &mut Vec<(CString, FileType)>,
        left: Option<&mut usize>,
    ) -> Result<bool, ApplyError> {
        let fd = match rustix::fs::openat(holding.fd(), name, DIR, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(true),
            opened => opened.map_err(|errno| self.failed_in("open", holding, name, errno))?,
        };
        self.before_object_at(holding.volume(), fd.as_fd())?;
        super::handles::unlock(fd.as_fd())
            .map_err(|errno| self.failed_in("clear the flags of", holding, name, errno))?;
        let dir = Dir { id: None, local: holding.local, fd: Arc::new(fd) };
        let mut inside = entries(&dir).map_err(|errno| self.failed_in("list", holding, name, errno))?;
        let (rescues, mut emptied) = (left.is_some(), true);
        if let Some(left) = left {
            emptied = inside.len() <= (*left).max(1);
            inside.truncate((*left).max(1));
            *left = left.saturating_sub(inside.len());
        }
        for (inner, _) in &inside {
            self.note_name(&dir, inner)?;
        }
        self.commit_images()?;
        for (inner, kind) in inside {
            self.empty_one(&dir, &inner, kind, names, rescues)?;
        }
        Ok(emptied)
    }

    fn empty_one(
        &mut self,
        dir: &Dir,
        inner: &CStr,
        kind: FileType,
        names: &mut Vec<(CString, FileType)>,
        rescues: bool,
    ) -> Result<(), ApplyError> {
        let known = self.lookup(dir, inner)?.and_then(|local| self.map.id_of(local));
        let stat = rustix::fs::statat(dir.fd(), inner, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed_in("stat", dir, inner, errno))?;
        let last = kind == FileType::Directory || stat.st_nlink <= 1;
        let living = known.filter(|file| rescues && last && !self.held.contains(file) && self.lives(*file));
        if living.is_some() {
            return self.move_to_holding(living, dir, inner);
        }
        if kind == FileType::Directory {
            self.note_leaving(dir, inner, &stat)?;
            let other = self.hold_name(None);
            self.move_to_holding_as(&other, dir, inner)?;
            names.push((other, kind));
        } else {
            self.remove_name(dir, inner, false)?;
        }
        known.filter(|_| last).into_iter().for_each(|file| self.forget(file));
        Ok(())
    }

    /// Is it to be kept when the holding directory is emptied? After a scan, what it named or has no name; while a scan
    /// is still to come, all that is known; else what has not lost its place, or never had one.
    fn lives(&self, file: FileId) -> bool {
        let slot = self.map.get(file);
        if self.purges_after_scan || self.scan.as_ref().is_some_and(|scan| !scan.is_verify()) {
            return slot.is_some_and(|slot| slot.mark == self.mark || slot.is_unnamed());
        }
        if self.unfinished.is_some() || !self.doubts.is_empty() {
            return slot.is_some();
        }
        slot.is_some_and(|slot| slot.is_unnamed() || !self.held.contains(&file))
    }

    fn hold_name(&mut self, known: Option<FileId>) -> CString {
        if let Some(file) = known {
            return name_of(file);
        }
        self.anonymous += 1;
        CString::new(format!("x{}", self.anonymous - 1)).expect("no zero")
    }
}

/// Is the object in the holding directory, under whatever name?
pub(super) fn holds(volume: &Volume, local: FileId) -> rustix::io::Result<bool> {
    for (name, _) in entries_of(volume.holding.as_fd())? {
        if crate::volume::file_id_at(&volume.root, volume.holding.as_fd(), &name)? == Some(local) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Is it, in a holding directory, none of the objects that wait for a name?
pub(super) fn is_apart(name: &CStr) -> bool {
    matches!(name.to_bytes(), KEPT | ASIDE)
}

enum Held {
    File(FileId),
    Anonymous(u64),
}

fn name_of(file: FileId) -> CString {
    CString::new(format!("{:x}.{:x}.{:x}", file.volume, file.ino, file.generation)).expect("no zero")
}

fn parse(name: &[u8]) -> Option<Held> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(number) = name.strip_prefix('x') {
        return Some(Held::Anonymous(number.parse().ok()?));
    }
    let mut parts = name.split('.');
    let volume = u32::from_str_radix(parts.next()?, 16).ok()?;
    let ino = u64::from_str_radix(parts.next()?, 16).ok()?;
    let generation = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some(Held::File(FileId { ino, generation, volume }))
}

/// Names in a directory, without "." and "..", and what they are.
pub(super) fn entries(dir: &Dir) -> rustix::io::Result<Vec<(CString, FileType)>> {
    entries_of(dir.fd())
}

/// As [`entries`].
pub(super) fn entries_of(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, FileType)>> {
    // A descriptor of its own: the kept one has a place in the directory that others use.
    let fd = rustix::fs::openat(dir, c".", DIR, Mode::empty())?;
    let mut buf = vec![MaybeUninit::uninit(); 1 << 15];
    let mut found = Vec::new();
    let mut names = RawDir::new(&fd, &mut buf);
    while let Some(name) = names.next() {
        let name = name?;
        if matches!(name.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let mut kind = name.file_type();
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(dir, name.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        found.push((name.file_name().into(), kind));
    }
    Ok(found)
}

/// Names in a directory and their inode numbers.
pub(super) fn inodes(dir: &Dir) -> rustix::io::Result<Vec<(CString, u64)>> {
    let fd = rustix::fs::openat(dir.fd(), c".", DIR, Mode::empty())?;
    let mut buf = vec![MaybeUninit::uninit(); 1 << 15];
    let mut found = Vec::new();
    let mut names = RawDir::new(&fd, &mut buf);
    while let Some(name) = names.next() {
        let name = name?;
        if !matches!(name.file_name().to_bytes(), b"." | b"..") {
            found.push((name.file_name().into(), name.ino()));
        }
    }
    Ok(found)
}
