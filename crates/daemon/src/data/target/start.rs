//! Getting a target going: guard, replica, journal, the threads.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stead_disk::guard::Guard;
use stead_disk::journal::JournalError;
use stead_disk::replica::{IdStorage, Replica, ReplicaConfig, RootTarget};
use stead_model::plan::{self, Feature};
use stead_model::{BadRule, Rules, RulesSpec};
use stead_replication::target::{OnNoRoom, Recovery};
use stead_replication::{Target, TargetConfig};

use super::journal::JournalDir;
use super::saved::SavedFile;
use super::session::{Session, Wiring};
use super::{TargetSession, view};
use crate::data::relay::Relay;
use crate::seam::{Context, Failure, TargetRoot, TargetSpec};
use crate::threads::spawn;

const EVENTS_MAX: usize = 1024;
const JOBS_MAX: usize = 64;

pub(super) fn start(spec: TargetSpec, relay: Arc<Relay>, context: &Context) -> Result<TargetSession, Failure> {
    let failed = |why: String, remedy: &str| {
        Failure::new(format!("the replica of set {} cannot be opened", spec.set), why, remedy)
    };
    let mut replica = open(&spec).map_err(|why| failed(why, "Look at its file system and at the state directory"))?;
    let guards = guard(&spec).map_err(|why| failed(why, "Look at the mounts over it"))?;
    let mut saved = SavedFile::open(&spec.state_dir)?;
    if saved.epoch().is_none_or(|epoch| epoch.number < spec.epoch.number) {
        saved.save_epoch(spec.epoch)?;
    }
    forget_unkept(&mut replica, &saved).map_err(|why| failed(why, "Look at the state directory"))?;
    let unread = |e: JournalError| failed(e.to_string(), "Look at the state directory");
    let mut journal = JournalDir::open(&spec.state_dir).map_err(unread)?;
    let recovery = Recovery {
        epoch: saved.epoch(),
        checkpoint: saved.checkpoint(),
        partial: saved.begun() || spec.roots.iter().any(holds_something),
        kept: saved.kept().filter(|_| replica.images().is_some()),
        capture: journal.capture(),
        journal: journal.changes().map_err(unread)?,
    };
    let config = TargetConfig {
        removals_max: spec.settings.brake.deletions,
        keeps_images: true,
        on_no_room: match spec.settings.on_no_room {
            plan::OnNoRoom::Halt => OnNoRoom::Halt,
            plan::OnNoRoom::Spoil => OnNoRoom::Spoil,
        },
        ..TargetConfig::new(spec.set.clone(), spec.node.clone())
    };
    let target = Target::recover(config, recovery, Instant::now());

    let (events, events_in) = crossbeam_channel::bounded(EVENTS_MAX);
    let (jobs, jobs_in) = crossbeam_channel::bounded(JOBS_MAX);
    let (ended, ended_out) = crossbeam_channel::bounded(1);
    let status = Arc::new(Mutex::new(view::initial(&spec)));
    journal.start(&spec.set, jobs_in, events.clone())?;
    let wiring = Wiring {
        events: events_in,
        own_events: events.clone(),
        jobs,
        loop_events: context.events.clone(),
        status: status.clone(),
        relay,
    };
    let (set, own) = (spec.set.clone(), spec.clone());
    spawn(&format!("{set}-target"), move || {
        let done = Session::new(target, replica, guards, saved, spec, wiring).run();
        let _ = ended.send(done);
    })?;
    Ok(TargetSession { set, spec: own, events, ended: ended_out, status })
}

/// Where the power went between what is said to be kept and what is, nothing was applied past the image, or it was
/// given up: what leads back to it would only grow.
fn forget_unkept(replica: &mut Replica, saved: &SavedFile) -> Result<(), String> {
    if saved.kept().is_some() || replica.images().is_none() {
        return Ok(());
    }
    tracing::info!("pre-images that were left over are removed");
    replica.drop_images().map_err(|e| e.to_string())
}

/// What is there before the first mirror, as a carried copy, is compared and not sent again.
fn holds_something(root: &TargetRoot) -> bool {
    let entries = fs::read_dir(&root.path).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().as_bytes() != stead_disk::HOLDING)
        || !root.is_dir && root.path.exists()
}

fn open(spec: &TargetSpec) -> Result<Replica, String> {
    let ids = if spec.without.contains(&Feature::Xattrs) { IdStorage::MapOnly } else { IdStorage::Xattr };
    let config = ReplicaConfig {
        roots: roots(spec).map_err(|e| e.to_string())?,
        state_dir: spec.state_dir.clone(),
        ids,
        go_without: !spec.without.is_empty(),
        skip_unknown: true,
    };
    Replica::open(config).map_err(|e| e.to_string())
}

/// Single files of one directory share a root: that of the first of them; the others' roots hold nothing.
fn roots(spec: &TargetSpec) -> Result<Vec<RootTarget>, BadRule> {
    let root = |(at, root): (usize, &TargetRoot)| {
        let (path, rules) = match root.path.parent() {
            Some(dir) if !root.is_dir => {
                let first = !spec.roots[..at].iter().any(|before| is_file_in(before, dir));
                (dir, files_in(spec, dir, first))
            }
            _ => (root.path.as_path(), spec.rules.clone()),
        };
        Ok(RootTarget { path: path.into(), rules: Rules::new(&rules)?, borrowed: !root.is_dir })
    };
    spec.roots.iter().enumerate().map(root).collect()
}

fn is_file_in(root: &TargetRoot, dir: &Path) -> bool {
    !root.is_dir && root.path.parent() == Some(dir)
}

fn files_in(spec: &TargetSpec, dir: &Path, first: bool) -> RulesSpec {
    let files = spec.roots.iter().filter(|root| first && is_file_in(root, dir));
    let names = files.filter_map(|root| root.path.file_name()).map(|name| name.to_string_lossy());
    let only = RulesSpec::only(names);
    if first { only } else { RulesSpec { exclude: vec!["*".into()], ..only } }
}

fn guard(spec: &TargetSpec) -> Result<Vec<Guard>, String> {
    let dirs = spec.roots.iter().filter(|root| root.is_dir);
    dirs.map(|root| Guard::set(&root.path).map_err(|e| e.to_string())).collect()
}
