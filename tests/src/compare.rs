//! Compares two trees in everything that an application or an administrator could tell apart.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, IFlags, Mode, OFlags, Stat};

use crate::sys;

/// Differences listed before the rest is only counted.
const LISTED_MAX: usize = 40;
/// Where a replica keeps what has no name for a moment; it belongs to no set.
const HOLDING: &str = ".stead-holding";
/// What was removed lately, in the holding directory: all that is there at rest.
const KEPT: &str = "kept";
/// Flags that say what a file is; the others say how its file system stores it.
const FLAGS: IFlags = IFlags::SYNC
    .union(IFlags::IMMUTABLE)
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::DIRSYNC);

/// What is compared; everything by default.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Where blocks are allocated and where holes are. Through FUSE and on tmpfs: where data is, which for preallocated
    /// space depends on what the page cache holds.
    pub holes: bool,
    /// Times of last access.
    pub atime: bool,
    /// Times of the last change of content.
    pub mtime: bool,
    /// Paths (relative) that are left out, with everything beneath them.
    pub skip: Vec<PathBuf>,
}

impl Default for Compare {
    fn default() -> Self {
        Compare { holes: true, atime: true, mtime: true, skip: Vec::new() }
    }
}

/// Compares everything.
///
/// # Errors
/// Lists what differs.
pub fn same(a: &Path, b: &Path) -> Result<()> {
    Compare::default().same(a, b)
}

impl Compare {
    /// Compares two trees, or two files.
    ///
    /// # Errors
    /// Lists what differs, or where a tree cannot be read.
    pub fn same(&self, a: &Path, b: &Path) -> Result<()> {
        let found = self.differences(a, b)?;
        if found.is_empty() {
            return Ok(());
        }
        let mut listed = String::new();
        for line in found.iter().take(LISTED_MAX) {
            let _ = writeln!(listed, "  {line}");
        }
        bail!("{} and {} differ in {} places:\n{listed}", a.display(), b.display(), found.len());
    }

    /// What differs between two trees, a line each.
    ///
    /// # Errors
    /// Where a tree cannot be read.
    pub fn differences(&self, a: &Path, b: &Path) -> Result<Vec<String>> {
        let (left, right) = (self.read(a)?, self.read(b)?);
        let mut found = Vec::new();
        for path in left.entries.keys().filter(|path| !right.entries.contains_key(*path)) {
            found.push(format!("{path:?}: only in the first"));
        }
        for (path, other) in &right.entries {
            match left.entries.get(path) {
                None => found.push(format!("{path:?}: only in the second")),
                Some(entry) => self.compare_entry(path, entry, other, &mut found),
            }
        }
        for (path, others) in left.groups() {
            let there = right.group_of(&path);
            if there != others {
                found.push(format!("{path:?}: names of the same file {others:?} against {there:?}"));
            }
        }
        Ok(found)
    }

    fn compare_entry(&self, path: &OsStr, a: &Entry, b: &Entry, found: &mut Vec<String>) {
        let mut tell = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
            found.push(format!("{path:?}: {what} {a:?} against {b:?}"));
        };
        let mut check = |what: &str, left: &dyn std::fmt::Debug, right: &dyn std::fmt::Debug, equal: bool| {
            if !equal {
                tell(what, left, right);
            }
        };
        check("mode", &Octal(a.stat.st_mode), &Octal(b.stat.st_mode), a.stat.st_mode == b.stat.st_mode);
        let (owner_a, owner_b) = ((a.stat.st_uid, a.stat.st_gid), (b.stat.st_uid, b.stat.st_gid));
        check("owner", &owner_a, &owner_b, owner_a == owner_b);
        if self.mtime {
            check("mtime", &a.mtime(), &b.mtime(), a.mtime() == b.mtime());
        }
        if self.atime {
            check("atime", &a.atime(), &b.atime(), a.atime() == b.atime());
        }
        if !a.is_dir() {
            check("size", &a.stat.st_size, &b.stat.st_size, a.stat.st_size == b.stat.st_size);
            check("device", &a.stat.st_rdev, &b.stat.st_rdev, a.stat.st_rdev == b.stat.st_rdev);
        }
        check("symlink", &a.target, &b.target, a.target == b.target);
        check("flags", &a.flags, &b.flags, a.flags == b.flags);
        check("xattrs", &Shown(&a.xattrs), &Shown(&b.xattrs), a.xattrs == b.xattrs);
        if self.holes && a.stat.st_size == b.stat.st_size {
            check("blocks at", &a.blocks, &b.blocks, a.blocks == b.blocks);
        }
        if a.is_file() && b.is_file() && a.stat.st_size == b.stat.st_size {
            match first_difference(&a.path, &b.path, a.stat.st_size as u64) {
                Ok(None) => {}
                Ok(Some(at)) => found.push(format!("{path:?}: content differs from byte {at} of {}", a.stat.st_size)),
                Err(e) => found.push(format!("{path:?}: content cannot be read: {e:#}")),
            }
        }
    }

    fn read(&self, root: &Path) -> Result<Tree> {
        let mut tree = Tree::default();
        self.walk(root, OsString::new(), &mut tree)?;
        Ok(tree)
    }

    fn walk(&self, path: &Path, relative: OsString, tree: &mut Tree) -> Result<()> {
        if self.skip.iter().any(|skip| skip.as_os_str() == relative) {
            return Ok(());
        }
        let entry = Entry::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if entry.is_dir() {
            for child in fs::read_dir(path)? {
                let name = child?.file_name();
                if relative.is_empty() && name == HOLDING && is_at_rest(&path.join(&name))? {
                    continue;
                }
                let mut below = relative.clone().into_vec();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(name.as_bytes());
                self.walk(&path.join(&name), OsString::from_vec(below), tree)?;
            }
        }
        tree.names.entry((entry.stat.st_dev, entry.stat.st_ino)).or_default().push(relative.clone());
        tree.entries.insert(relative, entry);
        Ok(())
    }
}

#[derive(Default)]
struct Tree {
    entries: BTreeMap<OsString, Entry>,
    names: BTreeMap<(u64, u64), Vec<OsString>>,
}

impl Tree {
    /// The names of each file that has several, under the first of them.
    fn groups(&self) -> Vec<(OsString, Vec<OsString>)> {
        let several = self.names.values().filter(|names| names.len() > 1);
        several.map(|names| sorted(names)).map(|names| (names[0].clone(), names)).collect()
    }

    fn group_of(&self, path: &OsStr) -> Vec<OsString> {
        let entry = self.entries.get(path);
        let names = entry.and_then(|entry| self.names.get(&(entry.stat.st_dev, entry.stat.st_ino)));
        names.map(|names| sorted(names)).unwrap_or_default()
    }
}

fn sorted(names: &[OsString]) -> Vec<OsString> {
    let mut names = names.to_vec();
    names.sort();
    names
}

struct Entry {
    path: PathBuf,
    stat: Stat,
    target: Option<PathBuf>,
    flags: Option<IFlags>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    blocks: Vec<(u64, u64)>,
}

impl Entry {
    fn read(path: &Path) -> Result<Entry> {
        let stat = rustix::fs::lstat(path)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let target = if kind == FileType::Symlink { Some(fs::read_link(path)?) } else { None };
        let xattrs = xattrs(path)?;
        let (mut flags, mut blocks) = (None, Vec::new());
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
            flags = Some(rustix::fs::ioctl_getflags(&file)? & FLAGS);
            if kind == FileType::RegularFile {
                let file = File::from(file);
                blocks = match sys::allocated(&file)? {
                    Some(blocks) => blocks,
                    None => extents(&file, stat.st_size as u64)?,
                };
            }
        }
        Ok(Entry { path: path.into(), stat, target, flags, xattrs, blocks })
    }

    fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    fn mtime(&self) -> (i64, u64) {
        (self.stat.st_mtime, self.stat.st_mtime_nsec)
    }

    fn atime(&self) -> (i64, u64) {
        (self.stat.st_atime, self.stat.st_atime_nsec)
    }
}

/// Where data is, as (from, to).
fn extents(file: &impl std::os::fd::AsFd, size: u64) -> Result<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let from = match seek(file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let to = seek(file, SeekFrom::Hole(from))?;
        found.push((from, to));
        at = to;
    }
    Ok(found)
}

/// All xattrs but those that Stead itself keeps on a replica.
fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut names = vec![0; 65_536];
    let len = match rustix::fs::llistxattr(path, &mut names) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.stead.") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(path, name, &mut value)?;
        value.truncate(len);
        found.insert(name.to_os_string(), value);
    }
    Ok(found)
}

fn is_at_rest(holding: &Path) -> Result<bool> {
    let names: Vec<_> = fs::read_dir(holding)?.flatten().map(|entry| entry.file_name()).collect();
    Ok(names.iter().all(|name| name == KEPT))
}

fn first_difference(a: &Path, b: &Path, size: u64) -> Result<Option<u64>> {
    const STEP: usize = 1 << 20;
    let (left, right) = (File::open(a)?, File::open(b)?);
    let data = (extents(&left, size)?, extents(&right, size)?);
    let (mut bytes_a, mut bytes_b) = (vec![0; STEP], vec![0; STEP]);
    // Where neither has data both read as zeros.
    for (from, to) in data.0.iter().chain(&data.1) {
        let mut at = *from;
        while at < *to {
            let len = STEP.min((*to - at) as usize);
            left.read_exact_at(&mut bytes_a[..len], at)?;
            right.read_exact_at(&mut bytes_b[..len], at)?;
            if bytes_a[..len] != bytes_b[..len] {
                let within = (0..len).find(|i| bytes_a[*i] != bytes_b[*i]).unwrap_or(0);
                return Ok(Some(at + within as u64));
            }
            at += len as u64;
        }
    }
    Ok(None)
}

struct Octal(u32);

impl std::fmt::Debug for Octal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

struct Shown<'a>(&'a BTreeMap<OsString, Vec<u8>>);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |value: &[u8]| String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, short(value)))).finish()
    }
}
