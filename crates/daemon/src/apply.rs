//! From one plan to another: which steps lead there.

use stead_api::{Failure, MapArg, Protect};
use stead_model::plan::{ConnectionPlan, Plan, SetPlan};
use stead_model::{NodeName, SetName};

/// One step.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Unprotect(SetName),
    Pause(SetName, bool),
    Protect(Box<Protect>),
}

/// The steps from `now` to `wanted` on node `own`; refused where a step belongs to another node, or would change a set
/// in place.
pub(crate) fn steps(now: &Plan, wanted: &Plan, own: &NodeName) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for set in now.sets.iter().filter(|set| wanted.set(&set.name).is_none()) {
        is_own(set, own, "removed")?;
        steps.push(Step::Unprotect(set.name.clone()));
    }
    for set in &wanted.sets {
        let connections: Vec<_> = wanted.connections_of(&set.name).collect();
        match now.set(&set.name) {
            Some(before) => steps.extend(change(now, before, set, &connections, own)?),
            None => {
                is_own(set, own, "added")?;
                steps.push(Step::Protect(Box::new(as_options(set, &connections)?)));
            }
        }
    }
    Ok(steps)
}

fn change(
    now: &Plan,
    before: &SetPlan,
    after: &SetPlan,
    connections: &[&ConnectionPlan],
    own: &NodeName,
) -> Result<Option<Step>, Failure> {
    let still = |c: &ConnectionPlan| ConnectionPlan { paused: false, ..c.clone() };
    let old: Vec<_> = now.connections_of(&before.name).map(still).collect();
    let new: Vec<_> = connections.iter().map(|c| still(c)).collect();
    if before != after || old != new {
        let why = format!("set {} is another one in the file, and a running set is not changed in place", before.name);
        return Err(refused(why, &format!("End it first with stead unprotect {}, then apply the plan", before.name)));
    }
    let was = now.connections_of(&before.name).any(|c| c.paused);
    let will = connections.iter().any(|c| c.paused);
    if was == will {
        return Ok(None);
    }
    is_own(before, own, "paused or resumed")?;
    Ok(Some(Step::Pause(before.name.clone(), will)))
}

fn is_own(set: &SetPlan, own: &NodeName, what: &str) -> Result<(), Failure> {
    if set.source == *own {
        return Ok(());
    }
    let why = format!("set {} would be {what}, and its source is {}", set.name, set.source);
    Err(refused(why, &format!("Apply that part of the plan on {}", set.source)))
}

fn as_options(set: &SetPlan, connections: &[&ConnectionPlan]) -> Result<Protect, Failure> {
    let [connection] = connections else {
        let why =
            format!("set {} has {} connections, and this release makes sets with one", set.name, connections.len());
        return Err(refused(why, "Give the set exactly one connection"));
    };
    Ok(Protect {
        paths: set.paths.iter().map(|path| path.path.clone()).collect(),
        on: connection.target.clone(),
        set: Some(set.name.clone()),
        rules: set.rules.clone(),
        map: connection.mapping.iter().map(|m| MapArg { from: m.from.clone(), to: m.to.clone() }).collect(),
        mode: connection.mode,
        capture: set.capture,
        order: set.order,
        route: connection.route,
        without: connection.without.clone(),
        into_non_empty: false,
        yes: false,
        no_wait: true,
    })
}

fn refused(why: String, remedy: &str) -> Failure {
    Failure::new("the plan was not applied, nothing was changed", why, remedy)
}
