//! What this node alone had when another one stood in for it: kept aside before a restore overwrites it.
//!
//! ```text
//!   forks/SET/EPOCH/fork.toml     since when, by whom; that it is to be kept, or is
//!   forks/SET/EPOCH/index.jsonl   what was found, a line each; there once all of it is durable
//!   forks/SET/EPOCH/files/…       the copies, each with its whole path
//! ```
//! `fork.toml` is written before the set can be received, and goes first when a fork is given up. What lies there without
//! it is nothing.

pub(crate) mod keep;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use stead_api::{Failure, Fork, ForkState};
use stead_model::status::Timestamp;
use stead_model::{NodeName, SetName};

use crate::event::Event;
use crate::job;
use crate::state::StateDir;
use store::{ForkDir, ForkFile, Kept};

/// How often what could not be kept is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// How often the node that stood in is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Set and epoch.
pub(crate) type Key = (SetName, u64);

/// What the loop knows of forks.
pub(crate) struct Forks {
    all: BTreeMap<Key, Held>,
}

/// How far a job is; shared with it.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) files: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// It is to end.
    pub(crate) is_over: AtomicBool,
}

struct Held {
    dir: ForkDir,
    file: ForkFile,
    /// Of the job that keeps it.
    progress: Option<Arc<Progress>>,
    /// Shared with everyone who reads the copies.
    readers: Arc<()>,
    failure: Option<Failure>,
    retry_at: Instant,
}

impl Forks {
    /// As the last daemon left them; and what is nothing, to be removed.
    pub(crate) fn load(state: &StateDir) -> Result<(Forks, Vec<ForkDir>), Failure> {
        let (mut all, mut left_over) = (BTreeMap::new(), Vec::new());
        for dir in store::dirs(state)? {
            match dir.file()? {
                Some(file) => _ = all.insert((dir.set.clone(), dir.epoch), Held::new(dir, file)),
                None => left_over.push(dir),
            }
        }
        Ok((Forks { all }, left_over))
    }

    /// That node stands in for this one, which wrote up to epoch `known`: durable before anything is received from it.
    pub(crate) fn note(&mut self, state: &StateDir, key: Key, by: &NodeName, known: u64) -> Result<(), Failure> {
        if self.all.contains_key(&key) {
            return Ok(());
        }
        let (dir, file) =
            (ForkDir::of(state, &key.0, key.1), ForkFile { by: by.clone(), known, since: None, kept: None });
        dir.begin(&file)?;
        self.all.insert(key, Held::new(dir, file));
        Ok(())
    }

    /// What is still to be kept of that set.
    pub(crate) fn pending(&self, set: &SetName) -> Option<Fork> {
        let mut forks = self.all.iter().filter(|((of, _), held)| of == set && held.file.kept.is_none());
        forks.next().map(|(key, held)| held.tell(key))
    }

    /// Why nothing is received of that set.
    pub(crate) fn failure(&self, set: &SetName) -> Option<&Failure> {
        self.all.iter().filter(|((of, _), _)| of == set).find_map(|(_, held)| held.failure.as_ref())
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Fork> {
        self.all.iter().map(|(key, held)| held.tell(key)).collect()
    }

    /// One of them.
    pub(crate) fn get(&self, key: &Key, what: &str) -> Result<Fork, Failure> {
        self.held(key, what).map(|held| held.tell(key))
    }

    /// Where the copies are; held as long as the second of both is.
    pub(crate) fn read(&self, key: &Key, what: &str) -> Result<(ForkDir, Arc<()>), Failure> {
        let held = self.held(key, what)?;
        match &held.file.kept {
            Some(_) => Ok((held.dir.clone(), held.readers.clone())),
            None => Err(Failure::new(what, "it is not kept yet", "Follow it with: stead fork list")),
        }
    }

    /// Those that are to be kept and are not being kept.
    pub(crate) fn due(&self, now: Instant) -> Vec<Key> {
        let is_due = |held: &Held| held.file.kept.is_none() && held.progress.is_none() && held.retry_at <= now;
        self.all.iter().filter(|(_, held)| is_due(held)).map(|(key, _)| key.clone()).collect()
    }

    /// Those that are still to be kept.
    pub(crate) fn all_pending(&self) -> Vec<Key> {
        self.all.iter().filter(|(_, held)| held.file.kept.is_none()).map(|(key, _)| key.clone()).collect()
    }

    /// A job begins for it.
    pub(crate) fn begin(&mut self, key: &Key) -> Option<(ForkDir, ForkFile, Arc<Progress>)> {
        let held = self.all.get_mut(key)?;
        let progress = Arc::<Progress>::default();
        held.progress = Some(progress.clone());
        Some((held.dir.clone(), held.file.clone(), progress))
    }

    /// The other node was asked since when; none: there is nothing that only this one had. Returns what is to be removed.
    pub(crate) fn told(&mut self, key: &Key, told: Result<Option<Timestamp>, Failure>) -> Option<ForkDir> {
        let held = self.all.get_mut(key)?;
        held.progress = None;
        let saved = told.and_then(|since| match since {
            None => held.dir.forget().map(|()| false),
            since => held.save(ForkFile { since, ..held.file.clone() }).map(|()| true),
        });
        match saved {
            Ok(true) => held.retry_at = Instant::now(),
            Ok(false) => return self.all.remove(key).map(|held| held.dir),
            // Not a fault: it answers once it is there, and writes the set.
            Err(failure) => {
                tracing::debug!(set = %key.0, %failure, "the node that stood in has not said since when");
                held.retry_at = Instant::now() + ASK_AGAIN;
            }
        }
        None
    }

    /// The job that keeps it ended.
    pub(crate) fn kept(&mut self, key: &Key, result: Result<Kept, Failure>) {
        let Some(held) = self.all.get_mut(key) else { return };
        held.progress = None;
        let saved = result.and_then(|kept| held.save(ForkFile { kept: Some(kept), ..held.file.clone() }));
        match saved {
            Ok(()) => held.failure = None,
            Err(failure) => held.fail(failure),
        }
    }

    /// Gives one up, durably; returns what is left of it, to be removed once the job that has the progress has ended.
    pub(crate) fn give_up(&mut self, key: &Key, what: &str) -> Result<(ForkDir, Option<Arc<Progress>>), Failure> {
        let held = self.held(key, what)?;
        if Arc::strong_count(&held.readers) > 1 {
            return Err(Failure::new(what, "its files are being read", "Try again once that has ended"));
        }
        held.dir.forget()?;
        held.progress.iter().for_each(|progress| progress.is_over.store(true, Ordering::Relaxed));
        let (dir, progress) = (held.dir.clone(), held.progress.clone());
        self.all.remove(key);
        Ok((dir, progress))
    }

    fn held(&self, key: &Key, what: &str) -> Result<&Held, Failure> {
        self.all.get(key).ok_or_else(|| {
            let why = format!("nothing is kept of set {} and epoch {}", key.0, key.1);
            Failure::new(what, why, "Look at: stead fork list")
        })
    }
}

impl Held {
    fn new(dir: ForkDir, file: ForkFile) -> Held {
        Held { dir, file, progress: None, readers: Arc::default(), failure: None, retry_at: Instant::now() }
    }

    fn tell(&self, (set, epoch): &Key) -> Fork {
        let kept = self.file.kept.clone();
        let done = |of: fn(&Progress) -> &AtomicU64| {
            self.progress.as_ref().map_or(0, |progress| of(progress).load(Ordering::Relaxed))
        };
        Fork {
            set: set.clone(),
            epoch: *epoch,
            by: self.file.by.clone(),
            state: self.state(),
            since: self.file.since,
            kept_at: kept.as_ref().map(|kept| kept.at),
            files: kept.as_ref().map_or_else(|| done(|progress| &progress.files), |kept| kept.files),
            bytes: kept.as_ref().map_or_else(|| done(|progress| &progress.bytes), |kept| kept.bytes),
            unkept: kept.map_or(0, |kept| kept.unkept),
            why: self.failure.as_ref().map(|failure| format!("{}: {}", failure.what, failure.why)),
        }
    }

    fn state(&self) -> ForkState {
        match (&self.file.kept, &self.failure) {
            (Some(_), _) => ForkState::Kept,
            (None, Some(_)) => ForkState::Blocked,
            (None, None) if self.file.since.is_none() => ForkState::Asking,
            _ => ForkState::Keeping,
        }
    }

    fn save(&mut self, file: ForkFile) -> Result<(), Failure> {
        self.dir.save(&file)?;
        self.file = file;
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        (self.failure, self.retry_at) = (Some(failure), Instant::now() + RETRY);
    }
}

/// Removes what is left of forks.
pub(crate) fn remove(events: &SyncSender<Event>, dirs: Vec<ForkDir>) {
    if dirs.is_empty() {
        return;
    }
    job::spawn(events, move || {
        for dir in dirs {
            dir.remove().unwrap_or_else(|failure| tracing::warn!("{failure}"));
        }
        None
    });
}
