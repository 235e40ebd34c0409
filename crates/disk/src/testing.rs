//! Comparing trees, for tests of this and other crates.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use stead_model::Attr;
use stead_model::record::Extras;

use crate::HOLDING;
use crate::read::{Piece, READ, describe, pieces_of};
use crate::volume::Root;

/// What is compared besides names, types, content, owners, permissions, mtimes, xattrs, ACLs, flags and links.
#[derive(Clone, Copy, Debug)]
pub struct Compare {
    /// Times of access.
    pub atimes: bool,
    /// Where files have holes, on file systems of the same block size.
    pub holes: bool,
    /// Differences after which it gives up.
    pub lines_max: usize,
}

impl Default for Compare {
    fn default() -> Self {
        Compare { atimes: true, holes: true, lines_max: 50 }
    }
}

/// All that differs between the trees `a` and `b`, one line for each difference; empty where they are equal. Reading
/// leaves no trace.
///
/// # Panics
/// Where a tree cannot be read.
pub fn compare(a: &Path, b: &Path) -> Vec<String> {
    compare_with(a, b, Compare::default())
}

/// As [`compare`], with a choice of what is compared.
///
/// # Panics
/// Where a tree cannot be read.
pub fn compare_with(a: &Path, b: &Path, what: Compare) -> Vec<String> {
    let (files_a, files_b) = (walk(a), walk(b));
    let roots = [a, b].map(|path| Root::open(path, 0).expect("a root can be opened").quiet());
    let mut comparison =
        Comparison { what, roots, lines: Vec::new(), twins: HashMap::new(), twins_back: HashMap::new() };
    for path in files_a.keys().filter(|path| !files_b.contains_key(*path)) {
        comparison.line(path, "only in the first");
    }
    for path in files_b.keys().filter(|path| !files_a.contains_key(*path)) {
        comparison.line(path, "only in the second");
    }
    for (path, found_a) in &files_a {
        if let Some(found_b) = files_b.get(path) {
            comparison.pair(path, found_a, found_b);
        }
        if comparison.lines.len() >= what.lines_max {
            comparison.lines.push("and so on".into());
            break;
        }
    }
    comparison.lines
}

struct Found {
    ino: u64,
    path_only: bool,
}

struct Comparison {
    what: Compare,
    roots: [Root; 2],
    lines: Vec<String>,
    /// Inode in the second tree for each in the first, and back: links must be alike.
    twins: HashMap<u64, u64>,
    twins_back: HashMap<u64, u64>,
}

impl Comparison {
    fn line(&mut self, path: &Path, what: &str) {
        self.lines.push(format!("{:?}: {what}", path.display().to_string()));
    }

    fn pair(&mut self, path: &Path, a: &Found, b: &Found) {
        let twin = *self.twins.entry(a.ino).or_insert(b.ino);
        let twin_back = *self.twins_back.entry(b.ino).or_insert(a.ino);
        if twin != b.ino || twin_back != a.ino {
            self.line(path, "linked to different files");
        }
        let file_a = Opened::open(&self.roots[0], path, a);
        let file_b = Opened::open(&self.roots[1], path, b);
        self.attributes(path, &file_a, &file_b);
        if file_a.attr.is_file() && file_b.attr.is_file() {
            self.content(path, &file_a, &file_b);
        }
    }

    fn attributes(&mut self, path: &Path, a: &Opened, b: &Opened) {
        let (attr_a, attr_b) = (&a.attr, &b.attr);
        let mut fields = vec![
            ("mode", format!("{:o}", attr_a.mode), format!("{:o}", attr_b.mode)),
            ("owner", format!("{}:{}", attr_a.uid, attr_a.gid), format!("{}:{}", attr_b.uid, attr_b.gid)),
            ("flags", format!("{:x}", attr_a.flags), format!("{:x}", attr_b.flags)),
            ("device", attr_a.rdev.to_string(), attr_b.rdev.to_string()),
            ("mtime", format!("{:?}", attr_a.mtime()), format!("{:?}", attr_b.mtime())),
            ("xattrs", format!("{:?}", a.extras.xattrs), format!("{:?}", b.extras.xattrs)),
            ("target", format!("{:?}", a.extras.target), format!("{:?}", b.extras.target)),
        ];
        if self.what.atimes {
            fields.push(("atime", format!("{:?}", attr_a.atime()), format!("{:?}", attr_b.atime())));
        }
        if attr_a.is_file() {
            fields.push(("size", attr_a.size.to_string(), attr_b.size.to_string()));
        }
        for (field, value_a, value_b) in fields {
            if value_a != value_b {
                self.line(path, &format!("{field} {value_a} and {value_b}"));
            }
        }
    }

    fn content(&mut self, path: &Path, a: &Opened, b: &Opened) {
        let (pieces_a, pieces_b) = (a.pieces(), b.pieces());
        let (holes_a, holes_b) = (holes(&pieces_a), holes(&pieces_b));
        if self.what.holes && holes_a != holes_b {
            self.line(path, &format!("holes {holes_a:?} and {holes_b:?}"));
        }
        let (mut data_a, mut data_b) = (Data::new(pieces_a), Data::new(pieces_b));
        let end = data_a.end().max(data_b.end());
        let mut at = 0;
        while at < end {
            let until = data_a.next_edge(at).min(data_b.next_edge(at));
            if data_a.at(at, until) != data_b.at(at, until) {
                return self.line(path, &format!("content differs in {at}..{until}"));
            }
            at = until;
        }
    }
}

/// Ranges of holes, neighbours joined.
fn holes(pieces: &[Piece]) -> Vec<(u64, u64)> {
    pieces
        .iter()
        .filter_map(|piece| if let Piece::Hole { offset, len } = piece { Some((*offset, *len)) } else { None })
        .collect()
}

/// The data of a file; between it everything is zero.
struct Data(BTreeMap<u64, Vec<u8>>);

impl Data {
    fn new(pieces: Vec<Piece>) -> Data {
        let data = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Data { offset, bytes } => Some((offset, bytes)),
            _ => None,
        });
        Data(data.collect())
    }

    fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(offset, bytes)| offset + bytes.len() as u64)
    }

    /// Where data begins or ends next.
    fn next_edge(&self, at: u64) -> u64 {
        let end = self.0.range(..=at).next_back().map(|(offset, bytes)| offset + bytes.len() as u64);
        let begin = self.0.range(at + 1..).next().map(|(offset, _)| *offset);
        end.filter(|end| *end > at).into_iter().chain(begin).min().unwrap_or(u64::MAX)
    }

    /// Bytes between two edges, `None` where they are all zero.
    fn at(&mut self, from: u64, to: u64) -> Option<&[u8]> {
        let (offset, bytes) = self.0.range(..=from).next_back()?;
        let start = (from - offset) as usize;
        let part = bytes.get(start..((to - offset) as usize).min(bytes.len()))?;
        (!part.iter().all(|byte| *byte == 0)).then_some(part)
    }
}

struct Opened {
    fd: OwnedFd,
    attr: Attr,
    extras: Extras,
}

impl Opened {
    fn open(root: &Root, path: &Path, found: &Found) -> Opened {
        let path_only = found.path_only;
        let flags = if path_only { OFlags::PATH | OFlags::NOFOLLOW } else { READ };
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = rustix::fs::openat(root.fd(), path, flags, Mode::empty()).expect("a file of the tree can be opened");
        let (attr, extras, _) = describe(fd.as_fd(), path_only).expect("a file of the tree can be read");
        Opened { fd, attr, extras }
    }

    fn pieces(&self) -> Vec<Piece> {
        pieces_of(self.fd.as_fd()).expect("a file of the tree can be read")
    }
}

fn walk(root: &Path) -> BTreeMap<PathBuf, Found> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).expect("the tree stays as it is");
        if meta.is_dir() {
            for entry in list(&path) {
                if !(relative.as_os_str().is_empty() && entry.as_os_str().as_bytes() == HOLDING) {
                    waiting.push(relative.join(entry));
                }
            }
        }
        let path_only = !meta.is_file() && !meta.is_dir();
        found.insert(relative, Found { ino: meta.ino(), path_only });
    }
    found
}

/// Names in a directory, read without touching its time of access.
fn list(path: &Path) -> Vec<PathBuf> {
    let fd = rustix::fs::openat(CWD, path, READ | OFlags::DIRECTORY, Mode::empty()).expect("a directory can be opened");
    let mut names = rustix::fs::Dir::new(fd).expect("a directory can be read");
    let mut found = Vec::new();
    while let Some(entry) = names.read() {
        let name = entry.expect("a directory can be read").file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.push(PathBuf::from(std::ffi::OsStr::from_bytes(&name)));
        }
    }
    found
}
