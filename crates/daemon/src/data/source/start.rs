//! Getting a source going: capture, the tree beneath it, the stream's number, the threads.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stead_disk::read::Reader;
use stead_disk::volume::Root;
use stead_model::{BadRule, Rules};
use stead_replication::source::RootConfig;
use stead_replication::{Source, SourceConfig};

use super::drivers::{Drivers, StreamRoot};
use super::link::Link;
use super::paths::Paths;
use super::pump::{Pump, Wiring};
use super::rate::Limit;
use super::{SourceSession, reads, ring};
use crate::data::threads::spawn;
use crate::seam::{Context, Failure, SourceSpec};
use crate::state::files;

/// Events of all threads of a set that wait to be handled.
const EVENTS_MAX: usize = 1024;
/// Batches of captured records on their way: at most 1 MiB each.
const CAPTURED_MAX: usize = 2;

pub(super) fn start(spec: SourceSpec, context: &Context) -> Result<SourceSession, Failure> {
    let mut drivers = Drivers::attach(&spec, &context.executable)?;
    let started = wire(spec, context, &drivers);
    if started.is_err()
        && let Err(e) = drivers.detach(true)
    {
        tracing::error!(error = %e, "capture could not be detached again");
    }
    started
}

fn wire(spec: SourceSpec, context: &Context, drivers: &Drivers) -> Result<SourceSession, Failure> {
    let config = config(&spec, drivers)?;
    let (events, events_in) = crossbeam_channel::bounded(EVENTS_MAX);
    let (captured, captured_in) = crossbeam_channel::bounded(CAPTURED_MAX);
    let (requests, requests_in) = crossbeam_channel::bounded(config.reads_max);
    let (running, stopped) = crossbeam_channel::bounded(0);
    let status = Arc::new(Mutex::new(Vec::new()));

    for (driver, capture) in drivers.again()?.into_each().into_iter().enumerate() {
        ring::spawn(&spec.set, driver, capture, captured.clone(), stopped.clone())?;
    }
    let reader = Reader::new(named(drivers, &spec)?.into_iter().map(|(_, root)| root).collect());
    reads::spawn(&spec.set, drivers.again()?, reader, requests_in, events.clone())?;
    let limits: BTreeMap<_, Arc<Limit>> = spec.targets.iter().map(|link| (link.node.clone(), Arc::default())).collect();
    let links = spec.targets.iter().zip(0..).map(|(link, target)| Link {
        target,
        node: link.node.clone(),
        route: link.route,
        set: spec.set.clone(),
        dialer: context.dialer.clone(),
        limit: limits[&link.node].clone(),
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
        drivers: drivers.again()?,
        paths: Paths(named(drivers, &spec)?),
        incarnation: config.incarnation,
    };
    let set = spec.set.clone();
    let drivers = drivers.again()?;
    spawn(&format!("{set}-pump"), move || {
        let source = Source::new(config, Instant::now());
        Pump::new(source, spec, wiring).run();
    })?;
    Ok(SourceSession { set, drivers, events, running, status, limits })
}

fn config(spec: &SourceSpec, drivers: &Drivers) -> Result<SourceConfig, Failure> {
    let bad = |e: BadRule| {
        Failure::new(format!("the rules of set {} cannot be used", spec.set), e.to_string(), "Correct the plan")
    };
    let root = |root: StreamRoot<'_>| {
        let rules = Rules::new(&root.rules).map_err(bad)?;
        Ok(RootConfig { file: root.root.id, rules, index: root.index as u32 })
    };
    let roots = drivers.roots(spec).into_iter().map(root).collect::<Result<_, Failure>>()?;
    let incarnation = next_incarnation(&spec.state_dir)?;
    tracing::info!(set = %spec.set, incarnation, "the stream begins");
    Ok(SourceConfig::new(spec.set.clone(), spec.node.clone(), roots, spec.epoch, incarnation))
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
