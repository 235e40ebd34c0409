//! Listings of trees that are compared: in one order on every node, page by page. Nothing is kept between two pages.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, Statx, StatxAttributes};
use rustix::io::Errno;
use stead_model::compare::Item;
use stead_model::plan::Feature;
use stead_model::record::Extras;
use stead_model::{Attr, Rules};
use xxhash_rust::xxh3::Xxh3;

use crate::read::describe;
use crate::{DiskError, HOLDING};

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes of paths in a page, about.
const PATH_BYTES_MAX: usize = 4 << 20;

/// A tree that is listed.
#[derive(Clone, Debug)]
pub struct Inventory<'a> {
    /// The directory at its top, or a single file.
    pub root: &'a Path,
    /// Is it a directory?
    pub is_dir: bool,
    /// Which names beneath it.
    pub rules: &'a Rules,
    /// What is not compared.
    pub without: &'a [Feature],
}

impl Inventory<'_> {
    /// Up to `max` entries that follow the path `after`, in the order of [`stead_model::compare::order`]; none: the first
    /// ones. And whether there may be more. What vanishes meanwhile is left out, and so are other file systems mounted
    /// beneath the root.
    ///
    /// # Errors
    /// Where something cannot be listed or looked at.
    pub fn page(&self, after: Option<&[u8]>, max: usize) -> Result<(Vec<Item>, bool), DiskError> {
        let flags = if self.is_dir { DIR } else { PATH };
        let opened = rustix::fs::openat(CWD, self.root, flags, Mode::empty());
        let root = match opened {
            Err(Errno::NOENT) if !self.is_dir => return Ok((Vec::new(), false)),
            root => root.map_err(DiskError::at("open", self.root.display()))?,
        };
        let (item, stat) = self.look(root.as_fd(), &[]).map_err(DiskError::at("look at", self.root.display()))?;
        let (levels, found, device) = (Vec::new(), Vec::new(), device(&stat));
        let mut walk = Walk { tree: self, device, levels, found, path_bytes: 0, after: parts(after) };
        if after.is_none() {
            walk.found.push(item);
        }
        if self.is_dir {
            walk.enter(root, Vec::new())?;
            walk.run(max)?;
        }
        let more = !walk.levels.is_empty();
        Ok((walk.found, more))
    }

    fn look(&self, fd: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<(Item, Statx)> {
        let (attr, extras, stat) = describe(fd, true)?;
        Ok((self.item(path, &attr, &extras), stat))
    }

    fn item(&self, path: &[u8], attr: &Attr, extras: &Extras) -> Item {
        Item {
            path: path.to_vec(),
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            size: if attr.is_file() { attr.size } else { 0 },
            mtime: attr.mtime(),
            rdev: attr.rdev,
            target: hash([extras.target.as_slice()].into_iter().filter(|target| !target.is_empty())),
            xattrs: self.hash_of_xattrs(extras),
        }
    }

    fn hash_of_xattrs(&self, extras: &Extras) -> u64 {
        let left_out = |name: &[u8]| match name.starts_with(b"system.posix_acl_") {
            true => self.without.contains(&Feature::Acls),
            false => self.without.contains(&Feature::Xattrs),
        };
        let compared = extras.xattrs.iter().filter(|(name, _)| !left_out(name));
        hash(compared.flat_map(|(name, value)| [name.as_slice(), value.as_slice()]))
    }
}

/// A directory on the way down, with the names that are still to be looked at.
struct Level {
    fd: OwnedFd,
    names: std::vec::IntoIter<CString>,
    path: Vec<u8>,
}

struct Walk<'a> {
    tree: &'a Inventory<'a>,
    device: (u32, u32),
    levels: Vec<Level>,
    found: Vec<Item>,
    path_bytes: usize,
    /// The names that lead to the last entry of the page before, as far as the way down has not left them.
    after: Vec<Vec<u8>>,
}

impl Walk<'_> {
    fn run(&mut self, max: usize) -> Result<(), DiskError> {
        while self.found.len() < max
            && self.path_bytes < PATH_BYTES_MAX
            && let Some(level) = self.levels.last_mut()
        {
            match level.names.next() {
                Some(name) => self.meet(&name)?,
                None => drop(self.levels.pop()),
            }
        }
        Ok(())
    }

    /// Begins to look at a directory. Of one that leads to the entry of the page before, what comes before that is known.
    fn enter(&mut self, fd: OwnedFd, path: Vec<u8>) -> Result<(), DiskError> {
        let mut names = names(fd.as_fd()).map_err(DiskError::at("list", self.shown(&path)))?;
        if let Some(after) = self.after.get(self.levels.len()) {
            names.retain(|name| name.to_bytes() >= after.as_slice());
        }
        self.levels.push(Level { fd, names: names.into_iter(), path });
        Ok(())
    }

    fn meet(&mut self, name: &CStr) -> Result<(), DiskError> {
        let depth = self.levels.len();
        if depth == 1 && name.to_bytes() == HOLDING {
            return Ok(());
        }
        let is_known = self.after.get(depth - 1).is_some_and(|after| after.as_slice() == name.to_bytes());
        if !is_known {
            self.after.truncate(depth - 1);
        }
        let level = self.levels.last().expect("something is being listed");
        let path = joined(&level.path, name);
        match self.look(name, &path) {
            Ok(Some((item, dir))) => {
                if !is_known {
                    self.path_bytes += item.path.len();
                    self.found.push(item);
                }
                dir.map_or(Ok(()), |dir| self.enter(dir, path))
            }
            Ok(None) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(DiskError::new("look at", self.shown(&path), errno)),
        }
    }

    /// The entry, open where it is a directory; none where it does not belong to the tree.
    fn look(&self, name: &CStr, path: &[u8]) -> rustix::io::Result<Option<(Item, Option<OwnedFd>)>> {
        let level = self.levels.last().expect("something is being listed");
        let fd = rustix::fs::openat(&level.fd, name, PATH, Mode::empty())?;
        let (item, stat) = self.tree.look(fd.as_fd(), path)?;
        let is_mount = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        if is_mount || device(&stat) != self.device || !self.tree.rules.take(path, item.is_dir()) {
            return Ok(None);
        }
        let dir = item.is_dir().then(|| rustix::fs::openat(&level.fd, name, DIR, Mode::empty()));
        Ok(Some((item, dir.transpose()?)))
    }

    fn shown(&self, path: &[u8]) -> String {
        self.tree.root.join(String::from_utf8_lossy(path).as_ref()).display().to_string()
    }
}

fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable_by(|one, other| one.to_bytes().cmp(other.to_bytes()));
    Ok(names)
}

fn parts(path: Option<&[u8]>) -> Vec<Vec<u8>> {
    let path = path.filter(|path| !path.is_empty());
    path.map(|path| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()).unwrap_or_default()
}

fn joined(dir: &[u8], name: &CStr) -> Vec<u8> {
    let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    [dir, slash, name.to_bytes()].concat()
}

fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

/// Of nothing it is 0.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = None;
    for part in parts {
        let hash: &mut Xxh3 = hash.get_or_insert_with(Xxh3::new);
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.map_or(0, |hash| hash.digest())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use stead_model::RulesSpec;
    use stead_model::compare::order;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/deep/er")).unwrap();
        fs::create_dir(at(".stead-holding")).unwrap();
        for name in ["a/x", "a/deep/er/y", "a.b", "a-", "z", ".stead-holding/1", "left.tmp"] {
            fs::write(at(name), name).unwrap();
        }
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"b\xff")), "").unwrap();
        symlink("a/x", at("link")).unwrap();
        dir
    }

    fn rules() -> Rules {
        Rules::new(&RulesSpec { exclude: vec!["*.tmp".into()], ..RulesSpec::default() }).unwrap()
    }

    fn listed(root: &Path, max: usize) -> Vec<Item> {
        let rules = rules();
        let inventory = Inventory { root, is_dir: root.is_dir(), rules: &rules, without: &[] };
        let mut all: Vec<Item> = Vec::new();
        loop {
            let (page, more) = inventory.page(all.last().map(|item| item.path.as_slice()), max).unwrap();
            all.extend(page);
            if !more {
                return all;
            }
        }
    }

    #[test]
    fn pages_of_any_size_hold_the_same_in_order() {
        let dir = tree();
        let whole = listed(dir.path(), 1000);
        let paths: Vec<_> = whole.iter().map(|item| String::from_utf8_lossy(&item.path).into_owned()).collect();
        let expected = ["", "a", "a/deep", "a/deep/er", "a/deep/er/y", "a/x", "a-", "a.b", "b\u{FFFD}", "link", "z"];
        assert_eq!(paths, expected);
        assert!(whole.is_sorted_by(|one, other| order(&one.path, &other.path).is_lt()));
        for max in 1..=whole.len() {
            assert_eq!(listed(dir.path(), max), whole, "{max} at a time");
        }
    }

    #[test]
    fn what_was_there_at_the_last_page_may_be_gone_at_the_next() {
        let dir = tree();
        let rules = rules();
        let inventory = Inventory { root: dir.path(), is_dir: true, rules: &rules, without: &[] };
        fs::remove_dir_all(dir.path().join("a/deep")).unwrap();
        let (next, _) = inventory.page(Some(b"a/deep/er"), 2).unwrap();
        assert_eq!(next.iter().map(|item| item.path.as_slice()).collect::<Vec<_>>(), [&b"a/x"[..], b"a-"]);
    }

    #[test]
    fn whatever_changes_shows() {
        let dir = tree();
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        let look = |name: &str| listed(dir.path(), 1000).into_iter().find(|item| item.path == name.as_bytes()).unwrap();
        let before = [look("a/x"), look("z"), look("link")];
        fs::set_permissions(path("a/x"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(path("link")).unwrap();
        symlink("a/y", path("link")).unwrap();
        assert_ne!(before[0].mode, look("a/x").mode);
        assert_ne!(before[2].target, look("link").target);
        if rustix::fs::setxattr(path("z"), "user.note", b"1", rustix::fs::XattrFlags::empty()).is_ok() {
            assert_ne!(before[1].xattrs, look("z").xattrs);
            let rules = rules();
            let (without, all) = ([Feature::Xattrs], dir.path());
            let without = Inventory { root: all, is_dir: true, rules: &rules, without: &without };
            let found = without.page(None, 1000).unwrap().0.into_iter().find(|item| item.path == b"z").unwrap();
            assert_eq!(found.xattrs, before[1].xattrs);
        }
    }

    #[test]
    fn a_single_file_is_a_tree_of_its_own() {
        let dir = tree();
        let items = listed(&dir.path().join("z"), 2);
        assert_eq!((items.len(), items[0].path.len(), items[0].size), (1, 0, 1));
        assert!(listed(&dir.path().join("none"), 2).is_empty());
    }
}
