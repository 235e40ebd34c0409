//! Everything about a tree that an application can see, as text, and the comparison of two.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, PartialEq)]
pub enum Times {
    Compare,
    Ignore,
}

/// Fails with the differences.
pub fn assert_same(left: &Path, right: &Path, times: Times, context: &str) {
    compare(left, right, times, context).unwrap_or_else(|text| panic!("{text}"));
}

/// The differences, as text.
pub fn compare(left: &Path, right: &Path, times: Times, context: &str) -> Result<(), String> {
    let (left, right) = (describe(left, times), describe(right, times));
    let mut text = String::new();
    for name in left.keys().chain(right.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (l, r) = (left.get(name), right.get(name));
        if l != r {
            let none = String::from("(nothing)");
            let _ = write!(text, "\n{name:?}\n  {}\n  {}", l.unwrap_or(&none), r.unwrap_or(&none));
        }
    }
    if text.is_empty() { Ok(()) } else { Err(format!("{context} differ:{text}")) }
}

fn describe(root: &Path, times: Times) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mut text = format!("{:o} {}:{} rdev {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        let first = links.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.clone());
        if !meta.is_dir() {
            let _ = write!(text, " nlink {} first {first:?}", meta.nlink());
        }
        if times == Times::Compare && !relative.as_os_str().is_empty() {
            let _ = write!(text, " mtime {}.{:09}", meta.mtime(), meta.mtime_nsec());
        }
        for (name, value) in xattrs(&path) {
            let _ = write!(text, " {name}={value:?}");
        }
        if meta.is_symlink() {
            let _ = write!(text, " -> {:?}", std::fs::read_link(&path).unwrap());
        } else if meta.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let sum =
                bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
            let _ = write!(text, " size {} sum {sum:x}", bytes.len());
        }
        if meta.is_file() || meta.is_dir() {
            let _ = write!(text, " flags {:x}", flags(&path) & stead_model::Attr::FLAGS);
        }
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| relative.join(entry.unwrap().file_name())));
        }
        all.insert(relative, text);
    }
    all
}

pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0; 1 << 16];
    let len = rustix::fs::llistxattr(&path, &mut names[..]).unwrap_or(0);
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let name = std::ffi::OsString::from_vec(name.to_vec());
            let len = rustix::fs::lgetxattr(&path, &name, &mut value[..]).unwrap();
            (name.to_string_lossy().into_owned(), value[..len].to_vec())
        })
        .collect()
}

pub fn flags(path: &Path) -> u32 {
    let file =
        rustix::fs::open(path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK, rustix::fs::Mode::empty());
    rustix::fs::ioctl_getflags(file.unwrap()).map_or(0, |flags| flags.bits())
}
