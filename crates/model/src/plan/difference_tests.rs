use super::*;

const PLAN: &str = concat!(
    include_str!("notes.toml"),
    r#"
[[group]]
name = "office"
source = "paris"
target = "lyon"
sets = ["notes"]

[[group.address]]
address = "10.0.0.100/24"

[[group.service]]
unit = "notes.service"

[[group.service]]
start = ["/bin/mail", "start"]
stop = ["/bin/mail", "stop"]
status = ["/bin/mail", "status"]
"#
);

const ROME: &str = r#"
[[connection]]
set = "notes"
target = "rome"

[[connection.mapping]]
from = "/srv/notes"
to = "/data/notes"
"#;

fn told(old: &str, new: &str) -> Vec<String> {
    let found = differences(&Plan::parse(old).unwrap(), &Plan::parse(new).unwrap());
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn equal_plans_do_not_differ() {
    assert!(told(PLAN, PLAN).is_empty());
    let otherwise = format!(
        "# a remark\n{}",
        PLAN.replace("source = \"paris\"\n\n[[set.path]]", "source = \"paris\"\norder = \"strict\"\n\n[[set.path]]")
    );
    assert!(told(PLAN, &otherwise).is_empty(), "text that means the same");
}

#[test]
fn a_change_is_told_with_its_field_and_both_values() {
    let office = "target = \"lyon\"\nsets";
    let lyon = "target = \"lyon\"\n\n[[connection.mapping]]";
    let cases = [
        (office, "target = \"lyon\"\ntimeout = \"5s\"\nsets", "group office: timeout 3s → 5s"),
        (office, "target = \"lyon\"\ntimeout = \"3s\"\nsets", "group office: timeout 3s as usual → 3s"),
        (office, "target = \"lyon\"\nwitness = \"rome\"\nsets", "group office: witness none → rome"),
        (office, "target = \"lyon\"\ntakeover = \"approve\"\nsets", "group office: takeover automatic → approve"),
        (office, "target = \"lyon\"\nreferences = [\"10.0.0.1\"]\nsets", "group office: references none → [10.0.0.1]"),
        ("10.0.0.100/24\"", "10.0.0.100/24\"\ntake = true", "group office: address 10.0.0.100/24 take false → true"),
        ("notes.service\"", "notes.service\"\ntimeout = \"2m\"", "group office: service notes.service timeout 1m → 2m"),
        (
            lyon,
            "target = \"lyon\"\nbandwidth = \"1MiB/s\"\n\n[[connection.mapping]]",
            "set notes → lyon: bandwidth unlimited → 1MiB/s",
        ),
        (
            lyon,
            "target = \"lyon\"\nbrake = { rewrites = 5 }\n\n[[connection.mapping]]",
            "set notes → lyon: brake.rewrites off → 5",
        ),
        (
            "source = \"paris\"\n\n[[set.path]]",
            "source = \"paris\"\nrules = { exclude = [\"*.tmp\"] }\n\n[[set.path]]",
            "set notes: rules none → exclude [*.tmp]",
        ),
        ("version = 1", "version = 1\n[defaults]\nqueue-limit = \"1GiB\"", "defaults: queue-limit 256MiB → 1GiB"),
        ("version = 1", "version = 1\n[alerts]\nbehind = \"2m\"", "alerts: behind 5m → 2m"),
    ];
    for (from, to, expected) in cases {
        let new = PLAN.replacen(from, to, 1);
        assert_ne!(new, PLAN, "{from}");
        assert_eq!(told(PLAN, &new), [expected]);
    }
}

#[test]
fn the_name_of_a_resource_is_told_as_it_stands_in_the_plan() {
    let plan =
        |identity: &str| format!("{PLAN}\n[[group.resource]]\nname = \"shop\"\nagent = \"ocf:x:shop\"\n{identity}\n");
    let named = plan("identity = { host = \"paris\" }");
    let other = plan("identity = { host = \"rome\", hosts = [] }");
    assert_eq!(told(&plan(""), &named), ["group office: resource shop identity none → host paris"]);
    assert_eq!(
        told(&named, &other),
        [
            "group office: resource shop identity.host paris → rome",
            "group office: resource shop identity.hosts none → []"
        ]
    );
}

#[test]
fn what_a_connection_leaves_out_comes_from_the_defaults() {
    let limited = PLAN.replace("version = 1", "version = 1\n[defaults]\nbandwidth = \"1MiB/s\"");
    let own = limited.replacen("target = \"lyon\"\n", "target = \"lyon\"\nbandwidth = \"2MiB/s\"\n", 1);
    assert_eq!(told(&limited, &own), ["set notes → lyon: bandwidth 1MiB/s → 2MiB/s"]);
}

#[test]
fn what_begins_and_what_ends_is_told_as_a_whole() {
    let mail = include_str!("notes.toml").replace("notes", "mail").replace("version = 1\n", "");
    let more = PLAN.replace("\n[[group]]", &format!("{mail}{ROME}\n[[group]]"));
    assert_eq!(
        told(PLAN, &more),
        ["set notes → rome: new, /srv/notes to /data/notes", "set mail: new, /srv/mail from paris to lyon"]
    );
    assert_eq!(
        told(&more, PLAN),
        [
            "set notes → rome: ends; the replica stays as it is",
            "set mail: no longer protected; its replica stays as it is"
        ]
    );
    let (without, _) = PLAN.split_once("\n[[group]]").unwrap();
    assert_eq!(told(without, PLAN), ["group office: new, lyon stands in for paris"]);
    let ended = differences(&Plan::parse(PLAN).unwrap(), &Plan::parse(without).unwrap());
    assert!(ended.iter().all(Difference::ends_protection) && ended.len() == 1);
}

#[test]
fn tables_of_a_list_are_known_by_what_they_are_about() {
    let service = "[[group.service]]\nunit = \"notes.service\"\n";
    let added = PLAN.replace(
        service,
        &format!("[[group.address]]\naddress = \"10.0.0.101/24\"\ninterface = \"eth1\"\n\n{service}"),
    );
    assert_eq!(told(PLAN, &added), ["group office: address 10.0.0.101/24 new, interface eth1"]);
    let removed = PLAN.replace(service, "");
    assert_eq!(told(PLAN, &removed), ["group office: service notes.service gone"]);
    let (head, mail) = removed.split_once("[[group.service]]").unwrap();
    let turned = format!("{head}[[group.service]]{mail}\n{service}");
    let order = "group office: order of service notes.service, /bin/mail start → /bin/mail start, notes.service";
    assert_eq!(told(PLAN, &turned), [order]);
    let path =
        PLAN.replace(service, &format!("[[group.path]]\nsource = \"10.0.0.1\"\ntarget = \"10.0.0.2\"\n\n{service}"));
    assert_eq!(told(PLAN, &path), ["group office: path 10.0.0.1=10.0.0.2 new"]);
}

#[test]
fn of_two_tables_about_the_same_both_are_told() {
    let check = "\n[[group.check]]\ncommand = [\"/bin/x\"]\n";
    let twice = format!("{PLAN}{check}{check}");
    assert_eq!(told(&twice, &format!("{twice}failures = 2\n")), ["group office: check /bin/x (2) failures 3 → 2"]);
    assert_eq!(told(&twice, &format!("{PLAN}{check}")), ["group office: check /bin/x (2) gone"]);
}

#[test]
fn a_difference_is_plain_data() {
    let new = PLAN.replacen("target = \"lyon\"\nsets", "target = \"lyon\"\ntimeout = \"5s\"\nsets", 1);
    let found = differences(&Plan::parse(PLAN).unwrap(), &Plan::parse(&new).unwrap());
    let text = r#"[{"kind":"changed","of":"group office","field":"timeout","old":"3s","new":"5s"}]"#;
    assert_eq!(serde_json::to_string(&found).unwrap(), text);
    assert_eq!(serde_json::from_str::<Vec<Difference>>(text).unwrap(), found);
}
