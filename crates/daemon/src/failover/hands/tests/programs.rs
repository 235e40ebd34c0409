//! Scripts, services, fence agents.

use std::fs;
use std::path::Path;
use std::time::Instant;

use stead_failover::machine::{Hook, Lease, Outcome, Step, Turn};
use stead_resource::service::Systemctl;

use super::common::systemd::Units;
use super::common::{is_alive, pids, wait_for};
use super::{Bench, LONG, SOON, sh};
use crate::clock;

const PRE: Step = Step::Script(Hook::PreFailover);
const POST: Step = Step::Script(Hook::PostFailover);
const SERVICE: Step = Step::Service(0);

/// A script before that hangs, and one after that writes a line.
fn scripts(dir: &Path) -> String {
    let before = sh(dir, "(setsid sleep 1000 & echo $! >> pids); echo $$ >> pids; echo waiting; exec sleep 1000");
    let after = sh(dir, "echo $STEAD_EVENT $STEAD_EPOCH >> done");
    format!("[scripts.pre-failover]\ncommand = {before}\n[scripts.post-failover]\ncommand = {after}\n")
}

/// A service that is a file.
fn service(dir: &Path) -> String {
    let [start, stop] = ["touch up", "echo x >> stopped; rm -f up"].map(|text| sh(dir, text));
    let status = sh(dir, "[ -e up ] || exit 3");
    format!("[[service]]\nstart = {start}\nstop = {stop}\nstatus = {status}\n")
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn jobs_are_done_in_their_order_and_each_end_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &scripts(dir.path()));
    for id in 0..5 {
        bench.begin(id, if id % 2 == 0 { POST } else { Step::Tell }, Turn::Do);
    }
    let ends: Vec<_> = (0..5).map(|_| bench.end()).collect();
    assert!(ends.iter().enumerate().all(|(at, end)| end.id == at as u64 && end.outcome == Outcome::Done), "{ends:?}");
    assert_eq!(fs::read_to_string(dir.path().join("done")).unwrap(), "post-failover 3\n".repeat(3));
    assert!(bench.ends.try_recv().is_err());
}

#[test]
fn a_script_that_hangs_is_cancelled_whole_and_the_next_job_begins() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &scripts(dir.path()));
    bench.begin(1, PRE, Turn::Do);
    bench.begin(2, PRE, Turn::Do);
    bench.begin(3, POST, Turn::Do);
    wait_for("the script", || pids(dir.path()).len() == 2);
    let began = Instant::now();
    for id in [2, 1, 1, 77] {
        bench.hands.cancel(id);
    }
    let ends = [(); 3].map(|()| bench.end());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(ends.each_ref().map(|end| (end.id, end.cancelled)), [(1, true), (2, true), (3, false)]);
    assert!(matches!(&ends[0].outcome, Outcome::Unknown(why) if why.contains("called off")), "{ends:?}");
    assert_eq!((ends[0].output.as_str(), &ends[2].outcome), ("waiting\n", &Outcome::Done));
    assert_eq!((pids(dir.path()).len(), pids(dir.path()).iter().filter(|pid| is_alive(pid)).count()), (2, 0));
}

#[test]
fn the_end_of_the_lease_ends_what_brings_something_up() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &format!("{}{}", scripts(dir.path()), service(dir.path())));
    bench.hands.lease(Lease::Until(clock::now() + SOON / 4));
    let began = Instant::now();
    assert!(matches!(bench.outcome(PRE, Turn::Do), Outcome::Unknown(_)));
    assert!(began.elapsed() >= SOON / 4 && began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    let over = Outcome::Failed("the lease is over".into());
    assert_eq!(bench.outcome(POST, Turn::Do), over);
    assert_eq!(bench.outcome(SERVICE, Turn::Do), over);
    assert_eq!(bench.outcome(Step::Capture, Turn::Do), over);
    assert_eq!(bench.outcome(Step::Capture, Turn::Undo), Outcome::Already);
    assert!(!dir.path().join("up").exists() && !dir.path().join("done").exists());

    bench.hands.lease(Lease::Until(clock::now() + LONG));
    assert_eq!(bench.outcome(SERVICE, Turn::Do), Outcome::Done);
    bench.hands.lease(Lease::None);
    assert_eq!(bench.outcome(SERVICE, Turn::Do), over);
    assert_eq!(bench.outcome(SERVICE, Turn::Undo), Outcome::Done);
}

#[test]
fn the_data_path_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), "");
    let stopped = Outcome::Unknown("stopped".into());
    bench.begin(1, Step::Drain, Turn::Do);
    bench.hands.cancel(1);
    let end = bench.end();
    // It may have been cancelled before it began.
    assert!(end.cancelled && (end.outcome == stopped || end.outcome == Outcome::Failed("not begun".into())), "{end:?}");
    bench.hands.lease(Lease::Until(clock::now() + SOON / 10));
    assert_eq!(bench.outcome(Step::Drain, Turn::Do), stopped);
}

#[test]
fn what_is_dropped_ends_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let Bench { hands, ends, .. } = Bench::new(dir.path(), &scripts(dir.path()));
    hands.perform(super::job(1, PRE, Turn::Do));
    hands.perform(super::job(2, PRE, Turn::Do));
    wait_for("the script", || pids(dir.path()).len() == 2);
    drop(hands);
    assert_eq!(pids(dir.path()).iter().filter(|pid| is_alive(pid)).count(), 0);
    assert_eq!(ends.try_iter().map(|end| (end.id, end.cancelled)).collect::<Vec<_>>(), [(1, true), (2, true)]);
}

#[test]
fn undone_twice_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(dir.path(), &service(dir.path()));
    assert_eq!(bench.outcome(SERVICE, Turn::Undo), Outcome::Already);
    assert_eq!(lines(&dir.path().join("stopped")), 0);
    assert_eq!(bench.outcome(SERVICE, Turn::Do), Outcome::Done);
    assert_eq!(bench.outcome(SERVICE, Turn::Do), Outcome::Already);
    assert_eq!(bench.outcome(SERVICE, Turn::Undo), Outcome::Done);
    assert_eq!(bench.outcome(SERVICE, Turn::Undo), Outcome::Already);
    assert_eq!(lines(&dir.path().join("stopped")), 1);
}

#[test]
fn a_unit_is_kept_from_starting_at_boot() {
    let units = Units::new();
    units.add("notes.service", "active", "enabled");
    let dir = tempfile::tempdir().unwrap();
    let systemctl = Systemctl { program: units.systemctl() };
    let bench = Bench::with(dir.path(), "[[service]]\nunit = 'notes'\n", systemctl);
    for (outcome, active) in [(Outcome::Done, "inactive"), (Outcome::Already, "inactive")] {
        assert_eq!(bench.outcome(SERVICE, Turn::Undo), outcome);
        assert_eq!(units.get("notes.service", "active").as_deref(), Some(active));
        assert_eq!(units.get("notes.service", "file").as_deref(), Some("disabled"));
    }
    assert!(bench.was_told("is disabled now"));
    units.set("notes.service", "file", "static");
    assert_eq!(bench.outcome(SERVICE, Turn::Do), Outcome::Done);
    assert!(bench.was_told("may start at boot"));
}

#[test]
fn a_unit_that_is_not_there_is_down_and_cannot_be_started() {
    let (units, dir) = (Units::new(), tempfile::tempdir().unwrap());
    let systemctl = Systemctl { program: units.systemctl() };
    let bench = Bench::with(dir.path(), "[[service]]\nunit = 'notes'\n", systemctl);
    units.set("notes.service", "will", "failed");
    assert_eq!(bench.outcome(SERVICE, Turn::Undo), Outcome::Already);
    assert!(bench.was_told("no unit notes.service"));
    assert!(!bench.outcome(SERVICE, Turn::Do).is_good());
}

#[test]
fn a_service_that_is_not_known_is_told_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let text = service(dir.path()).replace("|| exit 3", "|| exit 1");
    let bench = Bench::new(dir.path(), &format!("{text}timeout = '200ms'\n"));
    assert!(matches!(bench.outcome(SERVICE, Turn::Undo), Outcome::Unknown(_)));
    assert_eq!(bench.outcome(Step::Service(1), Turn::Do), Outcome::Failed("the plan has no service 1".into()));
}

#[test]
fn a_fence_agent_is_told_its_parameters_and_those_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "# of lyon\n\npassword=a=b c\n").unwrap();
    let agent = sh(
        dir.path(),
        "read action; cat >> told; case $action in action=off) touch off ;; action=status) [ -e off ] && exit 2 ;; esac; exit 0",
    );
    let plan = format!(
        "[fence.paris]\nagent = {agent}\nparameters = {{ plug = 'paris' }}\nparameter-file = '{}'\n",
        file.display()
    );
    let bench = Bench::new(dir.path(), &plan);
    assert_eq!(bench.outcome(Step::Fence, Turn::Do), Outcome::Done);
    assert!(fs::read_to_string(dir.path().join("told")).unwrap().starts_with("plug=paris\npassword=a=b c\n"));
    fs::write(&file, "password\n").unwrap();
    assert!(matches!(bench.outcome(Step::Fence, Turn::Do), Outcome::Failed(why) if why.contains("line 1 has no =")));
    fs::remove_file(&file).unwrap();
    assert!(matches!(bench.outcome(Step::Fence, Turn::Do), Outcome::Failed(why) if why.contains("cannot be read")));
    let none = Bench::new(dir.path(), "");
    assert!(matches!(none.outcome(Step::Fence, Turn::Do), Outcome::Failed(_)));
}

#[test]
fn a_node_that_may_be_on_is_not_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |text: &str| format!("[fence.paris]\ntimeout = '1s'\nagent = {}\n", sh(dir.path(), text));
    let on = Bench::new(dir.path(), &plan("exit 0"));
    assert!(matches!(on.outcome(Step::Fence, Turn::Do), Outcome::Failed(_)));
    let unknown = Bench::new(dir.path(), &plan("exit 1"));
    assert!(matches!(unknown.outcome(Step::Fence, Turn::Do), Outcome::Unknown(_)));
    let hangs = Bench::new(dir.path(), &plan("exec sleep 1000"));
    assert!(matches!(hangs.outcome(Step::Fence, Turn::Do), Outcome::Unknown(_)));
}
