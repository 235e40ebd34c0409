//! Looks what is to be watched, and whether the watchdog is to end.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use stead_resource::Call;

use super::group::Group;
use super::guard::Guard;
use super::log::Log;
use super::orders::Orders;
use super::{Groups, Managers, lock, locked, spawn};
use crate::failover::lease::LeaseView;

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Finder {
    pub(super) state: PathBuf,
    pub(super) groups: Groups,
    pub(super) log: Log,
    /// Ends the watchdog.
    pub(super) call: Call,
    pub(super) manager: Managers,
    pub(super) hurries: bool,
}

impl Finder {
    pub(super) fn start(self) -> std::io::Result<()> {
        spawn("watchdog-finder", move || self.work())
    }

    fn work(self) {
        let stop = self.call.stop();
        let was = fs::metadata(&self.state).ok().map(|meta| identity(&meta));
        let mut refused = BTreeSet::new();
        while !stop.is_called() {
            if self.is_to_end(was) {
                self.call.off();
            } else {
                self.find(&mut refused);
                stop.wait(Instant::now() + INTERVAL);
            }
        }
        locked(&self.groups).iter().for_each(|group| group.call.off());
    }

    /// What ends it is used up, so that the next one does not find it.
    fn is_to_end(&self, was: Option<Identity>) -> bool {
        let is_told = fs::remove_file(self.state.join("groups").join(lock::END)).is_ok();
        is_told || is_gone(&self.state, was)
    }

    /// The list is changed in one go, so that whoever looks at deadlines never waits for the disk.
    fn find(&self, refused: &mut BTreeSet<PathBuf>) {
        let before = locked(&self.groups).clone();
        let entries = fs::read_dir(self.state.join("groups")).into_iter().flatten().flatten();
        let dirs = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        let found: Vec<_> = dirs.filter_map(|dir| self.group(dir, &before, refused)).collect();
        let gone = before.iter().filter(|group| !found.iter().any(|other| Arc::ptr_eq(group, other)));
        drop(std::mem::replace(&mut *locked(&self.groups), found.clone()));
        gone.for_each(|group| group.call.off());
    }

    fn group(&self, dir: PathBuf, before: &[Arc<Group>], refused: &mut BTreeSet<PathBuf>) -> Option<Arc<Group>> {
        let known = before.iter().find(|group| group.dir == dir);
        if let Some(group) = known.filter(|group| group.lease.is_of(&dir)) {
            // What cannot be read is as it was.
            let _ = Orders::read(&dir).map(|orders| group.set_orders(orders));
            return Some(group.clone());
        }
        match LeaseView::open(&dir) {
            Ok(lease) => self.begin(dir, lease),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => {
                if refused.insert(dir.clone()) {
                    self.log.add(&dir, format!("the watchdog: the lease cannot be read: {e}"));
                }
                known.cloned()
            }
        }
    }

    /// Its guard is there before it is needed: then there may be no room for a thread.
    fn begin(&self, dir: PathBuf, lease: LeaseView) -> Option<Arc<Group>> {
        let (wake, woken) = bounded(1);
        let orders = Orders::read(&dir).unwrap_or_default();
        let group = Arc::new(Group::new(dir, lease, Call::new().ok()?, orders, wake));
        let guard = Guard {
            group: Arc::downgrade(&group),
            log: self.log.clone(),
            manager: self.manager.clone(),
            hurries: self.hurries,
        };
        spawn("watchdog-guard", move || guard.work(&woken)).ok()?;
        Some(group)
    }
}

type Identity = (u64, u64);

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// Is the directory gone, or another one in its place? Where that cannot be told it is not.
fn is_gone(path: &Path, was: Option<Identity>) -> bool {
    match fs::metadata(path) {
        Ok(meta) => was.is_some_and(|was| was != identity(&meta)),
        Err(e) => e.kind() == ErrorKind::NotFound,
    }
}
