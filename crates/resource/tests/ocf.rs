//! Recovery kits: every agent that the distribution carries, a few of them at work, and one that fails as it is told.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Host, wait_for};
use stead_resource::ocf::{self, Agent, Instance, Reach, Seen};
use stead_resource::{Done, Failure, Resource, State, Stop};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(500);
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ocf");

fn agent(name: &str, root: &str) -> Agent {
    let found = Agent::find(name.parse().unwrap(), Path::new(root));
    found.unwrap_or_else(|why| panic!("this test needs Debian's resource-agents: {why}"))
}

fn given(parameters: &[(&str, &str)]) -> BTreeMap<String, String> {
    parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// An agent that fails as `faults` say; its state is in the directory.
fn faulty(dir: &TempDir, faults: &[(&str, &str)]) -> Instance {
    let mut parameters = given(faults);
    parameters.insert("state".into(), dir.path().join("state").display().to_string());
    Instance::new(agent("ocf:stead:Faulty", OURS), "notes", parameters).unwrap()
}

fn look(instance: &Instance, depth: u32) -> Seen {
    instance.look(depth, LIMIT, &Stop::never()).value
}

#[test]
fn every_agent_of_the_distribution_is_understood() {
    let names = ocf::agents(Path::new(ocf::ROOT));
    assert!(names.len() > 100, "this test needs Debian's resource-agents: {} agents", names.len());
    // Some need what is not installed, and say nothing then; they say so by their code.
    let mut silent = Vec::new();
    for name in names {
        let told = agent(&name.to_string(), ocf::ROOT).metadata(LIMIT);
        match told.value {
            Ok(metadata) => assert!(metadata.monitor(0).is_some() && !metadata.about.is_empty(), "{metadata:?}"),
            Err(why) if why.to_string().contains("ended with code") => silent.push(name.to_string()),
            Err(why) => panic!("{name}: {why}\n{}", told.output.text()),
        }
    }
    assert!(silent.len() <= 5, "{silent:?}");
}

#[test]
fn parameters_are_checked_before_the_day() {
    let told = |name, parameters: &[(&str, &str)]| {
        let metadata = agent(name, ocf::ROOT).metadata(LIMIT).value.unwrap();
        ocf::check(&metadata, &given(parameters)).into_iter().map(|wrong| wrong.why).collect::<Vec<_>>()
    };
    let [missing] = &told("ocf:heartbeat:IPaddr2", &[])[..] else { panic!("only ip is missing") };
    assert!(missing.starts_with("IPaddr2 needs the parameter ip: "), "{missing}");
    assert_eq!(
        told(
            "heartbeat:IPaddr2",
            &[("ip", "10.0.0.1"), ("arp_cuont", "5"), ("arp_interval", "soon"), ("lvs_support", "maybe")]
        ),
        [
            "IPaddr2 has no parameter arp_cuont; did you mean arp_count?",
            "the parameter arp_interval is a whole number, not \"soon\"",
            "the parameter lvs_support is true or false, not \"maybe\"",
        ]
    );
    assert_eq!(told("ocf:heartbeat:Dummy", &[("fake", "x")]), [""; 0]);
}

#[test]
fn an_agent_that_cannot_be_run_is_refused_with_what_to_do() {
    let found = |name: &str, root: &Path| Agent::find(name.parse().unwrap(), root).unwrap_err().to_string();
    assert!(found("ocf:heartbeat:Nothing", Path::new(ocf::ROOT)).contains("is not installed"));
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("resource.d/stead")).unwrap();
    fs::write(dir.path().join("resource.d/stead/Plain"), "#!/bin/sh\n").unwrap();
    assert!(found("ocf:stead:Plain", dir.path()).contains("is not executable"));
    assert_eq!(ocf::agents(dir.path()), []);
    for name in ["IPaddr2", "ocf:../../bin:sh", "ocf::x", "lsb:heartbeat:x:y"] {
        assert!(name.parse::<ocf::AgentName>().is_err(), "{name}");
    }
}

#[test]
fn an_address_comes_and_goes_by_ipaddr2() {
    let host = Host::new("paris");
    host.run("ip link add net0 type veth peer name net1");
    host.run("ip addr add 10.7.0.2/24 dev net0");
    host.run("ip link set net0 up");
    host.run("ip link set net1 up");
    let parameters = given(&[("ip", "10.7.0.100"), ("cidr_netmask", "24"), ("nic", "net0"), ("arp_count", "1")]);
    let address = Instance::new(agent("ocf:heartbeat:IPaddr2", ocf::ROOT), "office-address", parameters).unwrap();
    let is_up = || host.run("ip -o addr show dev net0").contains("10.7.0.100/24");
    host.inside(|| {
        assert_eq!(address.validate(LIMIT).value, Ok(()));
        assert_eq!((address.status(LIMIT).value, look(&address, 0)), (State::Stopped, Seen::Stopped));
        assert_eq!(address.start(LIMIT).value, Ok(Done::Changed));
    });
    assert!(is_up());
    host.inside(|| {
        assert_eq!(address.start(LIMIT).value, Ok(Done::Already));
        assert_eq!(look(&address, 20), Seen::Running { degraded: false });
        assert_eq!(address.stop(LIMIT).value, Ok(Done::Changed));
        assert_eq!(address.stop(LIMIT).value, Ok(Done::Already));
    });
    assert!(!is_up());
}

#[test]
fn each_code_of_a_look_is_what_the_standard_says() {
    let dir = TempDir::new().unwrap();
    faulty(&dir, &[]).start(LIMIT).value.unwrap();
    for (code, reach) in
        [("1", Reach::Now), ("2", Reach::Node), ("5", Reach::Node), ("6", Reach::Everywhere), ("9", Reach::Now)]
    {
        let Seen::Failed { why, reach: told } = look(&faulty(&dir, &[("fail_monitor", code)]), 0) else {
            panic!("{code}")
        };
        assert!(told == reach && why.contains(code), "{code}: {why}");
    }
    let seen = |code| look(&faulty(&dir, &[("fail_monitor", code)]), 0);
    assert_eq!(["0", "8", "190", "191"].map(seen).map(|seen| matches!(seen, Seen::Running { .. })), [true; 4]);
    assert_eq!(["8", "190"].map(seen).map(|seen| seen == Seen::Running { degraded: true }), [false, true]);
    assert_eq!(seen("7"), Seen::Stopped);
    assert!(matches!(seen("42"), Seen::Failed { reach: Reach::Now, .. }));
}

#[test]
fn a_deep_look_finds_what_a_quick_one_does_not() {
    let dir = TempDir::new().unwrap();
    let service = faulty(&dir, &[("deep", "1")]);
    service.start(LIMIT).value.unwrap();
    assert_eq!(look(&service, 0), Seen::Running { degraded: false });
    assert!(matches!(look(&service, 20), Seen::Failed { .. }));
}

#[test]
fn an_agent_that_lies_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let failed = faulty(&dir, &[("fail_start", "lie")]).start(LIMIT).value.unwrap_err();
    assert!(matches!(&failed, Failure::Failed(why) if why.contains("is not started")), "{failed}");
    faulty(&dir, &[]).start(LIMIT).value.unwrap();
    assert!(matches!(faulty(&dir, &[("fail_stop", "lie")]).stop(LIMIT).value, Err(Failure::Failed(_))));
    assert_eq!(faulty(&dir, &[]).status(LIMIT).value, State::Started, "it still runs");
}

#[test]
fn each_way_to_fail_has_its_word() {
    let dir = TempDir::new().unwrap();
    let start = |fault| faulty(&dir, &[("fail_start", fault)]).start(SHORT);
    assert!(
        matches!(start("1").value, Err(Failure::Failed(why)) if why.ends_with("answers start with a failure (1): as told"))
    );
    assert!(matches!(start("5").value, Err(Failure::Unusable(_))));
    assert!(matches!(start("6").value, Err(Failure::Misconfigured(_))));
    let hung = start("hang");
    assert!(matches!(hung.value, Err(Failure::TimedOut(_))) && hung.took < Duration::from_secs(10), "{hung:?}");
}

#[test]
fn a_look_that_hangs_tells_nothing() {
    let dir = TempDir::new().unwrap();
    let began = Instant::now();
    let seen = faulty(&dir, &[("fail_monitor", "hang")]).look(0, SHORT, &Stop::never()).value;
    assert!(matches!(seen, Seen::Unknown(_)) && began.elapsed() < LIMIT, "{seen:?}");
}

#[test]
fn a_flood_is_cut_and_what_a_look_leaves_is_ended() {
    let dir = TempDir::new().unwrap();
    let flooded = faulty(&dir, &[("fail_monitor", "flood")]).look(0, LIMIT, &Stop::never());
    assert_eq!(flooded.value, Seen::Stopped);
    assert!(flooded.output.omitted() > 0 && flooded.output.text().len() < 80 << 10);
    faulty(&dir, &[("fail_monitor", "leave")]).look(0, LIMIT, &Stop::never());
    let left: u32 = fs::read_to_string(dir.path().join("state.left")).unwrap().trim().parse().unwrap();
    wait_for("the end of what it left", || !Path::new(&format!("/proc/{left}")).exists());
}

#[test]
fn what_is_not_installed_here_does_not_run_here() {
    let dir = TempDir::new().unwrap();
    let lacking = faulty(&dir, &[("fail_monitor", "5"), ("fail_start", "5")]);
    assert_eq!(lacking.stop(LIMIT).value, Ok(Done::Already));
    assert!(matches!(lacking.start(LIMIT).value, Err(Failure::Unusable(_))));
}

/// The tester of Debian's resource-agents has its meta-data checked by the standard's own schema, too.
#[test]
fn our_agent_does_what_the_standard_wants_of_each() {
    let dir = TempDir::new().unwrap();
    let readable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("Faulty");
    fs::copy(Path::new(OURS).join("resource.d/stead/Faulty"), &copy).unwrap();
    [dir.path(), &copy].into_iter().for_each(readable);
    let state = format!("state={}", dir.path().join("state").display());
    let mut tester = std::process::Command::new("ocf-tester");
    let tested = tester.args(["-v", "-n", "notes", "-o", &state]).arg(&copy).output();
    let tested = tested.expect("this test needs ocf-tester, of Debian's resource-agents");
    let told = String::from_utf8_lossy(&tested.stdout).into_owned() + &String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success() && told.contains("passed all tests"), "{told}");
    assert!(!told.lines().any(|line| line.starts_with("* rc=")) && !told.contains("not found"), "{told}");
}

#[test]
fn passwords_are_not_shown() {
    let dir = TempDir::new().unwrap();
    let shown = format!("{:?}", faulty(&dir, &[("fail_start", "s3cret")]));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_database_comes_and_goes_by_pgsql() {
    let dir = TempDir::new().unwrap();
    let programs = fs::read_dir("/usr/lib/postgresql").expect("this test needs Debian's postgresql").flatten();
    let bin = programs.map(|entry| entry.path().join("bin")).max().unwrap();
    let (data, sockets) = (dir.path().join("data"), dir.path().join("sockets"));
    let run = |text: String| assert!(std::process::Command::new("sh").args(["-c", &text]).status().unwrap().success());
    let (at, to) = (dir.path().display(), bin.display());
    run(format!("mkdir {at}/data {at}/sockets; chmod 755 {at}; chown postgres {at}/data {at}/sockets"));
    run(format!("su postgres -c '{to}/initdb -A trust -U postgres -D {at}/data' >/dev/null"));
    let options = format!("-c listen_addresses= -c unix_socket_directories={}", sockets.display());
    let parameters = given(&[
        ("pgctl", &format!("{to}/pg_ctl")),
        ("psql", &format!("{to}/psql")),
        ("pgdata", &data.display().to_string()),
        ("socketdir", &sockets.display().to_string()),
        ("pghost", &sockets.display().to_string()),
        ("start_opt", &options),
    ]);
    let database = Instance::new(agent("ocf:heartbeat:pgsql", ocf::ROOT), "office-db", parameters).unwrap();
    assert_eq!(database.validate(LIMIT).value, Ok(()));
    let started = database.start(LIMIT);
    assert_eq!(started.value, Ok(Done::Changed), "{}", started.output.text());
    assert_eq!(look(&database, 0), Seen::Running { degraded: false });
    assert_eq!(database.stop(LIMIT).value, Ok(Done::Changed));
    assert_eq!(look(&database, 0), Seen::Stopped);
}
