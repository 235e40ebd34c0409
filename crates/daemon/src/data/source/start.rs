//! Getting a source going: capture, the tree beneath it, the stream's number, the threads.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stead_capture::{BeneathRoot, Capture, MountCapture, MountSpec};
use stead_disk::read::Reader;
use stead_disk::volume::Root;
use stead_model::Rules;
use stead_model::plan::Order;
use stead_replication::source::RootConfig;
use stead_replication::{Source, SourceConfig};

use super::link::Link;
use super::paths::Paths;
use super::pump::{Pump, Wiring};
use super::{SourceSession, reads, ring};
use crate::data::threads::spawn;
use crate::seam::{Context, Failure, SourceSpec};
use crate::state::files;

/// Events of all threads of a set that wait to be handled.
const EVENTS_MAX: usize = 1024;
/// Batches of captured records on their way: at most 1 MiB each.
const CAPTURED_MAX: usize = 2;

pub(super) fn start(spec: SourceSpec, context: &Context) -> Result<SourceSession, Failure> {
    let capture = attach(&spec, &context.executable)?;
    let socket = socket(&spec.state_dir);
    let started = wire(spec, context, capture, &socket);
    if started.is_err() {
        detach(&socket);
    }
    started
}

fn wire(spec: SourceSpec, context: &Context, capture: MountCapture, socket: &Path) -> Result<SourceSession, Failure> {
    let config = config(&spec, &capture)?;
    let reader = reader(&capture)?;
    let (events, events_in) = crossbeam_channel::bounded(EVENTS_MAX);
    let (captured, captured_in) = crossbeam_channel::bounded(CAPTURED_MAX);
    let (requests, requests_in) = crossbeam_channel::bounded(config.reads_max);
    let (running, stopped) = crossbeam_channel::bounded(0);
    let status = Arc::new(Mutex::new(Vec::new()));

    ring::spawn(&spec.set, again(socket)?, captured, stopped.clone())?;
    reads::spawn(&spec.set, again(socket)?, reader, requests_in, events.clone())?;
    let links = spec.targets.iter().zip(0..).map(|(link, target)| Link {
        target,
        node: link.node.clone(),
        set: spec.set.clone(),
        dialer: context.dialer.clone(),
        events: events.clone(),
        stopped: stopped.clone(),
    });
    links.into_iter().try_for_each(Link::spawn)?;
    let wiring = Wiring {
        events: events_in,
        own_events: events.clone(),
        captured: captured_in,
        requests,
        loop_events: context.events.clone(),
        status: status.clone(),
        socket: socket.to_path_buf(),
        paths: Paths(named(&capture)?),
        incarnation: config.incarnation,
    };
    let set = spec.set.clone();
    let capture = Arc::new(Mutex::new(capture));
    spawn(&format!("{set}-pump"), move || {
        let source = Source::new(config, Instant::now());
        Pump::new(source, spec, wiring).run();
    })?;
    Ok(SourceSession { set, capture, events, running, status })
}

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("capture.sock")
}

/// The capture that is attached already, else a new one.
fn attach(spec: &SourceSpec, executable: &Path) -> Result<MountCapture, Failure> {
    let socket = socket(&spec.state_dir);
    if let Ok(capture) = MountCapture::connect(&socket) {
        return Ok(capture);
    }
    let mount = MountSpec {
        set: spec.set.to_string(),
        roots: spec.roots.iter().map(|root| root.path.clone()).collect(),
        order: match spec.order {
            Order::Strict => stead_capture::Order::Strict,
            Order::Flush => stead_capture::Order::Flush,
        },
        ring_bytes: MountSpec::RING_BYTES_DEFAULT,
        socket,
        log: Some(spec.state_dir.join("capture.log")),
    };
    stead_capture::spawn(&mount, executable).map_err(|e| {
        Failure::new(
            format!("set {} cannot be captured", spec.set),
            e.to_string(),
            "Look at capture.log of the set's state directory",
        )
    })
}

fn again(socket: &Path) -> Result<MountCapture, Failure> {
    MountCapture::connect(socket).map_err(|e| Failure::new("capture does not answer", e.to_string(), "Look at its log"))
}

fn detach(socket: &Path) {
    match MountCapture::connect(socket).and_then(|mut capture| capture.stop(true)) {
        Ok(()) => {}
        Err(e) => tracing::error!(error = %e, "capture could not be detached again"),
    }
}

fn config(spec: &SourceSpec, capture: &MountCapture) -> Result<SourceConfig, Failure> {
    let rules = Rules::new(&spec.rules).map_err(|e| {
        Failure::new(format!("the rules of set {} cannot be used", spec.set), e.to_string(), "Correct the plan")
    })?;
    let roots =
        capture.roots().iter().zip(0..).map(|(root, index)| RootConfig { file: root.id, rules: rules.clone(), index });
    let incarnation = next_incarnation(&spec.state_dir)?;
    tracing::info!(set = %spec.set, incarnation, capture = capture.incarnation(), "the stream begins");
    Ok(SourceConfig::new(spec.set.clone(), spec.node.clone(), roots.collect(), spec.epoch, incarnation))
}

fn reader(capture: &MountCapture) -> Result<Reader, Failure> {
    Ok(Reader::new(named(capture)?.into_iter().map(|(_, root)| root).collect()))
}

/// The directories beneath, each with the path that it is mounted over.
fn named(capture: &MountCapture) -> Result<Vec<(PathBuf, Root)>, Failure> {
    let open = |root: &BeneathRoot| {
        let fd = root.fd.as_fd().try_clone_to_owned().map_err(|e| unopened(&root.path, &e.to_string()))?;
        let opened = Root::from_fd(fd, root.volume).map_err(|e| unopened(&root.path, &e.to_string()))?;
        Ok((root.path.clone(), opened))
    };
    capture.roots().iter().map(open).collect()
}

fn unopened(path: &Path, why: &str) -> Failure {
    Failure::new(format!("the directory beneath {} cannot be read", path.display()), why, "Look at its file system")
}

/// Number of the new stream: durable before its first record, so it is never used again.
fn next_incarnation(state_dir: &Path) -> Result<u64, Failure> {
    #[derive(Default, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stream {
        incarnation: u64,
    }
    let path = state_dir.join("stream.toml");
    let last: Stream = files::read_toml(&path)?.unwrap_or_default();
    let next = Stream { incarnation: last.incarnation + 1 };
    files::write_toml(&path, &next)?;
    Ok(next.incarnation)
}
