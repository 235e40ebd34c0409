//! Owner, permissions, times, xattrs, flags.

use rustix::io::Errno;
use stead_model::record::Extras;
use stead_model::{Attr, AttrMask, FileId, Record};

use super::handles::Handles;
use super::{ApplyError, Class, Replica};
use crate::xattr;

const CAPABILITY: &[u8] = b"security.capability";

impl Replica {
    /// Does something to an open file; where its flags forbid that, without them.
    pub(super) fn on_handle(
        &mut self,
        file: FileId,
        operation: &'static str,
        act: impl Fn(&mut Handles) -> Result<(), Errno>,
    ) -> Result<(), ApplyError> {
        self.before_object(file)?;
        let mut done = act(&mut self.handles);
        if matches!(done, Err(Errno::PERM | Errno::ACCESS)) {
            self.unlock(file)?;
            done = act(&mut self.handles);
        }
        match done {
            Err(errno) if self.go_without && Class::of(errno) == Class::NotSupported => Ok(()),
            done => done.map_err(|errno| self.failed(operation, file, errno)),
        }
    }

    /// Owner, permissions and xattrs as a scan gives them.
    pub(super) fn equip(&mut self, file: FileId, attr: &Attr, extras: &Extras, fresh: bool) -> Result<(), ApplyError> {
        if self.is_borrowed(file) || self.handle(file)?.is_none() {
            return Ok(());
        }
        self.on_handle(file, "set the owner of", |handles| handles.set_owner_and_mode(file, attr))?;
        if fresh && extras.xattrs.is_empty() {
            return Ok(());
        }
        let Some(handle) = self.handle(file)? else { return Ok(()) };
        let present = if fresh { Ok(Vec::new()) } else { xattr::all(handle.target()) };
        let present = present.map_err(|errno| self.failed("read the xattrs of", file, errno))?;
        for (name, _) in present.iter().filter(|(name, _)| !extras.xattrs.iter().any(|(kept, _)| kept == name)) {
            self.remove_xattr(file, name)?;
        }
        for (name, value) in extras.xattrs.iter().filter(|xattr| !present.contains(xattr)) {
            if name == CAPABILITY && attr.is_file() {
                self.handles.set_capability(file, value);
            } else {
                self.set_xattr(file, name, value)?;
            }
        }
        self.on_handle(file, "stat", |handles| handles.refresh(file))?;
        self.on_handle(file, "set the owner of", |handles| handles.set_owner_and_mode(file, attr))
    }

    /// The last attributes of a file whose content is there: after it the file is proven equal.
    pub(super) fn conclude(&mut self, file: FileId, attr: &Attr) -> Result<(), ApplyError> {
        if self.is_borrowed(file) || self.handle(file)?.is_none() {
            return Ok(());
        }
        self.on_handle(file, "set the owner of", |handles| handles.set_owner_and_mode(file, attr))?;
        self.handles.set_times(file, Some(attr.atime()), Some(attr.mtime()));
        if attr.is_file() || attr.is_dir() {
            self.on_handle(file, "set the flags of", |handles| handles.set_flags(file, attr.flags))?;
        }
        self.map.prove(file, attr.ctime(), attr.size);
        Ok(())
    }

    /// What every change record says about its file.
    pub(super) fn follow(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let (file, attr) = (record.file, &record.attr);
        if attr.mode == 0 {
            return Ok(());
        }
        self.on_handle(file, "set the owner of", |handles| handles.set_owner_and_mode(file, attr))?;
        self.handles.set_times(file, Some(attr.atime()), Some(attr.mtime()));
        self.came(file, attr);
        Ok(())
    }

    pub(super) fn set_attr(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let (file, attr, mask) = (record.file, &record.attr, AttrMask(record.c));
        if mask.has(AttrMask::OWNER) {
            self.handles.drop_capability(file);
            self.on_handle(file, "set the owner of", |handles| handles.set_owner(file, attr))?;
        }
        // Nothing but what the mask names: the times of a directory may come alone. A new owner drops setuid.
        if mask.has(AttrMask::MODE) || mask.has(AttrMask::OWNER) {
            self.on_handle(file, "set the permissions of", |handles| handles.set_mode(file, attr))?;
        }
        self.before_object(file)?;
        let time = |kind, time| mask.has(kind).then_some(time);
        self.handles.set_times(file, time(AttrMask::ATIME, attr.atime()), time(AttrMask::MTIME, attr.mtime()));
        self.came(file, attr);
        Ok(())
    }

    pub(super) fn change_xattr(&mut self, record: &Record<'_>, set: bool) -> Result<(), ApplyError> {
        if !xattr::is_replicated(record.name) {
            return Ok(());
        }
        if record.name == CAPABILITY {
            self.handles.drop_capability(record.file);
        }
        if set {
            self.set_xattr(record.file, record.name, record.data)?;
        } else {
            self.remove_xattr(record.file, record.name)?;
        }
        let file = record.file;
        if record.name.starts_with(b"system.posix_acl_") {
            self.on_handle(file, "stat", |handles| handles.refresh(file))?;
        }
        self.follow(record)
    }

    fn set_xattr(&mut self, file: FileId, name: &[u8], value: &[u8]) -> Result<(), ApplyError> {
        let Some(handle) = self.handle(file)? else { return Ok(()) };
        self.on_handle(file, "set an xattr of", |_| xattr::set(handle.target(), name, value))
    }

    fn remove_xattr(&mut self, file: FileId, name: &[u8]) -> Result<(), ApplyError> {
        let Some(handle) = self.handle(file)? else { return Ok(()) };
        self.on_handle(file, "remove an xattr of", |_| xattr::remove(handle.target(), name))
    }
}
