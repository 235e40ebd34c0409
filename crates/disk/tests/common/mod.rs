//! A source tree whose operations are recorded as capture would, and scans of it.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod disk;
pub mod operations;
pub mod scan;

use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use stead_disk::read::Reader;
use stead_disk::replica::{IdStorage, Outcome, Replica, ReplicaConfig, RootTarget};
use stead_disk::volume::{Root, file_id_at};
use stead_model::record::records;
use stead_model::{Attr, FileId, Kind, Record, RecordBuf, Rules};

/// A generator of numbers from a seed (xorshift).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

/// A source tree and the records of what was done to it.
pub struct Source {
    pub dir: PathBuf,
    pub root: Root,
    pub reader: Reader,
    /// Encoded records, one each.
    pub log: Vec<Vec<u8>>,
}

impl Source {
    pub fn new(dir: &Path) -> Source {
        fs::create_dir_all(dir).unwrap();
        let reader = Reader::new(vec![Root::open(dir, 0).unwrap()]);
        Source { dir: dir.into(), root: Root::open(dir, 0).unwrap(), reader, log: Vec::new() }
    }

    pub fn id(&self, path: &Path) -> FileId {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        file_id_at(&self.root, self.root.fd().as_fd(), &name).unwrap().expect("the file is there")
    }

    pub fn id_if(&self, path: &Path) -> Option<FileId> {
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        file_id_at(&self.root, self.root.fd().as_fd(), &name).unwrap()
    }

    pub fn attr(&self, file: FileId) -> Attr {
        self.reader.node(file).unwrap().map(|(attr, _)| attr).unwrap_or_default()
    }

    pub fn log_record(&mut self, record: &Record<'_>) {
        let mut record = *record;
        record.sequence = self.log.len() as u64 + 1;
        record.time = now();
        let mut buf = RecordBuf::new();
        buf.push(&record);
        self.log.push(buf.into_bytes());
    }

    /// All paths beneath the root, which is among them.
    pub fn paths(&self) -> Vec<(PathBuf, fs::Metadata)> {
        walk(&self.dir)
    }
}

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

pub fn walk(root: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            waiting.extend(names(&path).into_iter().map(|name| path.join(name)));
        }
        found.push((path, meta));
    }
    found
}

/// Names in a directory, sorted, read without touching its time of access.
fn names(path: &Path) -> Vec<OsString> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty()).unwrap();
    let names = rustix::fs::Dir::new(dir).unwrap().map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
    let kept = names.filter(|name| name != b"." && name != b".." && name != stead_disk::HOLDING);
    let mut found: Vec<_> = kept.map(OsString::from_vec).collect();
    found.sort();
    found
}

pub fn open_replica(dir: &Path, state: &Path) -> Replica {
    fs::create_dir_all(dir).unwrap();
    fs::create_dir_all(state).unwrap();
    let roots = vec![RootTarget { path: dir.into(), rules: Rules::default(), borrowed: false }];
    let ids = IdStorage::Xattr;
    Replica::open(ReplicaConfig { roots, state_dir: state.into(), ids, go_without: false, skip_unknown: false })
        .unwrap()
}

/// Applies encoded records, with the record in the panic message where it fails.
pub fn apply_all(replica: &mut Replica, log: &[Vec<u8>], random: &mut Random, context: &str) {
    for bytes in log {
        apply_one(replica, bytes, context);
        if random.chance(20) {
            replica.settle().unwrap();
        }
    }
    replica.settle().unwrap();
}

pub fn apply_one(replica: &mut Replica, bytes: &[u8], context: &str) -> Outcome {
    let (record, _) = Record::parse(bytes).unwrap();
    let line = describe(&record);
    if std::env::var("TRACE").is_ok() {
        eprintln!("{context}: {line}");
    }
    replica.apply(&record).unwrap_or_else(|error| panic!("{context}: {line}: {error}"))
}

pub fn describe(record: &Record<'_>) -> String {
    format!(
        "#{} {:?} {} at {}/{:?} -> {}/{:?} victim {} a {} b {} c {:#x} nlink {} data {}",
        record.sequence,
        record.kind,
        record.file,
        record.parent,
        String::from_utf8_lossy(record.name),
        record.names.parent2,
        String::from_utf8_lossy(record.name2),
        record.names.victim,
        record.a,
        record.b,
        record.c,
        record.attr.nlink,
        record.data.len()
    )
}

pub fn describe_log(log: &[Vec<u8>]) -> String {
    log.iter().flat_map(|bytes| records(bytes)).map(|record| describe(&record.unwrap()) + "\n").collect()
}

pub fn is_kind(bytes: &[u8], kind: Kind) -> bool {
    Record::parse(bytes).unwrap().0.kind == kind
}

pub fn nlink(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.nlink())
}
