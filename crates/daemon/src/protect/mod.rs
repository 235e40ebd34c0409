//! What `protect` checks and arranges, on both nodes, before anything begins.

pub(crate) mod source;
pub(crate) mod target;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

use stead_api::{Failure, FailureKind};
use stead_model::plan::Plan;
use stead_model::{NodeName, SetName};

use crate::peer::messages::{Ask, ReplicaAsk, ReplicaTell, Tell};
use crate::peer::{Dialer, Fingerprint};

/// How long the other node may take to look at its file systems.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(120);

/// What jobs see of the node: values of the moment when they began. What they arrange is checked again when it is
/// written down.
pub(crate) struct World {
    pub(crate) node: NodeName,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) state: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) dialer: Dialer,
}

/// Has a node keep replicas: all of them, or none. `agree` looks at what is there before anything is changed; `undo` is what
/// a replica that is kept already is asked then.
pub(crate) fn keep_all(
    put: &dyn Fn(Ask) -> Result<Tell, Failure>,
    asks: &[ReplicaAsk],
    agree: &dyn Fn(&ReplicaAsk, &ReplicaTell) -> Result<(), Failure>,
    undo: &dyn Fn(&SetName) -> Ask,
) -> Result<(), Failure> {
    for ask in asks {
        match put(Ask::Check(Box::new(ask.clone())))? {
            Tell::Checked(told) => agree(ask, &told)?,
            other => return Err(Failure::new("nothing was changed", format!("the answer was {other:?}"), "")),
        }
    }
    for (at, ask) in asks.iter().enumerate() {
        if let Err(failure) = put(Ask::Keep(Box::new(ask.clone()))) {
            asks[..at].iter().for_each(|kept| drop(put(undo(&kept.set.name))));
            return Err(failure);
        }
    }
    Ok(())
}

/// The set's name: as given, else after the first path.
pub(crate) fn set_name(options: &stead_api::Protect) -> Result<SetName, Failure> {
    if let Some(name) = &options.set {
        return Ok(name.clone());
    }
    if options.paths.iter().any(|path| path.parent().is_none()) {
        return Err(source::whole_root());
    }
    let first = options.paths.first().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    let usable = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = first.chars().map(usable).take(63).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    name.parse().map_err(|_| {
        let why = "no name can be made from its path";
        Failure::new("the set was not made", why, "Give it a name with --set NAME").kind(FailureKind::Usage)
    })
}
