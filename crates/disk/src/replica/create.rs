//! Making new files. They get their id before they get a name, and inherit nothing from the directory that they go to.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use stead_model::{Attr, FileId};
use zerocopy::{FromBytes, IntoBytes};

use super::ground::DIR;
use super::map::Slot;
use super::names::{Dir, From};
use super::{ApplyError, IdStorage, Replica};
use crate::ID_XATTR;
use crate::volume::file_id_of;
use crate::xattr::{self, Target};

impl Replica {
    /// Makes a file of that type with owner and permissions, without a name outside of the holding directory.
    pub(super) fn create(
        &mut self,
        file: FileId,
        attr: &Attr,
        symlink: &[u8],
        volume: usize,
    ) -> Result<From, ApplyError> {
        let holding = self.holding(volume);
        let name = self.hold_name_for_new(file);
        let made = if attr.is_file() { make_unnamed(&holding, attr) } else { Err(Errno::OPNOTSUPP) };
        let (fd, path_only, from) = match made {
            Ok(fd) => (fd, false, From::Linked),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let mut made = make_named(&holding, &name, attr, symlink);
                if matches!(made, Err(Errno::EXIST)) {
                    self.clear_holding_name(&holding, &name)?;
                    made = make_named(&holding, &name, attr, symlink);
                }
                let (fd, path_only) = made.map_err(|errno| self.failed_in("create", &holding, &name, errno))?;
                (fd, path_only, From::Named(holding.clone(), name.clone()))
            }
            Err(errno) => return Err(self.failed_in("create", &holding, &name, errno)),
        };
        self.take_in(file, attr, fd, path_only, volume)?;
        if matches!(from, From::Named(..)) {
            self.held.insert(file);
        }
        Ok(from)
    }

    /// Makes a file under its name at once, where nothing can be inherited and the name is free: the quickest way. For
    /// a moment it is there without its id; who finds it so after a crash makes it anew.
    pub(super) fn create_at(
        &mut self,
        file: FileId,
        attr: &Attr,
        symlink: &[u8],
        dir: &Dir,
        name: &CStr,
    ) -> Result<bool, ApplyError> {
        if !dir.id.is_some_and(|id| self.handles.is_plain(id)) {
            return Ok(false);
        }
        self.before_name(dir, name)?;
        match make_named(dir, name, attr, symlink) {
            Ok((fd, path_only)) => {
                self.take_in(file, attr, fd, path_only, dir.volume())?;
                self.stated(dir, name);
                Ok(true)
            }
            Err(Errno::EXIST | Errno::PERM | Errno::ACCESS) => Ok(false),
            Err(errno) => Err(self.failed_in("create", dir, name, errno)),
        }
    }

    /// A file that was just made becomes the source's.
    fn take_in(
        &mut self,
        file: FileId,
        attr: &Attr,
        fd: OwnedFd,
        path_only: bool,
        volume: usize,
    ) -> Result<(), ApplyError> {
        let local = file_id_of(&self.ground.volumes[volume].root, fd.as_fd());
        let local = local.map_err(|errno| self.failed("identify", file, errno))?;
        self.note_new(local)?;
        self.write_id(file, Target { fd: fd.as_fd(), path_only })?;
        self.handles.forget(file);
        self.handles.keep(file, fd, path_only).map_err(|errno| self.failed("open", file, errno))?;
        self.handles.note_made(file);
        // The map learns of it last: what is not wholly made is made anew.
        if let Err(errno) = self.handles.set_owner_and_mode(file, attr) {
            let error = self.failed("set the owner of", file, errno);
            self.handles.forget(file);
            return Err(error);
        }
        self.map.insert(Slot::new(file, local, attr.mode));
        self.map.mark(file, self.mark);
        Ok(())
    }

    /// Takes what has the name as the source's file: it is of the same type, and nobody else's.
    pub(super) fn adopt(&mut self, file: FileId, attr: &Attr, local: FileId) -> Result<bool, ApplyError> {
        let root = &self.ground.volumes[local.volume as usize].root;
        let kind = (attr.mode >> 12) as u8;
        let mut opened = super::handles::open(root, local, kind, self.images.is_none());
        if self.images.is_some() && matches!(opened, Err(Errno::PERM | Errno::ACCESS)) {
            self.before_local(local)?;
            opened = super::handles::open(&self.ground.volumes[local.volume as usize].root, local, kind, true);
        }
        let Some((fd, path_only, taken)) = opened.map_err(|errno| self.failed("open", file, errno))? else {
            return Ok(false);
        };
        self.tap_adopted();
        self.handles.forget(file);
        self.map.insert(Slot::new(file, local, attr.mode));
        self.map.mark(file, self.mark);
        let handle = self.handles.keep(file, fd, path_only).map_err(|errno| self.failed("open", file, errno))?;
        if let Some(flags) = taken {
            self.handles.restore_flags(file, flags);
        }
        self.before_object(file)?;
        self.unlock(file)?;
        self.write_id(file, handle.target())?;
        Ok(true)
    }

    /// Does what has the name carry that file's id, without being in the map?
    pub(super) fn carries_id(
        &mut self,
        dir: &Dir,
        name: &CStr,
        local: FileId,
        file: FileId,
    ) -> Result<bool, ApplyError> {
        if self.ids == IdStorage::MapOnly || self.map.id_of(local).is_some() {
            return Ok(false);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = match rustix::fs::openat(dir.fd(), name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            opened => opened.map_err(|errno| self.failed_in("open", dir, name, errno))?,
        };
        Ok(read_id(Target { fd: fd.as_fd(), path_only: true }) == Some(file))
    }

    pub(super) fn write_id(&mut self, file: FileId, target: Target<'_>) -> Result<(), ApplyError> {
        if self.ids == IdStorage::MapOnly {
            return Ok(());
        }
        xattr::set(target, ID_XATTR.as_bytes(), file.as_bytes())
            .map_err(|errno| self.failed("write the id of", file, errno))
    }

    fn hold_name_for_new(&self, file: FileId) -> CString {
        self.holding_place(file).1
    }
}

/// The id that an object carries.
pub(super) fn read_id(target: Target<'_>) -> Option<FileId> {
    let mut id = [0; size_of::<FileId>()];
    match xattr::get_into(target, ID_XATTR.as_bytes(), &mut id) {
        Ok(len) if len == id.len() => FileId::read_from_bytes(&id).ok().filter(|id| !id.is_none()),
        _ => None,
    }
}

fn make_unnamed(holding: &Dir, attr: &Attr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(holding.fd(), c".", flags, Mode::from_raw_mode(attr.permissions() & 0o777))
}

fn make_named(holding: &Dir, name: &CStr, attr: &Attr, symlink: &[u8]) -> Result<(OwnedFd, bool), Errno> {
    let mode = Mode::from_raw_mode(attr.permissions() & 0o777);
    let kind = FileType::from_raw_mode(attr.mode);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
    match kind {
        FileType::RegularFile => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
            return Ok((rustix::fs::openat(holding.fd(), name, flags, mode)?, false));
        }
        FileType::Directory => {
            rustix::fs::mkdirat(holding.fd(), name, mode)?;
            return Ok((rustix::fs::openat(holding.fd(), name, DIR, Mode::empty())?, false));
        }
        FileType::Symlink => rustix::fs::symlinkat(symlink, holding.fd(), name)?,
        FileType::Unknown => return Err(Errno::INVAL),
        _ => rustix::fs::mknodat(holding.fd(), name, kind, mode, attr.rdev)?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(holding.fd(), name, flags, Mode::empty())?, true))
}

/// Is it still what `file_id_at` found? Used before an object is taken over.
pub(super) fn same_kind(dir: &Dir, name: &CStr, attr: &Attr, symlink: &[u8]) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mode & 0o170_000 != attr.mode & 0o170_000 {
        return Ok(false);
    }
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(dir.fd(), name, Vec::new())?.to_bytes() == symlink,
        FileType::CharacterDevice | FileType::BlockDevice => stat.st_rdev == attr.rdev,
        _ => true,
    })
}
