//! `plan check`: does the plan still fit the machines?

pub(crate) mod addresses;
pub(crate) mod agents;
pub(crate) mod checklist;
mod facts;
pub(crate) mod groups;
mod outside;
mod packages;
pub(crate) mod parts;
mod registrations;
mod room;
pub(crate) mod trial;

use std::time::Duration;

use stead_api::CheckFinding;
use stead_model::NodeName;
use stead_model::plan::{ConnectionPlan, PathPlan, Plan, PlanError, SetPlan};
use stead_resource::notify::look_at;

use crate::clock::wall_clock;
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};
pub(crate) use groups::Local;
use parts::Part;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Clocks of two nodes that differ by more are told of.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// Can the files be used that its receivers of alerts need?
///
/// # Errors
/// What is wrong with the first that cannot, and what to do.
pub fn receivers(plan: &Plan) -> Result<(), PlanError> {
    plan.alerts.receivers().check_files(look_at)
}

/// Everything in which they differ, seen from node `own`.
pub(crate) fn findings(plan: &Plan, own: &NodeName, dialer: &Dialer) -> Vec<CheckFinding> {
    let mut texts: Vec<String> = receivers(plan).err().map(|e| e.to_string()).into_iter().collect();
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

/// The same of the groups of which this node is one of the two: here and on the other one.
pub(crate) fn group_findings(groups: &[Local], dialer: &Dialer) -> Vec<CheckFinding> {
    let of = |local: &Local| {
        let group = &local.group;
        let mut texts = groups::by_plan(group);
        let parts = parts::parts(group);
        texts.extend(local.findings(&parts));
        if let Some(other) = group.other(&local.own) {
            texts.extend(on_the_other(local, other, &parts, dialer));
        }
        if let Some(witness) = &group.witness {
            let asked = ask(dialer, witness, &Ask::Ping, TIMEOUT);
            texts.extend(asked.err().map(|failure| format!("group {}: {}", group.name, failure.why)));
        }
        texts
    };
    groups.iter().flat_map(of).map(|text| CheckFinding { text }).collect()
}

fn on_the_other(local: &Local, other: &NodeName, parts: &[Part], dialer: &Dialer) -> Vec<String> {
    let name = &local.group.name;
    match ask(dialer, other, &Ask::CheckGroup { group: name.clone() }, TIMEOUT) {
        Ok(Tell::Findings { texts, now, parts: theirs }) => {
            let apart = Duration::from_nanos(wall_clock().0.abs_diff(now.0));
            let told = format!("group {name}: the clocks of the two nodes are {:.1} s apart", apart.as_secs_f64());
            let unlike = parts::differing(parts, &theirs, other.as_str());
            let unlike = unlike.into_iter().map(|text| format!("group {name} on {}: {text}", local.own));
            texts.into_iter().chain((apart > CLOCKS_APART).then_some(told)).chain(unlike).collect()
        }
        Ok(other) => vec![format!("group {name}: it answered {other:?}")],
        Err(failure) => vec![format!("group {name}: {}", failure.why)],
    }
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
