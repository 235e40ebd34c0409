//! The daemon's end of the `mount` driver.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_model::handle::HandleShape;
use stead_model::{FileId, Incarnation, Sequence, VolumeId};

use crate::{Capture, CaptureError, DriverStatus, MountSpec};

/// A protected directory as it is beneath the mount.
#[derive(Debug)]
pub struct BeneathRoot {
    /// Where it is mounted over.
    pub path: PathBuf,
    /// The directory beneath (`O_RDONLY|O_DIRECTORY`, on a private copy of its mount that holds no nested mounts).
    pub fd: OwnedFd,
    /// Index of its volume in the set: [`FileId::volume`] of everything beneath it.
    pub volume: u32,
    /// The directory itself.
    pub id: FileId,
    /// How the file system writes handles: `open_by_handle_at(fd, shape.handle(file))` opens any file of the volume.
    pub shape: HandleShape,
    /// The file system.
    pub volume_id: VolumeId,
}

/// A running `mount` driver.
#[derive(Debug)]
pub struct MountCapture {
    roots: Vec<BeneathRoot>,
}

impl MountCapture {
    /// Finds the capture process at its socket.
    ///
    /// # Errors
    /// Where none answers, or one of another version does.
    pub fn connect(socket: &Path) -> Result<MountCapture, CaptureError> {
        let _ = socket;
        Err(CaptureError::Start("not built yet".into()))
    }

    /// The protected directories, in the order of the spec.
    pub fn roots(&self) -> &[BeneathRoot] {
        &self.roots
    }

    /// Unmounts and ends the capture process. What is in the ring can still be drained afterwards.
    ///
    /// With `lazy` the mounts disappear at once, and the process ends when the last open file is closed.
    ///
    /// # Errors
    /// [`CaptureError::Busy`] where something still uses a mount (never with `lazy`).
    pub fn stop(&mut self, lazy: bool) -> Result<(), CaptureError> {
        let _ = lazy;
        Ok(())
    }

    /// Makes the kernel forget everything it has cached of the mounts: something changed beneath them.
    ///
    /// # Errors
    /// Where the driver is gone.
    pub fn invalidate(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }
}

impl Capture for MountCapture {
    fn drain(&mut self, _out: &mut Vec<u8>, _bytes_max: usize) -> Result<Sequence, CaptureError> {
        Ok(0)
    }
    fn captured(&self) -> Sequence {
        0
    }
    fn wait(&mut self, _timeout: Duration) -> bool {
        false
    }
    fn flush(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }
    fn incarnation(&self) -> Incarnation {
        0
    }
    fn status(&self) -> DriverStatus {
        DriverStatus::default()
    }
}

/// Starts a capture process, `exe capture ARGS`, in a session of its own and waits until it serves.
///
/// # Errors
/// Where it cannot start: with the reason that it gave.
pub fn spawn(spec: &MountSpec, exe: &Path) -> Result<MountCapture, CaptureError> {
    let _ = exe;
    MountCapture::connect(&spec.socket)
}
