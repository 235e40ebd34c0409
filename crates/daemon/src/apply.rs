//! From one plan to another: which steps lead there.

use stead_api::{Failure, MapArg, Protect};
use stead_model::plan::{Change, ConnectionPlan, Plan, SetPlan};
use stead_model::{NodeName, SetName};

/// What leads from one plan to another, in this order.
#[derive(Debug, PartialEq)]
pub(crate) struct Steps {
    /// Sets that end.
    pub(crate) ended: Vec<SetName>,
    /// The plan of everything that goes on: without the sets that end and those that begin, without the connections
    /// that begin.
    pub(crate) going_on: Plan,
    /// Sets of which something changes while they run: their rules, connections that end, how these are run.
    pub(crate) changed: Vec<SetName>,
    /// Connections that end while their set goes on.
    pub(crate) dropped: Vec<(SetName, NodeName)>,
    /// Sets and further connections that begin, the first connection of a set first.
    pub(crate) new: Vec<Protect>,
}

impl Steps {
    /// Is there nothing to be done?
    pub(crate) fn are_none(&self, now: &Plan) -> bool {
        let sets = self.ended.is_empty() && self.changed.is_empty() && self.dropped.is_empty() && self.new.is_empty();
        sets && self.going_on == *now
    }
}

/// The steps from `now` to `wanted` on node `own`, groups apart; refused where a step belongs to another node, or would change what
/// cannot change while a set runs.
pub(crate) fn steps(now: &Plan, wanted: &Plan, own: &NodeName) -> Result<Steps, Failure> {
    let (alerts, metrics, defaults) = (wanted.alerts.clone(), wanted.metrics.clone(), wanted.defaults.clone());
    let mut going_on = Plan { alerts, metrics, defaults, ..now.clone() };
    let mut steps = Steps { ended: vec![], going_on: Plan::default(), changed: vec![], dropped: vec![], new: vec![] };
    for set in &now.sets {
        match wanted.set(&set.name) {
            None => {
                is_own(set, own, "removed")?;
                going_on = going_on.without_set(&set.name).map_err(|e| refused(e.to_string(), ""))?;
                steps.ended.push(set.name.clone());
            }
            Some(after) => going_on = change(now, wanted, set, after, own, &mut steps, going_on)?,
        }
    }
    for set in wanted.sets.iter().filter(|set| now.set(&set.name).is_none()) {
        is_own(set, own, "added")?;
        let connections: Vec<_> = wanted.connections_of(&set.name).collect();
        if connections.is_empty() {
            let why = format!("set {} has no connection", set.name);
            return Err(refused(why, "Say with [[connection]] which node keeps its replica"));
        }
        steps.new.extend(connections.into_iter().map(|connection| as_options(set, connection)));
    }
    steps.going_on = going_on;
    Ok(steps)
}

fn change(
    now: &Plan,
    wanted: &Plan,
    before: &SetPlan,
    after: &SetPlan,
    own: &NodeName,
    steps: &mut Steps,
    going_on: Plan,
) -> Result<Plan, Failure> {
    let name = &before.name;
    let mut kept = Vec::new();
    let mut changed = is_live(name, before.change_to(after))?;
    for old in now.connections_of(name) {
        match wanted.connections_of(name).find(|c| c.target == old.target) {
            Some(new) => {
                changed |= is_live(name, old.change_to(new))? | (now.settings_of(old) != wanted.settings_of(new));
                kept.push(new.clone());
            }
            None => {
                changed = true;
                steps.dropped.push((name.clone(), old.target.clone()));
            }
        }
    }
    let known = |c: &&ConnectionPlan| now.connections_of(name).any(|old| old.target == c.target);
    let new: Vec<_> = wanted.connections_of(name).filter(|c| !known(c)).map(|c| as_options(after, c)).collect();
    if wanted.connections_of(name).next().is_none() {
        let why = format!("set {name} would have no connection left");
        return Err(refused(why, "Take the set out as well, to end its protection"));
    }
    if kept.is_empty() {
        let why = format!("set {name} would keep none of its targets");
        return Err(refused(why, "Add the new target first, and take the old one out once it is mirrored"));
    }
    if !changed && new.is_empty() {
        return Ok(going_on);
    }
    // What another node's set inherits from the defaults here is that node's business.
    let inherits = kept.iter().all(|c| now.connections_of(name).any(|old| old == c)) && before == after;
    if before.source != *own && inherits && new.is_empty() {
        return Ok(going_on);
    }
    is_own(before, own, "changed")?;
    if changed {
        steps.changed.push(name.clone());
    }
    steps.new.extend(new);
    going_on.with_set_changed(after.clone(), kept).map_err(|e| refused(e.to_string(), ""))
}

fn is_live(set: &SetName, change: Change) -> Result<bool, Failure> {
    match change {
        Change::None => Ok(false),
        Change::Live => Ok(true),
        Change::Anew(what) => {
            let why = format!("of set {set}, {what} would be another, and that cannot change while it runs");
            Err(refused(why, &format!("End it first with stead unprotect {set}, then apply the plan")))
        }
    }
}

fn is_own(set: &SetPlan, own: &NodeName, what: &str) -> Result<(), Failure> {
    if set.source == *own {
        return Ok(());
    }
    let why = format!("set {} would be {what}, and its source is {}", set.name, set.source);
    Err(refused(why, &format!("Apply that part of the plan on {}", set.source)))
}

fn as_options(set: &SetPlan, connection: &ConnectionPlan) -> Protect {
    Protect {
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
        seeded: false,
        paused: connection.paused,
        settings: connection.settings.clone(),
    }
}

fn refused(why: String, remedy: &str) -> Failure {
    Failure::new("the plan was not applied, nothing was changed", why, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"version = 1

[[set]]
name = "notes"
source = "paris"

[[set.path]]
path = "/srv/notes"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11"

[[connection]]
set = "notes"
target = "lyon"

[[connection.mapping]]
from = "/srv/notes"
to = "/srv/notes"
"#;
    const ROME: &str = "\n[[connection]]\nset = \"notes\"\ntarget = \"rome\"\n\n[[connection.mapping]]\nfrom = \"/srv/notes\"\nto = \"/srv/notes\"\n";

    fn plan(text: &str) -> Plan {
        Plan::parse(text).unwrap()
    }

    fn from_to(now: &str, wanted: &str, own: &str) -> Result<Steps, Failure> {
        steps(&plan(now), &plan(wanted), &own.parse().unwrap())
    }

    #[test]
    fn the_same_plan_is_no_step() {
        let none = from_to(PLAN, PLAN, "paris").unwrap();
        let nothing = Steps { ended: vec![], going_on: plan(PLAN), changed: vec![], dropped: vec![], new: vec![] };
        assert_eq!(none, nothing);
    }

    #[test]
    fn settings_and_rules_change_while_the_set_runs() {
        let limited = PLAN.replace("target = \"lyon\"\n", "target = \"lyon\"\nbandwidth = \"1MiB/s\"\n");
        let excluded = PLAN.replace("source = \"paris\"\n", "source = \"paris\"\nrules = { exclude = [\"*.tmp\"] }\n");
        let by_default = PLAN.replace("version = 1\n", "version = 1\n[defaults]\nbandwidth = \"1MiB/s\"\n");
        for wanted in [&limited, &excluded, &by_default] {
            let found = from_to(PLAN, wanted, "paris").unwrap();
            assert_eq!((found.changed.len(), found.going_on), (1, plan(wanted)), "{wanted}");
            assert!(found.new.is_empty() && found.ended.is_empty() && found.dropped.is_empty());
        }
        assert!(from_to(PLAN, &limited, "lyon").unwrap_err().why.contains("its source is paris"));
        let elsewhere = from_to(PLAN, &by_default, "lyon").unwrap();
        assert!(elsewhere.changed.is_empty() && elsewhere.going_on.defaults != plan(PLAN).defaults);
    }

    #[test]
    fn targets_come_and_go_without_the_others() {
        let both = format!("{PLAN}{ROME}");
        let added = from_to(PLAN, &both, "paris").unwrap();
        assert_eq!(added.new.iter().map(|new| new.on.as_str()).collect::<Vec<_>>(), ["rome"]);
        assert!(added.changed.is_empty() && added.ended.is_empty());
        let dropped = from_to(&both, PLAN, "paris").unwrap();
        assert_eq!(dropped.dropped, [("notes".parse().unwrap(), "rome".parse().unwrap())]);
        assert_eq!((dropped.changed.len(), dropped.going_on), (1, plan(PLAN)));
        let replaced = PLAN.replace("target = \"lyon\"", "target = \"rome\"");
        assert!(from_to(PLAN, &replaced, "paris").unwrap_err().why.contains("none of its targets"));
    }

    #[test]
    fn what_cannot_change_while_it_runs_is_named() {
        let cases = [
            ("source = \"paris\"\n", "source = \"paris\"\norder = \"flush\"\n", "how it is captured"),
            ("to = \"/srv/notes\"", "to = \"/data\"", "where its replica is"),
            ("target = \"lyon\"\n", "target = \"lyon\"\nwithout = [\"acls\"]\n", "goes without"),
        ];
        for (from, to, expected) in cases {
            let refused = from_to(PLAN, &PLAN.replace(from, to), "paris").unwrap_err();
            assert!(refused.why.contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_set_may_begin_with_several_targets() {
        let begun = from_to("version = 1\n", &format!("{PLAN}{ROME}"), "paris").unwrap();
        assert_eq!(begun.new.iter().map(|new| new.on.as_str()).collect::<Vec<_>>(), ["lyon", "rome"]);
        assert_eq!(begun.going_on, Plan::default());
        assert_eq!(from_to(PLAN, "version = 1\n", "paris").unwrap().ended.len(), 1);
    }
}
