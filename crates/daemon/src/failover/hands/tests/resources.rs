//! Resources that depend on each other, as files and by an agent that fails as it is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use stead_failover::machine::{Lease, Outcome, Step, Turn};

use super::common::wait_for;
use super::{Bench, sh};
use crate::clock;

const ALL: Step = Step::Resources;
const AGENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resource/tests/ocf");

/// A resource that is a file; `requires` as TOML has it. What happens is written down in `log`.
fn file(dir: &Path, name: &str, requires: &str) -> String {
    let [start, stop] = [("up", "touch"), ("down", "rm -f")]
        .map(|(word, act)| sh(dir, &format!("echo {word} {name} >> log; [ ! -e {name}.bad ] && {act} {name}")));
    let status = sh(dir, &format!("[ -e {name} ] || exit 3"));
    format!(
        "[[resource]]\nname = '{name}'\nrequires = {requires}\nstart = {start}\nstop = {stop}\nstatus = {status}\n\
         restarts = 2\nquick = {{ interval = '100ms' }}\n"
    )
}

/// `db`, and `web` above it.
fn two(dir: &Path) -> String {
    file(dir, "web", "['db']") + &file(dir, "db", "[]")
}

fn log(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn they_go_up_in_order_and_down_in_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &two(dir.path()));
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Already);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Already);
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Done);
    assert_eq!(log(dir.path()), ["up db", "up web", "down web", "down db"]);
}

#[test]
fn one_that_dies_is_restarted_with_what_requires_it_and_in_the_end_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &two(dir.path()));
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    for times in 1..=2 {
        fs::remove_file(dir.path().join("db")).unwrap();
        wait_for("it is up again", || {
            log(dir.path()).iter().filter(|line| *line == "up web").count() == times + 1
                && dir.path().join("web").exists()
        });
    }
    assert!(bench.was_told("resource db: is restarted: it does not run") && !bench.has_failed());
    wait_for("all are up", || bench.was_told("all resources are up again"));
    fs::remove_file(dir.path().join("db")).unwrap();
    wait_for("it is given up", || bench.has_failed());
    assert!(bench.was_told("resource db cannot be kept up: it does not run"));
    wait_for("what requires it is down too", || !dir.path().join("web").exists());
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done, "it may be asked for again");
}

#[test]
fn a_start_that_fails_is_undone_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &two(dir.path()));
    fs::write(dir.path().join("web.bad"), "").unwrap();
    let Outcome::Failed(why) = bench.outcome(ALL, Turn::Do) else { panic!("it cannot start") };
    assert!(why.contains("resource web cannot be kept up: the start command"), "{why}");
    wait_for("db is down again", || !dir.path().join("db").exists());
    fs::remove_file(dir.path().join("web.bad")).unwrap();
}

/// In the place of this program, by a link: a file that was just written may be busy.
const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/failover/hands/tests/starter");

#[test]
fn whatever_is_run_for_a_resource_with_an_identity_is_run_under_it() {
    let dir = tempfile::tempdir().unwrap();
    symlink(STARTER, dir.path().join("stead")).unwrap();
    let command = |text: &str| format!("['/bin/sh', '-c', 'cd {}; {text}', '{text}']", dir.path().display());
    let [start, stop] = [command("touch up"), command("rm -f up")];
    let plan = format!(
        "[[resource]]\nname = 'web'\nstart = {start}\nstop = {stop}\nstatus = {}\n\
         [resource.identity]\nhost = 'paris'\n[[resource.check]]\ninterval = '100ms'\ncommand = {}\n{}\
         [resource.identity]\nhost = 'rome'\n",
        command("[ -e up ] || exit 3"),
        command("exit 0"),
        agent(dir.path(), "")
    );
    let bench = Bench::with_agents(dir.path(), &plan, AGENTS.as_ref());
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    let under = || fs::read_to_string(dir.path().join("under")).unwrap();
    wait_for("all looks were done", || {
        under().contains("as paris exit 0\n") && under().matches("as rome monitor\n").count() > 4
    });
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Done);
    for program in ["touch up", "rm -f up", "[ -e up ] || exit 3"] {
        assert!(under().contains(&format!("as paris {program}\n")), "{program}: {}", under());
    }
    assert!(under().contains("as rome start\n") && under().contains("as rome stop\n"), "{}", under());
}

#[test]
fn past_the_lease_nothing_is_started_but_all_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &two(dir.path()));
    bench.hands.lease(Lease::None);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Failed("the lease is over".into()));
    assert_eq!(log(dir.path()), Vec::<String>::new());
    bench.hands.lease(Lease::Unlimited);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    // What dies past the lease is not brought up again.
    bench.hands.lease(Lease::Until(clock::now()));
    fs::remove_file(dir.path().join("db")).unwrap();
    wait_for("it is given up", || bench.has_failed());
    assert!(!dir.path().join("db").exists());
    assert!(bench.outcome(ALL, Turn::Undo).is_good());
    assert!(!dir.path().join("web").exists());
}

#[test]
fn a_start_that_hangs_is_called_off_whole() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = sh(dir.path(), "echo $$ >> pids; exec sleep 1000");
    let status = sh(dir.path(), "exit 3");
    let plan = format!("[[resource]]\nname = 'a'\nstart = {hangs}\nstop = ['/bin/true']\nstatus = {status}\n");
    let bench = Bench::new(dir.path(), &plan);
    bench.begin(1, ALL, Turn::Do);
    wait_for("it starts", || !super::common::pids(dir.path()).is_empty());
    bench.hands.cancel(1);
    assert!(bench.end().cancelled);
    wait_for("it is gone", || !super::common::is_alive(&super::common::pids(dir.path())[0]));
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Already);
}

#[test]
fn in_maintenance_they_are_watched_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &two(dir.path()));
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    bench.hands.maintain(true);
    fs::remove_file(dir.path().join("db")).unwrap();
    wait_for("it is seen", || bench.was_told("resource db: left alone in maintenance: it does not run"));
    assert!(!dir.path().join("db").exists() && !bench.has_failed());
    bench.hands.maintain(false);
    wait_for("it is up again", || dir.path().join("db").exists());
}

/// The agent that fails as it is told, installed beneath a root of its own.
fn agent(dir: &Path, parameters: &str) -> String {
    let state = dir.join("state");
    format!(
        "[[resource]]\nname = 'a'\nagent = 'ocf:stead:Faulty'\nrestarts = 1\nquick = {{ interval = '100ms', timeout = '1s' }}\n\
         deep = {{ interval = '100ms', timeout = '1s' }}\n[resource.parameters]\nstate = '{}'\n{parameters}",
        state.display()
    )
}

#[test]
fn agents_are_judged_by_what_they_say_and_by_how_long_they_take() {
    for (parameters, expected) in [
        ("fail_start = '1'", "answers start with a failure (1)"),
        ("fail_start = '5'", "answers start with that what it needs is not installed here (5)"),
        ("fail_start = 'lie'", "it was told, but is not started"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::with_agents(dir.path(), &agent(dir.path(), parameters), AGENTS.as_ref());
        let Outcome::Failed(why) = bench.outcome(ALL, Turn::Do) else { panic!("{parameters}: it cannot start") };
        assert!(why.contains(expected), "{parameters}: {why}");
        bench.outcome(ALL, Turn::Undo);
    }
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with_agents(dir.path(), &agent(dir.path(), "fail_start = '6'"), AGENTS.as_ref());
    let Outcome::Hopeless(why) = bench.outcome(ALL, Turn::Do) else { panic!("it cannot start anywhere") };
    assert!(why.contains("answers start with parameters that do nowhere (6)"), "{why}");
    for (parameters, expected) in [
        ("deep = '1'", "ocf:stead:Faulty says a failure (1)"),
        ("deep = '190'", "it may fail soon: its agent says that it is degraded"),
        ("deep = '7'", "it does not run"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::with_agents(dir.path(), &agent(dir.path(), parameters), AGENTS.as_ref());
        assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
        wait_for("it is told", || bench.was_told(expected));
        let gives_up = !parameters.contains("190");
        if gives_up {
            wait_for("it is given up", || bench.has_failed());
        }
        std::thread::sleep(Duration::from_millis(if gives_up { 0 } else { 500 }));
        assert_eq!(bench.has_failed(), gives_up, "{parameters}");
        bench.outcome(ALL, Turn::Undo);
    }
}

/// As Apache's children outlive the process that its agent looks at, and keep its port.
#[test]
fn what_a_crash_leaves_is_cleared_away_by_the_agent_before_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with_agents(dir.path(), &agent(dir.path(), "rest = '1'"), AGENTS.as_ref());
    let [state, rest] = ["state", "state.rest"].map(|name| dir.path().join(name));
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Already);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    assert!(rest.exists());
    fs::remove_file(&state).unwrap();
    wait_for("it is restarted", || bench.was_told("all resources are up again") || bench.has_failed());
    assert!(!bench.has_failed() && state.exists());
    fs::remove_file(&state).unwrap();
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Done);
    assert!(!rest.exists(), "it is cleared away where the group leaves, too");
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Already);
}

#[test]
fn what_is_not_installed_cannot_start_and_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), "[[resource]]\nname = 'a'\nagent = 'ocf:nobody:Nothing'\n");
    assert_eq!(bench.outcome(ALL, Turn::Undo), Outcome::Already);
    let Outcome::Failed(why) = bench.outcome(ALL, Turn::Do) else { panic!("there is no such agent") };
    assert!(why.contains("ocf:nobody:Nothing is not installed"), "{why}");
}

#[test]
fn what_does_not_stop_is_ended_by_force_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("cd {}\n{text}\n", dir.path().display())).unwrap();
        format!("['/bin/sh', '{}']", path.display())
    };
    let service = "trap : TERM; echo $$ >pid; while :; do sleep 1; done";
    let start =
        script("start", &format!("setsid sh -c '{service}' >/dev/null 2>&1 &\nuntil [ -s pid ]; do sleep 0.01; done"));
    let (stop, status) = (script("stop", "kill $(cat pid); exit 1"), script("status", "kill -0 $(cat pid) || exit 3"));
    let plan = format!("[[resource]]\nname = 'stubborn'\nstart = {start}\nstop = {stop}\nstatus = {status}\n");
    let bench = Bench::new(dir.path(), &plan);
    assert_eq!(bench.outcome(ALL, Turn::Do), Outcome::Done);
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    if !fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap().contains("stead-kept-") {
        println!("this machine permits no cgroups: what does not stop goes on");
        let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        return assert!(killed.success());
    }
    assert!(matches!(bench.outcome(ALL, Turn::Undo), Outcome::Done | Outcome::Already));
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}
