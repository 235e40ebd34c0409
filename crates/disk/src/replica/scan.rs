//! Scans: mirror, difference, and what both share with verify.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

use rustix::fs::AtFlags;
use stead_model::record::{Extras, Purpose};
use stead_model::{Attr, FileId, Kind, Record, Time};
use xxhash_rust::xxh3::xxh3_128;

use super::create::same_kind;
use super::holding::entries;
use super::map::Slot;
use super::names::{Dir, checked_name};
use super::{ApplyError, Difference, Need, Orphans, Outcome, Replica, What};
use crate::HOLDING;
use crate::xattr::Target;

/// A replica of fewer objects may be emptied without being asked.
const EMPTIED_MIN: u64 = 10;

/// A ctime this close to the last word of the source proves nothing: a later change may carry the same.
const YOUNG_NS: i128 = 20_000_000;

/// The scan under way.
#[derive(Debug)]
pub(super) struct Scan {
    pub purpose: Purpose,
    /// Latest time of a record before it began, or before something was lost.
    pub heard: u64,
    listings: HashMap<FileId, Names>,
}

/// Names of a directory that no record has stated since its DirBegin, by hash; with their inode number while it is as
/// it was listed, else 0.
type Names = HashMap<u128, u64>;

impl Replica {
    pub(super) fn scanned(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let file = record.file;
        match record.kind {
            Kind::ScanBegin => self.begin_scan(record),
            Kind::ScanEnd => self.end_scan(record, out),
            Kind::Node if self.purpose_of(record)?.compares() => self.verify_node(record, out),
            Kind::Node => self.node(record, out),
            Kind::Chunk => self.chunk(record),
            Kind::Hash => self.compare(record, out),
            Kind::DirBegin => self.begin_dir(file),
            Kind::DirEnd => self.end_dir(record, out),
            Kind::NodeEnd => self.end_node(record),
            _ => Ok(()),
        }
    }

    /// The name belongs to who has it now.
    pub(super) fn stated(&mut self, dir: &Dir, name: &CStr) {
        if let Some(names) = self.scan.as_mut().and_then(|scan| scan.listings.get_mut(&dir.local)) {
            names.remove(&xxh3_128(name.to_bytes()));
        }
    }

    /// The name is no longer what was listed.
    pub(super) fn touched(&mut self, dir: &Dir, name: &CStr) {
        if let Some(names) = self.scan.as_mut().and_then(|scan| scan.listings.get_mut(&dir.local))
            && let Some(ino) = names.get_mut(&xxh3_128(name.to_bytes()))
        {
            *ino = 0;
        }
    }

    pub(super) fn purpose_of(&self, record: &Record<'_>) -> Result<Purpose, ApplyError> {
        let corrupt = ApplyError::Corrupt { file: record.file, kind: record.kind, what: "no purpose" };
        Purpose::from_u32(record.c).ok_or(corrupt)
    }

    fn begin_scan(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let purpose = self.purpose_of(record)?;
        // What the last scan left over goes by what that scan said.
        self.purge_rest()?;
        self.purges_after_scan = false;
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            self.map.unmark_all();
            self.mark = 1;
        }
        let heard = self.doubts.since().unwrap_or(self.heard).min(self.heard);
        self.scan = Some(Scan { purpose, heard, listings: HashMap::new() });
        self.differing.clear();
        if !purpose.compares() {
            self.unfinished = Some(purpose);
            self.doubts.scan_begins();
        }
        Ok(())
    }

    /// Removes what the scan did not name. One that was cut off by a crash ends without a beginning: it removes nothing.
    fn end_scan(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let purpose = self.purpose_of(record)?;
        if self.scan.is_none() {
            return Ok(());
        }
        if !purpose.compares() {
            self.put_deferred()?;
            if let Some(most) = self.policy.removals_max.filter(|_| !self.removals_accepted) {
                let objects = self.count_unclaimed()?;
                if objects > most || self.is_emptied_by(objects) {
                    out.would_remove = Some(objects);
                    return Ok(());
                }
            }
            self.doubts.scan_ended(record);
            if self.doubts.is_empty() {
                self.purges_after_scan = true;
                self.purge_holding()?;
            }
            self.unfinished = None;
            self.removals_accepted = false;
        }
        self.scan = None;
        self.differing.clear();
        Ok(())
    }

    /// Would nothing be left but the roots? Then the source's directory was emptied, or is another one.
    fn is_emptied_by(&self, objects: u64) -> bool {
        objects >= EMPTIED_MIN && self.map.len() as u64 <= objects + self.ground.roots.len() as u64
    }

    fn node(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let (file, attr) = (record.file, &record.attr);
        if attr.file_type().is_none() {
            return Err(ApplyError::Corrupt { file, kind: record.kind, what: "no file type" });
        }
        let purpose = self.purpose_of(record)?;
        if record.parent.is_none() && record.name.is_empty() {
            // The file, whatever it is called.
            return self.settle_node(record, purpose, Origin::Known, out);
        }
        let scans = self.scan.as_ref().is_some_and(|scan| !scan.is_verify());
        let told = scans && self.map.get(file).is_some_and(|slot| slot.mark == self.mark);
        let origin = if record.parent.is_none() {
            self.bind_root(record)?;
            Origin::Known
        } else {
            self.place_node(record)?
        };
        self.map.mark(file, self.mark);
        if told && origin == Origin::Known {
            // One more name of a file whose content has come, or is coming.
            return Ok(());
        }
        self.settle_node(record, purpose, origin, out)
    }

    /// A root of the set is a root of the replica, whatever it was called.
    fn bind_root(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let file = record.file;
        let index = std::str::from_utf8(record.name).ok().and_then(|name| name.parse::<usize>().ok());
        let root = index.and_then(|index| self.ground.roots.get(index));
        let corrupt = ApplyError::Corrupt { file, kind: record.kind, what: "no such root" };
        let local = root.ok_or(corrupt)?.local;
        if self.map.get(file).is_none_or(|slot| slot.local != local) {
            self.handles.forget(file);
            if let Some(former) = self.map.id_of(local) {
                self.forget(former);
            }
            self.map.insert(Slot::new(file, local, record.attr.mode));
            let borrowed = self.is_borrowed(file);
            if let Some(handle) = self.handle(file)?.filter(|_| !borrowed) {
                self.before_object(file)?;
                self.write_id(file, Target { fd: handle.fd(), path_only: false })?;
            }
        }
        self.map.mark(file, self.mark);
        Ok(())
    }

    /// Sees to it that the name is the file, by whatever is nearest: it is so already, the file is known by another
    /// name, something unknown of its type has the name, or it is made.
    fn place_node(&mut self, record: &Record<'_>) -> Result<Origin, ApplyError> {
        let file = record.file;
        let name = checked_name(record, record.name)?;
        let Some(dir) = self.dir(record.parent)? else {
            self.skip(record, record.parent)?;
            return self.node_without_place(record);
        };
        if self.is_listed(file, &dir, &name) {
            self.stated(&dir, &name);
            self.unhold(file)?;
            return Ok(Origin::Known);
        }
        let known = self.map.get(file).is_some() && self.handle(file)?.is_some();
        if !known && self.create_at(file, &record.attr, &symlink(record)?, &dir, &name)? {
            return Ok(Origin::New);
        }
        if known && !self.is_root(file) {
            self.put(file, &dir, &name, None, FileId::NONE)?;
            if self.map.get(file).is_some() {
                return Ok(Origin::Known);
            }
        }
        if self.take_over(record, &dir, &name)? {
            self.stated(&dir, &name);
            return Ok(Origin::Adopted);
        }
        let from = self.create(file, &record.attr, &symlink(record)?, dir.volume())?;
        self.put(file, &dir, &name, Some(from), FileId::NONE)?;
        Ok(Origin::New)
    }

    /// Its directory is not here yet: it waits in the holding directory.
    fn node_without_place(&mut self, record: &Record<'_>) -> Result<Origin, ApplyError> {
        let file = record.file;
        if self.map.get(file).is_some() && self.handle(file)?.is_some() {
            return Ok(Origin::Known);
        }
        let volume = self.volume_for(None);
        self.create(file, &record.attr, &symlink(record)?, volume)?;
        self.hold(file)?;
        Ok(Origin::New)
    }

    /// Was the name listed as this very file, and untouched since? Spares a look.
    pub(super) fn is_listed(&self, file: FileId, dir: &Dir, name: &CStr) -> bool {
        let Some(slot) = self.map.get(file) else { return false };
        let names = self.scan.as_ref().and_then(|scan| scan.listings.get(&dir.local));
        let ino = names.and_then(|names| names.get(&xxh3_128(name.to_bytes())));
        slot.local.volume == dir.local.volume && ino == Some(&slot.local.ino)
    }

    fn take_over(&mut self, record: &Record<'_>, dir: &Dir, name: &CString) -> Result<bool, ApplyError> {
        let Some(local) = self.lookup(dir, name)? else { return Ok(false) };
        if self.map.id_of(local).is_some() {
            return Ok(false);
        }
        let same = same_kind(dir, name, &record.attr, &symlink(record)?);
        if !same.map_err(|errno| self.failed_in("stat", dir, name, errno))? {
            return Ok(false);
        }
        self.adopt(record.file, &record.attr, local)
    }

    /// Attributes, and what is still needed.
    fn settle_node(
        &mut self,
        record: &Record<'_>,
        purpose: Purpose,
        origin: Origin,
        out: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let (file, attr) = (record.file, &record.attr);
        if purpose == Purpose::Difference && origin == Origin::Known && self.is_proven(file, attr) {
            return Ok(());
        }
        self.equip(file, attr, &extras(record)?, origin == Origin::New)?;
        if !attr.is_file() {
            return if attr.is_dir() { Ok(()) } else { self.conclude(file, attr) };
        }
        match purpose {
            // Content comes unasked. What is proven may be ahead of the node, or behind where it was held while it was out of
            // the set: it is proven again where its content has come.
            Purpose::Mirror if origin != Origin::New && self.proven(file).is_none() => self.shorten(file, attr.size)?,
            Purpose::Mirror => self.map.disprove(file),
            Purpose::Difference => {
                self.map.disprove(file);
                let all = origin == Origin::New || attr.size == 0;
                let ranges = vec![(0, u64::MAX)];
                out.needs.push(if all { Need::Content { file, ranges } } else { Need::Hash { file } });
            }
            _ => {}
        }
        Ok(())
    }

    fn shorten(&mut self, file: FileId, size: u64) -> Result<(), ApplyError> {
        let Some(handle) = self.handle(file)? else { return Ok(()) };
        let now = rustix::fs::fstat(handle.fd()).map_err(|errno| self.failed("stat", file, errno))?;
        if now.st_size as u64 > size { self.set_size(file, size) } else { Ok(()) }
    }

    pub(super) fn is_proven(&self, file: FileId, attr: &Attr) -> bool {
        let Some((ctime, size)) = self.proven(file) else { return false };
        let same = ctime == attr.ctime() && (size == attr.size || attr.is_dir());
        let heard = self.scan.as_ref().map_or(0, |scan| scan.heard);
        same && nanoseconds(ctime) + YOUNG_NS < i128::from(heard)
    }

    fn end_node(&mut self, record: &Record<'_>) -> Result<(), ApplyError> {
        let (file, attr) = (record.file, &record.attr);
        if self.handle(file)?.is_none() {
            return self.skip(record, file);
        }
        if attr.is_file() {
            self.set_size(file, attr.size)?;
        }
        self.conclude(file, attr)?;
        if attr.is_file() {
            // A mirror meets each file once: it need not stay open.
            self.handles.finish(file).map_err(|errno| self.failed("set the times of", file, errno))?;
        }
        Ok(())
    }

    fn begin_dir(&mut self, file: FileId) -> Result<(), ApplyError> {
        let Some(dir) = self.dir(file)? else { return Ok(()) };
        if self.scan.is_none() {
            return Ok(());
        }
        let at_root = self.is_root(file);
        let listed = super::holding::inodes(&dir).map_err(|errno| self.failed("list", file, errno))?;
        let names = listed
            .into_iter()
            .filter(|(name, _)| !(at_root && name.to_bytes() == HOLDING))
            .map(|(name, ino)| (xxh3_128(name.to_bytes()), ino))
            .collect();
        if let Some(scan) = &mut self.scan {
            scan.listings.insert(dir.local, names);
        }
        Ok(())
    }

    fn end_dir(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let file = record.file;
        let Some(dir) = self.dir(file)? else { return self.skip(record, file) };
        let Some(scan) = &mut self.scan else { return Ok(()) };
        let purpose = scan.purpose;
        let left = scan.listings.remove(&dir.local).unwrap_or_default();
        if !left.is_empty() {
            self.clear_unstated(file, &dir, &left, purpose, out)?;
        }
        if !purpose.compares() && record.attr.mode != 0 {
            self.conclude(file, &record.attr)?;
        }
        Ok(())
    }

    /// Names that no record stated: to the holding directory, unless the rules leave them out of the set.
    fn clear_unstated(
        &mut self,
        file: FileId,
        dir: &Dir,
        left: &Names,
        purpose: Purpose,
        out: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let listed = entries(dir).map_err(|errno| self.failed("list", file, errno))?;
        let inner = super::ground::path_of_fd(dir.fd()).map_err(|errno| self.failed("locate", file, errno))?;
        let at_root = self.is_root(file);
        if !purpose.compares() && self.images.is_some() {
            let unstated = listed.iter().filter(|(name, _)| left.contains_key(&xxh3_128(name.to_bytes())));
            unstated
                .filter(|(name, _)| name.to_bytes() != HOLDING)
                .try_for_each(|(name, _)| self.note_name(dir, name))?;
            self.commit_images()?;
        }
        for (name, kind) in listed {
            let is_holding = at_root && name.to_bytes() == HOLDING;
            if is_holding || !left.contains_key(&xxh3_128(name.to_bytes())) {
                continue;
            }
            use std::os::unix::ffi::OsStrExt;
            let inner = inner.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let (root, path) = self.ground.path_for_people(&inner).unwrap_or((0, inner));
            let root = &self.ground.roots[root];
            if !root.rules.take(path.as_os_str().as_bytes(), kind == rustix::fs::FileType::Directory) {
                continue;
            }
            if purpose.compares() {
                let path = root.path.join(path);
                let local = self.lookup(dir, &name)?;
                let known = local.and_then(|local| self.map.id_of(local)).unwrap_or(FileId::NONE);
                let name = name.to_bytes().to_vec();
                out.differs.push(Difference { file: known, parent: file, name, path, what: What::Extra });
            } else {
                self.displace(dir, &name)?;
            }
        }
        Ok(())
    }

    fn displace(&mut self, dir: &Dir, name: &CStr) -> Result<(), ApplyError> {
        let known = self.lookup(dir, name)?.and_then(|local| self.map.id_of(local));
        let Some(file) = known else {
            return match self.policy.orphans {
                Orphans::Delete => self.move_to_holding(None, dir, name),
                Orphans::MoveAside => self.move_aside(dir, name),
                Orphans::Keep => Ok(()),
            };
        };
        if self.held.contains(&file) {
            return self.remove_name(dir, name, false);
        }
        let stat = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed_in("stat", dir, name, errno))?;
        let is_dir = stat.st_mode & 0o170_000 == 0o040_000;
        if !is_dir && stat.st_nlink > 1 {
            return self.remove_name(dir, name, false);
        }
        if let Some(slot) = self.map.get(file).copied() {
            self.note_removed(dir, name, slot.local, &stat);
        }
        self.move_to_holding(known, dir, name)
    }
}

impl Scan {
    pub(super) fn is_verify(&self) -> bool {
        self.purpose.compares()
    }
}

/// What a purpose means here.
trait Compares {
    /// Does the target compare and report, and change nothing?
    fn compares(self) -> bool;
}

impl Compares for Purpose {
    fn compares(self) -> bool {
        matches!(self, Purpose::Verify | Purpose::Repair)
    }
}

/// How a node came to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Known,
    Adopted,
    New,
}

pub(super) fn extras(record: &Record<'_>) -> Result<Extras, ApplyError> {
    let corrupt = |_| ApplyError::Corrupt { file: record.file, kind: record.kind, what: "malformed extras" };
    Extras::parse(record.data).map_err(corrupt)
}

fn symlink(record: &Record<'_>) -> Result<Vec<u8>, ApplyError> {
    Ok(if record.attr.mode & 0o170_000 == 0o120_000 { extras(record)?.target } else { Vec::new() })
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec)
}
