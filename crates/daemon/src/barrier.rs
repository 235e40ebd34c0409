//! At boot, before anything else runs: what is protected is inaccessible until its capture or guard is up.

use std::path::{Path, PathBuf};

use stead_api::Failure;
use stead_disk::guard::barrier;
use stead_model::NodeName;
use stead_model::plan::Plan;

use crate::state::{StateDir, node};

/// Lays a barrier over every directory that the plan in `state` protects or keeps a replica in, where neither a capture
/// nor a guard is up; the daemon lifts it once they are. Returns the directories. Single files have none: a mount over
/// one would break its replacement.
///
/// # Errors
/// Where the state cannot be read, or the first directory that cannot be made inaccessible; the others are.
pub fn raise(state: &Path) -> Result<Vec<PathBuf>, Failure> {
    let state = StateDir::open(state)?;
    let plan = crate::start::load_plan(&state)?;
    if plan.sets.is_empty() {
        return Ok(Vec::new());
    }
    let name = node::name(&state, None)?;
    let (mut raised, mut failed) = (Vec::new(), None);
    for path in directories(&plan, &name) {
        match barrier::raise(&path) {
            Ok(true) => raised.push(path),
            Ok(false) => {}
            Err(e) => failed = failed.or(Some((path, e))),
        }
    }
    match failed {
        None => Ok(raised),
        Some((path, e)) => {
            let what = format!("{} could not be made inaccessible", path.display());
            Err(Failure::new(what, e.to_string(), "Whatever works there before the daemon is up is not protected"))
        }
    }
}

fn directories(plan: &Plan, node: &NodeName) -> Vec<PathBuf> {
    let own = plan.sets.iter().filter(|set| set.source == *node).flat_map(|set| set.paths.iter().map(|p| &p.path));
    let kept = plan.connections.iter().filter(|c| c.target == *node).flat_map(|c| c.mapping.iter().map(|m| &m.to));
    own.chain(kept).filter(|path| path.is_dir()).cloned().collect()
}

/// Takes the barriers away while `start` brings up what protects the directories; where it fails they come back: what
/// was inaccessible stays so.
pub(crate) fn lifted<T>(
    paths: impl Iterator<Item = PathBuf>,
    start: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let lifted: Vec<_> = paths.filter(|path| lift(path)).collect();
    let started = start();
    if started.is_err() {
        for path in lifted {
            if let Err(error) = barrier::raise(&path) {
                tracing::error!(path = %path.display(), %error, "it is accessible and not protected");
            }
        }
    }
    started
}

fn lift(path: &Path) -> bool {
    barrier::lift(path).unwrap_or_else(|error| {
        // What is not there has none; what cannot be lifted is found by whoever mounts over it.
        tracing::debug!(path = %path.display(), %error, "no barrier was lifted");
        false
    })
}
