//! The simplest possible target: applies records one by one to a directory. It knows only what the records say.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, IFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use stead_model::record::records;
use stead_model::{Attr, AttrMask, FileId, FileType, Kind, Record};

pub struct Replica {
    root: PathBuf,
    files: HashMap<FileId, OwnedFd>,
    attrs: HashMap<FileId, Attr>,
    flags: HashMap<FileId, u32>,
    /// Linked without having been announced: their content is to be taken from the source.
    moved_in: HashSet<FileId>,
}

impl Replica {
    pub fn new(dir: &Path, root: FileId) -> Replica {
        let fd = open(dir);
        Replica {
            root: dir.into(),
            files: HashMap::from([(root, fd)]),
            attrs: HashMap::new(),
            flags: HashMap::new(),
            moved_in: HashSet::new(),
        }
    }

    pub fn apply_all(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        for record in records(bytes) {
            let record = record.unwrap();
            self.apply(&record);
            count += 1;
        }
        count
    }

    fn fd(&self, file: FileId) -> &OwnedFd {
        self.files.get(&file).unwrap_or_else(|| panic!("{file} was never announced"))
    }

    fn path(&self, file: FileId) -> PathBuf {
        Path::new("/proc/self/fd").join(self.fd(file).as_raw_fd().to_string())
    }

    fn apply(&mut self, r: &Record<'_>) {
        let name = CString::new(r.name).unwrap();
        let name2 = CString::new(r.name2).unwrap();
        let mut attr = r.attr;
        match r.kind {
            Kind::Create => self.create(r, &name),
            Kind::Link => {
                if !self.files.contains_key(&r.file) {
                    self.moved_in.insert(r.file);
                    self.create(r, &name);
                } else {
                    let dir = self.fd(r.parent);
                    rustix::fs::linkat(CWD, self.path(r.file), dir, &name, AtFlags::SYMLINK_FOLLOW).unwrap();
                }
            }
            Kind::Unlink => {
                let flags = if attr.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                let dir = self.fd(r.parent);
                let there = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
                assert_eq!(there.st_ino, ino(self.fd(r.file)), "the unlinked name leads to another file");
                rustix::fs::unlinkat(dir, &name, flags).unwrap();
            }
            Kind::Rename => {
                let exchange = r.c & 2 != 0;
                let flags = if exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
                let (from, to) = (self.fd(r.parent), self.fd(r.names.parent2));
                let over = rustix::fs::statat(to, &name2, AtFlags::SYMLINK_NOFOLLOW);
                assert_eq!(over.is_ok(), !r.names.victim.is_none(), "victim of a rename");
                if let Ok(over) = over {
                    assert_eq!(over.st_ino, ino(self.fd(r.names.victim)), "victim of a rename");
                }
                rustix::fs::renameat_with(from, &name, to, &name2, flags).unwrap();
                self.stamp(r.names.parent2, r.names.stamp2);
            }
            Kind::Write => {
                let file = reopen(&self.path(r.file));
                std::os::unix::fs::FileExt::write_all_at(&std::fs::File::from(file), r.data, r.a).unwrap();
            }
            Kind::Truncate => rustix::fs::ftruncate(reopen(&self.path(r.file)), r.a).unwrap(),
            Kind::Allocate => {
                let mode = FallocateFlags::from_bits_retain(r.c);
                rustix::fs::fallocate(reopen(&self.path(r.file)), mode, r.a, r.b).unwrap();
            }
            Kind::SetAttr => {
                let mask = AttrMask(r.c);
                if mask.has(AttrMask::OWNER) {
                    self.chown(r.file, &attr);
                }
                if mask.has(AttrMask::MODE) {
                    std::fs::set_permissions(self.path(r.file), perm(&attr)).unwrap();
                }
            }
            Kind::SetXattr => {
                rustix::fs::setxattr(self.path(r.file), &name, r.data, XattrFlags::empty()).unwrap();
            }
            Kind::RemoveXattr => match rustix::fs::removexattr(self.path(r.file), &name) {
                Ok(()) | Err(rustix::io::Errno::NODATA) => {}
                Err(error) => panic!("{error}"),
            },
            Kind::SetFlags => {
                self.flags.insert(r.file, r.c);
                attr.flags = r.c;
            }
            Kind::Sync => return,
            other => panic!("{other:?} in a stream that lost nothing"),
        }
        if r.kind.has_names() {
            self.stamp(r.parent, r.names.stamp);
        }
        self.attrs.insert(r.file, attr);
    }

    fn create(&mut self, r: &Record<'_>, name: &CString) {
        let dir = self.fd(r.parent);
        let mode = Mode::from_raw_mode(r.attr.permissions());
        let rdev = r.attr.rdev;
        match r.attr.file_type().unwrap() {
            FileType::Directory => rustix::fs::mkdirat(dir, name, mode).unwrap(),
            FileType::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(r.data), dir, name).unwrap(),
            FileType::Regular => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                drop(rustix::fs::openat(dir, name, flags, mode).unwrap());
            }
            other => {
                use rustix::fs::FileType as Type;
                let kind = match other {
                    FileType::Fifo => Type::Fifo,
                    FileType::Socket => Type::Socket,
                    FileType::CharDevice => Type::CharacterDevice,
                    _ => Type::BlockDevice,
                };
                rustix::fs::mknodat(dir, name, kind, mode, rdev).unwrap();
            }
        }
        let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        self.files.insert(r.file, fd);
        self.chown(r.file, &r.attr);
        if r.attr.file_type() != Some(FileType::Symlink) {
            std::fs::set_permissions(self.path(r.file), perm(&r.attr)).unwrap();
        }
        // A default ACL of the parent was applied by the source; here the records bring it.
        for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
            let _ = rustix::fs::removexattr(self.path(r.file), acl);
        }
    }

    fn chown(&self, file: FileId, attr: &Attr) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(attr.uid), rustix::fs::Gid::from_raw(attr.gid));
        rustix::fs::chownat(self.fd(file), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).unwrap();
    }

    fn stamp(&mut self, dir: FileId, stamp: stead_model::Stamp) {
        let mut attr = self.attrs.get(&dir).copied().unwrap_or_default();
        attr.set_mtime(stamp.mtime());
        self.attrs.insert(dir, attr);
    }

    /// Sets times and inode flags, and fetches what moved in.
    pub fn finish(&mut self, source: &Path) {
        let mut moved = HashMap::new();
        if !self.moved_in.is_empty() {
            collect(source, &mut moved);
        }
        for file in self.moved_in.clone() {
            if rustix::fs::fstat(self.fd(file)).unwrap().st_nlink == 0 {
                continue; // gone again; another file may have its inode number
            }
            let path = &moved[&file.ino];
            std::fs::write(self.path(file), std::fs::read(path).unwrap()).unwrap();
        }
        for (file, attr) in &self.attrs {
            let mtime = Timespec { tv_sec: attr.mtime().sec, tv_nsec: i64::from(attr.mtime().nsec) };
            let times = Timestamps { last_access: mtime, last_modification: mtime };
            rustix::fs::utimensat(self.fd(*file), "", &times, AtFlags::EMPTY_PATH).unwrap();
            let meta = rustix::fs::fstat(self.fd(*file)).unwrap();
            if attr.is_file() && meta.st_nlink > 0 && attr.nlink > 0 && !self.moved_in.contains(file) {
                assert_eq!(meta.st_size as u64, attr.size, "{file}: size in its last record");
            }
        }
        for (file, flags) in &self.flags {
            if rustix::fs::fstat(self.fd(*file)).unwrap().st_nlink > 0 {
                let fd = rustix::fs::open(self.path(*file), OFlags::RDONLY, Mode::empty()).unwrap();
                let now = rustix::fs::ioctl_getflags(&fd).unwrap().bits() & !Attr::FLAGS;
                rustix::fs::ioctl_setflags(&fd, IFlags::from_bits_retain(now | flags & Attr::FLAGS)).unwrap();
            }
        }
        let _ = &self.root;
    }
}

fn collect(dir: &Path, found: &mut HashMap<u64, PathBuf>) {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            collect(&path, found);
        }
        found.insert(meta.ino(), path);
    }
}

fn ino(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

fn perm(attr: &Attr) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(attr.permissions())
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap()
}

fn reopen(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDWR, Mode::empty()).unwrap()
}
