//! Random operations on a source tree, each recorded as capture records it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use stead_model::{Attr, AttrMask, FileId, Kind, Record};

use super::{Random, Source};

/// Which operations take part.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Inode flags, ACLs and capabilities.
    pub extras: bool,
    /// Allocation.
    pub allocation: bool,
}

pub const ALL: Choice = Choice { extras: true, allocation: true };

/// A file that was unlinked while it is open, or has no name yet.
pub struct Unnamed {
    file: File,
    id: FileId,
}

/// Does one random operation; returns what, or `None` where it was not possible.
pub fn operate(
    source: &mut Source,
    unnamed: &mut Vec<Unnamed>,
    random: &mut Random,
    choice: Choice,
) -> Option<&'static str> {
    let all = source.paths();
    let dirs: Vec<PathBuf> = all.iter().filter(|(_, meta)| meta.is_dir()).map(|(path, _)| path.clone()).collect();
    let named: Vec<PathBuf> = all.iter().skip(1).map(|(path, _)| path.clone()).collect();
    let files: Vec<PathBuf> = all.iter().filter(|(_, meta)| meta.is_file()).map(|(path, _)| path.clone()).collect();
    let many = named.len() > 40;
    let dir = random.pick(&dirs)?.clone();
    let new = dir.join(name(random));
    let any = random.pick(&named).cloned();
    let file = random.pick(&files).cloned();
    match random.below(if many { 80 } else { 100 }) {
        0..16 => write(source, &file?, random),
        16..20 => truncate(source, &file?, random),
        20..25 if choice.allocation => allocate(source, &file?, random),
        25..31 => set_attr(source, &any?, random),
        31..36 => change_xattr(source, &any?, random, choice),
        36..39 if choice.extras => set_flags(source, &any?, random),
        39..50 => unlink(source, &any?, unnamed, random),
        50..66 => rename(source, &any?, &new, random),
        66..70 => {
            let other = random.pick(&named)?.clone();
            rename(source, &any?, &other, random)
        }
        70..73 => exchange(source, &any?, &random.pick(&named)?.clone()),
        73..76 => write_unnamed(source, unnamed, &new, random),
        76..80 => link(source, &any?, &new),
        _ => create(source, &new, unnamed, random),
    }
}

fn name(random: &mut Random) -> OsString {
    let odd: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", "e\u{301}".as_bytes(), "\u{e9}".as_bytes(), b" "];
    if random.chance(5) {
        return OsString::from_vec(odd[random.below(5) as usize].to_vec());
    }
    OsString::from(format!("n{}", random.below(12)))
}

fn create(source: &mut Source, path: &Path, unnamed: &mut Vec<Unnamed>, random: &mut Random) -> Option<&'static str> {
    let c_path = c_path(path);
    let mode = Mode::from_raw_mode([0o644, 0o600, 0o755, 0o4755][random.below(4) as usize]);
    let what = match random.below(14) {
        0..5 => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            rustix::fs::openat(CWD, path, flags, mode).ok()?;
            "create"
        }
        5..9 => {
            rustix::fs::mkdirat(CWD, path, mode).ok()?;
            "mkdir"
        }
        9 => {
            rustix::fs::symlinkat(c"../some/where", CWD, path).ok()?;
            "symlink"
        }
        10 => {
            rustix::fs::mknodat(CWD, &c_path, FileType::Fifo, mode, 0).ok()?;
            "mkfifo"
        }
        11 => {
            let device = rustix::fs::makedev(7, 200 + random.below(3) as u32);
            rustix::fs::mknodat(CWD, &c_path, FileType::BlockDevice, mode, device).ok()?;
            "mknod"
        }
        12 => {
            rustix::fs::mknodat(CWD, &c_path, FileType::Socket, mode, 0).ok()?;
            "socket"
        }
        _ => return create_unnamed(source, path.parent()?, unnamed),
    };
    let id = source.id(path);
    let target = fs::read_link(path).map(|target| target.into_os_string().into_vec()).unwrap_or_default();
    record_create(source, id, path, &target);
    Some(what)
}

/// As capture does: the file, then what it inherited.
fn record_create(source: &mut Source, id: FileId, path: &Path, target: &[u8]) {
    let (attr, extras) = source.reader.node(id).unwrap().unwrap();
    let parent = path.parent().unwrap();
    let mut record = Record::new(Kind::Create, id);
    (record.parent, record.name) = (source.id(parent), path.file_name().unwrap().as_bytes());
    (record.attr, record.data) = (attr, target);
    record.names.stamp = stamp(source, parent);
    source.log_record(&record);
    record_inherited(source, id, attr, &extras.xattrs);
}

fn record_inherited(source: &mut Source, id: FileId, attr: Attr, xattrs: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in xattrs {
        source.log_record(&Record { name, data: value, attr, ..Record::new(Kind::SetXattr, id) });
    }
    if attr.flags != 0 {
        source.log_record(&Record { c: attr.flags, attr, ..Record::new(Kind::SetFlags, id) });
    }
}

fn create_unnamed(source: &mut Source, dir: &Path, unnamed: &mut Vec<Unnamed>) -> Option<&'static str> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(OFlags::TMPFILE.bits() as i32).open(dir).ok()?;
    let id = stead_disk::volume::file_id_of(&source.root, file.as_fd()).unwrap();
    let (attr, extras) = source.reader.node(id).unwrap().unwrap();
    source.log_record(&Record { attr, ..Record::new(Kind::Create, id) });
    record_inherited(source, id, attr, &extras.xattrs);
    unnamed.push(Unnamed { file, id });
    Some("tmpfile")
}

fn write_unnamed(
    source: &mut Source,
    unnamed: &mut Vec<Unnamed>,
    path: &Path,
    random: &mut Random,
) -> Option<&'static str> {
    let at = random.below(unnamed.len() as u64) as usize;
    let Unnamed { file, id } = unnamed.get(at)?;
    let id = *id;
    if random.chance(60) {
        let data = bytes(random, 5000);
        file.write_all_at(&data, 0).ok()?;
        let attr = source.attr(id);
        source.log_record(&Record { data: &data, attr, ..Record::new(Kind::Write, id) });
        return Some("write unnamed");
    }
    let taken = unnamed.remove(at);
    rustix::fs::linkat(&taken.file, c"", CWD, path, AtFlags::EMPTY_PATH).ok()?;
    record_link(source, id, path);
    Some("link unnamed")
}

fn write(source: &mut Source, path: &Path, random: &mut Random) -> Option<&'static str> {
    let file = OpenOptions::new().write(true).open(path).ok()?;
    let id = source.id(path);
    let size = file.metadata().unwrap().len();
    let offset = match random.below(4) {
        0 => 0,
        1 => size,
        2 => random.below(size + 1),
        _ => random.below(300_000),
    };
    let len = [1, 100, 4096, 20_000][random.below(4) as usize];
    let data = if random.chance(10) { vec![0; len as usize] } else { bytes(random, len) };
    file.write_all_at(&data, offset).ok()?;
    let attr = source.attr(id);
    source.log_record(&Record { a: offset, data: &data, attr, ..Record::new(Kind::Write, id) });
    Some("write")
}

fn truncate(source: &mut Source, path: &Path, random: &mut Random) -> Option<&'static str> {
    let size = random.below(200_000);
    let file = OpenOptions::new().write(true).open(path).ok()?;
    file.set_len(size).ok()?;
    let id = source.id(path);
    let attr = source.attr(id);
    source.log_record(&Record { a: size, attr, ..Record::new(Kind::Truncate, id) });
    Some("truncate")
}

fn allocate(source: &mut Source, path: &Path, random: &mut Random) -> Option<&'static str> {
    let file = OpenOptions::new().write(true).open(path).ok()?;
    let (keep, punch, zero) = (FallocateFlags::KEEP_SIZE, FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE);
    let mode = [FallocateFlags::empty(), keep, punch | keep, zero, zero | keep][random.below(5) as usize];
    let (offset, len) = (random.below(200_000), 1 + random.below(100_000));
    rustix::fs::fallocate(&file, mode, offset, len).ok()?;
    let id = source.id(path);
    let attr = source.attr(id);
    source.log_record(&Record { a: offset, b: len, c: mode.bits(), attr, ..Record::new(Kind::Allocate, id) });
    Some("allocate")
}

fn set_attr(source: &mut Source, path: &Path, random: &mut Random) -> Option<&'static str> {
    let is_link = fs::symlink_metadata(path).unwrap().is_symlink();
    let id = source.id(path);
    let mask = match random.below(3) {
        0 if !is_link => {
            let mode = [0o600, 0o644, 0o2755, 0o1777, 0o4711][random.below(5) as usize];
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).ok()?;
            AttrMask::MODE
        }
        1 => {
            let (uid, gid) = (Uid::from_raw(random.below(3) as u32), Gid::from_raw(random.below(3) as u32));
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            AttrMask::OWNER
        }
        _ => {
            let time = |random: &mut Random| Timespec {
                tv_sec: 1_000_000_000 + random.below(1_000_000) as i64,
                tv_nsec: random.below(1_000_000_000) as _,
            };
            let times = Timestamps { last_access: time(random), last_modification: time(random) };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            AttrMask::ATIME | AttrMask::MTIME
        }
    };
    let attr = source.attr(id);
    source.log_record(&Record { c: mask.0, attr, ..Record::new(Kind::SetAttr, id) });
    Some("set attributes")
}

fn change_xattr(source: &mut Source, path: &Path, random: &mut Random, choice: Choice) -> Option<&'static str> {
    let is_link = fs::symlink_metadata(path).unwrap().is_symlink();
    let is_dir = fs::symlink_metadata(path).unwrap().is_dir();
    let id = source.id(path);
    let value = bytes(random, 1 + random.clone().below(300));
    let (name, value): (&str, Vec<u8>) = match random.below(if choice.extras { 6 } else { 2 }) {
        0 => ("trusted.a", value),
        1 | 2 => ("user.b", value),
        3 if !is_link => ("system.posix_acl_access", acl(random)),
        4 if is_dir => ("system.posix_acl_default", acl(random)),
        5 if !is_dir && !is_link => ("security.capability", capability(random)),
        _ => ("user.c", value),
    };
    if random.chance(70) {
        rustix::fs::lsetxattr(path, name, &value, XattrFlags::empty()).ok()?;
        let attr = source.attr(id);
        source.log_record(&Record { name: name.as_bytes(), data: &value, attr, ..Record::new(Kind::SetXattr, id) });
    } else {
        rustix::fs::lremovexattr(path, name).ok()?;
        let attr = source.attr(id);
        source.log_record(&Record { name: name.as_bytes(), attr, ..Record::new(Kind::RemoveXattr, id) });
    }
    Some("xattr")
}

fn set_flags(source: &mut Source, path: &Path, random: &mut Random) -> Option<&'static str> {
    let meta = fs::symlink_metadata(path).unwrap();
    if !meta.is_dir() && !meta.is_file() {
        return None;
    }
    let fd = File::open(path).ok()?;
    let id = source.id(path);
    let locks = Attr::IMMUTABLE | Attr::APPEND;
    let now = rustix::fs::ioctl_getflags(&fd).ok()?;
    // What is locked is unlocked next time, or nothing would ever change again.
    let flags = match now.bits() & locks {
        0 => [Attr::IMMUTABLE, Attr::APPEND, 0x40, 0x80, 0x8, 0][random.below(6) as usize],
        _ => 0,
    };
    let wanted = rustix::fs::IFlags::from_bits_retain(now.bits() & !Attr::FLAGS | flags);
    rustix::fs::ioctl_setflags(&fd, wanted).ok()?;
    let attr = source.attr(id);
    source.log_record(&Record { c: attr.flags, attr, ..Record::new(Kind::SetFlags, id) });
    Some("flags")
}

fn unlink(source: &mut Source, path: &Path, unnamed: &mut Vec<Unnamed>, random: &mut Random) -> Option<&'static str> {
    let meta = fs::symlink_metadata(path).unwrap();
    let id = source.id(path);
    let flags = if meta.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    let keep = (meta.is_file() && random.chance(20)).then(|| OpenOptions::new().read(true).write(true).open(path).ok());
    let before = source.attr(id);
    rustix::fs::unlinkat(CWD, path, flags).ok()?;
    let parent = path.parent().unwrap();
    let mut attr = if meta.is_dir() || meta.nlink() == 1 { before } else { source.attr(id) };
    if meta.is_dir() || meta.nlink() == 1 {
        attr.nlink = 0;
    }
    let mut record = Record::new(Kind::Unlink, id);
    (record.parent, record.name, record.attr) = (source.id(parent), path.file_name().unwrap().as_bytes(), attr);
    record.names.stamp = stamp(source, parent);
    source.log_record(&record);
    if let (Some(Some(file)), 1) = (keep, meta.nlink()) {
        // It cannot be named again; its writes go on being captured.
        let data = bytes(random, 50);
        if file.write_all_at(&data, 0).is_ok() {
            let attr = source.attr(id);
            source.log_record(&Record { data: &data, attr, ..Record::new(Kind::Write, id) });
        }
        drop(file);
    }
    let _ = unnamed;
    Some("unlink")
}

fn rename(source: &mut Source, from: &Path, to: &Path, random: &mut Random) -> Option<&'static str> {
    let id = source.id(from);
    let victim = source.id_if(to);
    if victim == Some(id) {
        return None;
    }
    let flags = if random.chance(10) { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    rustix::fs::renameat_with(CWD, from, CWD, to, flags).ok()?;
    let left = victim.map_or(0, |victim| source.reader.node(victim).unwrap().map_or(0, |(attr, _)| attr.nlink));
    record_rename(source, id, victim, from, to, flags.bits(), left.into());
    Some("rename")
}

fn exchange(source: &mut Source, from: &Path, to: &Path) -> Option<&'static str> {
    let (id, victim) = (source.id(from), source.id(to));
    if id == victim {
        return None;
    }
    let before = source.attr(victim);
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).ok()?;
    record_rename(source, id, Some(victim), from, to, RenameFlags::EXCHANGE.bits(), 0);
    let attr = source.attr(victim);
    if attr.mtime() != before.mtime() {
        // xfs: the record has no room for it.
        source.log_record(&Record { c: AttrMask::MTIME.0, attr, ..Record::new(Kind::SetAttr, victim) });
    }
    Some("exchange")
}

fn record_rename(source: &mut Source, id: FileId, victim: Option<FileId>, from: &Path, to: &Path, c: u32, a: u64) {
    let (parent, parent2) = (from.parent().unwrap(), to.parent().unwrap());
    let mut record = Record::new(Kind::Rename, id);
    // An exchange may have moved the directories themselves; they are found by where they are now.
    (record.parent, record.name) = (source.id(parent), from.file_name().unwrap().as_bytes());
    (record.names.parent2, record.name2) = (source.id(parent2), to.file_name().unwrap().as_bytes());
    record.names.victim = victim.unwrap_or(FileId::NONE);
    (record.a, record.c, record.attr) = (a, c, source.attr(id));
    (record.names.stamp, record.names.stamp2) = (stamp(source, parent), stamp(source, parent2));
    source.log_record(&record);
}

fn link(source: &mut Source, path: &Path, new: &Path) -> Option<&'static str> {
    let id = source.id(path);
    rustix::fs::linkat(CWD, path, CWD, new, AtFlags::empty()).ok()?;
    record_link(source, id, new);
    Some("link")
}

fn record_link(source: &mut Source, id: FileId, new: &Path) {
    let parent = new.parent().unwrap();
    let mut record = Record::new(Kind::Link, id);
    (record.parent, record.name) = (source.id(parent), new.file_name().unwrap().as_bytes());
    (record.attr, record.names.stamp) = (source.attr(id), stamp(source, parent));
    source.log_record(&record);
}

fn stamp(source: &Source, dir: &Path) -> stead_model::Stamp {
    source.attr(source.id(dir)).stamp()
}

fn bytes(random: &mut Random, len: u64) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8).collect()
}

/// Owner, a named user, group, mask, others.
fn acl(random: &mut Random) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    let named = 1000 + random.below(3) as u32;
    for (tag, id) in [(1u16, u32::MAX), (2, named), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)] {
        acl.extend(tag.to_le_bytes());
        acl.extend((random.below(8) as u16).to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// `struct vfs_cap_data`, revision 2.
fn capability(random: &mut Random) -> Vec<u8> {
    let mut capability = 0x0200_0001u32.to_le_bytes().to_vec();
    capability.extend((random.below(1 << 20) as u32).to_le_bytes());
    capability.extend([0; 12]);
    capability
}

fn c_path(path: &Path) -> CString {
    CString::new(OsStr::as_bytes(path.as_os_str())).unwrap()
}

/// Locks would keep a test's directory from being removed.
pub fn unlock_tree(dir: &Path) {
    for (path, meta) in super::walk(dir) {
        if (meta.is_dir() || meta.is_file())
            && meta.mode() != 0
            && let Ok(file) = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path)
            && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        {
            let _ = rustix::fs::ioctl_setflags(&file, flags - rustix::fs::IFlags::from_bits_retain(Attr::FLAGS));
        }
    }
}
