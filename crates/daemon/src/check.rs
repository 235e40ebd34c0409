//! `plan check`: does the plan still fit the machines?

use std::time::Duration;

use stead_api::CheckFinding;
use stead_model::NodeName;
use stead_model::plan::{ConnectionPlan, PathPlan, Plan, SetPlan};

use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Everything in which they differ, seen from node `own`.
pub(crate) fn findings(plan: &Plan, own: &NodeName, dialer: &Dialer) -> Vec<CheckFinding> {
    let mut texts = Vec::new();
    for set in &plan.sets {
        if set.source == *own {
            texts.extend(set.paths.iter().filter_map(|path| path_finding(set, path)));
            texts.extend(plan.connections_of(&set.name).filter_map(|c| target_finding(c, dialer)));
        }
        for connection in plan.connections_of(&set.name).filter(|c| c.target == *own) {
            texts.extend(replica_findings(connection));
            texts.extend(source_finding(set, dialer));
        }
    }
    texts.into_iter().map(|text| CheckFinding { text }).collect()
}

fn path_finding(set: &SetPlan, path: &PathPlan) -> Option<String> {
    let shown = path.path.display();
    let Ok(meta) = std::fs::metadata(&path.path) else {
        return Some(format!("set {}: {shown} does not exist; create or mount it, or unprotect the set", set.name));
    };
    let dir = if meta.is_dir() { path.path.as_path() } else { path.path.parent()? };
    // While the set is captured, a mount lies over the path; what is beneath is the data path's to check.
    let root = stead_disk::volume::Root::open(dir, 0).ok()?;
    let (is, wanted) = (root.volume_id().clone(), path.volume_id().ok()?);
    let captured = stead_disk::check::file_system(dir).is_ok_and(|fs| fs.starts_with("fuse"));
    (is != wanted && !captured).then(|| {
        format!(
            "set {}: {shown} is on another file system ({is}) than planned ({wanted}); mount the right one",
            set.name
        )
    })
}

fn target_finding(connection: &ConnectionPlan, dialer: &Dialer) -> Option<String> {
    let ConnectionPlan { set, target, .. } = connection;
    match ask(dialer, target, &Ask::Have { set: set.clone() }, TIMEOUT) {
        Ok(Tell::Have(true)) => None,
        Ok(_) => Some(format!("set {set}: {target} keeps no replica of it; unprotect the set and protect it again")),
        Err(failure) => Some(format!("set {set}: {}", failure.why)),
    }
}

fn replica_findings(connection: &ConnectionPlan) -> Vec<String> {
    let missing = |to: &std::path::Path| std::fs::symlink_metadata(to).is_err();
    let gone = connection.mapping.iter().filter(|m| missing(&m.to));
    gone.map(|m| format!("set {}: the replica {} does not exist", connection.set, m.to.display())).collect()
}

fn source_finding(set: &SetPlan, dialer: &Dialer) -> Option<String> {
    ask(dialer, &set.source, &Ask::Ping, TIMEOUT).err().map(|failure| format!("set {}: {}", set.name, failure.why))
}
