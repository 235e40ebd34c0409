//! Pre-images: while a difference mirror runs, a replica is no image of one instant. From [`Replica::keep_images`] on,
//! the state that it had is recorded before it changes for the first time, so that [`Replica::roll_back`] can bring it
//! back.
//!
//! What is recorded is state, not operations: who had a name, what an object's attributes were, what bytes a range held.
//! So rolling back is right from any mixture of older and newer states, and can begin anew. An object that has no name
//! left is kept in the holding directory instead of removed. Every record is durable before what it undoes can reach
//! the disk: [`Replica::foresee`] saves for a whole batch with one sync; what it did not foresee costs a sync of its own.

mod log;
mod ranges;
mod roll_back;
mod save;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use stead_model::{FileId, Position};
use xxhash_rust::xxh3::xxh3_128;

use super::ground::Ground;
use super::map_file::MapFile;
use super::{ApplyError, Class, OpenError, Replica};
use crate::DiskError;
use log::{Kind, Log, LogError, Undo};
use ranges::Ranges;

pub(super) use roll_back::{give_name, unlock_object};
pub(super) use save::open_object;

/// What is kept of the state at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesKept {
    /// The state that can be brought back.
    pub point: Position,
    /// Bytes of the undo log; what was removed since and is kept besides is not counted.
    pub bytes: u64,
}

/// The undo log and what is in it already.
#[derive(Debug)]
pub(super) struct Images {
    log: Log,
    known: Known,
    /// Something was recorded that is not durable yet.
    unsynced: bool,
    bytes_max: u64,
    /// Planted for tests: the log is not synced before the change.
    late: bool,
    /// For tests: rolling back fails after so many changes.
    steps: u64,
}

/// What is in the log.
#[derive(Debug, Default)]
struct Known {
    /// Directory and hash of the name.
    names: HashSet<(FileId, u128)>,
    /// With the size at the point.
    objects: HashMap<FileId, u64>,
    saved: HashMap<FileId, Ranges>,
    /// What was made since the point.
    new: HashSet<FileId>,
    rolling: bool,
}

/// Why something could not be saved.
#[derive(Debug)]
enum Unsaved {
    Log(io::Error),
    Full,
    Read(Errno),
}

impl From<Errno> for Unsaved {
    fn from(errno: Errno) -> Self {
        Unsaved::Read(errno)
    }
}

impl Images {
    fn new(log: Log, known: Known, bytes_max: u64) -> Images {
        Images { log, known, unsynced: false, bytes_max, late: false, steps: u64::MAX }
    }

    pub(super) fn set_limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Was it made since the point?
    pub(super) fn is_new(&self, local: FileId) -> bool {
        self.known.new.contains(&local)
    }

    fn append(&mut self, undo: &Undo<'_>) -> Result<(), Unsaved> {
        if self.log.bytes() + undo.payload.len() as u64 > self.bytes_max {
            return Err(Unsaved::Full);
        }
        self.log.append(undo).map_err(Unsaved::Log)?;
        self.unsynced |= undo.kind != Kind::New;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Unsaved> {
        if self.unsynced && !self.late {
            self.log.sync().map_err(Unsaved::Log)?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn explain(&self, unsaved: Unsaved) -> ApplyError {
        let path = self.log.path().to_path_buf();
        match unsaved {
            Unsaved::Full => ApplyError::NoRoom { path, why: format!("{} bytes are allowed", self.bytes_max) },
            Unsaved::Log(error) if is_full(&error) => ApplyError::NoRoom { path, why: error.to_string() },
            Unsaved::Log(error) => DiskError::new("write", path.display(), error).into(),
            Unsaved::Read(errno) => DiskError::new("save what is about to change in", "the replica", errno).into(),
        }
    }
}

impl Known {
    /// Takes note of what the log says is saved.
    fn note(&mut self, undo: Undo<'_>) {
        match undo.kind {
            Kind::Name if undo.payload.len() > size_of::<FileId>() => {
                self.names.insert((undo.file, xxh3_128(&undo.payload[size_of::<FileId>()..])));
            }
            Kind::Name => {}
            Kind::Object => {
                let size = save::parse_object(undo.payload).map_or(0, |(attr, _)| attr.size);
                self.objects.insert(undo.file, size);
            }
            Kind::Data => {
                let len = if undo.payload.is_empty() { undo.b } else { undo.payload.len() as u64 };
                self.saved.entry(undo.file).or_default().add(undo.a, undo.a.saturating_add(len));
            }
            Kind::New => drop(self.new.insert(undo.file)),
            Kind::Rolling => self.rolling = true,
        }
    }
}

impl Replica {
    /// Keeps, from now on, what is needed to bring back the state of now: everything up to `point` has been applied, in
    /// no scan and no replay, and no checkpoint is under way. Begins with a checkpoint. Where images are kept already, they stay. Returns their point.
    ///
    /// # Errors
    /// [`ApplyError::NoRoom`], [`ApplyError::Amid`], or what the kernel said: then none are kept.
    pub fn keep_images(&mut self, point: Position) -> Result<Position, ApplyError> {
        if let Some(images) = &self.images {
            return Ok(images.log.point());
        }
        let scans = self.scan.as_ref().is_some_and(|scan| !scan.is_verify());
        if scans || self.replaying || !self.deferred.is_empty() {
            return Err(ApplyError::Amid { what: "keep images", amid: "a scan or replay" });
        }
        let begun = self.begin_images(point);
        if begun.is_err() {
            MapFile::unkeep(&self.state_dir)?;
        }
        self.images = Some(begun?);
        Ok(point)
    }

    fn begin_images(&mut self, point: Position) -> Result<Images, ApplyError> {
        let dir = self.state_dir.clone();
        let no_room = |error: ApplyError| match error.class() {
            Some(Class::NoSpace | Class::Quota) => ApplyError::NoRoom { path: dir.clone(), why: error.to_string() },
            _ => error,
        };
        let failed = |error: io::Error| no_room(DiskError::new("begin an undo log in", dir.display(), error).into());
        self.checkpoint(point).map_err(no_room)?;
        MapFile::keep(&dir).map_err(|error| no_room(error.into()))?;
        // The next checkpoint writes a file of its own: this one is kept.
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).broken = true;
        let log = Log::create(&dir, point, super::now()).map_err(failed)?;
        let mut images = Images::new(log, Known::default(), self.policy.images_bytes_max);
        if let Err(unsaved) = images.save_held(&self.ground) {
            return Err(images.explain(unsaved));
        }
        images.log.begin(&dir).map_err(failed)?;
        images.unsynced = false;
        Ok(images)
    }

    /// What is kept; also after [`Replica::open`].
    pub fn images(&self) -> Option<ImagesKept> {
        let images = self.images.as_ref()?;
        Some(ImagesKept { point: images.log.point(), bytes: images.log.bytes() })
    }

    /// Forgets the state that was kept: it cannot be brought back any more. What was removed since goes with the next
    /// calls of [`Replica::tidy`].
    ///
    /// # Errors
    /// What the kernel said.
    pub fn drop_images(&mut self) -> Result<(), ApplyError> {
        Log::remove(&self.state_dir)?;
        MapFile::unkeep(&self.state_dir)?;
        if self.images.take().is_some() {
            self.tidy_again();
        }
        Ok(())
    }

    /// As [`Replica::drop_images`], for a replica that cannot be opened because they are damaged.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn forget_images(state_dir: &Path) -> Result<(), ApplyError> {
        Log::remove(state_dir)?;
        Ok(MapFile::unkeep(state_dir)?)
    }

    /// Brings the replica back to the state of [`Replica::keep_images`], and forgets what was applied since; returns the
    /// position of that state. Where it is cut off, [`Replica::open`] finishes it. Nothing is kept afterwards.
    ///
    /// # Errors
    /// [`ApplyError::NoImages`], or what the kernel said: then call it again, or open the replica anew.
    pub fn roll_back(&mut self) -> Result<Position, ApplyError> {
        let Some(mut images) = self.images.take() else { return Err(ApplyError::NoImages) };
        // Whatever is pending is void.
        self.handles = Default::default();
        let done = roll_back::roll_back(&self.ground, &self.state_dir, &mut images.log, images.steps);
        if let Err(error) = done {
            self.images = Some(images);
            return Err(error);
        }
        drop(images);
        self.reload()?;
        self.tidy_again();
        Ok(self.applied)
    }

    /// For tests: the next [`Replica::roll_back`] fails after that many changes.
    #[cfg(feature = "testing")]
    pub fn interrupt_roll_back(&mut self, steps: u64) {
        self.images.iter_mut().for_each(|images| images.steps = steps);
    }

    /// Planted for tests: undo records are no longer durable before what they undo.
    #[cfg(feature = "testing")]
    pub fn plant_late_images(&mut self) {
        self.images.iter_mut().for_each(|images| images.late = true);
    }
}

/// Opens the images that are kept; where rolling back had begun, it is finished.
pub(super) fn open(ground: &Ground, state_dir: &Path) -> Result<Option<Images>, OpenError> {
    let mut known = Known::default();
    let log = match Log::open(state_dir, &mut |undo| known.note(undo)) {
        Ok(Some(log)) => log,
        Ok(None) => {
            MapFile::unkeep(state_dir)?;
            return Ok(None);
        }
        Err(LogError::Io(error)) => return Err(DiskError::new("open", state_dir.join("undo").display(), error).into()),
        Err(LogError::Version(version)) => {
            return Err(OpenError::Version { path: state_dir.join("undo"), version, known: log::VERSION });
        }
        Err(LogError::Damaged(offset)) => {
            return Err(OpenError::DamagedImages { path: state_dir.join("undo"), offset });
        }
    };
    let mut images = Images::new(log, known, u64::MAX);
    if !images.known.rolling {
        return Ok(Some(images));
    }
    let done = roll_back::roll_back(ground, state_dir, &mut images.log, u64::MAX);
    done.map_err(|error| OpenError::RollBack(Box::new(error)))?;
    Ok(None)
}

/// Is there no room left for it?
fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}
