use std::time::Duration;

use crate::plan::{HeartbeatPath, Plan, Span};

const GOLDEN: &str = include_str!("golden.toml");

#[test]
fn a_group_is_written_as_it_was_read() {
    assert_eq!(Plan::parse(GOLDEN).unwrap().to_toml(), GOLDEN);
}

#[test]
fn what_is_wrong_with_a_group_is_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("name = \"web\"", "name = \"office\"", "group office is in the plan twice"),
        ("source = \"rome\"", "source = \"oslo\"", "group web: source and target are both oslo"),
        ("witness = \"rome\"", "witness = \"lyon\"", "group office: witness is lyon"),
        ("\"others\"]", "\"mail\"]", "sets names mail twice"),
        ("sets = [\"web\"]", "sets = [\"others\"]", "sets names others, which goes with group office"),
        ("sets = [\"web\"]", "sets = [\"mail\"]", "sets names mail, which goes with group office"),
        ("target = \"paris\"", "target = \"bern\"", "sets names mail, which has no connection between paris and lyon"),
        ("10.0.0.100/24", "10.0.0.100", "address \"10.0.0.100\" has no network"),
        ("10.0.0.100/24", "10.0.0.100/x", "has no network"),
        ("10.0.0.100/24", "10.0.0/24", "is no address"),
        ("10.0.0.100/24", "10.0.0.100/33", "longer network"),
        ("10.0.0.100/24", "0.0.0.0/0", "can take on a network"),
        ("10.0.0.100/24", "10.0.0.255/24", "can take on a network"),
        ("10.0.0.100/24", "127.0.0.5/8", "can take on a network"),
        ("10.0.0.100/24", "224.0.0.5/8", "can take on a network"),
        ("fd00::100/64", "ff02::1/64", "can take on a network"),
        ("fd00::100/64", "::/64", "can take on a network"),
        ("fd00::100/64", "10.0.0.100/25", "address \"10.0.0.100\" is in it twice"),
        ("10.0.0.0/31", "10.0.0.100/16", "group web: address 10.0.0.100 goes with group office"),
        ("\"eth0\"", "\"a name too long\"", "whose name no interface has"),
        ("heartbeat = \"500ms\"", "heartbeat = \"9ms\"", "heartbeat is 9ms, which is not between 10ms and 1m"),
        ("timeout = \"3s\"", "timeout = \"2h\"", "timeout is 2h, which is not between 30ms and 1h"),
        ("timeout = \"3s\"", "timeout = \"1400ms\"", "timeout of 1400ms is less than three times"),
        ("wait = \"4s\"", "wait = \"16s\"", "wait is 16s, which is not between 30ms and 15s"),
        ("wait = \"4s\"", "wait = \"1500ms\"", "wait of 1500ms bears a lease of"),
        ("switch-back = \"5m\"", "switch-back = \"9s\"", "switch-back is 9s"),
        ("target = \"fd00::3\"", "target = \"10.0.0.3\"", "path from fd00::2 to 10.0.0.3 is from an address of IPv"),
        ("\"fd00::2\"\ntarget = \"fd00::3\"", "\"10.0.0.2\"\ntarget = \"10.0.0.3\"", "is in it twice"),
        ("target = \"fd00::3\"", "target = \"fd00::100\"", "moves with the group"),
        ("target = \"10.0.0.3\"", "target = \"0.0.0.0\"", "not of one host"),
        ("[\"10.0.0.1\"]", "[\"10.0.0.100\"]", "references: 10.0.0.100 moves with the group"),
        ("[\"10.0.0.1\"]", "[\"ff02::1\"]", "references: ff02::1 is not the address of one host"),
        ("unit = \"notes.service\"", "unit = \"-h\"", "service 1: unit is not the name of a unit"),
        ("unit = \"notes.service\"", "start = [\"/bin/x\"]", "service 1: it needs all three"),
        ("unit = \"notes.service\"\n", "", "service 1: it has neither"),
        ("unit = \"notes.service\"", "unit = \"a\"\nstop = [\"/bin/x\"]", "service 1: it has a unit and commands"),
        ("timeout = \"2m\"", "timeout = \"0ms\"", "service 1: timeout is not between 1ms and 1h"),
        (
            "start = [\"/bin/mail\", \"start\"]",
            "start = [\"mail\"]",
            "service 2: a command's program needs its absolute",
        ),
        ("timeout = \"2m\"", "[[group.service]]\nunit = \"notes\"", "unit notes.service is in it twice"),
        ("source = \"rome\"", "source = \"paris\"", "group web: unit notes.service goes with group office"),
        ("tcp = \"10.0.0.100:25\"\n", "", "check 1: it has none of tcp"),
        ("tcp = \"10.0.0.100:25\"", "tcp = \"10.0.0.100:0\"", "check 1: its address has port 0"),
        ("interval = \"5s\"", "command = [\"/bin/x\"]", "check 1: it has more than one"),
        ("tcp = \"10.0.0.100:25\"", "imap = \"10.0.0.100:0\"", "check 1: its address has port 0"),
        ("tcp = \"10.0.0.100:25\"", "dns = \"10.0.0.100:53\"", "check 1: dns needs a question"),
        ("interval = \"5s\"", "question = \"www.example.org A\"", "check 1: question is of dns alone"),
        ("tcp = \"10.0.0.100:25\"", "dns = \"[::1]:53\"\nquestion = \"www.example.org a\"", "a name and a kind"),
        ("interval = \"5s\"", "expect = \"x\"", "check 1: expect is of http and dns alone"),
        ("interval = \"5s\"", "interval = \"0s\"", "check 1: interval is not between"),
        ("failures = 2", "failures = 0", "check 1: failures is not between"),
        ("http://10.0.0.100:80", "https://10.0.0.100:80", "check 2: http is not like"),
        ("http://10.0.0.100:80", "http://web:80", "check 2: http is not like"),
        ("\"--deep\"]", "\"\\u0000\"]", "check 3: a command holds a NUL"),
        ("command = [\"/bin/page\", \"soon\"]", "command = []", "scripts: pre-failover: a command is empty"),
        ("\"/bin/page\"", "\"page\"", "scripts: pre-failover: a command's program needs its absolute path"),
        ("timeout = \"5s\"", "timeout = \"61m\"", "scripts: pre-failover: timeout is not between"),
        ("[group.fence.paris]", "[group.fence.rome]\nagent = [\"x\"]\n[group.fence.paris]", "fence names rome"),
        ("agent = [\"fence_ipmilan\"]", "agent = []", "fence of paris: agent is empty"),
        ("ip = \"10.1.0.2\"", "\"a=b\" = \"\"", "fence of paris: parameters holds one that is not a line"),
        (
            "agent = [\"fence_ipmilan\"]",
            "agent = [\"x\"]\nparameter-file = \"x\"",
            "parameter-file needs its absolute path",
        ),
        ("\"/etc/notes.ini\"", "\"etc/notes.ini\"", "role-file \"etc/notes.ini\": path is not the absolute path"),
        ("\"/etc/notes.ini\"", "\"/etc/../notes.ini\"", "path is not the absolute path"),
        ("\"/etc/notes.ini\"", "\"/etc/\"", "path is not the absolute path"),
        ("\"/etc/notes.ini\"", "\"/srv/notes/notes.ini\"", "path is in set notes and would be replicated over"),
        ("\"/etc/notes.ini.standby\"", "\"/srv/mail/x\"", "as-standby is in set mail: it would not be the node's own"),
        ("\"/etc/notes.ini.standby\"", "\"/etc/notes.ini\"", "as-standby is a copy in a place of its own"),
        ("\"/etc/mail.conf.active\"", "\"x\"", "as-active is not the absolute path"),
        ("\"/etc/mail.conf.active\"", "\"/etc/x\"\nfrom = \"/srv/mail/x\"", "from beside as-active"),
        ("\"/srv/mail/notes.ini\"", "\"/srv/web/x\"", "from is in none of the group's sets as they are on paris"),
        ("\"/srv/mail/notes.ini\"", "\"/srv/mail\"", "from is in none of the group's sets"),
        ("\"/etc/mail.conf\"", "\"/etc/notes.ini\"", "role-file \"/etc/notes.ini\": path is in it twice"),
        ("from = \"/srv/mail/notes.ini\"", "form = \"/srv/mail/notes.ini\"", "form"),
        ("name = \"pages\"", "name = \"db\"", "group web: resource \"db\" is in it twice"),
        ("name = \"pages\"", "name = \"a b\"", "resource \"a b\": name is not made of"),
        (
            "requires = [\"db\"]",
            "requires = [\"bd\"]",
            "requires \"bd\", which is none of the group's resources; did you",
        ),
        ("requires = [\"db\"]", "requires = [\"jobs\"]", "resources pages, jobs require each other in a ring"),
        ("requires = [\"db\"]", "requires = [\"pages\"]", "resources pages require each other in a ring"),
        ("ocf:heartbeat:pgsql", "heartbeat:pgsql", "resource \"db\": agent is not the name of one"),
        ("ocf:heartbeat:pgsql", "ocf:../x:y", "resource \"db\": agent is not the name of one"),
        ("agent = \"ocf:heartbeat:pgsql\"", "", "resource \"db\": it has none of agent, unit"),
        ("agent = \"ocf:heartbeat:pgsql\"", "unit = \"a\"", "resource \"db\": it has parameters and no agent"),
        ("requires = [\"db\"]", "agent = \"ocf:a:b\"", "resource \"pages\": it has more than one of agent, unit"),
        ("stop = [\"/bin/jobs\", \"stop\"]", "", "resource \"jobs\": it needs all three"),
        ("nginx.service", "notes", "unit notes.service is in it twice"),
        ("restarts = 2", "restarts = 101", "resource \"db\": restarts is more than 100"),
        ("within = \"1h\"", "within = \"8d\"", "resource \"db\": within is not between"),
        ("stop-timeout = \"3m\"", "stop-timeout = \"2h\"", "resource \"db\": timeout is not between"),
        ("interval = \"30s\"", "interval = \"2h\"", "resource \"db\": interval is not between"),
        ("failures = 4", "failures = 0", "resource \"pages\": failures is not between"),
        ("host = \"rome\"", "host = \"ro_me\"", "resource \"jobs\": identity: host is no host name"),
        ("machine-id = \"0", "machine-id = \"g", "resource \"jobs\": identity: machine-id is not made of"),
        ("\"10.0.0.0 rome.", "\"rome.", "resource \"jobs\": identity: hosts has a line"),
        (
            "requires = [\"db\"]",
            "identity = { host = \"rome\" }",
            "resource \"pages\": identity: host cannot be that of",
        ),
        ("requires = [\"db\"]", "deep = {}", "resource \"pages\": deep is of agents alone"),
        ("share = \"Files\"", "share = \"IPC$\"", "resource \"files\": share has a name that Samba uses"),
        ("path = \"/srv/web/files\"", "path = \"files\"", "resource \"files\": path is not absolute"),
        ("\"@staff\"", "\"x\\n[y]\"", "resource \"files\": options holds a value with a line break"),
        ("name = \"files\"", "name = \"files\"\nunit = \"smbd\"", "resource \"files\": it has more than one of agent"),
        ("name = \"files\"", "name = \"files\"\nparameters = { a = \"b\" }", "resource \"files\": it has parameters"),
        ("\"rw\"", "\"rw,ro\"", "resource \"home\": options holds one that is not like rw"),
        ("[\"10.0.0.0/24\", \"fd00::/64\"]", "[]", "resource \"home\": clients are not between 1 and 64"),
        (
            "name = \"files\"",
            "name = \"more\"\nsamba = { share = \"FILES\", path = \"/srv\" }\n[[group.resource]]\nname = \"files\"",
            "share files is in it twice",
        ),
        (
            "[[group]]\nname = \"web\"\nsource = \"rome\"",
            "[[group.resource]]\nname = \"f\"\nsamba = { share = \"files\", path = \"/srv\" }\n\
             [[group]]\nname = \"web\"\nsource = \"lyon\"",
            "share files goes with group office already",
        ),
    ];
    for (from, to, expected) in cases {
        let text = GOLDEN.replacen(from, to, 1);
        assert_ne!(text, GOLDEN, "{from}");
        let message = Plan::parse(&text).expect_err(to).to_string();
        assert!(message.contains(expected), "{from} → {to}: {message}");
    }
}

/// The message that the golden plan gets with that change.
fn refused(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = Plan::parse(GOLDEN).unwrap();
    change(&mut plan);
    plan.check().unwrap_err().to_string()
}

#[test]
fn many_are_too_many() {
    let path = |n: u8| HeartbeatPath { source: [10, 0, 0, n].into(), target: [10, 0, 1, n].into() };
    let message = refused(|plan| plan.groups[0].paths = (1..=17).map(path).collect());
    assert_eq!(message, "group office: there are 17 of path, and 16 are the most");
    let message = refused(|plan| plan.groups[0].references = (1..=17).map(|n| [10, 0, 0, n].into()).collect());
    assert!(message.contains("17 of references"), "{message}");
}

#[test]
fn two_groups_of_a_node_do_not_switch_the_same_file() {
    let same = |source: &str| {
        let source = source.to_owned();
        move |plan: &mut Plan| {
            let file = plan.groups[0].role_files[1].clone();
            (plan.groups[1].source, plan.groups[1].role_files) = (source.parse().unwrap(), vec![file]);
        }
    };
    let message = refused(same("paris"));
    assert!(message.contains("role-file \"/etc/mail.conf\": path goes with group office already"), "{message}");
    let mut plan = Plan::parse(GOLDEN).unwrap();
    same("bern")(&mut plan);
    plan.check().unwrap();
}

#[test]
fn a_witness_does_not_know_the_sets_from_which_files_are_made() {
    let mut plan = Plan::parse(GOLDEN).unwrap();
    (plan.sets, plan.connections) = (Vec::new(), Vec::new());
    plan.check().unwrap();
}

#[test]
fn a_chain_is_not_taken_over() {
    let relay = |plan: &mut Plan| {
        let mut set = plan.sets[0].clone();
        (set.name, set.source, set.relay) =
            ("others".parse().unwrap(), "lyon".parse().unwrap(), Some("notes".parse().unwrap()));
        let mut connection = plan.connections[0].clone();
        (connection.set, connection.target) = (set.name.clone(), "oslo".parse().unwrap());
        plan.sets.push(set);
        plan.connections.push(connection);
    };
    assert!(refused(relay).contains("sets names notes, which set others relays"));
    let message = refused(|plan| {
        relay(plan);
        plan.groups[0].sets.remove(0);
    });
    assert!(message.contains("sets names others, which relays set notes"), "{message}");
}

#[test]
fn without_a_wait_a_long_timeout_is_right() {
    let mut group = Plan::parse(GOLDEN).unwrap().groups.remove(0);
    (group.wait, group.timeout) = (None, Some(Span(Duration::from_secs(60))));
    assert_eq!(group.wait(), Duration::from_secs(15));
    group.timeout = None;
    assert_eq!(group.wait(), Duration::from_secs(3));
}

#[test]
fn usual_times_are_right_with_a_witness_and_without() {
    let mut plan = Plan::parse(GOLDEN).unwrap();
    (plan.groups[0].wait, plan.groups[0].heartbeat, plan.groups[0].timeout) = (None, None, None);
    plan.check().unwrap();
    plan.groups[0].witness = None;
    plan.check().unwrap();
}

#[test]
fn a_group_moves_something() {
    let plan = Plan::parse(GOLDEN).unwrap();
    let mut group = plan.groups[1].clone();
    group.sets.clear();
    assert!(plan.with_group(group.clone()).is_ok(), "an address alone can move");
    group.addresses.clear();
    group.services.clear();
    assert!(plan.with_group(group.clone()).is_ok(), "resources alone can move");
    group.resources.clear();
    let refused = plan.with_group(group).unwrap_err().to_string();
    assert!(refused.contains("there are no sets, addresses, services or resources"), "{refused}");
}
