use proptest::prelude::*;

use super::*;
use crate::plan::{Feature, Limit, Mode, Order, Rate};

const GOLDEN: &str = r#"
version = 1

[[set]]
name = "notes"
source = "paris"
path = []

[[connection]]
set = "notes"
target = "lyon"
mapping = []

[[group]]
name = "office"
source = "paris"
target = "lyon"
sets = ["notes"]
"#;

fn name(text: &str) -> SetName {
    text.parse().unwrap()
}

fn volume(number: usize) -> String {
    format!("0b1f0a4e-8f3c-4a57-9d2b-{number:012x}/{number}")
}

/// A plan whose set `notes` goes from `/srv/N` to where `to` says, in the order of `order`.
fn plan(to: &[(String, usize)], order: &[usize]) -> Plan {
    let mut plan: Plan = toml::from_str(GOLDEN).unwrap();
    let from = |at: usize| format!("/srv/{at}").into();
    plan.sets[0].paths = (0..to.len()).map(|at| PathPlan { path: from(at), volume: volume(at) }).collect();
    let mapping = |at: &usize| Mapping {
        from: from(*at),
        to: format!("/data/{at}{}", to[*at].0).into(),
        volume: Some(volume(to[*at].1)),
    };
    plan.connections[0].mapping = order.iter().map(mapping).collect();
    plan.check().unwrap();
    plan
}

fn mappings() -> impl Strategy<Value = (Vec<(String, usize)>, Vec<usize>)> {
    let to = prop::collection::vec(("(/[a-z]{1,3}){0,2}", 0..1_000usize), 1..6);
    to.prop_flat_map(|to| {
        let order = Just((0..to.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(to), order)
    })
}

proptest! {
    #[test]
    fn turned_twice_it_is_as_it_was((to, order) in mappings(), sync: bool, flush: bool, rate in 1..u64::MAX) {
        let mut plan = plan(&to, &order);
        let connection = &mut plan.connections[0];
        connection.mode = if sync { Mode::Sync } else { Mode::Async };
        connection.settings.bandwidth = Some(Limit::of(Some(Rate(rate))));
        connection.without = vec![Feature::Acls];
        plan.sets[0].order = if flush { Order::Flush } else { Order::Strict };
        plan.sets[0].rules.exclude = vec!["*.tmp".into()];
        let turned = plan.turned(&name("notes")).unwrap();
        prop_assert_eq!(turned.sets[0].source.as_str(), "lyon");
        prop_assert_eq!(turned.connections[0].target.as_str(), "paris");
        for (path, was) in turned.sets[0].paths.iter().zip(&plan.sets[0].paths) {
            prop_assert_eq!(turned.connections[0].replica_of(&path.path), Some(was.path.as_path()));
        }
        prop_assert_eq!(turned.turned(&name("notes")).unwrap(), plan);
    }
}

#[test]
fn routes_and_further_targets_come_back_and_a_pause_is_over() {
    let mut plan = plan(&[(String::new(), 7)], &[0]);
    let mut further = plan.connections[0].clone();
    further.target = "rome".parse().unwrap();
    let connection = &mut plan.connections[0];
    (connection.paused, connection.route) = (true, Some("10.0.0.2:7130".parse().unwrap()));
    plan.connections.push(further);
    let turned = plan.turned(&name("notes")).unwrap();
    assert_eq!((turned.connections[0].route, turned.connections[0].paused), (None, false));
    assert_eq!(turned.at_home(), turned.turned(&name("notes")).unwrap());
    assert_eq!(turned.at_home().as_in(&turned), turned);
    plan.connections[0].paused = false;
    assert_eq!(turned.at_home(), plan);
    assert_eq!(plan.as_in(&plan), plan);
    let mut unknowing = plan.clone();
    unknowing.connections[0].mapping[0].volume = None;
    assert_eq!(unknowing.as_in(&plan), plan, "volumes that are known need not be said");
}

#[test]
fn what_cannot_be_turned_round_is_said() {
    let good = plan(&[(String::new(), 7)], &[0]);
    let refused = |bend: &dyn Fn(&mut Plan), set: &str| {
        let mut plan = good.clone();
        bend(&mut plan);
        plan.turned(&name(set)).unwrap_err().to_string()
    };
    type Bend<'a> = &'a dyn Fn(&mut Plan);
    let cases: [(Bend, &str, &str); 6] = [
        (&|_| {}, "mail", "there is no set mail"),
        (&|plan| plan.groups.clear(), "notes", "set notes goes with no group"),
        (&|plan| plan.connections.clear(), "notes", "set notes has no connection to lyon"),
        (&|plan| plan.sets[0].relay = Some(name("mail")), "notes", "set notes relays set mail, and cannot be turned"),
        (
            &|plan| plan.connections[0].mapping[0].volume = None,
            "notes",
            "set notes → lyon: the mapping of /srv/0 does not name the volume",
        ),
        (
            &|plan| {
                let mut other = plan.sets[0].clone();
                (other.name, other.source) = (name("other"), "lyon".parse().unwrap());
                other.paths[0] = PathPlan { path: "/data".into(), volume: volume(7) };
                plan.sets.push(other);
            },
            "notes",
            "/data of set other is already protected as /data/0 of set notes",
        ),
    ];
    for (bend, set, expected) in cases {
        let message = refused(bend, set);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn groups_are_added_replaced_and_removed() {
    let plan = plan(&[(String::new(), 7)], &[0]);
    let mut group = plan.groups[0].clone();
    group.takeover = crate::plan::Takeover::Approve;
    let replaced = plan.with_group(group.clone()).unwrap();
    assert_eq!(replaced.groups, [group.clone()]);
    (group.name, group.sets) = ("web".parse().unwrap(), vec![name("web")]);
    let added = replaced.with_group(group.clone()).unwrap();
    assert_eq!(added.groups.len(), 2);
    assert_eq!(added.without_group(&group.name).unwrap(), replaced);
    assert!(plan.without_group(&group.name).unwrap_err().to_string().contains("no group web"));
    group.sets = vec![name("notes")];
    assert!(plan.with_group(group).unwrap_err().to_string().contains("goes with group office already"));
}

#[test]
fn a_machine_takes_the_place_of_a_source_and_the_plan_stays_whole() {
    let plan = plan(&[(String::new(), 7)], &[0]).turned(&name("notes")).unwrap();
    let [paris, rome] = ["paris", "rome"].map(|node| node.parse::<NodeName>().unwrap());
    let there = Mapping { to: "/rome/notes".into(), volume: Some(volume(9)), ..plan.connections[0].mapping[0].clone() };
    let connections = [ConnectionPlan { target: rome.clone(), mapping: vec![there], ..plan.connections[0].clone() }];
    let group = GroupPlan { source: rome.clone(), ..plan.groups[0].clone() };
    let resettled = plan.resettled(&paris, &connections, Some(&group)).unwrap();
    assert_eq!((&resettled.groups, &resettled.connections), (&vec![group], &connections.to_vec()));
    let home = resettled.at_home();
    assert_eq!((&home.sets[0].source, home.sets[0].paths[0].path.to_str()), (&rome, Some("/rome/notes")));
    assert_eq!(home.connections[0].target.as_str(), "lyon");
    let alone = plan.resettled(&paris, &connections, None).unwrap_err().to_string();
    assert!(alone.contains("notes"), "a set goes between the nodes of its group: {alone}");
    let unknown = plan.resettled(&rome, &connections, None).unwrap_err().to_string();
    assert!(unknown.contains("no connection to rome"), "{unknown}");
}
