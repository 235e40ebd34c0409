//! The checklist of a group: what is not kept alike by itself on its two nodes. Both tell what they have; this compares.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stead_api::{Alike, ChecklistItem};
use stead_model::NodeName;
use stead_model::plan::{GroupPlan, Plan, SetPlan};

use super::groups::Local;
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};

/// What no node can tell.
const REMINDERS: [&str; 3] = [
    "firewall rules, kernel settings and mounts that what serves needs",
    "licences and certificates that are bound to one machine",
    "timers and jobs that are to run only where the group serves",
];

/// Something on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) area: Area,
    /// Its name, the same on both nodes.
    pub(crate) what: String,
    pub(crate) is: Is,
}

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Area {
    RoleFile,
    Unit,
    Program,
    File,
    Package,
    Owner,
    Machine,
}

/// What it is on that node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Is {
    /// The same where `key` is the same; `shown`: for people.
    Here { key: String, shown: String },
    /// There is none.
    Absent,
    /// It is of this node alone, and as it is to be.
    Right(String),
    /// It is of this node alone, and not as it is to be.
    Wrong(String),
    /// It cannot be told; why.
    Unknown(String),
}

/// That of a group, seen from one of its nodes; the other one is asked.
pub(crate) fn of_group(local: &Local, plan: &Plan, dialer: &Dialer) -> Vec<ChecklistItem> {
    let group = &local.group;
    let Some(other) = group.other(&local.own) else { return Vec::new() };
    let (ours, theirs) = (Ok(local.facts()), asked(group, other, dialer));
    let pair = if local.own == group.source { [ours, theirs] } else { [theirs, ours] };
    let reminders = by_plan(plan, group).into_iter().chain(REMINDERS.map(String::from));
    items(group, &pair).into_iter().chain(reminders.map(|what| reminder(group, what))).collect()
}

fn asked(group: &GroupPlan, other: &NodeName, dialer: &Dialer) -> Result<Vec<Fact>, String> {
    match ask(dialer, other, &Ask::Facts { group: group.name.clone() }, super::TIMEOUT) {
        Ok(Tell::Facts(facts)) => Ok(facts),
        Ok(other) => Err(format!("it answered {other:?}")),
        Err(failure) => Err(failure.why),
    }
}

/// One item for each name that any of the two knows, in the order of kinds; the facts of the source come first.
fn items(group: &GroupPlan, pair: &[Result<Vec<Fact>, String>; 2]) -> Vec<ChecklistItem> {
    let known = pair.iter().flatten().flatten().map(|fact| (fact.area, fact.what.as_str()));
    let names: BTreeSet<_> = known.collect();
    let one = |(area, what): (Area, &str)| {
        let on = |facts: &Result<Vec<Fact>, String>| match facts {
            Err(why) => Is::Unknown(why.clone()),
            Ok(facts) => {
                let found = facts.iter().find(|fact| (fact.area, fact.what.as_str()) == (area, what));
                found.map_or(Is::Absent, |fact| fact.is.clone())
            }
        };
        let [source, target] = pair.each_ref().map(on);
        let alike = alike(&source, &target);
        ChecklistItem {
            group: group.name.clone(),
            area: area.word().into(),
            what: what.into(),
            alike,
            nodes: vec![(group.source.clone(), source.text()), (group.target.clone(), target.text())],
            remedy: (alike == Alike::Different).then(|| area.remedy().into()),
        }
    };
    names.into_iter().map(one).collect()
}

fn alike(one: &Is, other: &Is) -> Alike {
    match (one, other) {
        (Is::Wrong(_), _) | (_, Is::Wrong(_)) => Alike::Different,
        (Is::Unknown(_), _) | (_, Is::Unknown(_)) => Alike::Unknown,
        (Is::Here { key, .. }, Is::Here { key: theirs, .. }) if key == theirs => Alike::Same,
        (Is::Right(_), Is::Right(_)) | (Is::Absent, Is::Absent) => Alike::Same,
        _ => Alike::Different,
    }
}

/// What its sets leave out.
fn by_plan(plan: &Plan, group: &GroupPlan) -> Vec<String> {
    let left_out = |set: &SetPlan| {
        let rules = &set.rules;
        let listed = |word: &str, globs: &[String]| (!globs.is_empty()).then(|| format!("{word} {}", globs.join(", ")));
        let flat = rules.flat.then(|| "subdirectories are left out".to_owned());
        let parts = [listed("takes only", &rules.include), listed("leaves out", &rules.exclude), flat];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("set {}: {}", set.name, parts.join("; ")))
    };
    group.sets.iter().filter_map(|name| plan.set(name)).filter_map(left_out).collect()
}

fn reminder(group: &GroupPlan, what: String) -> ChecklistItem {
    let (group, area) = (group.name.clone(), "by hand".to_owned());
    ChecklistItem { group, area, what, alike: Alike::Reminder, nodes: Vec::new(), remedy: None }
}

impl Is {
    fn text(&self) -> String {
        match self {
            Is::Here { shown, .. } => shown.clone(),
            Is::Absent => "none".into(),
            Is::Right(text) | Is::Wrong(text) => text.clone(),
            Is::Unknown(why) => format!("not known: {why}"),
        }
    }
}

impl Area {
    fn word(self) -> &'static str {
        match self {
            Area::RoleFile => "role file",
            Area::Unit => "unit",
            Area::Program => "program",
            Area::File => "file",
            Area::Package => "package",
            Area::Owner => "owner",
            Area::Machine => "machine",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Area::RoleFile => "Put it right where it is not as declared",
            Area::Unit | Area::Program => "Make them equal",
            Area::File => "Make them equal, or declare it in the plan as a role file",
            Area::Package => "Install the same version",
            Area::Owner => "Give it the same id on both nodes",
            Area::Machine => "Make them equal, or tick it where they are meant to differ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(area: Area, what: &str, is: Is) -> Fact {
        Fact { area, what: what.into(), is }
    }

    fn here(key: &str) -> Is {
        Is::Here { key: key.into(), shown: format!("shown {key}") }
    }

    fn group() -> GroupPlan {
        toml::from_str("name = 'notes'\nsource = 'paris'\ntarget = 'lyon'\nsets = ['notes']").unwrap()
    }

    #[test]
    fn what_either_node_knows_is_compared_by_its_name() {
        let paris = vec![
            fact(Area::Machine, "time zone", here("Europe/Paris")),
            fact(Area::Unit, "a.service", here("1")),
            fact(Area::Owner, "user 1000", here("notes")),
            fact(Area::RoleFile, "/etc/a", Is::Right("as declared".into())),
            fact(Area::RoleFile, "/etc/b", Is::Right("as declared".into())),
        ];
        let lyon = vec![
            fact(Area::Machine, "time zone", here("Europe/Paris")),
            fact(Area::Unit, "a.service", here("2")),
            fact(Area::File, "/etc/cron.d/x", here("1")),
            fact(Area::RoleFile, "/etc/a", Is::Right("as declared".into())),
            fact(Area::RoleFile, "/etc/b", Is::Wrong("changed by hand".into())),
        ];
        let items = items(&group(), &[Ok(paris), Ok(lyon)]);
        let told: Vec<_> = items.iter().map(|item| (item.what.as_str(), item.alike)).collect();
        let expected = [
            ("/etc/a", Alike::Same),
            ("/etc/b", Alike::Different),
            ("a.service", Alike::Different),
            ("/etc/cron.d/x", Alike::Different),
            ("user 1000", Alike::Different),
            ("time zone", Alike::Same),
        ];
        assert_eq!(told, expected);
        let names = items[3].nodes.iter().map(|(node, text)| format!("{node}: {text}")).collect::<Vec<_>>();
        assert_eq!(names, ["paris: none", "lyon: shown 1"]);
        assert!(items.iter().all(|item| item.remedy.is_some() == (item.alike == Alike::Different)));
    }

    #[test]
    fn what_a_node_does_not_tell_is_unknown_and_nothing_is_different() {
        let facts = vec![fact(Area::Unit, "a.service", here("1"))];
        let items = items(&group(), &[Ok(facts), Err("lyon is silent".into())]);
        assert_eq!(items[0].alike, Alike::Unknown);
        assert_eq!(items[0].nodes[1].1, "not known: lyon is silent");
    }

    #[test]
    fn what_the_sets_leave_out_is_told() {
        let text = "version = 1\n[[set]]\nname = 'notes'\nsource = 'paris'\nrules = { exclude = ['*.tmp', 'cache'], flat = true }\n\
                    [[set.path]]\npath = '/srv/notes'\nvolume = '0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11'\n";
        let told = by_plan(&Plan::parse(text).unwrap(), &group());
        assert_eq!(told, ["set notes: leaves out *.tmp, cache; subdirectories are left out"]);
    }
}
