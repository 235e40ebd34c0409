//! Capture for the time of a measurement: attached, drained, detached again whatever happens.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stead_api::{Failure, FailureKind};
use stead_capture::{Capture, CaptureError, MountCapture, MountSpec, Refusal, WatchCapture};
use stead_disk::guard::{Hold, Holder, holders};
use stead_model::plan::overlap;

use super::Watched;
use super::singles::Singles;

/// Records taken in one piece.
const BYTES_MAX: usize = 1 << 20;
/// Processes that are named.
const HOLDERS_SHOWN: usize = 20;

/// Capture of the paths.
pub(super) struct Attached {
    mount: Option<MountCapture>,
    watch: Option<Arc<WatchCapture>>,
    singles: Singles,
    watched: Vec<Watched>,
    /// Where the capture process has its socket.
    dir: PathBuf,
    is_mounted: bool,
    dropped: (u64, u64),
    notes: Vec<String>,
}

impl Attached {
    /// Attaches the drivers to the paths; nothing of it is left where one refuses.
    pub(super) fn attach(paths: &[PathBuf], executable: &Path) -> Result<Attached, Failure> {
        let watched = paths.iter().map(|path| fit(path)).collect::<Result<Vec<_>, _>>()?;
        refuse_overlap(&watched)?;
        let dir = std::env::temp_dir().join(format!("stead-estimate-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|e| Failure::new("nothing was watched", format!("{}: {e}", dir.display()), ""))?;
        let mut attached = Attached {
            mount: None,
            watch: None,
            singles: Singles::default(),
            notes: watched.iter().filter(|watched| watched.driver == "mount").flat_map(holders_of).collect(),
            watched,
            dir,
            is_mounted: false,
            dropped: (0, 0),
        };
        let (dirs, files) = (attached.paths_of("mount"), attached.paths_of("watch"));
        if !files.is_empty() {
            attached.watch = Some(WatchCapture::start(&files).map_err(refused)?);
            attached.singles = Singles::of(&files);
        }
        if !dirs.is_empty() {
            let mut spec = MountSpec::new("estimate", dirs, attached.dir.join("capture.sock"));
            spec.log = Some(attached.dir.join("capture.log"));
            spec.parent = Some(std::process::id());
            attached.mount = Some(stead_capture::spawn(&spec, executable).map_err(refused)?);
            attached.is_mounted = true;
        }
        Ok(attached)
    }

    /// What is watched, and how.
    pub(super) fn watched(&self) -> &[Watched] {
        &self.watched
    }

    /// Waits until something changed, or the time is over.
    pub(super) fn wait(&mut self, timeout: Duration) {
        match (&mut self.mount, &mut self.watch) {
            (Some(mount), _) => {
                mount.wait(timeout);
            }
            (None, Some(watch)) => {
                watch.wait(timeout);
            }
            (None, None) => std::thread::sleep(timeout),
        }
    }

    /// Appends what changed.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(mount) = &mut self.mount {
            let taken = mount.drain(out, BYTES_MAX).map_err(|e| broken(&e.to_string()))?;
            // Nobody else will ever need them.
            mount.release(taken, 0);
        }
        if let Some(watch) = &mut self.watch {
            let mut named = Vec::new();
            let taken = watch.drain(&mut named, BYTES_MAX).map_err(|e| broken(&e.to_string()))?;
            watch.release(taken, 0);
            if !named.is_empty() {
                self.singles.append_changes(out);
            }
        }
        Ok(())
    }

    /// Takes the mounts away; what was captured until then can still be drained.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        if let Some(watch) = &self.watch {
            watch.captured();
        }
        let Some(mount) = &mut self.mount else { return Ok(()) };
        let still_held = |e: CaptureError| format!("what is held back could not be counted: {e}");
        self.notes.extend(mount.flush().err().map(still_held));
        let status = mount.status();
        self.dropped = (status.dropped_records, status.dropped_bytes);
        match mount.stop(false) {
            Err(CaptureError::Busy { path }) => {
                mount.stop(true).map_err(|e| broken(&e.to_string()))?;
                let what = "is still used through the mount that watched it; that stays, unseen, until the last such file is closed";
                self.notes.push(format!("{path} {what}"));
            }
            stopped => stopped.map_err(|e| broken(&e.to_string()))?,
        }
        self.is_mounted = false;
        Ok(())
    }

    /// Records and bytes for which there was no room.
    pub(super) fn dropped(&self) -> (u64, u64) {
        self.dropped
    }

    /// What there is to say about the measurement.
    pub(super) fn into_notes(mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn paths_of(&self, driver: &str) -> Vec<PathBuf> {
        let of = self.watched.iter().filter(|watched| watched.driver == driver);
        of.map(|watched| watched.path.clone()).collect()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let (true, Some(mount)) = (self.is_mounted, &mut self.mount)
            && let Err(e) = mount.stop(true)
        {
            eprintln!("stead: the capture mount could not be taken away: {e}");
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Can it be watched, and by what?
fn fit(given: &Path) -> Result<Watched, Failure> {
    let unfit = |why: String, remedy: &str| {
        Failure::new(format!("{} cannot be watched", given.display()), why, remedy).kind(FailureKind::Usage)
    };
    let path = fs::canonicalize(given).map_err(|e| unfit(e.to_string(), "Correct the path"))?;
    let kind = fs::metadata(&path).map_err(|e| unfit(e.to_string(), ""))?.file_type();
    if kind.is_file() {
        return Ok(Watched { path, driver: "watch" });
    }
    match stead_capture::check(&path) {
        Ok(checked) => Ok(Watched { path: checked.path, driver: "mount" }),
        Err(Refusal::Captured { .. }) => Err(Failure::new(
            format!("{} cannot be watched", path.display()),
            "it is protected already, and one directory has one capture mount",
            "What its set needs is in stead status; or watch directories that are not protected",
        )),
        Err(e) => Err(unfit(e.to_string(), "")),
    }
}

fn refuse_overlap(watched: &[Watched]) -> Result<(), Failure> {
    for (at, one) in watched.iter().enumerate() {
        if let Some(other) = watched[..at].iter().find(|other| overlap(&one.path, &other.path)) {
            let why = format!("{} and {} overlap", other.path.display(), one.path.display());
            let failure = Failure::new("nothing was watched", why, "Name each directory once");
            return Err(failure.kind(FailureKind::Usage));
        }
    }
    Ok(())
}

/// Who changes something there past the mount.
fn holders_of(watched: &Watched) -> Vec<String> {
    let found = holders(&watched.path).unwrap_or_default();
    let past = found.iter().filter(|holder| {
        matches!(
            holder.what,
            Hold::Descriptor { writable: true } | Hold::Mapping { writable: true } | Hold::WorkingDirectory
        )
    });
    past.take(HOLDERS_SHOWN).map(named).collect()
}

fn named(holder: &Holder) -> String {
    let unit = holder.unit.as_ref().map_or(String::new(), |unit| format!(" of {unit}"));
    let how = if holder.what == Hold::WorkingDirectory { "works in" } else { "has open" };
    let (command, pid, path) = (&holder.command, holder.pid, holder.path.display());
    format!(
        "{command} (process {pid}{unit}) {how} {path} since before: what it changes that way is not counted; restart it to have it counted"
    )
}

fn refused(e: CaptureError) -> Failure {
    Failure::new("nothing was watched", e.to_string(), "")
}

/// Capture does not do what it should.
pub(super) fn broken(why: &str) -> Failure {
    Failure::new("watching was broken off", why, "Try again; what was mounted is taken away")
}
