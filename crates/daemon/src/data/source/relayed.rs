//! The driver of a set that hands a replica of this node on: nothing is captured, what is applied to the replica comes
//! from where the replica's own target tells it. It ends with the daemon; a new start is a new incarnation, after which
//! the targets are compared.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stead_capture::{BeneathRoot, Capture, CaptureError, DriverStatus, Resumed, Unconfirmed, new_incarnation};
use stead_disk::volume::Root;
use stead_disk::{DiskError, guard};
use stead_model::{Incarnation, Sequence};

use crate::data::relay::{ReaderId, Relay};
use crate::seam::{Failure, SourceSpec};

/// A reader of a replica that is handed on.
#[derive(Clone)]
pub(super) struct RelayCapture {
    relay: Arc<Relay>,
    reader: ReaderId,
    incarnation: Incarnation,
    roots: Arc<Vec<BeneathRoot>>,
}

impl RelayCapture {
    /// Begins to be told of what is applied.
    pub(super) fn start(spec: &SourceSpec, relay: &Arc<Relay>) -> Result<RelayCapture, Failure> {
        let roots = roots(spec).map_err(|e| {
            let what = format!("set {} cannot be handed on", spec.set);
            Failure::new(what, e, "Look at the replica's file system")
        })?;
        let (relay, reader) = (relay.clone(), relay.attach());
        Ok(RelayCapture { relay, reader, incarnation: new_incarnation(), roots: Arc::new(roots) })
    }

    /// The replica's directories.
    pub(super) fn roots(&self) -> &[BeneathRoot] {
        &self.roots
    }

    /// What is handed on.
    pub(super) fn relay(&self) -> &Relay {
        &self.relay
    }
}

impl Capture for RelayCapture {
    fn resume(&mut self) -> Resumed {
        Resumed { tail: 0, unconfirmed: Unconfirmed::Files(Vec::new()) }
    }

    fn drain(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError> {
        self.relay.drain(self.reader, out, bytes_max).ok_or(CaptureError::Superseded)
    }

    fn release(&mut self, _confirmed: Sequence, _keep_free: u64) {}

    fn captured(&self) -> Sequence {
        self.relay.head()
    }

    fn covered(&self) -> Option<u64> {
        Some(self.relay.covered())
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        self.relay.wait(timeout)
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        Ok(())
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn status(&self) -> DriverStatus {
        let (ring_bytes, ring_used_bytes, dropped_bytes) = self.relay.fill();
        DriverStatus {
            driver: "relay".into(),
            ring_bytes,
            ring_used_bytes,
            dropped_bytes,
            head: self.relay.head(),
            alive: true,
            pid: std::process::id(),
            ..DriverStatus::default()
        }
    }
}

impl fmt::Debug for RelayCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayCapture").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// Volumes are numbered as the replica numbers them.
fn roots(spec: &SourceSpec) -> Result<Vec<BeneathRoot>, String> {
    let mut roots: Vec<BeneathRoot> = Vec::new();
    let mut volumes = Vec::new();
    for path in spec.roots.iter().map(|root| root.path.as_path()) {
        let root = open(path, 0).map_err(|e| e.to_string())?;
        let on = (root.device(), root.shape());
        let volume = volumes.iter().position(|known| *known == on).unwrap_or_else(|| {
            volumes.push(on);
            volumes.len() - 1
        });
        let root = open(path, volume as u32).map_err(|e| e.to_string())?;
        let fd = root.fd().try_clone_to_owned().map_err(|e| format!("{} cannot be opened: {e}", path.display()))?;
        let (volume, id, shape, volume_id) = (root.volume(), root.id(), root.shape(), root.volume_id().clone());
        roots.push(BeneathRoot { path: path.into(), fd, volume, id, shape, volume_id });
    }
    Ok(roots)
}

fn open(path: &Path, volume: u32) -> Result<Root, DiskError> {
    let root = match guard::stands(path)? {
        true => Root::from_fd(guard::open_beneath(path)?, volume)?,
        false => Root::open(path, volume)?,
    };
    Ok(root.quiet())
}
