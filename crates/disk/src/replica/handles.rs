//! Open files, kept for a while, and what is still to be set on them before they are closed.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};
use stead_model::{Attr, FileId, Time};

use crate::sys;
use crate::volume::{Root, open_by_id};
use crate::xattr::{self, Target};

const OPEN_MAX: usize = 512;
const CAPABILITY: &[u8] = b"security.capability";
const LOCKS: u32 = Attr::IMMUTABLE | Attr::APPEND;

/// An open file of the replica.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub fd: Arc<OwnedFd>,
    pub path_only: bool,
}

impl Handle {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
    pub(super) fn target(&self) -> Target<'_> {
        Target { fd: self.fd.as_fd(), path_only: self.path_only }
    }
}

#[derive(Debug)]
struct Open {
    handle: Handle,
    mode: u32,
    uid: u32,
    gid: u32,
    pending: Pending,
    /// Size in bytes, where this program made the file and nothing else can have changed it.
    size: Option<u64>,
    /// Made by this program, and without flags and capability so far.
    bare: bool,
    /// A directory from which new files inherit nothing; `None`: not looked at.
    plain: Option<bool>,
    used: u64,
}

/// What is set when the batch ends: a write would change it again.
#[derive(Debug, Default)]
struct Pending {
    atime: Option<Time>,
    mtime: Option<Time>,
    /// Inode flags as they must be in the end, where they forbid changes.
    flags: Option<u32>,
    /// `security.capability`, which every write drops; `Some(None)`: there was none.
    capability: Option<Option<Vec<u8>>>,
    listed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<FileId, Open>,
    pending: Vec<FileId>,
    clock: u64,
}

impl Handles {
    /// The open file, where it is open.
    pub(super) fn get(&mut self, id: FileId) -> Option<Handle> {
        self.clock += 1;
        let open = self.open.get_mut(&id)?;
        open.used = self.clock;
        Some(open.handle.clone())
    }

    /// Keeps a file that was just opened or made.
    pub(super) fn keep(&mut self, id: FileId, fd: OwnedFd, path_only: bool) -> Result<Handle> {
        if self.open.len() >= OPEN_MAX {
            self.close_oldest()?;
        }
        let stat = rustix::fs::fstat(&fd)?;
        let handle = Handle { fd: Arc::new(fd), path_only };
        self.clock += 1;
        let open = Open {
            handle: handle.clone(),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            pending: Pending::default(),
            size: None,
            bare: false,
            plain: None,
            used: self.clock,
        };
        self.open.insert(id, open);
        Ok(handle)
    }

    /// The file was just made, empty.
    pub(super) fn note_made(&mut self, id: FileId) {
        if let Some(open) = self.open.get_mut(&id) {
            (open.size, open.bare) = (Some(0), true);
        }
    }

    /// The size, where it is known without asking.
    pub(super) fn size(&self, id: FileId) -> Option<u64> {
        self.open.get(&id).and_then(|open| open.size)
    }

    /// Content was written up to there.
    pub(super) fn grown(&mut self, id: FileId, end: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.size = open.size.map(|size| size.max(end));
        }
    }

    /// The size is that, or is to be asked for again.
    pub(super) fn sized(&mut self, id: FileId, size: Option<u64>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.size = open.size.and(size);
        }
    }

    /// Does a new file inherit nothing from the directory: no ACL, no group, no flags?
    pub(super) fn is_plain(&mut self, id: FileId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        *open.plain.get_or_insert_with(|| {
            let acl = xattr::get(open.handle.target(), b"system.posix_acl_default");
            let flags = sys::flags(open.handle.fd()).unwrap_or(0);
            open.mode & 0o2000 == 0 && acl == Ok(None) && flags & Attr::FLAGS == 0
        })
    }

    /// Closes a file; what was pending is lost: for files that are gone.
    pub(super) fn forget(&mut self, id: FileId) {
        self.open.remove(&id);
    }

    /// Sets what is pending on a file and closes it.
    pub(super) fn finish(&mut self, id: FileId) -> Result<()> {
        if let Some(open) = self.open.get_mut(&id) {
            open.settle()?;
            self.open.remove(&id);
        }
        Ok(())
    }

    /// Sets what is pending on all files.
    pub(super) fn settle(&mut self) -> std::result::Result<(), (FileId, Errno)> {
        while let Some(id) = self.pending.last().copied() {
            if let Some(open) = self.open.get_mut(&id) {
                open.settle().map_err(|errno| (id, errno))?;
            }
            self.pending.pop();
        }
        Ok(())
    }

    /// Times for the end of the batch; `None` leaves what is there, or what was pending.
    pub(super) fn set_times(&mut self, id: FileId, atime: Option<Time>, mtime: Option<Time>) {
        if atime.is_none() && mtime.is_none() {
            return;
        }
        self.note(id, |pending| {
            pending.atime = atime.or(pending.atime);
            pending.mtime = mtime.or(pending.mtime);
        });
    }

    /// Keeps the directory's mtime as it is now, unless one is pending already.
    pub(super) fn keep_mtime(&mut self, id: FileId) -> Result<()> {
        let Some(open) = self.open.get(&id).filter(|open| open.pending.mtime.is_none()) else { return Ok(()) };
        let stat = rustix::fs::fstat(open.handle.fd())?;
        self.set_times(id, None, Some(Time { sec: stat.st_mtime, nsec: stat.st_mtime_nsec as u32 }));
        Ok(())
    }

    /// Owner and permissions, where they are not so yet.
    pub(super) fn set_owner_and_mode(&mut self, id: FileId, attr: &Attr) -> Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        if (open.uid, open.gid) != (attr.uid, attr.gid) {
            open.chown(attr.uid, attr.gid)?;
        }
        self.set_mode(id, attr)
    }

    /// Permissions, where they are not so yet.
    pub(super) fn set_mode(&mut self, id: FileId, attr: &Attr) -> Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        if open.mode & 0o7777 != attr.permissions() && open.mode & 0o170_000 != 0o120_000 {
            open.chmod(attr.permissions())?;
        }
        Ok(())
    }

    /// Owner, with what a change of it drops, even where it is so already.
    pub(super) fn set_owner(&mut self, id: FileId, attr: &Attr) -> Result<()> {
        self.open.get_mut(&id).map_or(Ok(()), |open| open.chown(attr.uid, attr.gid))
    }

    /// After something else may have changed the permissions (an ACL).
    pub(super) fn refresh(&mut self, id: FileId) -> Result<()> {
        if let Some(open) = self.open.get_mut(&id) {
            open.plain = None;
            let stat = rustix::fs::fstat(open.handle.fd())?;
            (open.mode, open.uid, open.gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
        }
        Ok(())
    }

    /// Inode flags: those that forbid changes come last.
    pub(super) fn set_flags(&mut self, id: FileId, flags: u32) -> Result<()> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let flags = flags & Attr::FLAGS;
        if open.bare && flags == 0 {
            return Ok(());
        }
        (open.bare, open.plain) = (false, None);
        open.pending.flags = None;
        change_flags(open.handle.fd(), flags & !LOCKS)?;
        if flags & LOCKS != 0 {
            self.note(id, |pending| pending.flags = Some(flags));
        }
        Ok(())
    }

    /// Takes flags away that forbid changes, until the end of the batch. Were there any?
    pub(super) fn unlock(&mut self, id: FileId) -> Result<bool> {
        let Some(open) = self.open.get_mut(&id).filter(|open| !open.handle.path_only) else { return Ok(false) };
        let Some(flags) = unlock(open.handle.fd())? else { return Ok(false) };
        self.note(id, |pending| pending.flags = pending.flags.or(Some(flags)));
        Ok(true)
    }

    /// Flags that were taken away before the file was kept.
    pub(super) fn restore_flags(&mut self, id: FileId, flags: u32) {
        self.note(id, |pending| pending.flags = Some(flags));
    }

    /// Before content is written that is no change of the source: its capability must survive.
    pub(super) fn keep_capability(&mut self, id: FileId) -> Result<()> {
        let Some(open) = self.open.get(&id).filter(|open| open.pending.capability.is_none()) else { return Ok(()) };
        let capability = if open.bare { None } else { xattr::get(open.handle.target(), CAPABILITY)? };
        self.note(id, |pending| pending.capability = Some(capability));
        Ok(())
    }

    /// The capability was set or dropped by the source: nothing to keep.
    pub(super) fn drop_capability(&mut self, id: FileId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.pending.capability = None;
            open.bare = false;
        }
    }

    /// The capability that the file is to have when its content is written.
    pub(super) fn set_capability(&mut self, id: FileId, capability: &[u8]) {
        self.drop_capability(id);
        self.note(id, |pending| pending.capability = Some(Some(capability.to_vec())));
    }

    fn note(&mut self, id: FileId, set: impl FnOnce(&mut Pending)) {
        let Some(open) = self.open.get_mut(&id) else { return };
        set(&mut open.pending);
        if !std::mem::replace(&mut open.pending.listed, true) {
            self.pending.push(id);
        }
    }

    fn close_oldest(&mut self) -> Result<()> {
        let mut used: Vec<u64> = self.open.values().map(|open| open.used).collect();
        let (_, &mut middle, _) = used.select_nth_unstable(OPEN_MAX / 2);
        for open in self.open.values_mut().filter(|open| open.used <= middle) {
            open.settle()?;
        }
        self.open.retain(|_, open| open.used > middle);
        Ok(())
    }
}

impl Open {
    fn settle(&mut self) -> Result<()> {
        let fd = self.handle.fd();
        if let Some(Some(capability)) = &self.pending.capability {
            xattr::set(self.handle.target(), CAPABILITY, capability)?;
        }
        if self.pending.atime.is_some() || self.pending.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(self.pending.atime),
                last_modification: timespec(self.pending.mtime),
            };
            match rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
                Err(Errno::PERM) if self.pending.flags.is_none() && !self.handle.path_only => {
                    self.pending.flags = unlock(fd)?;
                    rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?;
                }
                other => other?,
            }
        }
        if let Some(flags) = self.pending.flags {
            change_flags(fd, flags)?;
        }
        self.pending = Pending::default();
        Ok(())
    }

    fn chown(&mut self, uid: u32, gid: u32) -> Result<()> {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(self.handle.fd(), c"", owner, group, AtFlags::EMPTY_PATH)?;
        (self.uid, self.gid) = (uid, gid);
        // A change of the owner drops setuid and setgid, here as on the source.
        if self.mode & 0o170_000 != 0o040_000 {
            self.mode = rustix::fs::fstat(self.handle.fd())?.st_mode;
        }
        Ok(())
    }

    fn chmod(&mut self, permissions: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(permissions);
        if self.handle.path_only {
            rustix::fs::chmod(format!("/proc/self/fd/{}", self.handle.fd.as_raw_fd()), mode)?;
        } else {
            rustix::fs::fchmod(self.handle.fd(), mode)?;
        }
        self.mode = self.mode & !0o7777 | permissions;
        self.plain = None;
        Ok(())
    }
}

/// Opens a file of the replica for whatever may have to be done with it. Returns flags that had to be taken away.
/// With `unlocks`; else a locked file is refused with EPERM.
pub(super) fn open(
    root: &Root,
    local: FileId,
    kind: u8,
    unlocks: bool,
) -> Result<Option<(OwnedFd, bool, Option<u32>)>> {
    let common = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = match kind {
        0o10 => OFlags::RDWR | OFlags::NOATIME | common,
        0o04 => super::ground::DIR,
        _ => OFlags::PATH | OFlags::NOFOLLOW,
    };
    match open_by_id(root, local, flags) {
        Err(Errno::PERM | Errno::ACCESS) if kind == 0o10 && unlocks => {
            let Some(fd) = open_by_id(root, local, OFlags::RDONLY | OFlags::NOATIME | common)? else { return Ok(None) };
            let taken = unlock(fd.as_fd())?.ok_or(Errno::PERM)?;
            Ok(open_by_id(root, local, flags)?.map(|fd| (fd, false, Some(taken))))
        }
        opened => Ok(opened?.map(|fd| (fd, flags.contains(OFlags::PATH), None))),
    }
}

/// Takes immutable and append away; returns the flags before, where they had one of them.
pub(super) fn unlock(fd: BorrowedFd<'_>) -> Result<Option<u32>> {
    match sys::flags(fd) {
        Ok(flags) if flags & LOCKS != 0 => {
            sys::set_flags(fd, flags & !LOCKS)?;
            Ok(Some(flags & Attr::FLAGS))
        }
        Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::BADF) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn change_flags(fd: BorrowedFd<'_>, flags: u32) -> Result<()> {
    let now = match sys::flags(fd) {
        Ok(now) => now,
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::BADF) if flags == 0 => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let wanted = now & !Attr::FLAGS | flags;
    if wanted == now { Ok(()) } else { sys::set_flags(fd, wanted) }
}

fn timespec(time: Option<Time>) -> Timespec {
    match time {
        Some(time) => Timespec { tv_sec: time.sec, tv_nsec: time.nsec as _ },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    }
}
