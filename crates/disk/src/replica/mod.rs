//! Applying records to a target tree, right from any mixture of older and newer states.
//!
//! A record is a statement ("file X is at parent P, name N, and has these attributes"), not an instruction, so it can be
//! applied to a tree that is already ahead. Files are found by the map of file ids and opened by handle: a name is only
//! ever a single component in an open directory, and nothing that a peer sends can leave the roots.
//!
//! What loses its name by a statement, and is not stated to have died, goes to the holding directory until a later
//! statement names it again, or until the scan or replay ends. So names can be recreated, swapped, and directories moved
//! into their own children, in any order.

mod attributes;
mod change;
mod content;
mod create;
mod doubt;
mod error;
mod ground;
mod handles;
mod holding;
mod images;
mod kept;
mod map;
mod map_file;
mod names;
mod orphans;
mod places;
mod rebuild;
mod scan;
mod tap;
mod trash;
mod verify;
mod words;

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use stead_model::clock::later;
use stead_model::record::Purpose;
use stead_model::{FileId, Position, Record, Time};

use crate::DiskError;
use crate::volume::open_by_id;
use doubt::Doubts;
use ground::Ground;
use handles::{Handle, Handles};
use holding::SLICE_OBJECTS;
use images::Images;
use kept::Tidy;
use map::{FileMap, Slot};
use map_file::{MapFile, Progress, Stored};
use scan::Scan;
use tap::Tap;
use trash::Trash;

pub use error::{ApplyError, Class, OpenError};
pub use images::ImagesKept;
pub use tap::Tapped;
pub use trash::{RemovedKept, Undone};
pub use words::{
    Difference, IdStorage, Need, Orphans, Outcome, Policy, ReplicaConfig, RootTarget, Statistics, TrashLimits, What,
};

/// A target tree and the map from the source's file ids to its files.
#[derive(Debug)]
pub struct Replica {
    ground: Ground,
    ids: IdStorage,
    go_without: bool,
    map: FileMap,
    file: Arc<Mutex<MapFile>>,
    handles: Handles,
    /// Files that have a name in the holding directory.
    held: HashSet<FileId>,
    /// Number of the next nameless object in the holding directories.
    anonymous: u64,
    scan: Option<Scan>,
    unfinished: Option<Purpose>,
    doubts: Doubts,
    mark: u8,
    /// Ranges that the hashes of a file, so far, found different.
    differing: HashMap<FileId, Vec<(u64, u64)>>,
    /// Directories that wait for their place: parent and name.
    deferred: HashMap<FileId, (FileId, CString)>,
    replaying: bool,
    skip_unknown: bool,
    skipped: u64,
    /// Latest time of a record, nanoseconds since 1970.
    heard: u64,
    /// Latest time that the source itself told.
    told: u64,
    applied: Position,
    records: u64,
    bytes: u64,
    state_dir: PathBuf,
    policy: Policy,
    /// Held objects that are to be removed by and by: volume, name, type.
    purging: Vec<(usize, CString, FileType)>,
    /// A scan said what of them lives.
    purges_after_scan: bool,
    /// The next end of a scan may remove whatever it finds.
    removals_accepted: bool,
    images: Option<Images>,
    trash: Trash,
    tidy: Tidy,
    tap: Option<Tap>,
}

/// A checkpoint that has begun: run it on any thread while the replica goes on applying; one at a time.
#[derive(Debug)]
#[must_use = "nothing is durable before it has run"]
pub struct Checkpoint {
    roots: Vec<OwnedFd>,
    removed: Option<File>,
    file: Arc<Mutex<MapFile>>,
    progress: Progress,
    entries: Vec<Stored>,
    whole: bool,
}

impl Checkpoint {
    /// Syncs the file systems of the replica, then makes the map durable. Once it returns, the journal up to
    /// [`Checkpoint::position`] may go.
    ///
    /// # Errors
    /// What the kernel said; then the journal must stay.
    pub fn run(self) -> Result<(), ApplyError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for root in &self.roots {
            if let Err(errno) = rustix::fs::syncfs(root) {
                file.broken = true;
                return Err(DiskError::new("sync", "the replica's file system", errno).into());
            }
        }
        if let Some(removed) = &self.removed {
            removed.sync_data().map_err(DiskError::at("sync", "the list of what was removed"))?;
        }
        if self.whole {
            file.rewrite(&self.progress, &self.entries)?;
        } else {
            file.append(&self.progress, &self.entries)?;
        }
        Ok(())
    }

    /// Everything up to here is durable once it has run.
    pub fn position(&self) -> Position {
        self.progress.position
    }
}

impl Replica {
    /// Opens the target directories and loads the map.
    ///
    /// # Errors
    /// Where a root cannot be used, or the map cannot be read.
    pub fn open(config: ReplicaConfig) -> Result<Replica, OpenError> {
        crate::sys::size_limit_is_an_error();
        let ground = Ground::open(&config.roots)?;
        let images = images::open(&ground, &config.state_dir)?;
        let mut map = FileMap::default();
        let (file, progress) = MapFile::open(&config.state_dir, |stored| map.load(stored))?;
        map.forget_changes();
        map.generation = progress.generation;
        let trash = Trash::open(&config.state_dir)?;
        let mut replica = Replica {
            ground,
            ids: config.ids,
            go_without: config.go_without,
            map,
            file: Arc::new(Mutex::new(file)),
            handles: Handles::default(),
            held: HashSet::new(),
            anonymous: 0,
            scan: None,
            doubts: Doubts::of_everything(progress.scan > 0, progress.heard),
            unfinished: progress.scan.checked_sub(1).and_then(Purpose::from_u32),
            mark: 0,
            differing: HashMap::new(),
            deferred: HashMap::new(),
            replaying: false,
            skip_unknown: config.skip_unknown,
            skipped: 0,
            heard: progress.heard,
            told: progress.heard,
            applied: progress.position,
            records: 0,
            bytes: 0,
            state_dir: config.state_dir,
            policy: Policy::default(),
            purging: Vec::new(),
            purges_after_scan: false,
            removals_accepted: false,
            images,
            trash,
            tidy: Tidy::at_start(),
            tap: None,
        };
        replica.find_held().map_err(DiskError::at("list", "the holding directory"))?;
        Ok(replica)
    }

    /// Applies one record. After an error nothing is lost: apply the same record again once the cause is gone.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Outcome, ApplyError> {
        let mut out = Outcome::default();
        self.note_place(record);
        let before = self.tap_before(record);
        let applied = if record.kind.is_change() { self.change(record) } else { self.scanned(record, &mut out) };
        match (&applied, before) {
            (Ok(()), Some(before)) => self.tap(record, before),
            // Part of it may be there already when it is applied again.
            (Err(_), _) => self.tap_lost(),
            _ => {}
        }
        applied?;
        self.hear(record.time);
        self.records += 1;
        Ok(out)
    }

    /// Takes note of the source's time (nanoseconds since 1970) at a place of the stream; 0 is taken as now. A ctime
    /// that is hardly older than the last time before a gap proves nothing.
    pub fn hear(&mut self, time: u64) {
        match time {
            0 => self.heard = self.heard.max(now()),
            time => (self.told, self.heard) = (later(self.told, time), later(self.heard, time)),
        }
    }

    /// Does what was put off since the last call (times, flags), and a part of what was put off for longer (removals
    /// after a scan): call it at the end of each batch of records.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        self.purge_slice(SLICE_OBJECTS)?;
        self.handles.settle().map_err(|(file, errno)| self.failed("set the times of", file, errno))
    }

    /// While replaying (from the last checkpoint's position to the end of the journal, after a crash) records about
    /// unknown files are skipped: they died later. The end of the replay removes what is left over.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_replaying(&mut self, replaying: bool) -> Result<(), ApplyError> {
        let ended = std::mem::replace(&mut self.replaying, replaying) && !replaying;
        if ended {
            self.put_deferred()?;
            self.purges_after_scan = false;
            self.purge_holding()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Begins a checkpoint at `position`: everything up to there has been applied. Amid a replay or scan something may
    /// have to wait for its end; then the position stays where it was.
    ///
    /// # Errors
    /// As [`Replica::settle`].
    pub fn begin_checkpoint(&mut self, position: Position) -> Result<Checkpoint, ApplyError> {
        self.settle()?;
        let mut roots = Vec::new();
        for volume in &self.ground.volumes {
            roots.push(volume.root.fd().try_clone_to_owned().map_err(DiskError::at("open", "a root"))?);
        }
        let file = Arc::clone(&self.file);
        let whole = {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let whole = file.wants_compaction(self.map.len());
            // Until this checkpoint has run: should it never run, the next one writes everything.
            file.broken = true;
            whole
        };
        let mut entries = Vec::new();
        if whole {
            self.map.take_all(&mut entries);
        } else {
            self.map.take_changes(&mut entries);
        }
        let position = if self.deferred.is_empty() { position } else { self.applied };
        self.applied = position;
        let doubted = (!self.doubts.is_empty()).then_some(Purpose::Difference);
        let scan = self.unfinished.or(doubted).map_or(0, |purpose| purpose as u32 + 1);
        let progress = Progress { position, scan, heard: self.heard, generation: self.map.generation };
        let removed = self.trash.to_sync().map_err(DiskError::at("sync", "the list of what was removed"))?;
        Ok(Checkpoint { roots, removed, file, progress, entries, whole })
    }

    /// [`Replica::begin_checkpoint`] and [`Checkpoint::run`].
    ///
    /// # Errors
    /// As both.
    pub fn checkpoint(&mut self, position: Position) -> Result<(), ApplyError> {
        self.begin_checkpoint(position)?.run()
    }

    /// What the plan wants; it holds from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.trash.limits = policy.trash;
        self.images.iter_mut().for_each(|images| images.set_limit(policy.images_bytes_max));
    }

    /// The end of the scan under way, or of the next one, may remove whatever it finds.
    pub fn accept_removals(&mut self) {
        self.removals_accepted = true;
    }

    /// Position of the last checkpoint: after [`Replica::open`], where replay begins.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// ctime and size of the source's file when it was last known equal.
    pub fn proven(&self, file: FileId) -> Option<(Time, u64)> {
        self.map.get(file).and_then(Slot::proof)
    }

    /// The scan that is under way, or that a crash cut off: then another scan must follow.
    pub fn scan_unfinished(&self) -> Option<Purpose> {
        self.unfinished
    }

    /// Path of a file beneath the replica's roots, for messages; `None` where it is unknown or has no known name.
    pub fn path_of(&mut self, file: FileId) -> Option<PathBuf> {
        let handle = self.handle(file).ok()??;
        let inner = ground::path_of_fd(handle.fd()).ok()?;
        let (root, path) = self.ground.path_for_people(&inner)?;
        Some(self.ground.roots[root].path.join(path))
    }

    /// Counts since it was opened.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            records: self.records,
            bytes: self.bytes,
            files: self.map.len() as u64,
            held: self.held.len() as u64,
            skipped: self.skipped,
        }
    }

    /// Takes leave: settles, removes the holding directories where they are empty, and leaves a plain tree.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn release(mut self) -> Result<(), ApplyError> {
        self.settle()?;
        self.purge_rest()?;
        self.drop_images()?;
        self.trash.limits = TrashLimits::default();
        while self.tidy(1000)? {}
        for volume in &self.ground.volumes {
            kept::remove(volume).map_err(DiskError::at("remove", "the directory of what was removed"))?;
        }
        self.ground
            .remove_holdings()
            .map_err(|errno| self.failed("remove the holding directory of", FileId::NONE, errno))
    }

    /// The open file; `None` where the replica does not have it (any more).
    fn handle(&mut self, file: FileId) -> Result<Option<Handle>, ApplyError> {
        if let Some(handle) = self.handles.get(file) {
            return Ok(Some(handle));
        }
        let Some(slot) = self.map.get(file).copied() else { return Ok(None) };
        let root = &self.ground.volumes[slot.local.volume as usize].root;
        let mut opened = handles::open(root, slot.local, slot.kind(), self.images.is_none());
        if self.images.is_some() && matches!(opened, Err(Errno::PERM | Errno::ACCESS)) {
            self.before_local(slot.local)?;
            opened =
                handles::open(&self.ground.volumes[slot.local.volume as usize].root, slot.local, slot.kind(), true);
        }
        match opened {
            Ok(Some((fd, path_only, taken))) => {
                let kept = self.handles.keep(file, fd, path_only);
                let handle = kept.map_err(|errno| self.failed("open", file, errno))?;
                if let Some(flags) = taken {
                    self.handles.restore_flags(file, flags);
                }
                Ok(Some(handle))
            }
            Ok(None) => {
                self.forget(file);
                Ok(None)
            }
            Err(errno) => Err(self.failed("open", file, errno)),
        }
    }

    /// Takes over what the state directory says, as after a restart.
    fn reload(&mut self) -> Result<(), ApplyError> {
        let mut map = FileMap::default();
        let (file, progress) =
            MapFile::open(&self.state_dir, |stored| map.load(stored)).map_err(|error| match error {
                OpenError::Disk(error) => error,
                other => DiskError::new("open", "the file-id map", std::io::Error::other(other.to_string())),
            })?;
        map.forget_changes();
        map.generation = progress.generation;
        (self.map, self.file) = (map, Arc::new(Mutex::new(file)));
        self.handles = Handles::default();
        self.held.clear();
        self.purging.clear();
        self.deferred.clear();
        self.differing.clear();
        (self.scan, self.replaying, self.removals_accepted) = (None, false, false);
        self.doubts = Doubts::of_everything(progress.scan > 0, progress.heard);
        self.unfinished = progress.scan.checked_sub(1).and_then(Purpose::from_u32);
        (self.heard, self.told, self.applied) = (progress.heard, progress.heard, progress.position);
        Ok(self.find_held().map_err(DiskError::at("list", "the holding directory"))?)
    }

    fn forget(&mut self, file: FileId) {
        self.map.remove(file);
        self.handles.forget(file);
        self.held.remove(&file);
        self.differing.remove(&file);
        self.deferred.remove(&file);
    }

    /// The error for a failed system call on a file; file none: on the replica.
    fn failed(&mut self, operation: &'static str, file: FileId, errno: Errno) -> ApplyError {
        let path = self.path_for_people(file).unwrap_or_else(|| match self.ground.roots.first() {
            Some(root) if file.is_none() => root.path.clone(),
            _ => PathBuf::from(format!("file {file}")),
        });
        ApplyError::Failed { class: Class::of(errno), operation, path, errno }
    }

    fn path_for_people(&mut self, file: FileId) -> Option<PathBuf> {
        let is_gone = |path: &PathBuf| path.as_os_str().as_bytes().ends_with(b" (deleted)");
        let known = self.handles.get(file).and_then(|handle| ground::path_of_fd(handle.fd()).ok());
        let inner = match known.filter(|path| !is_gone(path)) {
            Some(inner) => inner,
            None => {
                // It is not open, or was made without a name: what opens it now goes by the name that it has got.
                let _ = self.handles.finish(file);
                let local = self.map.get(file)?.local;
                let root = &self.ground.volumes.get(local.volume as usize)?.root;
                let fd = open_by_id(root, local, OFlags::PATH | OFlags::NOFOLLOW).ok()??;
                ground::path_of_fd(fd.as_fd()).ok().filter(|path| !is_gone(path))?
            }
        };
        let (root, path) = self.ground.path_for_people(&inner)?;
        Some(self.ground.roots[root].path.join(path))
    }

    /// The error for a failed system call on a name in a directory.
    fn failed_at(&mut self, operation: &'static str, dir: FileId, name: &[u8], errno: Errno) -> ApplyError {
        let mut error = self.failed(operation, dir, errno);
        if let ApplyError::Failed { path, .. } = &mut error {
            path.push(std::ffi::OsStr::from_bytes(name));
        }
        error
    }

    /// Is a record about this unknown file to be skipped? Else it is an error.
    fn skip(&mut self, record: &Record<'_>, file: FileId) -> Result<(), ApplyError> {
        if self.replaying || self.scan.is_some() || self.skip_unknown || record.attr.nlink == 0 {
            self.skipped += 1;
            return Ok(());
        }
        Err(ApplyError::Unknown { file, kind: record.kind })
    }

    /// Index of the replica's volume for what has no place yet.
    fn volume_for(&self, dir: Option<FileId>) -> usize {
        dir.and_then(|dir| self.map.get(dir)).map_or(0, |slot| slot.local.volume as usize)
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(feature = "testing")]
impl Replica {
    /// Fills the map with that many files, to measure it.
    pub fn fill_for_test(&mut self, count: u64, like: &FileId) {
        for n in 1..=count {
            let id = FileId { ino: n, ..*like };
            self.map.insert(Slot::new(id, FileId { ino: n * 3, ..*like }, 0o100_644));
            self.map.prove(id, Time { sec: n as i64, nsec: 1 }, n);
        }
    }
}
