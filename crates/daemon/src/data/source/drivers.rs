//! The capture drivers of a set: the mount for its directories, the watch for its single files; or, for a replica that
//! is handed on, what is applied to it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stead_capture::{BeneathRoot, Capture, CaptureError, DriverStatus, MountCapture, MountSpec, WatchCapture};
use stead_model::RulesSpec;
use stead_model::plan::Order;
use tracing::warn;

use super::joint::Joint;
use super::relayed::RelayCapture;
use crate::data::relay::Relay;
use crate::seam::{Failure, SetLease, SourceRoot, SourceSpec};

/// The drivers of a set, as each of its threads has them. The mount is one process; every thread talks to it itself.
pub(super) struct Drivers {
    mount: Option<MountCapture>,
    watch: Option<Arc<WatchCapture>>,
    relay: Option<RelayCapture>,
    joint: Arc<Joint>,
    socket: PathBuf,
}

/// A root of the stream.
pub(super) struct StreamRoot<'a> {
    /// Place of its (first) path in the spec.
    pub(super) index: usize,
    /// The directory; for single files the one that holds them.
    pub(super) root: &'a BeneathRoot,
    /// What in it belongs to the set.
    pub(super) rules: RulesSpec,
}

impl Drivers {
    /// Attaches the drivers, or finds the mount that is attached already. `relay`: the set hands that replica on.
    pub(super) fn attach(spec: &SourceSpec, relay: Option<&Arc<Relay>>, executable: &Path) -> Result<Drivers, Failure> {
        let socket = spec.state_dir.join("capture.sock");
        if let Some(relay) = relay {
            let relay = Some(RelayCapture::start(spec, relay)?);
            return Ok(Drivers { mount: None, watch: None, relay, joint: Arc::new(Joint::new()), socket });
        }
        let failed = |e: CaptureError| {
            let remedy = "Look at capture.log in the set's state directory";
            Failure::new(format!("set {} cannot be captured", spec.set), e.to_string(), remedy)
        };
        let dirs = paths(&spec.roots, true);
        let files = paths(&spec.roots, false);
        let watch = (!files.is_empty()).then(|| WatchCapture::start(&files)).transpose().map_err(failed)?;
        let mount = (!dirs.is_empty()).then(|| mount(spec, dirs, &socket, executable)).transpose().map_err(failed)?;
        Ok(Drivers { mount, watch, relay: None, joint: Arc::new(Joint::new()), socket })
    }

    /// The same drivers for another thread.
    pub(super) fn again(&self) -> Result<Drivers, Failure> {
        let mount = self.mount.as_ref().map(|_| MountCapture::connect(&self.socket)).transpose();
        let mount = mount.map_err(|e| Failure::new("capture does not answer", e.to_string(), "Look at its log"))?;
        let (watch, relay) = (self.watch.clone(), self.relay.clone());
        Ok(Drivers { mount, watch, relay, joint: self.joint.clone(), socket: self.socket.clone() })
    }

    /// Each driver for itself, to be drained: in the order of [`Drivers::captured`].
    pub(super) fn into_each(self) -> Vec<Box<dyn Capture>> {
        let mount = self.mount.map(|mount| Box::new(mount) as Box<dyn Capture>);
        let watch = self.watch.map(|watch| Box::new(watch) as Box<dyn Capture>);
        let relay = self.relay.map(|relay| Box::new(relay) as Box<dyn Capture>);
        mount.into_iter().chain(watch).chain(relay).collect()
    }

    /// The run of capture whose numbers a source after this one can go on with; `None`: one of the drivers ends with the
    /// daemon.
    pub(super) fn run(&self) -> Option<u64> {
        self.mount.as_ref().filter(|_| self.watch.is_none()).map(Capture::incarnation)
    }

    /// The mount, for synchronous operation: where its numbers are those of the stream.
    pub(super) fn mount(&self) -> Option<&MountCapture> {
        self.mount.as_ref().filter(|_| self.watch.is_none())
    }

    /// How the mount is doing. Waits for its answer.
    pub(super) fn mount_status(&self) -> Option<DriverStatus> {
        self.mount.as_ref().map(Capture::status)
    }

    /// How the numbers of the drivers become one.
    pub(super) fn joint(&self) -> Arc<Joint> {
        self.joint.clone()
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        let relay = usize::from(self.relay.is_some());
        usize::from(self.mount.is_some()) + usize::from(self.watch.is_some()) + relay
    }

    /// Number of the last change that has taken effect.
    pub(super) fn captured(&self) -> u64 {
        let mount = self.mount.as_ref().map(Capture::captured);
        let watch = self.watch.as_ref().map(Capture::captured);
        let relay = self.relay.as_ref().map(Capture::captured);
        self.joint.issue(mount.into_iter().chain(watch).chain(relay).collect())
    }

    /// Past that lease nothing is changed from now on. Single files are not held back: nothing stands between them and who
    /// writes.
    pub(super) fn lease(&mut self, lease: Option<&SetLease>) -> Result<(), CaptureError> {
        self.mount.as_mut().map_or(Ok(()), |mount| tell_lease(mount, lease))
    }

    /// Pushes what the drivers hold back into the stream.
    pub(super) fn flush(&mut self) -> Result<(), CaptureError> {
        self.mount.as_mut().map_or(Ok(()), Capture::flush)?;
        self.watch.as_mut().map_or(Ok(()), Capture::flush)
    }

    /// Takes the mount away; a replica is handed on no longer.
    pub(super) fn detach(&mut self, lazy: bool) -> Result<(), CaptureError> {
        self.relay.iter().for_each(|relay| relay.relay().detach());
        self.mount.as_mut().map_or(Ok(()), |mount| mount.stop(lazy))
    }

    /// The roots of the stream. Single files of one directory share a root.
    pub(super) fn roots(&self, spec: &SourceSpec) -> Vec<StreamRoot<'_>> {
        let place = |is_dir: bool, fits: &dyn Fn(&Path) -> bool| {
            spec.roots.iter().position(|root| root.is_dir == is_dir && fits(&root.path)).unwrap_or_default()
        };
        let mut all = Vec::new();
        for root in self.mount.iter().flat_map(MountCapture::roots) {
            let index = place(true, &|path| path == root.path);
            all.push(StreamRoot { index, root, rules: spec.rules.clone() });
        }
        for root in self.relay.iter().flat_map(RelayCapture::roots) {
            all.push(StreamRoot { index: place(true, &|path| path == root.path), root, rules: spec.rules.clone() });
        }
        if let Some(watch) = &self.watch {
            for root in watch.roots() {
                let index = place(false, &|path| path.parent() == Some(&root.root.path));
                let rules = RulesSpec::only(root.names.iter().map(|name| name.to_string_lossy()));
                all.push(StreamRoot { index, root: &root.root, rules });
            }
        }
        all
    }

    /// Where the replica is handed on.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref().map(RelayCapture::relay)
    }

    /// What `status` shows.
    pub(super) fn names(&self) -> &'static str {
        if self.relay.is_some() {
            return "relay";
        }
        match (&self.mount, &self.watch) {
            (Some(_), Some(_)) => "mount+watch",
            (Some(_), None) => "mount",
            (None, Some(_)) => "watch",
            (None, None) => "none",
        }
    }
}

fn paths(roots: &[SourceRoot], is_dir: bool) -> Vec<PathBuf> {
    roots.iter().filter(|root| root.is_dir == is_dir).map(|root| root.path.clone()).collect()
}

fn mount(
    spec: &SourceSpec,
    roots: Vec<PathBuf>,
    socket: &Path,
    executable: &Path,
) -> Result<MountCapture, CaptureError> {
    if let Ok(mut capture) = MountCapture::connect(socket) {
        if let Err(e) = tell_lease(&mut capture, spec.lease.as_ref()) {
            warn!(set = %spec.set, "writes past the lease are not held back until capture is started anew: {e}");
        }
        return Ok(capture);
    }
    let mut mount = MountSpec::new(spec.set.as_str(), roots, socket.into());
    mount.order = match spec.order {
        Order::Strict => stead_capture::Order::Strict,
        Order::Flush => stead_capture::Order::Flush,
    };
    mount.log = Some(spec.state_dir.join("capture.log"));
    mount.lease = spec.lease.clone().map(|lease| (lease.file, lease.policy));
    stead_capture::spawn(&mount, executable)
}

fn tell_lease(mount: &mut MountCapture, lease: Option<&SetLease>) -> Result<(), CaptureError> {
    let Some(lease) = lease else { return mount.lease(None) };
    let file = File::open(&lease.file).map_err(|e| CaptureError::Refused(format!("{}: {e}", lease.file.display())))?;
    mount.lease(Some((file.as_fd(), lease.policy)))
}
