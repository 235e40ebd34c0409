use super::*;

pub(super) const GOLDEN: &str = r#"version = 1

[[set]]
name = "notes"
source = "paris"
capture = "auto"
order = "strict"

[set.rules]
exclude = ["*.tmp"]

[[set.path]]
path = "/srv/notes"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11"

[[set.path]]
path = "/srv/notes/big"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c12/256"

[[connection]]
set = "notes"
target = "lyon"
route = "10.0.0.2:7130"
mode = "async"
without = ["acls"]

[[connection.mapping]]
from = "/srv/notes"
to = "/srv/notes"

[[connection.mapping]]
from = "/srv/notes/big"
to = "/data/big"
"#;

#[test]
fn a_plan_is_written_as_it_was_read() {
    assert_eq!(Plan::parse(GOLDEN).unwrap().to_toml(), GOLDEN);
    assert_eq!(Plan::parse(&Plan::default().to_toml()).unwrap(), Plan::default());
}

#[test]
fn what_is_wrong_is_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("version = 1", "version = 2", "version 2"),
        ("order = \"strict\"", "order = \"stict\"", "stict"),
        ("order = \"strict\"", "ordre = \"strict\"", "did you mean `order`?"),
        ("exclude =", "exlude =", "did you mean `exclude`?"),
        ("path = \"/srv/notes\"", "path = \"srv/notes\"", "not absolute"),
        ("path = \"/srv/notes\"", "path = \"/srv/../notes\"", "'..'"),
        ("path = \"/srv/notes\"", "path = \"/srv/notes/\"", "trailing"),
        ("path = \"/srv/notes\"", "path = \"/\"", "root directory"),
        ("-6f1f6a2f9c12/256", "-6f1f6a2f9c11", "already protected"),
        ("-6f1f6a2f9c12/256", "", "not a volume"),
        ("to = \"/srv/notes\"", "to = \"/srv/notes\"\nvolume = \"x\"", "not a volume"),
        ("\"*.tmp\"", "\"a[\"", "a["),
        ("set = \"notes\"", "set = \"mail\"", "no set mail"),
        ("target = \"lyon\"", "target = \"paris\"", "own source"),
        ("target = \"lyon\"", "target = \"ly/on\"", "ly/on"),
        ("to = \"/data/big\"", "to = \"/srv/notes/big\"", "inside each other"),
        ("from = \"/srv/notes/big\"", "from = \"/srv/other\"", "where /srv/notes/big goes"),
    ];
    for (from, to, expected) in cases {
        let text = GOLDEN.replacen(from, to, 1);
        assert_ne!(text, GOLDEN, "{from}");
        let message = Plan::parse(&text).expect_err(to).to_string();
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn edits_leave_the_old_plan_alone() {
    let plan = Plan::parse(GOLDEN).unwrap();
    let name: SetName = "notes".parse().unwrap();
    assert_eq!(plan.without_set(&name).unwrap(), Plan::default());
    assert!(plan.with_paused(&name, true).unwrap().connections[0].paused);
    assert!(plan.with_set(plan.sets[0].clone(), vec![]).is_err());
    assert!(plan.without_set(&"mail".parse().unwrap()).is_err());
    assert_eq!(plan.to_toml(), GOLDEN);
}

pub(super) const SETTINGS: &str = r#"version = 1

[alerts]
command = "/usr/local/bin/page"
timeout = "10s"
behind = "2m"
disconnected = "30s"

[defaults]
bandwidth = "10MiB/s"

[defaults.brake]
deletions = "off"

[[set]]
name = "notes"
source = "paris"
capture = "auto"
order = "strict"

[[set.path]]
path = "/srv/notes"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11"

[[connection]]
set = "notes"
target = "lyon"
mode = "sync"
paused = true
bandwidth = "unlimited"
bandwidth-schedule = ["0 8 * * Mon-Fri Europe/Paris for 10h at 2MiB/s"]
pause-schedule = ["0 18 * * Fri UTC until 0 8 * * Mon"]
verify-schedule = ["0 3 * * Sun Europe/Paris"]
compression = "adaptive"
queue-limit = "4GiB"
queue-disk = "20GiB"
on-no-room = "spoil"
sync-timeout = "5s"
sync-fallback = "block"
orphans = "aside"

[connection.brake]
deletions = 10000
rewrites = "off"
window = "1m"

[[connection.mapping]]
from = "/srv/notes"
to = "/srv/notes"
"#;

#[test]
fn settings_are_written_as_they_were_read() {
    let plan = Plan::parse(SETTINGS).unwrap();
    assert_eq!(plan.to_toml(), SETTINGS);
    let settings = plan.settings_of(&plan.connections[0]);
    assert_eq!(settings.bandwidth, None);
    assert_eq!((settings.queue_limit, settings.queue_disk), (4 << 30, 20 << 30));
    assert_eq!(settings.brake.deletions, Some(10_000));
}

#[test]
fn what_is_wrong_with_a_setting_is_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("bandwidth = \"10MiB/s\"", "bandwith = \"10MiB/s\"", "bandwith"),
        ("sync-fallback = \"block\"", "sync-fallback = \"bloc\"", "bloc"),
        ("queue-limit = \"4GiB\"", "queue-limt = \"4GiB\"", "queue-limt"),
        ("queue-limit = \"4GiB\"", "queue-limit = \"4kiB\"", "256MiB"),
        ("queue-limit = \"4GiB\"", "queue-limit = \"4KiB\"", "less than 1MiB"),
        ("sync-timeout = \"5s\"", "sync-timeout = \"5ms\"", "less than 100ms"),
        ("deletions = 10000", "deletions = 0", "would halt at the first change"),
        ("deletions = 10000", "deletion = 10000", "deletion"),
        ("window = \"1m\"", "window = \"1\"", "length of time"),
        ("Fri UTC until", "Fri Mars/Olympus until", "Mars/Olympus is not a time zone"),
        ("10h at 2MiB/s", "10h", "no rate"),
        ("0 3 * * Sun", "0 3 * * Someday", "0 3 * * Sun Europe/Paris"),
        ("command = \"/usr/local/bin/page\"", "command = \" \"", "empty"),
        ("timeout = \"10s\"", "timeout = \"2h\"", "between"),
    ];
    for (from, to, expected) in cases {
        let text = SETTINGS.replacen(from, to, 1);
        assert_ne!(text, SETTINGS, "{from}");
        let message = Plan::parse(&text).expect_err(to).to_string();
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn what_can_change_while_a_set_runs_is_told_from_what_cannot() {
    let plan = Plan::parse(SETTINGS).unwrap();
    let name: SetName = "notes".parse().unwrap();
    let (lyon, rome): (NodeName, NodeName) = ("lyon".parse().unwrap(), "rome".parse().unwrap());
    let limit = |c: &mut ConnectionPlan| c.settings.bandwidth = Some(Limit::of(Some(Rate(1))));
    let changed = plan.with_changed(&name, Some(&lyon), limit).unwrap();
    assert_eq!(plan.connections[0].change_to(&changed.connections[0]), Change::Live);
    assert_eq!(plan.connections[0].change_to(&plan.connections[0]), Change::None);
    assert!(plan.with_changed(&name, Some(&rome), limit).unwrap_err().to_string().contains("no connection to rome"));
    let mut other = plan.sets[0].clone();
    other.rules.exclude.push("*.tmp".into());
    assert_eq!(plan.sets[0].change_to(&other), Change::Live);
    other.order = Order::Flush;
    assert!(matches!(plan.sets[0].change_to(&other), Change::Anew(_)));
    let more = ConnectionPlan { target: rome, ..plan.connections[0].clone() };
    assert_eq!(plan.with_connection(more).unwrap().connections.len(), 2);
}

#[test]
fn a_relay_hands_on_what_its_source_keeps() {
    let plan = Plan::parse(GOLDEN).unwrap();
    let mut set = plan.sets[0].clone();
    (set.name, set.source, set.relay) =
        ("notes2".parse().unwrap(), "lyon".parse().unwrap(), Some("notes".parse().unwrap()));
    set.paths[1].path = "/data/big".into();
    let mut connection = plan.connections[0].clone();
    (connection.set, connection.target) = (set.name.clone(), "rome".parse().unwrap());
    connection.mapping[1].from = "/data/big".into();
    plan.with_set(set.clone(), vec![connection.clone()]).unwrap();
    let refused = |set: &SetPlan, connection: &ConnectionPlan| {
        plan.with_set(set.clone(), vec![connection.clone()]).unwrap_err().to_string()
    };
    let back = ConnectionPlan { target: "paris".parse().unwrap(), ..connection.clone() };
    assert!(refused(&set, &back).contains("hand it back"));
    let mut stranger = set.clone();
    stranger.source = "oslo".parse().unwrap();
    assert!(refused(&stranger, &connection).contains("does not keep"));
    let sync = ConnectionPlan { mode: Mode::Sync, ..connection.clone() };
    assert!(refused(&set, &sync).contains("synchronous"));
    let ordered = SetPlan { order: Order::Flush, ..set.clone() };
    assert!(refused(&ordered, &connection).contains("order"));
    let mut elsewhere = set.clone();
    elsewhere.paths[1].path = "/data/other".into();
    connection.mapping[1].from = "/data/other".into();
    assert!(refused(&elsewhere, &connection).contains("no replica of it"));
}

#[test]
fn a_chain_does_not_come_back_to_itself() {
    let part = |set: &str, relay: &str, source: &str, target: &str| {
        format!(
            "[[set]]\nname = \"{set}\"\nsource = \"{source}\"\nrelay = \"{relay}\"\n\n[[set.path]]\npath = \"/srv/{set}\"\n\
             volume = \"0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11\"\n\n[[connection]]\nset = \"{set}\"\ntarget = \"{target}\"\n\n\
             [[connection.mapping]]\nfrom = \"/srv/{set}\"\nto = \"/srv/{target}\"\n\n"
        )
    };
    let parts = [
        part("lyon", "paris", "lyon", "rome"),
        part("rome", "lyon", "rome", "paris"),
        part("paris", "rome", "paris", "lyon"),
    ];
    let refused = Plan::parse(&format!("version = 1\n\n{}", parts.concat())).unwrap_err().to_string();
    assert!(refused.starts_with("line 6: set lyon relays set paris, and comes back to itself"), "{refused}");
}
