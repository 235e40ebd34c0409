//! What this node alone had when another one stood in for it: noted, asked about, kept, told and given up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure, Fork, ForkState};
use stead_disk::aside::Since;
use stead_model::status::{Cause, ConnectionStatus, State, Timestamp};
use stead_model::{Epoch, NodeName, RulesSpec, SetName};
use tracing::{info, warn};

use super::Node;
use crate::api_server::Responder;
use crate::clock::wall_clock;
use crate::forks::keep::{self, Keep};
use crate::forks::store::{ForkDir, ForkFile, Kept};
use crate::forks::{self, Key, Progress};
use crate::job::{self, JobDone};
use crate::peer::ask;
use crate::peer::messages::{Ask, Tell};
use crate::protect;
use crate::seam::TargetRoot;
use crate::state::sets::SetState;

const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a job has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A root of a replica, and the file system that has to be there.
type OnVolume = (TargetRoot, Option<String>);

impl Node {
    /// Another node writes the set now: what only this one has is to be kept before anything is received of it.
    pub(super) fn note_fork(&mut self, set: &SetName, kept: &SetState, epoch: Epoch) -> Result<(), Failure> {
        let what = format!("set {set} was not turned round");
        let turned =
            self.plan.turned(set).map_err(|e| Failure::new(&what, e.to_string(), "Look at: stead plan show"))?;
        let by = turned.set(set).map(|planned| planned.source.clone()).unwrap_or_else(|| self.name.clone());
        let known = kept.epoch().map_or(0, |known| known.number);
        self.forks.note(&self.state, (set.clone(), epoch.number), &by, known)
    }

    /// Another node asks what it alone may have of a set that this one wrote in its place.
    pub(super) fn fork_point(&self, set: &SetName, known: u64, from: &NodeName) -> Result<Option<Timestamp>, Failure> {
        let what = format!("{} does not know yet", self.name);
        let own = self.plan.set(set).is_some_and(|planned| planned.source == self.name);
        let sends = self.plan.connections_of(set).any(|c| c.target == *from);
        let kept = SetState::load(&self.state, set)?;
        if !own || !sends || kept.epoch().is_none_or(|epoch| epoch.number <= known) {
            return Err(Failure::new(what, format!("it does not write set {set} in the place of {from}"), ""));
        }
        Ok(kept.forked_since(known))
    }

    /// Refuses while something of that set is to be kept.
    pub(super) fn is_kept_aside(&self, set: &SetName) -> Result<(), Failure> {
        let Some(fork) = self.forks.pending(set) else { return Ok(()) };
        let what = format!("set {set} is not received yet");
        let remedy = format!("Follow it on {}: stead fork list", self.name);
        Err(Failure::new(what, reason(&fork, &self.name), remedy))
    }

    /// Begins what is to be done for forks.
    pub(super) fn tick_forks(&mut self) {
        for key in self.forks.all_pending() {
            if self.is_moot(&key) {
                self.give_up(&key, "").map(drop).unwrap_or_else(|failure| warn!("{failure}"));
            }
        }
        for key in self.forks.due(Instant::now()) {
            // Until its replica is guarded anyone may write to it.
            if self.is_running && !self.unstarted.contains_key(&key.0) {
                self.begin_keeping(&key);
            }
        }
    }

    /// Is the set no longer received here?
    fn is_moot(&self, (set, epoch): &Key) -> bool {
        let is_turned = SetState::load(&self.state, set)
            .map_or(true, |kept| kept.epoch().is_some_and(|newest| newest.number >= *epoch));
        let is_target = self.plan.set(set).is_some_and(|planned| planned.source != self.name)
            && self.plan.connections_of(set).any(|c| c.target == self.name);
        is_turned && !is_target
    }

    fn begin_keeping(&mut self, key: &Key) {
        let Some((dir, file, progress)) = self.forks.begin(key) else { return };
        match file.since {
            None => self.ask_since(key.clone(), file),
            Some(since) => self.keep_fork(key.clone(), dir, since, progress),
        }
    }

    fn ask_since(&self, key: Key, file: ForkFile) {
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            let question = Ask::ForkPoint { set: key.0.clone(), known: file.known };
            let told = ask(&dialer, &file.by, &question, ASK_TIMEOUT).and_then(|told| match told {
                Tell::ForkPoint(since) => Ok(since),
                other => Err(Failure::new("it is not known yet", format!("{} answered {other:?}", file.by), "")),
            });
            Some(JobDone::ForkPoint { key, told })
        });
    }

    pub(super) fn fork_told(&mut self, key: &Key, told: Result<Option<Timestamp>, Failure>) {
        if let Ok(Some(since)) = &told {
            info!("set {}: what changed here since {since} is kept aside", key.0);
        }
        let left_over = self.forks.told(key, told);
        forks::remove(&self.events, left_over.into_iter().collect());
        self.tick_forks();
    }

    fn keep_fork(&mut self, key: Key, dir: ForkDir, since: Timestamp, progress: Arc<Progress>) {
        let since = Since { at: since.0, now: wall_clock().0 };
        let roots = self.replica_roots(&key.0);
        job::spawn(&self.events, move || {
            let result = job::guarded("what only this node had cannot be kept aside", || {
                let (roots, rules) = roots?;
                roots.iter().try_for_each(|(root, volume)| is_on(root, volume.as_deref()))?;
                let roots: Vec<_> = roots.into_iter().map(|(root, _)| root).collect();
                Keep::new(dir, keep::trees(&roots, &rules, since)?, progress).run()
            });
            Some(JobDone::Kept { key, result })
        });
    }

    /// Where the replica of a set is, with the file systems that have to be there, and what belongs to it.
    fn replica_roots(&self, set: &SetName) -> Result<(Vec<OnVolume>, RulesSpec), Failure> {
        let what = format!("what only this node had of set {set} cannot be kept aside");
        let planned = self.known(set, &what)?;
        let connection = self.plan.connections_of(set).find(|c| c.target == self.name);
        let connection = connection.ok_or_else(|| Failure::new(&what, "it is not received here", ""))?;
        let spec = self.target_spec(planned, connection, &SetState::load(&self.state, set)?)?;
        let volume = |root: &TargetRoot| {
            let mapping = connection.mapping.iter().find(|mapping| mapping.to == root.path);
            mapping.and_then(|mapping| mapping.volume.clone())
        };
        let roots = spec.roots.into_iter().map(|root| (root.clone(), volume(&root))).collect();
        Ok((roots, spec.rules))
    }

    pub(super) fn fork_kept(&mut self, key: &Key, result: Result<Kept, Failure>) {
        match &result {
            Ok(kept) => info!("set {}: {} files that only this node had are kept aside", key.0, kept.files),
            Err(failure) => warn!("set {}: {failure}", key.0),
        }
        self.forks.kept(key, result);
    }

    pub(super) fn show_fork(&self, key: Key, from: u64, responder: Responder) {
        let what = format!("nothing of set {} and epoch {} is shown", key.0, key.1);
        let found = self.forks.get(&key, &what);
        let read = found.and_then(|fork| self.forks.read(&key, &what).map(|(dir, reader)| (fork, dir, reader)));
        match read {
            Ok((fork, dir, reader)) => job::spawn(&self.events, move || {
                let told = dir.entries(from).map(|(entries, next)| Answer::Fork { fork, entries, next });
                drop(reader);
                responder.end(told);
                None
            }),
            Err(failure) => responder.failed(failure),
        }
    }

    pub(super) fn export_fork(&self, key: Key, to: PathBuf, responder: Responder) {
        match self.forks.read(&key, "nothing was copied out") {
            Ok((dir, reader)) => job::spawn(&self.events, move || {
                let copied = job::guarded("nothing was copied out", || keep::export(&dir, &to));
                drop(reader);
                responder.end(copied.map(|(files, bytes)| Answer::Exported { files, bytes }));
                None
            }),
            Err(failure) => responder.failed(failure),
        }
    }

    pub(super) fn drop_fork(&mut self, key: Key, responder: Responder) {
        match self.forks.give_up(&key, "nothing was given up") {
            Ok(left) => self.remove_fork(left, Some(responder)),
            Err(failure) => responder.failed(failure),
        }
    }

    fn give_up(&mut self, key: &Key, what: &str) -> Result<(), Failure> {
        let left = self.forks.give_up(key, what)?;
        self.remove_fork(left, None);
        Ok(())
    }

    fn remove_fork(&self, (dir, running): (ForkDir, Option<Arc<Progress>>), responder: Option<Responder>) {
        info!("what was kept of set {} and epoch {} is given up", dir.set, dir.epoch);
        job::spawn(&self.events, move || {
            while running.as_ref().is_some_and(|running| Arc::strong_count(running) > 1) {
                std::thread::sleep(LOOK);
            }
            let removed = dir.remove();
            match responder {
                Some(responder) => responder.end(removed.map(|()| Answer::Done)),
                None => removed.unwrap_or_else(|failure| warn!("{failure}")),
            }
            None
        });
    }

    /// Says of a replica that it has to wait.
    pub(super) fn awaits_fork(&self, connection: &mut ConnectionStatus) {
        let Some(fork) = self.forks.pending(&connection.set).filter(|_| connection.target == self.name) else { return };
        connection.reason = Some(reason(&fork, &self.name));
        if fork.state == ForkState::Blocked {
            connection.state = State::Halted;
            let is_full = fork.why.as_ref().is_some_and(|why| why.contains(keep::NO_ROOM));
            connection.details.cause = Some(if is_full { Cause::NoRoom } else { Cause::Other });
            connection.details.remedy = self.forks.failure(&connection.set).map(|failure| failure.remedy.clone());
        }
    }
}

fn reason(fork: &Fork, name: &NodeName) -> String {
    match (&fork.state, &fork.why) {
        (ForkState::Blocked, Some(why)) => why.clone(),
        (ForkState::Asking, _) => format!("{} has not said yet what only {name} had", fork.by),
        _ => format!("what only {name} had is being kept aside: {} files, {} bytes", fork.files, fork.bytes),
    }
}

/// A file system that is not mounted must not look like one in which nothing was written.
fn is_on(root: &TargetRoot, volume: Option<&str>) -> Result<(), Failure> {
    let found = protect::source::volume_of(&root.path, root.is_dir)?;
    match volume {
        Some(wanted) if wanted != found => {
            let why = format!("{} is on another file system than it was", root.path.display());
            Err(Failure::new(
                "what only this node had cannot be kept aside",
                why,
                "Mount the right one: it goes on then",
            ))
        }
        _ => Ok(()),
    }
}
