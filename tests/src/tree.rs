//! Trees of files to protect: plain ones of a given size, and one with every oddity that a set may hold.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat,
};

use crate::rng::Rng;

/// Files per directory of a plain tree.
const FAN: u64 = 100;

/// Makes `files` files of random sizes that add up to about `bytes`, in directories of a hundred. Returns the bytes.
///
/// # Errors
/// Where one cannot be written.
pub fn plain(root: &Path, files: u64, bytes: u64, seed: u64) -> Result<u64> {
    let mut rng = Rng::new(seed);
    let mean = (bytes / files.max(1)).max(1);
    let mut total = 0;
    for number in 0..files {
        let dir = root.join(format!("d{:04}", number / FAN));
        if number % FAN == 0 {
            fs::create_dir_all(&dir)?;
        }
        // Most files small, one in sixteen large: as in real trees.
        let size = if rng.one_in(16) { mean * 8 + rng.below(mean * 2) } else { rng.below(mean) + 1 };
        total += size;
        fs::write(dir.join(format!("file-{number:06}.dat")), rng.bytes(size as usize))?;
    }
    Ok(total)
}

/// Makes `files` files of exactly `size` random bytes each: nothing that compression could spare.
///
/// # Errors
/// Where one cannot be written.
pub fn even(root: &Path, files: u64, size: usize, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    for number in 0..files {
        let dir = root.join(format!("d{:05}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&dir)?;
        }
        fs::write(dir.join(format!("f{number:07}")), rng.bytes(size))?;
    }
    Ok(())
}

/// Makes one file of random bytes.
///
/// # Errors
/// Where it cannot be written.
pub fn big(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let chunk = rng.bytes(left.min(1 << 20) as usize);
        file.write_all(&chunk)?;
        left -= chunk.len() as u64;
    }
    Ok(())
}

/// Makes a sparse file: `data` bytes in pieces of 64 KiB, spread evenly over `size`.
///
/// # Errors
/// Where it cannot be written.
pub fn sparse(path: &Path, size: u64, data: u64, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let file = File::create(path)?;
    file.set_len(size)?;
    let piece = 64 << 10;
    let pieces = (data / piece).max(1);
    for number in 0..pieces {
        let at = (size / pieces * number) / piece * piece;
        file.write_all_at(&rng.bytes(piece as usize), at)?;
    }
    Ok(())
}

/// Makes a tree with one of everything: odd names, every type, every attribute, holes, links.
///
/// # Errors
/// Where the file system beneath lacks something of it.
pub fn odd(root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    names(root).context("odd names")?;
    types(root).context("file types")?;
    links(root).context("links")?;
    contents(root).context("contents")?;
    attributes(root).context("attributes")?;
    times(root).context("times")?;
    Ok(())
}

/// Names that programs like to get wrong, each legal.
pub fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = vec![
        b"with space".to_vec(),
        b" leading and trailing ".to_vec(),
        b"new\nline".to_vec(),
        b"tab\tand\x07bell".to_vec(),
        b"-rf".to_vec(),
        b"--delete".to_vec(),
        b"star*[a-z]?{x}".to_vec(),
        b"back\\slash".to_vec(),
        b"quote'\"`$(id)".to_vec(),
        b"..not-a-parent".to_vec(),
        b"...".to_vec(),
        b"\xff\xfe\x80invalid".to_vec(),
        "cafe\u{301}".into(),
        "caf\u{e9}".into(),
        "\u{65e5}\u{672c}\u{8a9e}".into(),
        b".hidden".to_vec(),
        b"~".to_vec(),
        b"a:b;c,d=e".to_vec(),
    ];
    names.push(vec![b'x'; 255]);
    names.push((1..=255u8).filter(|byte| *byte != b'/').collect());
    names
}

fn names(root: &Path) -> Result<()> {
    let dir = root.join("names");
    fs::create_dir(&dir)?;
    for (number, name) in odd_names().iter().enumerate() {
        let path = dir.join(OsStr::from_bytes(name));
        if number % 5 == 4 {
            fs::create_dir(&path)?;
            fs::write(path.join("inside"), format!("{number}"))?;
        } else {
            fs::write(&path, format!("file {number}"))?;
        }
    }
    let mut deep = root.join("deep");
    for _ in 0..30 {
        deep.push("a-directory-in-a-directory");
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "deep")?;
    fs::create_dir(root.join("empty"))?;
    Ok(())
}

fn types(root: &Path) -> Result<()> {
    let dir = root.join("types");
    fs::create_dir(&dir)?;
    let node = |name: &str, kind, mode: u32, dev| mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(mode), dev);
    node("fifo", FileType::Fifo, 0o640, 0)?;
    node("char", FileType::CharacterDevice, 0o600, makedev(1, 3))?;
    node("block", FileType::BlockDevice, 0o660, makedev(7, 200))?;
    node("bare-socket", FileType::Socket, 0o755, 0)?;
    // A socket's path is short, a test's directory long: bound beside and moved in.
    let short = short_socket()?;
    fs::rename(&short, dir.join("socket")).or_else(|_| fs::remove_file(&short))?;
    symlink("../names/with space", dir.join("symlink"))?;
    symlink("/nowhere/at all", dir.join("dangling"))?;
    symlink("loop", dir.join("loop"))?;
    symlink(OsStr::from_bytes(&[b'y'; 4000]), dir.join("long-symlink"))?;
    lchown(dir.join("dangling"), Some(1234), Some(4321))?;
    Ok(())
}

fn short_socket() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("stead-socket-{}-{}", std::process::id(), crate::load::now_ns()));
    drop(UnixListener::bind(&path)?);
    Ok(path)
}

fn links(root: &Path) -> Result<()> {
    let dir = root.join("links");
    fs::create_dir_all(dir.join("elsewhere"))?;
    fs::write(dir.join("one"), "three names")?;
    fs::hard_link(dir.join("one"), dir.join("two"))?;
    fs::hard_link(dir.join("one"), dir.join("elsewhere/three"))?;
    fs::hard_link(root.join("types/fifo"), dir.join("fifo too"))?;
    fs::hard_link(root.join("types/symlink"), dir.join("symlink too"))?;
    Ok(())
}

fn contents(root: &Path) -> Result<()> {
    let dir = root.join("contents");
    fs::create_dir(&dir)?;
    let mut rng = Rng::new(7);
    fs::write(dir.join("nothing"), "")?;
    for size in [1, 4095, 4096, 4097, 65_536, 1_048_575, 3_000_001] {
        fs::write(dir.join(format!("bytes-{size}")), rng.bytes(size))?;
    }
    fs::write(dir.join("zeros"), vec![0; 300_000])?;
    sparse(&dir.join("sparse"), 1 << 30, 1 << 20, 11)?;
    File::create(dir.join("one-hole"))?.set_len(10 << 20)?;
    let mut tail = File::create(dir.join("hole-at-the-end"))?;
    tail.write_all(&rng.bytes(10_000))?;
    tail.set_len(5 << 20)?;
    let mut head = File::create(dir.join("hole-at-the-start"))?;
    head.seek(SeekFrom::Start(5 << 20))?;
    head.write_all(&rng.bytes(10_000))?;
    let reserved = File::create(dir.join("preallocated"))?;
    rustix::fs::fallocate(&reserved, FallocateFlags::empty(), 0, 2 << 20)?;
    reserved.write_all_at(&rng.bytes(5_000), 1 << 20)?;
    let beyond = File::create(dir.join("preallocated-beyond-the-end"))?;
    beyond.write_all_at(&rng.bytes(5_000), 0)?;
    rustix::fs::fallocate(&beyond, FallocateFlags::KEEP_SIZE, 0, 1 << 20)?;
    Ok(())
}

fn attributes(root: &Path) -> Result<()> {
    let dir = root.join("attributes");
    fs::create_dir(&dir)?;
    for mode in [0o000, 0o444, 0o600, 0o755, 0o777, 0o2755, 0o4755, 0o6711, 0o1666] {
        let path = dir.join(format!("mode-{mode:04o}"));
        fs::write(&path, "x")?;
        lchown(&path, Some(1000 + mode), Some(100))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for mode in [0o1777, 0o2775, 0o3770, 0o000] {
        let path = dir.join(format!("directory-{mode:04o}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    xattrs(&dir)?;
    for (name, flags) in [("immutable", IFlags::IMMUTABLE), ("append-only", IFlags::APPEND), ("nodump", IFlags::NODUMP)]
    {
        let path = dir.join(name);
        fs::write(&path, "flagged")?;
        set_flags(&path, flags)?;
    }
    let frozen = dir.join("immutable-directory");
    fs::create_dir(&frozen)?;
    fs::write(frozen.join("inside"), "cannot be removed")?;
    set_flags(&frozen, IFlags::IMMUTABLE)
}

fn set_flags(path: &Path, flags: IFlags) -> Result<()> {
    let file = File::open(path)?;
    let before = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, before | flags)?)
}

fn xattrs(dir: &Path) -> Result<()> {
    let set = |path: &Path, name: &str, value: &[u8]| rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
    let file = dir.join("with-xattrs");
    fs::write(&file, "x")?;
    set(&file, "user.plain", b"value")?;
    set(&file, "user.empty", b"")?;
    set(&file, "user.binary", &[0, 255, 10, 0])?;
    set(&file, "user.long", &[b'v'; 1500])?;
    set(&file, "trusted.of-root", b"only root sees it")?;
    set(&file, "security.own", b"label")?;
    // CAP_NET_RAW, effective, version 2 of the structure.
    set(&file, "security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    let folder = dir.join("directory-with-xattrs");
    fs::create_dir(&folder)?;
    set(&folder, "user.on-directory", b"yes")?;
    symlink("target", dir.join("symlink-with-xattr"))?;
    set(&dir.join("symlink-with-xattr"), "trusted.on-symlink", b"yes")?;
    set(&folder, "system.posix_acl_default", &acl(7, 1005, 5))?;
    set(&file, "system.posix_acl_access", &acl(6, 1006, 4))?;
    fs::write(folder.join("inherits"), "x")?;
    Ok(())
}

/// A POSIX ACL: owner `owner`, user `uid` rw, group r, mask 7, other `other`.
pub fn acl(owner: u16, uid: u32, other: u16) -> Vec<u8> {
    let undefined = u32::MAX;
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, owner, undefined), (2, 6, uid), (4, 4, undefined), (0x10, 7, undefined), (0x20, other, undefined)]
    {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn times(root: &Path) -> Result<()> {
    let dir = root.join("times");
    fs::create_dir(&dir)?;
    fs::create_dir(dir.join("directory"))?;
    for name in ["old", "future", "before-1970", "directory/child"] {
        fs::write(dir.join(name), name)?;
    }
    symlink("old", dir.join("symlink"))?;
    let set = |name: &str, sec: i64, nsec: i64| set_times(&dir.join(name), sec, nsec);
    set("old", 1_000_000_000, 1)?;
    set("future", 4_000_000_000, 999_999_999)?;
    set("before-1970", -86_400, 500_000_000)?;
    set("symlink", 1_111_111_111, 111_111_111)?;
    set("directory", 1_222_222_222, 222_222_222)?;
    set(".", 1_333_333_333, 333_333_333)
}

/// Sets atime and mtime (mtime one second later) of a file, not following a symlink.
///
/// # Errors
/// Where the file system refuses.
pub fn set_times(path: &Path, sec: i64, nsec: i64) -> Result<()> {
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: nsec };
    let times = Timestamps { last_access: time(sec), last_modification: time(sec + 1) };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
