//! Bringing back the state at the point: names, content, attributes, then the map. Each step looks at what is there, so
//! all of it can begin anew at any moment.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use stead_model::record::Extras;
use stead_model::{Attr, FileId, Time};
use zerocopy::FromBytes;

use super::log::{Kind, Log, Undo};
use super::save::{open_object, parse_object};
use crate::replica::content::{punch, write_all};
use crate::replica::ground::{DIR, Ground};
use crate::replica::handles::{change_flags, unlock};
use crate::replica::holding::is_apart;
use crate::replica::kept;
use crate::replica::map_file::MapFile;
use crate::replica::{ApplyError, names};
use crate::volume::{Root, file_id_at, file_id_of, open_by_id};
use crate::xattr::{self, Target};
use crate::{DiskError, ID_XATTR};

/// The state at the point, but for the content.
#[derive(Default)]
struct Point {
    /// For each directory, who had a name.
    names: HashMap<FileId, HashMap<CString, Option<FileId>>>,
    objects: Vec<(FileId, Attr, Extras)>,
    new: HashSet<FileId>,
}

impl Point {
    fn note(&mut self, undo: Undo<'_>) {
        match undo.kind {
            Kind::Name => {
                let Ok((occupant, name)) = FileId::read_from_prefix(undo.payload) else { return };
                let Ok(name) = CString::new(name) else { return };
                let occupant = (!occupant.is_none()).then_some(occupant);
                self.names.entry(undo.file).or_default().entry(name).or_insert(occupant);
            }
            Kind::Object => {
                self.objects.extend(parse_object(undo.payload).map(|(attr, extras)| (undo.file, attr, extras)));
            }
            Kind::New => drop(self.new.insert(undo.file)),
            Kind::Data | Kind::Rolling => {}
        }
    }
}

/// Does all of it; afterwards the log is gone and the map is that of the point.
///
/// `steps`: after so many changes it fails, for tests.
pub(super) fn roll_back(ground: &Ground, state_dir: &Path, log: &mut Log, steps: u64) -> Result<(), ApplyError> {
    let failed = || DiskError::at("read", log_path(state_dir));
    log.append(&Undo { kind: Kind::Rolling, file: FileId::NONE, a: 0, b: 0, payload: &[] }).map_err(failed())?;
    log.sync().map_err(failed())?;
    let mut point = Point::default();
    log.read_again(&mut |undo| point.note(undo)).map_err(failed())?;
    let back = Back { ground, point, steps: Cell::new(steps) };
    back.unlock_all().map_err(DiskError::at("unlock", "the replica"))?;
    back.names().map_err(DiskError::at("bring back the names of", "the replica"))?;
    back.content(log)?;
    back.attributes().map_err(DiskError::at("bring back the attributes of", "the replica"))?;
    for volume in &ground.volumes {
        rustix::fs::syncfs(volume.root.fd()).map_err(DiskError::at("sync", "the replica"))?;
    }
    MapFile::bring_back(state_dir)?;
    Ok(Log::remove(state_dir)?)
}

fn log_path(state_dir: &Path) -> String {
    state_dir.join("undo").display().to_string()
}

struct Back<'a> {
    ground: &'a Ground,
    point: Point,
    steps: Cell<u64>,
}

impl Back<'_> {
    fn step(&self) -> Result<(), Errno> {
        let left = self.steps.get().checked_sub(1).ok_or(Errno::INTR)?;
        self.steps.set(left);
        Ok(())
    }

    fn root(&self, local: FileId) -> Result<&Root, Errno> {
        Ok(&self.ground.volumes.get(local.volume as usize).ok_or(Errno::NODEV)?.root)
    }

    /// Takes away the flags that forbid changes; the attributes bring them back.
    fn unlock_all(&self) -> Result<(), Errno> {
        let dirs = self.point.names.keys().copied();
        for local in self.point.objects.iter().map(|(local, ..)| *local).chain(dirs) {
            self.step()?;
            unlock_object(self.root(local)?, local)?;
        }
        Ok(())
    }

    /// First everybody leaves a name that was not theirs, then everybody gets theirs: so no two are in each other's way.
    fn names(&self) -> Result<(), Errno> {
        let mut open = Vec::new();
        for (&dir, names) in &self.point.names {
            if self.point.new.contains(&dir) {
                continue;
            }
            // A directory that was not there at the point may be gone.
            let root = self.root(dir)?;
            if open_by_id(root, dir, DIR)?.is_some() {
                open.push((dir, names));
            }
        }
        for (dir, names) in &open {
            self.vacate(*dir, names)?;
        }
        self.vacate_holdings()?;
        for (dir, names) in &open {
            self.occupy(*dir, names)?;
        }
        Ok(())
    }

    fn vacate(&self, dir: FileId, names: &HashMap<CString, Option<FileId>>) -> Result<(), Errno> {
        let root = self.root(dir)?;
        let Some(fd) = open_by_id(root, dir, DIR)? else { return Ok(()) };
        for (name, wanted) in names {
            let there = file_id_at(root, fd.as_fd(), name)?;
            if there != *wanted && there.is_some() {
                self.put_away(dir.volume as usize, fd.as_fd(), name)?;
            }
        }
        Ok(())
    }

    /// What is held now and was not at the point. What was held and is not comes with the other names.
    fn vacate_holdings(&self) -> Result<(), Errno> {
        for (at, volume) in self.ground.volumes.iter().enumerate() {
            let local = file_id_of(&volume.root, volume.holding.as_fd())?;
            let held = self.point.names.get(&local);
            for name in kept::names_in(volume.holding.as_fd())? {
                let known = held.is_some_and(|held| held.contains_key(&name));
                if !is_apart(&name) && !known {
                    self.put_away(at, volume.holding.as_fd(), &name)?;
                }
            }
        }
        Ok(())
    }

    fn put_away(&self, volume: usize, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        self.step()?;
        let volume = &self.ground.volumes[volume];
        let kept = kept::open(volume)?;
        let mut unlocked = false;
        for number in 0u64.. {
            let other = CString::new(format!("r{number:x}")).expect("no zero");
            match rustix::fs::renameat_with(dir, name, &kept, &other, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Err(Errno::PERM | Errno::ACCESS) if !unlocked => {
                    unlocked = true;
                    if let Some(local) = file_id_at(&volume.root, dir, name)? {
                        unlock_object(&volume.root, local)?;
                    }
                }
                done => return done,
            }
        }
        Err(Errno::EXIST)
    }

    fn occupy(&self, dir: FileId, names: &HashMap<CString, Option<FileId>>) -> Result<(), Errno> {
        let root = self.root(dir)?;
        let Some(fd) = open_by_id(root, dir, DIR)? else { return Ok(()) };
        for (name, wanted) in names {
            let Some(local) = *wanted else { continue };
            if file_id_at(root, fd.as_fd(), name)?.is_none() {
                self.step()?;
                give_name(root, local, fd.as_fd(), name)?;
            }
        }
        Ok(())
    }

    fn content(&self, log: &mut Log) -> Result<(), ApplyError> {
        let failed = || DiskError::at("bring back the content of", "the replica");
        for (local, attr, _) in self.point.objects.iter().filter(|(_, attr, _)| attr.is_file()) {
            let root = self.root(*local).map_err(failed())?;
            let Some(fd) = open_for_content(root, *local).map_err(failed())? else { continue };
            let now = rustix::fs::fstat(&fd).map_err(failed())?.st_size as u64;
            if now != attr.size {
                self.step().map_err(failed())?;
                rustix::fs::ftruncate(&fd, attr.size).map_err(failed())?;
            }
        }
        let mut open: Option<(FileId, Option<OwnedFd>)> = None;
        let mut done = Ok(());
        let read = log.read_again(&mut |undo| {
            if undo.kind == Kind::Data && done.is_ok() {
                done = self.data(&undo, &mut open);
            }
        });
        read.map_err(DiskError::at("read", log.path().display()))?;
        Ok(done.map_err(failed())?)
    }

    fn data(&self, undo: &Undo<'_>, open: &mut Option<(FileId, Option<OwnedFd>)>) -> Result<(), Errno> {
        self.step()?;
        if open.as_ref().is_none_or(|(local, _)| *local != undo.file) {
            *open = Some((undo.file, open_for_content(self.root(undo.file)?, undo.file)?));
        }
        let Some((_, Some(fd))) = open else { return Ok(()) };
        match undo.payload.is_empty() {
            true => punch(fd.as_fd(), undo.a, undo.b),
            false => write_all(fd.as_fd(), undo.payload, undo.a),
        }
    }

    fn attributes(&self) -> Result<(), Errno> {
        for (local, attr, extras) in &self.point.objects {
            if self.ground.roots.iter().any(|root| root.borrowed && root.local == *local) {
                continue;
            }
            self.step()?;
            let Some((fd, path_only)) = open_object(self.root(*local)?, *local)? else { continue };
            unlock(fd.as_fd()).or_else(|errno| if path_only { Ok(None) } else { Err(errno) })?;
            set_attributes(Target { fd: fd.as_fd(), path_only }, attr, extras)?;
        }
        Ok(())
    }
}

fn set_attributes(target: Target<'_>, attr: &Attr, extras: &Extras) -> Result<(), Errno> {
    let fd = target.fd;
    let now = rustix::fs::fstat(fd)?;
    if (now.st_uid, now.st_gid) != (attr.uid, attr.gid) {
        let (owner, group) = (Some(Uid::from_raw(attr.uid)), Some(Gid::from_raw(attr.gid)));
        rustix::fs::chownat(fd, c"", owner, group, AtFlags::EMPTY_PATH)?;
    }
    set_xattrs(target, extras)?;
    let is_symlink = attr.mode & 0o170_000 == 0o120_000;
    if !is_symlink && rustix::fs::fstat(fd)?.st_mode != attr.mode {
        let mode = Mode::from_raw_mode(attr.permissions());
        match target.path_only {
            true => rustix::fs::chmod(target.path(), mode)?,
            false => rustix::fs::fchmod(fd, mode)?,
        }
    }
    let times = Timestamps { last_access: timespec(attr.atime()), last_modification: timespec(attr.mtime()) };
    rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?;
    if attr.is_file() || attr.is_dir() { change_flags(fd, attr.flags) } else { Ok(()) }
}

fn set_xattrs(target: Target<'_>, extras: &Extras) -> Result<(), Errno> {
    let present = xattr::all(target)?;
    let has = |list: &[(Vec<u8>, Vec<u8>)], name: &[u8]| list.iter().any(|(other, _)| other == name);
    for (name, _) in present.iter().filter(|(name, _)| !has(&extras.xattrs, name)) {
        xattr::remove(target, name)?;
    }
    for (name, value) in extras.xattrs.iter().filter(|xattr| !present.contains(xattr)) {
        xattr::set(target, name, value)?;
    }
    if has(&extras.xattrs, ID_XATTR.as_bytes()) { Ok(()) } else { xattr::remove(target, ID_XATTR.as_bytes()) }
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.sec, tv_nsec: time.nsec as _ }
}

/// Names an object, wherever it is; one that was not there at the point may be gone.
pub(in crate::replica) fn give_name(root: &Root, local: FileId, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let Some(fd) = open_by_id(root, local, OFlags::PATH | OFlags::NOFOLLOW)? else { return Ok(()) };
    let is_dir = rustix::fs::fstat(&fd)?.st_mode & 0o170_000 == 0o040_000;
    let give = || match is_dir {
        false => rustix::fs::linkat(&fd, c"", dir, name, AtFlags::EMPTY_PATH),
        true => {
            let fd = open_by_id(root, local, DIR)?.ok_or(Errno::NOENT)?;
            let (parent, old) = names::find_dir(root, local, fd.as_fd())?;
            rustix::fs::renameat_with(&parent, &old, dir, name, RenameFlags::NOREPLACE)
        }
    };
    match give() {
        Err(Errno::PERM | Errno::ACCESS) => {
            unlock_object(root, local)?;
            give()
        }
        done => done,
    }
}

fn open_for_content(root: &Root, local: FileId) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOATIME | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match open_by_id(root, local, flags) {
        Err(Errno::PERM | Errno::ACCESS) => {
            unlock_object(root, local)?;
            open_by_id(root, local, flags)
        }
        opened => opened,
    }
}

pub(in crate::replica) fn unlock_object(root: &Root, local: FileId) -> Result<(), Errno> {
    match open_object(root, local)? {
        Some((fd, false)) => unlock(fd.as_fd()).map(|_| ()),
        _ => Ok(()),
    }
}
