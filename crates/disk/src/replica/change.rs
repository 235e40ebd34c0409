//! Changes that capture recorded.

use std::ffi::CString;

use rustix::fs::RenameFlags;
use stead_model::record::{DISPROVED, flags};
use stead_model::{FileId, Kind, Record};

use super::create::same_kind;
use super::names::{Dir, From, checked_name};
use super::{ApplyError, Replica};

impl Replica {
    pub(super) fn change(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        match record.kind {
            Kind::Create => return self.created(record),
            Kind::Link => return self.linked(record),
            Kind::Unlink => return self.unlinked(record),
            Kind::Rename => return self.renamed(record),
            Kind::Sync => return Ok(()),
            Kind::Lost if record.c == DISPROVED => {
                self.map.disprove(record.file);
                return Ok(());
            }
            Kind::Lost => {
                self.lost(record);
                return Ok(());
            }
            _ => {}
        }
        let file = record.file;
        if self.handle(file)?.is_none() {
            return self.skip(record, file);
        }
        match record.kind {
            Kind::Write => self.write(record),
            Kind::Truncate => self.truncate(record),
            Kind::Allocate => self.allocate(record),
            Kind::SetAttr => self.set_attr(record),
            Kind::SetXattr => self.change_xattr(record, true),
            Kind::RemoveXattr => self.change_xattr(record, false),
            Kind::SetFlags => {
                self.follow(record)?;
                self.on_handle(file, "set the flags of", |handles| handles.set_flags(file, record.c))
            }
            _ => Ok(()),
        }
    }

    fn created(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        if record.attr.file_type().is_none() {
            return Err(ApplyError::Corrupt { file, kind: record.kind, what: "no file type" });
        }
        let known = self.map.get(file).is_some() && self.handle(file)?.is_some();
        let Some((dir, name)) = self.place(record, record.parent, record.name)? else {
            // Unnamed (O_TMPFILE), or its directory is not here: it waits in the holding directory.
            if !known {
                let volume = self.volume_for(None);
                self.create(file, &record.attr, record.data, volume)?;
                self.born(record)?;
                self.hold(file)?;
                self.map.set_unnamed(file, record.name.is_empty());
            }
            return Ok(());
        };
        if known {
            self.put(file, &dir, &name, None, FileId::NONE)?;
        } else if self.create_at(file, &record.attr, record.data, &dir, &name)? {
            self.born(record)?;
        } else if !self.recognised(record, &dir, &name)? {
            let from = self.create(file, &record.attr, record.data, dir.volume())?;
            self.born(record)?;
            self.put(file, &dir, &name, Some(from), FileId::NONE)?;
        }
        self.stamp_parents(record)
    }

    /// A replay meets what it made before the crash: it carries the file's id already.
    fn recognised(&mut self, record: &Record<'_>, dir: &Dir, name: &CString) -> Result<bool, ApplyError> {
        if !self.replaying {
            return Ok(false);
        }
        let Some(local) = self.lookup(dir, name)? else { return Ok(false) };
        if !self.carries_id(dir, name, local, record.file)? {
            return Ok(false);
        }
        let same = same_kind(dir, name, &record.attr, record.data);
        if !same.map_err(|errno| self.failed_in("stat", dir, name, errno))? {
            return Ok(false);
        }
        let adopted = self.adopt(record.file, &record.attr, local)?;
        if adopted {
            self.equip(record.file, &record.attr, &Default::default(), false)?;
            if record.attr.is_file() {
                self.set_size(record.file, 0)?;
            }
            self.born(record)?;
            self.stated(dir, name);
        }
        Ok(adopted)
    }

    /// A new file is equal until a change is lost.
    fn born(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        self.before_object(record.file)?;
        self.handles.set_times(record.file, Some(record.attr.atime()), Some(record.attr.mtime()));
        self.advance(record.file, record.attr.ctime(), record.attr.size);
        Ok(())
    }

    fn linked(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        if self.handle(record.file)?.is_none() {
            return self.skip(record, record.file);
        }
        self.map.touch(record.file);
        if let Some((dir, name)) = self.place(record, record.parent, record.name)? {
            self.put(record.file, &dir, &name, None, FileId::NONE)?;
        }
        self.stamp_parents(record)
    }

    fn unlinked(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let dies = record.attr.nlink == 0;
        let leaves = record.flags & flags::SUBTREE != 0;
        if let Some((dir, name)) = self.place(record, record.parent, record.name)? {
            if leaves {
                self.take_tree(record.file, &dir, &name)?;
            } else {
                self.take_name(record.file, &dir, &name, dies)?;
            }
        }
        if (dies || leaves) && !record.file.is_none() {
            self.kill(record.file)?;
        }
        self.stamp_parents(record)
    }

    /// The name leaves the set with all beneath it.
    fn take_tree(&mut self, file: FileId, dir: &Dir, name: &CString) -> Result<(), ApplyError> {
        let Some(local) = self.lookup(dir, name)? else { return Ok(()) };
        let known = self.map.id_of(local);
        let wanted = if file.is_none() { known.is_none() } else { known == Some(file) };
        if !wanted || known.is_some_and(|file| self.is_root(file)) {
            return Ok(());
        }
        self.remove_tree(known, dir, name)
    }

    fn renamed(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let (file, names) = (record.file, &record.names);
        self.map.touch(file);
        let old = self.place(record, record.parent, record.name)?;
        let new = self.place(record, names.parent2, record.name2)?;
        if record.c & RenameFlags::EXCHANGE.bits() != 0 {
            self.exchanged(record, old, new)?;
            self.stamp_moved(record)?;
            return self.stamp_parents(record);
        }
        if self.handle(file)?.is_none() {
            self.skip(record, file)?;
            // Who died later took the name all the same.
            if let Some((dir, name)) = new.filter(|_| !names.victim.is_none()) {
                self.take_name(names.victim, &dir, &name, record.a == 0)?;
            }
        } else {
            self.moved(file, old, new, if record.a == 0 { names.victim } else { FileId::NONE })?;
        }
        if !names.victim.is_none() && record.a == 0 && names.victim != file {
            self.kill(names.victim)?;
        }
        self.stamp_moved(record)?;
        self.stamp_parents(record)
    }

    /// Some file systems (xfs) count a directory's move as a change of its content.
    fn stamp_moved(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        let is_dir = self.map.get(file).is_some_and(|slot| slot.is_dir());
        if record.attr.mode != 0 && is_dir && self.handle(file)?.is_some() {
            self.before_object(file)?;
            self.handles.set_times(file, None, Some(record.attr.mtime()));
        }
        Ok(())
    }

    fn moved(
        &mut self,
        file: FileId,
        old: Option<(Dir, CString)>,
        new: Option<(Dir, CString)>,
        dead: FileId,
    ) -> Result<(), ApplyError> {
        let at_old = match &old {
            Some((dir, name)) => self.is_at(file, dir, name)?,
            None => false,
        };
        let Some((dir, name)) = new else {
            // Its new directory is not here: it must not keep the old name, though.
            return match old.filter(|_| at_old) {
                Some((dir, name)) => {
                    self.hold(file)?;
                    self.take_name(file, &dir, &name, false)
                }
                None => Ok(()),
            };
        };
        if !at_old {
            return self.put(file, &dir, &name, None, dead);
        }
        let Some((old_dir, old_name)) = old else { return Ok(()) };
        if old_dir.local == dir.local && old_name == name {
            return Ok(());
        }
        self.put(file, &dir, &name, Some(From::Named(old_dir, old_name)), dead)?;
        self.unhold(file)
    }

    fn exchanged(
        &mut self,
        record: &Record<'_>,
        old: Option<(Dir, CString)>,
        new: Option<(Dir, CString)>,
    ) -> Result<(), ApplyError> {
        let (file, victim) = (record.file, record.names.victim);
        let (file_here, victim_here) = (self.handle(file)?.is_some(), self.handle(victim)?.is_some());
        if victim_here {
            self.before_object(victim)?;
        }
        if victim_here && self.map.get(victim).is_some_and(|slot| slot.is_dir()) {
            self.handles.keep_mtime(victim).map_err(|errno| self.failed("stat", victim, errno))?;
        }
        if let (Some((dir, name)), Some((dir2, name2))) = (&old, &new)
            && self.is_at(file, dir, name)?
            && self.is_at(victim, dir2, name2)?
        {
            return self.exchange(dir, name, dir2, name2);
        }
        if file_here {
            self.moved(file, old.clone(), new.clone(), FileId::NONE)?;
        } else {
            self.skip(record, file)?;
        }
        if victim_here { self.moved(victim, new, old, FileId::NONE) } else { self.skip(record, victim) }
    }

    /// Directory and name; `None` where there is no name, or the directory is not here and need not be.
    fn place(
        &mut self,
        record: &Record<'_>,
        parent: FileId,
        name: &[u8],
    ) -> Result<Option<(Dir, CString)>, ApplyError> {
        if parent.is_none() || name.is_empty() {
            return Ok(None);
        }
        let name = checked_name(record, name)?;
        match self.dir(parent)? {
            Some(dir) => Ok(Some((dir, name))),
            None => self.skip(record, parent).map(|()| None),
        }
    }
}
