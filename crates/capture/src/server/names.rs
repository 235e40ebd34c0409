//! Operations on names: look up, create, link, unlink, rename.

use std::ffi::CStr;
use std::os::fd::RawFd;

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use stead_model::record::Names;
use stead_model::{Attr, AttrMask, FileId, Kind, Record};
use zerocopy::IntoBytes;

use super::reply::{FOREVER_S, attr_of};
use super::stat;
use super::worker::Worker;
use crate::fuse::abi::{
    self, CreateIn, EntryOut, InHeader, LinkIn, MkdirIn, MknodIn, OpenOut, Rename2In, RenameIn, op,
};
use crate::nodes::{Access, NodeRef, Pin, flag};
use crate::sys::{self, Result};

/// Who creates something, and how.
struct Maker {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// What was made: its descriptor, and what that is good for.
struct Made {
    fd: RawFd,
    access: Access,
}

/// A file about to lose a name.
struct Victim<'a> {
    file: FileId,
    node: Option<NodeRef<'a>>,
    fd: VictimFd<'a>,
}

enum VictimFd<'a> {
    Node(Pin<'a>),
    Own(RawFd),
}

impl Victim<'_> {
    fn fd(&self) -> RawFd {
        match &self.fd {
            VictimFd::Node(pin) => pin.fd,
            VictimFd::Own(fd) => *fd,
        }
    }
}

impl Drop for Victim<'_> {
    fn drop(&mut self) {
        if let VictimFd::Own(fd) = self.fd {
            sys::close(fd);
        }
    }
}

impl<'s> Worker<'s, '_> {
    pub(super) fn lookup(&mut self, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let name = abi::take_name(&mut body)?;
        let pin = self.server.nodes.pin(&dir, Access::Any)?;
        match self.identify(pin.fd, name) {
            Ok((file, stat)) => self.enter(file, &stat).map(|_| ()),
            Err(Errno::NOENT) => {
                self.reply.put(&EntryOut { entry_valid: FOREVER_S, ..EntryOut::default() });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    // --- create

    pub(super) fn mknod(&mut self, header: &InHeader, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: MknodIn = abi::take(&mut body)?;
        let name = abi::take_name(&mut body)?;
        self.set_umask(asked.umask);
        let maker = Maker { uid: header.uid, gid: header.gid, mode: asked.mode };
        self.create(dir, name, &maker, b"", |at| {
            if asked.mode & libc::S_IFMT == libc::S_IFREG {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NOFOLLOW;
                return Ok(Made { fd: sys::open_at(at, name, flags, asked.mode & 0o7777)?, access: Access::Write });
            }
            sys::mknod(at, name, asked.mode, asked.rdev.into())?;
            open_made(at, name, asked.mode)
        })
    }

    pub(super) fn mkdir(&mut self, header: &InHeader, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: MkdirIn = abi::take(&mut body)?;
        let name = abi::take_name(&mut body)?;
        self.set_umask(asked.umask);
        let maker = Maker { uid: header.uid, gid: header.gid, mode: libc::S_IFDIR | asked.mode };
        self.create(dir, name, &maker, b"", |at| {
            rustix::fs::mkdirat(sys::fd(at), name, rustix::fs::Mode::from_raw_mode(asked.mode & 0o7777))?;
            open_made(at, name, libc::S_IFDIR)
        })
    }

    pub(super) fn symlink(&mut self, header: &InHeader, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let name = abi::take_name(&mut body)?;
        let target = abi::take_name(&mut body)?;
        let maker = Maker { uid: header.uid, gid: header.gid, mode: libc::S_IFLNK | 0o777 };
        self.create(dir, name, &maker, target.to_bytes(), |at| {
            rustix::fs::symlinkat(target, sys::fd(at), name)?;
            open_made(at, name, libc::S_IFLNK)
        })
    }

    fn create(
        &mut self,
        dir: NodeRef<'s>,
        name: &CStr,
        maker: &Maker,
        target: &[u8],
        make: impl FnOnce(RawFd) -> Result<Made>,
    ) -> Result<()> {
        let pin = self.server.nodes.pin(&dir, Access::Any)?;
        let made = match make(pin.fd) {
            Err(Errno::EXIST) if self.repeats => self.made_before(pin.fd, name, maker.mode, target)?,
            made => made?,
        };
        let finish = |worker: &mut Self| -> Result<()> {
            let parent = stat(pin.fd)?;
            let stat = give_to(made.fd, maker, &parent)?;
            let file = worker.file_of(made.fd, c"")?;
            let mut record = named(Kind::Create, file, &dir, name, &parent);
            record.attr = attr_of(&stat);
            record.data = target;
            worker.put_main(&record);
            worker.record_inherited(&dir, pin.fd, file, made.fd, &stat)?;
            let node = worker.enter(file, &stat)?;
            worker.server.nodes.install(&node, made.fd, made.access);
            Ok(())
        };
        finish(self).inspect_err(|_| {
            sys::close(made.fd);
            let is_dir = maker.mode & libc::S_IFMT == libc::S_IFDIR;
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let at = sys::fd(pin.fd);
            let _ =
                rustix::fs::unlinkat(at, name, flags).or_else(|_| rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR));
        })
    }

    /// Opens what a dead server made. While its request is open the kernel lets nobody else change names in the
    /// directory; so it is ours, unless somebody works beneath the mount: then its content is put in doubt.
    fn made_before(&self, dir: RawFd, name: &CStr, mode: u32, target: &[u8]) -> Result<Made> {
        let there = stat_at(dir, name)?;
        if there.st_mode & libc::S_IFMT != mode & libc::S_IFMT {
            return Err(Errno::EXIST);
        }
        let is_fresh = match mode & libc::S_IFMT {
            libc::S_IFREG => there.st_size == 0 && there.st_nlink == 1,
            libc::S_IFDIR => there.st_nlink <= 2,
            libc::S_IFLNK => rustix::fs::readlinkat(sys::fd(dir), name, Vec::new())?.as_bytes() == target,
            _ => true,
        };
        if !is_fresh {
            self.put(&Record::new(Kind::Lost, self.file_of(dir, name)?));
        }
        open_made(dir, name, mode)
    }

    pub(super) fn tmpfile(&mut self, header: &InHeader, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: CreateIn = abi::take(&mut body)?;
        self.set_umask(asked.umask);
        let pin = self.server.nodes.pin(&dir, Access::Any)?;
        let exclusive = asked.flags as i32 & libc::O_EXCL;
        let fd = sys::open_at(pin.fd, c".", libc::O_TMPFILE | libc::O_RDWR | exclusive, asked.mode & 0o7777)?;
        let maker = Maker { uid: header.uid, gid: header.gid, mode: asked.mode };
        let entered = stat(pin.fd).and_then(|parent| {
            let stat = give_to(fd, &maker, &parent)?;
            self.enter(self.file_of(fd, c"")?, &stat)
        });
        match entered {
            Ok(node) => {
                node.mark(flag::NAMELESS, 0);
                self.server.nodes.install(&node, fd, Access::Write);
                self.reply.put(&OpenOut { open_flags: 1 << 1, ..OpenOut::default() }); // FOPEN_KEEP_CACHE
                Ok(())
            }
            Err(error) => {
                sys::close(fd);
                Err(error)
            }
        }
    }

    /// Records xattrs, ACLs and inode flags that a new file got from its directory.
    fn record_inherited(&self, dir: &NodeRef<'s>, dir_fd: RawFd, file: FileId, fd: RawFd, stat: &Stat) -> Result<()> {
        let attr = attr_of(stat);
        self.each_xattr(fd, |name, value| {
            self.put(&Record { name, data: value, attr, ..Record::new(Kind::SetXattr, file) });
        })?;
        if !dir.has(flag::HEIRS_KNOWN) {
            let heirs = if flags_of(dir_fd).unwrap_or(0) & Attr::FLAGS != 0 { flag::HEIRS } else { 0 };
            dir.mark(flag::HEIRS_KNOWN | heirs, 0);
        }
        let may_have = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR);
        if dir.has(flag::HEIRS) && may_have {
            let flags = flags_of(fd).unwrap_or(0);
            if flags & Attr::FLAGS != 0 {
                let attr = with_flags(attr, flags);
                self.put(&Record { c: flags, attr, ..Record::new(Kind::SetFlags, file) });
            }
        }
        Ok(())
    }

    // --- link, unlink, rename

    pub(super) fn link(&mut self, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let asked: LinkIn = abi::take(&mut body)?;
        let name = abi::take_name(&mut body)?;
        let node = self.server.nodes.get(self.root, asked.oldnodeid)?;
        let pin = self.server.nodes.pin(&node, Access::Any)?;
        let dir_pin = self.server.nodes.pin(&dir, Access::Any)?;
        match sys::link(pin.fd, dir_pin.fd, name) {
            Err(Errno::EXIST) if self.repeats && self.file_of(dir_pin.fd, name)? == node.file => {}
            linked => linked?,
        }
        node.mark(0, flag::NAMELESS);
        let settled = self.server.settle(node.file);
        let stat_now = stat(pin.fd)?;
        let mut record = named(Kind::Link, node.file, &dir, name, &stat(dir_pin.fd)?);
        record.attr = attr_of(&stat_now);
        self.put_main(&record);
        drop(settled);
        self.enter(node.file, &stat_now).map(|_| ())
    }

    pub(super) fn unlink(&mut self, dir: NodeRef<'s>, mut body: &[u8], is_dir: bool) -> Result<()> {
        let name = abi::take_name(&mut body)?;
        let pin = self.server.nodes.pin(&dir, Access::Any)?;
        let victim = match self.before() {
            Some(before) if self.at_name(pin.fd, name)? != before.file => self.former(before.file)?,
            _ => {
                let victim = self.victim(pin.fd, name)?;
                self.note_before(victim.file, FileId::NONE);
                let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                rustix::fs::unlinkat(sys::fd(pin.fd), name, flags)?;
                victim
            }
        };
        let mut record = named(Kind::Unlink, victim.file, &dir, name, &stat(pin.fd)?);
        let _settled = self.server.settle(victim.file);
        record.attr = self.bereave(&victim, is_dir)?;
        self.put_main(&record);
        Ok(())
    }

    pub(super) fn rename(&mut self, header: &InHeader, dir: NodeRef<'s>, mut body: &[u8]) -> Result<()> {
        let (newdir, flags) = if header.opcode == op::RENAME2 {
            let asked: Rename2In = abi::take(&mut body)?;
            (asked.newdir, asked.flags)
        } else {
            (abi::take::<RenameIn>(&mut body)?.newdir, 0)
        };
        let (name, name2) = (abi::take_name(&mut body)?, abi::take_name(&mut body)?);
        let dir2 = self.server.nodes.get(self.root, newdir)?;
        let (pin, pin2) = (self.server.nodes.pin(&dir, Access::Any)?, self.server.nodes.pin(&dir2, Access::Any)?);
        let (file, victim) = match self.renamed_before(pin.fd, name, pin2.fd, name2, flags)? {
            Some(done) => done,
            None => {
                let file = self.file_of(pin.fd, name)?;
                let victim = match self.victim(pin2.fd, name2) {
                    Err(Errno::NOENT) => None,
                    found => Some(found?),
                };
                self.note_before(file, victim.as_ref().map_or(FileId::NONE, |victim| victim.file));
                if let Err(refused) = sys::rename(pin.fd, name, pin2.fd, name2, flags) {
                    self.record_refused(&dir, pin.fd, flags)?;
                    return Err(refused);
                }
                (file, victim)
            }
        };
        let mut record = named(Kind::Rename, file, &dir, name, &stat(pin.fd)?);
        record.c = flags;
        record.name2 = name2.to_bytes();
        record.names.parent2 = dir2.file;
        record.names.stamp2 =
            if dir.index == dir2.index { record.names.stamp } else { attr_of(&stat(pin2.fd)?).stamp() };
        let settled = self.server.settle(file);
        record.attr = attr_of(&stat_at(pin2.fd, name2)?);
        if let Some(victim) = &victim {
            record.names.victim = victim.file;
            if flags & libc::RENAME_EXCHANGE == 0 {
                record.a = self.bereave(victim, record.attr.is_dir())?.nlink.into();
            }
        }
        self.put_main(&record);
        drop(settled);
        if flags & libc::RENAME_WHITEOUT != 0 {
            self.record_whiteout(header, &dir, pin.fd, name)?;
        }
        Ok(())
    }

    /// The file that a dead server has renamed, and who lost its name to it; `None`: it had not come so far.
    fn renamed_before(
        &self,
        dir: RawFd,
        name: &CStr,
        dir2: RawFd,
        name2: &CStr,
        flags: u32,
    ) -> Result<Option<(FileId, Option<Victim<'s>>)>> {
        let Some(before) = self.before() else { return Ok(None) };
        let (now, now2) = (self.at_name(dir, name)?, self.at_name(dir2, name2)?);
        let has_left = if flags & libc::RENAME_EXCHANGE != 0 { now == before.file2 } else { now != before.file };
        if now2 != before.file || !has_left {
            return Ok(None);
        }
        let victim = if before.file2.is_none() { None } else { Some(self.former(before.file2)?) };
        Ok(Some((before.file, victim)))
    }

    /// ext4 puts a whiteout in place before it refuses, and takes it away again: the directory's times are others then.
    fn record_refused(&self, dir: &NodeRef<'s>, dir_fd: RawFd, flags: u32) -> Result<()> {
        if flags & libc::RENAME_WHITEOUT != 0 {
            let attr = attr_of(&stat(dir_fd)?);
            self.put(&Record { c: AttrMask::MTIME.0, attr, ..Record::new(Kind::SetAttr, dir.file) });
        }
        Ok(())
    }

    fn record_whiteout(&self, header: &InHeader, dir: &NodeRef<'s>, dir_fd: RawFd, name: &CStr) -> Result<()> {
        if header.uid != 0 || header.gid != 0 {
            sys::chown_at(dir_fd, name, header.uid, header.gid)?;
        }
        let (file, whiteout) = self.identify(dir_fd, name)?;
        let mut record = named(Kind::Create, file, dir, name, &stat(dir_fd)?);
        record.attr = attr_of(&whiteout);
        self.put(&record);
        Ok(())
    }

    /// Holds on to what a name means before the name goes: without a name only a descriptor leads to it.
    fn victim(&self, dir: RawFd, name: &CStr) -> Result<Victim<'s>> {
        let file = self.file_of(dir, name)?;
        let node = self.server.nodes.find(self.root, file);
        let fd = match &node {
            Some(node) => VictimFd::Node(self.server.nodes.pin(node, Access::Any)?),
            None => VictimFd::Own(sys::open_at(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?),
        };
        Ok(Victim { file, node, fd })
    }

    /// A file that has lost its name already. While the kernel waits for the answer it keeps the node, and the node its
    /// descriptor.
    fn former(&self, file: FileId) -> Result<Victim<'s>> {
        let node = self.server.nodes.find(self.root, file).ok_or(Errno::STALE)?;
        let fd = VictimFd::Node(self.server.nodes.pin(&node, Access::Any)?);
        Ok(Victim { file, node: Some(node), fd })
    }

    /// What a name means; `FileId::NONE`: nothing.
    fn at_name(&self, dir: RawFd, name: &CStr) -> Result<FileId> {
        match self.file_of(dir, name) {
            Err(Errno::NOENT) => Ok(FileId::NONE),
            found => found,
        }
    }

    /// Attributes of a file that lost a name; without any left it falls silent.
    fn bereave(&self, victim: &Victim<'_>, is_dir: bool) -> Result<Attr> {
        let mut attr = attr_of(&stat(victim.fd())?);
        if is_dir {
            attr.nlink = 0;
        }
        if attr.nlink == 0
            && let Some(node) = &victim.node
        {
            node.mark(flag::UNLINKED, 0);
        }
        Ok(attr)
    }

    // --- helpers

    /// The file at a name, or of a descriptor where the name is empty.
    pub(super) fn file_of(&self, dir: RawFd, name: &CStr) -> Result<FileId> {
        let handle = sys::handle_at(dir, name)?;
        let file = self.root.shape.file(handle.kind, &handle.bytes[..handle.len], self.root.volume);
        // A handle of another shape: a subvolume within, which the set does not hold.
        file.ok_or(Errno::XDEV)
    }

    /// The file at a name, and its attributes.
    pub(super) fn identify(&self, dir: RawFd, name: &CStr) -> Result<(FileId, Stat)> {
        for _ in 0..8 {
            let (file, stat) = (self.file_of(dir, name)?, stat_at(dir, name)?);
            if stat.st_ino == file.ino {
                return Ok((file, stat));
            }
        }
        Err(Errno::STALE) // somebody keeps changing the name beneath the mount
    }

    /// Counts one reference of the kernel and answers with the entry.
    fn enter(&mut self, file: FileId, stat: &Stat) -> Result<NodeRef<'s>> {
        let (node, id) = self.server.nodes.intern(self.root, file, stat.st_mode)?;
        self.reply.put_entry(id, file.generation, stat);
        Ok(node)
    }
}

fn stat_at(dir: RawFd, name: &CStr) -> Result<Stat> {
    rustix::fs::statat(sys::fd(dir), name, AtFlags::SYMLINK_NOFOLLOW)
}

fn open_made(dir: RawFd, name: &CStr, mode: u32) -> Result<Made> {
    let (flags, access) = match mode & libc::S_IFMT {
        libc::S_IFREG => (libc::O_RDWR, Access::Write),
        libc::S_IFDIR => (libc::O_RDONLY | libc::O_DIRECTORY, Access::Read),
        _ => (libc::O_PATH, Access::Any),
    };
    Ok(Made { fd: sys::open_at(dir, name, flags | libc::O_NOFOLLOW, 0)?, access })
}

/// Gives a new file to who asked for it. The group stays where the directory (setgid) or the file system gave one.
fn give_to(fd: RawFd, maker: &Maker, parent: &Stat) -> Result<Stat> {
    let made = stat(fd)?;
    let gid = if parent.st_mode & libc::S_ISGID != 0 || made.st_gid != 0 { made.st_gid } else { maker.gid };
    if (made.st_uid, made.st_gid) == (maker.uid, gid) {
        return Ok(made);
    }
    sys::chown(fd, maker.uid, gid)?;
    if made.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0 && made.st_mode & libc::S_IFMT != libc::S_IFDIR {
        sys::chmod(fd, made.st_mode & 0o7777)?;
    }
    stat(fd)
}

/// A record about a name.
fn named<'a>(kind: Kind, file: FileId, dir: &NodeRef<'_>, name: &'a CStr, parent: &Stat) -> Record<'a> {
    let mut names = Names::default();
    names.stamp = attr_of(parent).stamp();
    Record { parent: dir.file, name: name.to_bytes(), names, ..Record::new(kind, file) }
}

/// Attributes with the inode flags known.
pub(super) fn with_flags(mut attr: Attr, flags: u32) -> Attr {
    attr.flags = flags;
    attr
}

/// Inode flags, where the file system has them.
pub(super) fn flags_of(fd: RawFd) -> Result<u32> {
    let mut flags = [0_u32; 2]; // the kernel fills in the first, its macro says long
    sys::ioctl(fd, super::attrs::GETFLAGS, flags.as_mut_bytes())?;
    Ok(flags[0])
}
