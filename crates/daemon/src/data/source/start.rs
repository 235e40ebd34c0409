//! Getting a source going: capture, the tree beneath it, the stream's number, the threads.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::Sender;
use stead_capture::{Resumed, Unconfirmed};
use stead_disk::read::Reader;
use stead_disk::volume::Root;
use stead_model::{BadRule, Rules};
use stead_replication::source::{Recalled, RootConfig};
use stead_replication::{Source, SourceConfig};

use super::begin::Begin;
use super::drivers::{Drivers, StreamRoot};
use super::memory::Memory;
use super::paths::Paths;
use super::pump::{Pump, Wiring};
use super::queue::QueueDisk;
use super::targets::Targets;
use super::{LinkWiring, SourceSession, bypass, reads, ring, settings, synced};
use crate::data::relay::Relay;
use crate::seam::{Context, Failure, SourceSpec};
use crate::threads::spawn;

/// Events of all threads of a set that wait to be handled.
const EVENTS_MAX: usize = 1024;
/// Batches of captured records on their way: at most 1 MiB each.
const CAPTURED_MAX: usize = 2;

pub(super) fn start(spec: SourceSpec, relay: Option<&Arc<Relay>>, context: &Context) -> Result<SourceSession, Failure> {
    let mut drivers = Drivers::attach(&spec, relay, &context.executable)?;
    let started = wire(spec, context, &drivers);
    if started.is_err()
        && let Err(e) = drivers.detach(true)
    {
        tracing::error!(error = %e, "capture could not be detached again");
    }
    started
}

fn wire(spec: SourceSpec, context: &Context, drivers: &Drivers) -> Result<SourceSession, Failure> {
    must_be_meant(&spec, drivers)?;
    let begin = Begin::next(&spec.state_dir)?;
    let mut each = drivers.again()?.into_each();
    let resumed: Vec<_> = each.iter_mut().map(|capture| capture.resume()).collect();
    let (memory, recalled) = recall(&spec, drivers, &resumed)?;
    let retain = drivers.run().map(|_| Arc::new(AtomicU64::new(0)));
    let config = config(&spec, drivers, &begin, recalled)?;
    let (events, events_in) = crossbeam_channel::bounded(EVENTS_MAX);
    let (captured, captured_in) = crossbeam_channel::bounded(CAPTURED_MAX);
    let (requests, requests_in) = crossbeam_channel::bounded(config.reads_max);
    let (running, stopped) = crossbeam_channel::bounded(0);
    let (pump_runs, pumping) = crossbeam_channel::bounded(0);
    let status = Arc::new(Mutex::new(Vec::new()));

    for (driver, capture) in each.into_iter().enumerate() {
        ring::spawn(&spec.set, driver, capture, retain.clone(), captured.clone(), stopped.clone())?;
    }
    let reader = Reader::new(named(drivers, &spec)?.into_iter().map(|(_, root)| root).collect());
    reads::spawn(&spec.set, drivers.again()?, reader, requests_in, events.clone())?;
    let roots = beneath(drivers, &spec)?;
    synced::spawn(&spec.set, drivers.again()?, beneath(drivers, &spec)?, events.clone(), stopped.clone())?;
    let bypassed = bypass::spawn(&spec.set, drivers.again()?, Paths(named(drivers, &spec)?), stopped.clone())?;
    let queue = QueueDisk::spawn(&spec.set, &spec.state_dir, events.clone())?;
    let wiring = Wiring {
        events: events_in,
        own_events: events.clone(),
        captured: captured_in,
        requests,
        loop_events: context.events.clone(),
        status: status.clone(),
        drivers: drivers.again()?,
        paths: Paths(named(drivers, &spec)?),
        incarnation: config.incarnation,
        memory,
        queue,
        retain,
        bypassed,
    };
    let set = spec.set.clone();
    let mounted = spec.roots.iter().filter(|root| root.is_dir && spec.from_replica.is_none());
    let mounts = mounted.map(|root| root.path.clone()).collect();
    let (links, rules) = (spec.targets.clone(), spec.rules.clone());
    spawn(&format!("{set}-pump"), move || {
        let _runs: Sender<Infallible> = pump_runs;
        let source = Source::new(config, Instant::now());
        Pump::new(source, spec, wiring).run();
    })?;
    let wiring = LinkWiring { set: set.clone(), dialer: context.dialer.clone(), events: events.clone() };
    let drivers = drivers.again()?;
    let (targets, linked) = (Targets::default(), BTreeMap::new());
    let mut session = SourceSession {
        set,
        drivers,
        events,
        running,
        status,
        targets,
        links: linked,
        wiring,
        rules,
        begin,
        roots,
        mounts,
        pumping,
    };
    session.link_up(&links)?;
    Ok(session)
}

/// What the source before this one knew, where capture has gone on and lacks nothing.
fn recall(
    spec: &SourceSpec,
    drivers: &Drivers,
    resumed: &[Resumed],
) -> Result<(Option<Memory>, Option<Recalled>), Failure> {
    let (Some(run), [resumed]) = (drivers.run(), resumed) else { return Ok((None, None)) };
    // What was let go without being confirmed may have brought more about than the files that are named.
    let whole = resumed.unconfirmed == Unconfirmed::Files(Vec::new());
    let tail = whole.then_some(resumed.tail);
    let (memory, recalled) = Memory::open(&spec.state_dir, run, tail).map_err(|e| {
        let remedy = "Look at the file system of the state directory";
        Failure::new(format!("what set {} knew cannot be read", spec.set), e.to_string(), remedy)
    })?;
    Ok((Some(memory), recalled))
}

fn config(
    spec: &SourceSpec,
    drivers: &Drivers,
    begin: &Begin,
    recalled: Option<Recalled>,
) -> Result<SourceConfig, Failure> {
    let roots = root_configs(spec, drivers)?;
    let incarnation = begin.incarnation;
    tracing::info!(set = %spec.set, incarnation, unclean = begin.unclean, recalled = recalled.is_some(), "the stream begins");
    Ok(SourceConfig {
        capture: drivers.run().unwrap_or_default(),
        unclean: begin.unclean,
        captured_now: drivers.captured(),
        recalled,
        compression: settings::compression(&spec.targets),
        settings: settings::of(&spec.targets),
        ..SourceConfig::new(spec.set.clone(), spec.node.clone(), roots, spec.epoch, incarnation)
    })
}

/// The roots of the stream, with what belongs to the set.
pub(super) fn root_configs(spec: &SourceSpec, drivers: &Drivers) -> Result<Vec<RootConfig>, Failure> {
    let bad = |e: BadRule| {
        Failure::new(format!("the rules of set {} cannot be used", spec.set), e.to_string(), "Correct the plan")
    };
    let root = |root: StreamRoot<'_>| {
        let rules = Rules::new(&root.rules).map_err(bad)?;
        Ok(RootConfig { file: root.root.id, rules, index: root.index as u32 })
    };
    drivers.roots(spec).into_iter().map(root).collect()
}

fn beneath(drivers: &Drivers, spec: &SourceSpec) -> Result<Vec<OwnedFd>, Failure> {
    let open = |StreamRoot { root, .. }: StreamRoot<'_>| {
        root.fd.as_fd().try_clone_to_owned().map_err(|e| unopened(&root.path, &e.to_string()))
    };
    drivers.roots(spec).into_iter().map(open).collect()
}

/// The directories beneath, each with the path that it is mounted over.
fn named(drivers: &Drivers, spec: &SourceSpec) -> Result<Vec<(PathBuf, Root)>, Failure> {
    let open = |StreamRoot { root, .. }: StreamRoot<'_>| {
        let fd = root.fd.as_fd().try_clone_to_owned().map_err(|e| unopened(&root.path, &e.to_string()))?;
        let opened = Root::from_fd(fd, root.volume).map_err(|e| unopened(&root.path, &e.to_string()))?;
        Ok((root.path.clone(), opened))
    };
    drivers.roots(spec).into_iter().map(open).collect()
}

/// Another file system under the same path is not the set.
fn must_be_meant(spec: &SourceSpec, drivers: &Drivers) -> Result<(), Failure> {
    for (path, root) in named(drivers, spec)? {
        let meant = spec.roots.iter().find(|meant| meant.path == path && meant.is_dir);
        if let Some(meant) = meant.filter(|meant| meant.volume != *root.volume_id()) {
            let why = format!("file system {} is there, and {} was protected", root.volume_id(), meant.volume);
            let remedy = "Mount the file system that was protected; the set then starts by itself";
            return Err(Failure::new(format!("{} is not what was protected", path.display()), why, remedy));
        }
    }
    Ok(())
}

fn unopened(path: &Path, why: &str) -> Failure {
    Failure::new(format!("the directory beneath {} cannot be read", path.display()), why, "Look at its file system")
}
