//! Keeping a fork, and copying it out: work for threads that may wait.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use stead_api::{Failure, ForkEntry};
use stead_disk::DiskError;
use stead_disk::aside::{self, Entry, Kind, Since, Tree};
use stead_model::status::Timestamp;
use stead_model::{Rules, RulesSpec};

use super::Progress;
use super::store::{ForkDir, Kept};
use crate::seam::TargetRoot;

/// What the file system of the state directory keeps for everything else, the journal of the restore among it.
const RESERVE: u64 = 256 << 20;
/// How many entries are copied until it is looked again how much room there is.
const LOOK: u64 = 1000;
pub(crate) const NO_ROOM: &str = "there is no room where the state directory is";

/// A fork that is to be kept, the instant being known.
pub(crate) struct Keep {
    pub(crate) dir: ForkDir,
    pub(crate) trees: Vec<Tree>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) reserve: u64,
}

/// The part of a set's replica that changed since.
pub(crate) fn trees(roots: &[TargetRoot], rules: &RulesSpec, since: Since) -> Result<Vec<Tree>, Failure> {
    let tree = |root: &TargetRoot| {
        let (root, rules) = match (root.path.parent(), root.path.file_name()) {
            (Some(dir), Some(name)) if !root.is_dir => (dir, RulesSpec::only([name.to_string_lossy()].iter())),
            _ => (root.path.as_path(), rules.clone()),
        };
        let rules = Rules::new(&rules).map_err(|e| Failure::new("nothing was kept aside", e.to_string(), ""))?;
        Ok(Tree { root: root.into(), rules, since: Some(since) })
    };
    roots.iter().map(tree).collect()
}

impl Keep {
    pub(crate) fn new(dir: ForkDir, trees: Vec<Tree>, progress: Arc<Progress>) -> Keep {
        Keep { dir, trees, progress, reserve: RESERVE }
    }

    /// Keeps it anew, whatever an earlier attempt left.
    pub(crate) fn run(self) -> Result<Kept, Failure> {
        let failed = |why: String| {
            let (set, epoch) = (&self.dir.set, self.dir.epoch);
            let remedy = format!("Make room, or give it up: stead fork drop {set} {epoch} --yes");
            Failure::new("what only this node had cannot be kept aside", why, remedy)
        };
        let kept = self.dir.clear().map_err(|e| e.to_string()).and_then(|()| self.keep());
        kept.map_err(|why| {
            let _ = self.dir.clear();
            failed(why)
        })
    }

    fn keep(&self) -> Result<Kept, String> {
        self.has_room()?;
        let mut sink = Sink::new(self).map_err(|e| e.to_string())?;
        for tree in &self.trees {
            let to = self.dir.copies().join(tree.root.strip_prefix("/").unwrap_or(&tree.root));
            aside::copy(tree, &to, &mut |entry| sink.take(&tree.root, entry)).map_err(|e| said(&e))?;
        }
        sink.end().and_then(|kept| self.dir.seal().map(|()| kept)).map_err(|e| e.to_string())
    }

    /// Is there room for all of it? Asked before anything is copied: a full state directory stops the daemon.
    fn has_room(&self) -> Result<(), String> {
        let failed = |e: io::Error| e.to_string();
        let own = |tree: &&Tree| !aside::shares(&tree.root, self.dir.path());
        let mut needed: u64 = 0;
        for tree in self.trees.iter().filter(own) {
            let count = &mut |entry: Entry| {
                needed = needed.saturating_add(entry.allocated);
                self.is_wanted()
            };
            aside::list(tree, count).map_err(|e| said(&e))?;
        }
        let room = aside::room(self.dir.path()).map_err(failed)?.saturating_sub(self.reserve);
        if needed > room {
            return Err(format!("{NO_ROOM}: {needed} bytes are needed, {room} may be used"));
        }
        Ok(())
    }

    fn is_wanted(&self) -> io::Result<()> {
        if self.progress.is_over.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it was given up"));
        }
        Ok(())
    }
}

fn said(error: &DiskError) -> String {
    match error.cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("{NO_ROOM} ({error})"),
        _ => error.to_string(),
    }
}

/// Notes what was found.
struct Sink<'a> {
    keep: &'a Keep,
    index: BufWriter<File>,
    kept: Kept,
    seen: u64,
}

impl Sink<'_> {
    fn new(keep: &Keep) -> io::Result<Sink<'_>> {
        let index = OpenOptions::new().write(true).create_new(true).mode(0o600).open(keep.dir.new_index())?;
        let kept = Kept { at: Timestamp(0), files: 0, bytes: 0, unkept: 0 };
        Ok(Sink { keep, index: BufWriter::new(index), kept, seen: 0 })
    }

    fn take(&mut self, root: &Path, entry: Entry) -> io::Result<()> {
        self.keep.is_wanted()?;
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK) && aside::room(self.keep.dir.path())? < self.keep.reserve / 2 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.count(&entry);
        serde_json::to_writer(&mut self.index, &line(root, entry))?;
        self.index.write_all(b"\n")
    }

    fn count(&mut self, entry: &Entry) {
        let Kept { files, bytes, unkept, .. } = &mut self.kept;
        match entry.kind {
            Kind::Directory => {}
            _ if !entry.is_copied => *unkept += 1,
            _ => (*files, *bytes) = (*files + 1, *bytes + entry.size),
        }
        self.keep.progress.files.store(*files, Ordering::Relaxed);
        self.keep.progress.bytes.store(*bytes, Ordering::Relaxed);
    }

    fn end(mut self) -> io::Result<Kept> {
        self.index.flush()?;
        Ok(Kept { at: crate::clock::wall_clock(), ..self.kept })
    }
}

fn line(root: &Path, entry: Entry) -> ForkEntry {
    let kind = match entry.kind {
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Directory => "directory",
        Kind::Special => "special",
    };
    ForkEntry {
        path: root.join(&entry.path).to_string_lossy().into_owned(),
        kind: kind.into(),
        size: entry.size,
        modified: Timestamp(entry.modified.clamp(0, i128::from(u64::MAX)) as u64),
        kept: entry.is_copied,
        why: entry.lacks,
    }
}

/// Copies what is kept into a directory; returns how many files, and their bytes.
pub(crate) fn export(dir: &ForkDir, to: &Path) -> Result<(u64, u64), Failure> {
    let failed = |why: String| {
        let remedy = "Name a directory that is empty or does not exist, where there is room";
        Failure::new(format!("nothing was copied into {}", to.display()), why, remedy)
    };
    make_empty(to).map_err(|e| failed(e.to_string()))?;
    let (mut files, mut bytes) = (0, 0);
    let count = &mut |entry: Entry| {
        if entry.kind != Kind::Directory {
            (files, bytes) = (files + 1, bytes + entry.size);
        }
        Ok(())
    };
    let tree = Tree { root: dir.copies(), rules: Rules::default(), since: None };
    if tree.root.exists() {
        let copied = aside::copy(&tree, to, count).map_err(|e| e.to_string());
        copied.and_then(|()| aside::sync(to).map_err(|e| e.to_string())).map_err(|why| {
            Failure::new(
                format!("not everything was copied into {}", to.display()),
                why,
                "Remove what is there, and try again",
            )
        })?;
    }
    Ok((files, bytes))
}

fn make_empty(dir: &Path) -> io::Result<()> {
    if !dir.is_absolute() {
        return Err(io::Error::other("it is no absolute path"));
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    match fs::read_dir(dir)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::other("it is not empty")),
    }
}
