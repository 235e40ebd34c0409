//! Planted deadlines: what is up past them is taken down, and nothing else.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getsid};
use stead_api::Failure;
use stead_failover::machine::Lease;
use stead_model::plan::GroupPlan;
use stead_model::status::Timestamp;
use stead_resource::Resource;
use stead_resource::address::{Address, Holder, Mode};
use stead_resource::service::{Manager, Systemctl};

use super::*;
use crate::failover::hands::tests::common::systemd::Units;
use crate::failover::hands::tests::common::{Host, Net, wait_for};
use crate::failover::lease::{self, LeaseFile};

const BUDGET: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(300);

/// A state directory with one group, whose watchdog runs on a thread.
struct Bench {
    state: tempfile::TempDir,
    lease: LeaseFile,
    call: Call,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Bench {
    /// `plan`: what the group has beside its names, as TOML.
    fn new(plan: &str) -> Bench {
        Bench::with(plan, Systemctl::default())
    }

    fn with(plan: &str, systemctl: Systemctl) -> Bench {
        let state = tempfile::tempdir().unwrap();
        let lease = add_group(state.path(), "notes", plan);
        let call = Call::new().unwrap();
        let manager = move || -> Box<dyn Manager> { Box::new(systemctl.clone()) };
        let (path, manager) = (state.path().to_path_buf(), Arc::new(manager));
        let watchdog = Watchdog { state: path, call: call.clone(), manager, hurries: false };
        let thread = Some(thread::spawn(move || watchdog.run()));
        Bench { state, lease, call, thread }
    }

    fn dir(&self) -> PathBuf {
        self.state.path().join("groups/notes")
    }

    fn lines(&self) -> Vec<String> {
        lines_since(&self.dir(), Timestamp(0)).into_iter().map(|line| line.text).collect()
    }

    fn until(&self, time: Duration) {
        self.lease.set(Lease::Until(clock::now() + time));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.call.off();
        let _ = self.thread.take().map(JoinHandle::join);
        lease::remove(&self.dir());
    }
}

fn add_group(state: &Path, name: &str, plan: &str) -> LeaseFile {
    let dir = state.join("groups").join(name);
    fs::create_dir_all(&dir).unwrap();
    let names = format!("name = '{name}'\nsource = 'paris'\ntarget = 'lyon'\nsets = []\n");
    let plan: GroupPlan = toml::from_str(&format!("{names}{plan}")).unwrap();
    Orders::of(&plan, BUDGET, "/bin/stead".as_ref()).write(&dir).unwrap();
    LeaseFile::open(&dir).unwrap()
}

/// A service that is a file in that directory.
fn service(dir: &Path) -> String {
    let sh = |text: &str| format!("['sh', '-c', '''cd {}; {text}''']", dir.display());
    let (stop, status) = (sh("rm -f up; echo x >> stopped"), sh("[ -e up ] || exit 3"));
    format!("[[service]]\nstart = ['true']\nstop = {stop}\nstatus = {status}\n")
}

fn take(host: &Host, saved: PathBuf) {
    let cidr = "10.9.0.100/24".parse().unwrap();
    let address = Address { cidr, interface: None, mode: Mode::Beside, holder: Holder::Fenced, saved };
    host.inside(|| address.start(BUDGET)).value.unwrap();
}

#[test]
fn past_the_deadline_everything_goes_within_the_budget_and_nothing_before() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let before = net.lyon.tables();
    let plan = format!("[[address]]\naddress = '10.9.0.100/24'\n{}", service(dir.path()));
    let bench = net.lyon.inside(|| Bench::new(&plan));
    let (saved, up) = (bench.dir().join("address-0.saved"), dir.path().join("up"));
    bench.lease.set(Lease::Unlimited);
    take(&net.lyon, saved.clone());
    fs::write(&up, "").unwrap();
    for _ in 0..10 {
        bench.until(SOON);
        bench.lease.beat();
        thread::sleep(SOON / 3);
    }
    let (is_quiet, ends) = (bench.lines().is_empty(), Instant::now() + SOON * 2 / 3);
    assert!(net.lyon.tables().contains("10.9.0.100/24") && up.exists() && is_quiet, "{:?}", bench.lines());
    wait_for("the address to go", || net.lyon.tables() == before);
    wait_for("the service to stop", || !up.exists());
    assert!(ends.elapsed() < BUDGET, "{:?}", ends.elapsed());
    wait_for("the log", || !bench.lines().is_empty() && !saved.exists());
    let line = &bench.lines()[0];
    assert!(
        line.contains("10.9.0.100/24 removed; service 0 stopped") && line.contains("not been seen for 0."),
        "{line}"
    );
}

#[test]
fn what_comes_up_late_goes_too_and_a_new_lease_ends_that() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let bench = net.lyon.inside(|| Bench::new("[[address]]\naddress = '10.9.0.100/24'\n"));
    bench.until(SOON);
    thread::sleep(2 * SOON);
    take(&net.lyon, dir.path().join("elsewhere"));
    wait_for("the address to go", || !net.lyon.tables().contains("10.9.0.100/24"));
    bench.until(Duration::from_secs(60));
    take(&net.lyon, dir.path().join("elsewhere"));
    thread::sleep(Duration::from_secs(3));
    assert!(net.lyon.tables().contains("10.9.0.100/24"));
    assert_eq!(bench.lines().len(), 1, "{:?}", bench.lines());
}

#[test]
fn a_stop_that_was_begun_before_a_new_lease_ends_nothing_that_was_started_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let [up, slow, looking] = ["up", "slow", "looking"].map(|name| dir.path().join(name));
    fs::write(&up, "").unwrap();
    fs::write(&slow, "").unwrap();
    // A status command that takes its time, as one does that connects to an address which is gone.
    let slowly = "touch looking; while [ -e slow ]; do sleep 0.01; done; [ -e up ] || exit 3";
    let bench = Bench::new(&service(dir.path()).replace("[ -e up ] || exit 3", slowly));
    bench.until(SOON);
    wait_for("it is looked at", || looking.exists());
    bench.until(Duration::from_secs(60));
    thread::sleep(SOON);
    fs::remove_file(&slow).unwrap();
    thread::sleep(BUDGET);
    assert!(up.exists() && bench.lines().is_empty(), "{:?}", bench.lines());
}

#[test]
fn without_a_lease_or_with_one_without_end_nothing_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let up = dir.path().join("up");
    fs::write(&up, "").unwrap();
    let bench = Bench::new(&service(dir.path()));
    thread::sleep(SOON);
    bench.lease.set(Lease::Unlimited);
    thread::sleep(SOON);
    bench.until(SOON);
    bench.lease.clear();
    thread::sleep(2 * SOON);
    assert!(up.exists());
    // The daemon takes it down itself, but does not come to it.
    bench.until(SOON);
    bench.lease.set(Lease::None);
    wait_for("the service to stop", || !up.exists());
}

#[test]
fn a_unit_that_does_not_stop_is_ended_by_force() {
    let units = Units::new();
    units.add("notes.service", "active", "disabled");
    units.set("notes.service", "stops", "hang");
    let bench = Bench::with("[[service]]\nunit = 'notes'\n", Systemctl { program: units.systemctl() });
    bench.until(SOON);
    wait_for("the unit", || units.get("notes.service", "active").as_deref() == Some("failed"));
    wait_for("the log", || bench.lines().iter().any(|line| line.contains("notes.service ended by force")));
}

#[test]
fn what_does_not_stop_is_told_once_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (up, stubborn) = (dir.path().join("up"), dir.path().join("stubborn"));
    fs::write(&up, "").unwrap();
    fs::write(&stubborn, "").unwrap();
    let plan = service(dir.path()).replace("rm -f up;", "[ -e stubborn ] && exec sleep 1000; rm -f up;");
    let bench = Bench::new(&plan);
    bench.until(SOON);
    wait_for("the log", || bench.lines().len() == 1);
    assert!(bench.lines()[0].contains("not stopped: not done within"), "{:?}", bench.lines());
    fs::remove_file(stubborn).unwrap();
    wait_for("the service to stop", || !up.exists());
}

#[test]
fn other_groups_and_new_ones_are_watched_each_for_itself() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let up = dirs.each_ref().map(|dir| dir.path().join("up"));
    up.iter().for_each(|up| fs::write(up, "").unwrap());
    let bench = Bench::new(&service(dirs[0].path()));
    bench.until(Duration::from_secs(60));
    let other = add_group(bench.state.path(), "mail", &service(dirs[1].path()));
    other.set(Lease::Until(clock::now() + SOON));
    wait_for("the service to stop", || !up[1].exists());
    assert!(up[0].exists() && bench.lines().is_empty());
    lease::remove(&bench.state.path().join("groups/mail"));
}

#[test]
fn a_deadline_that_passed_before_the_watchdog_began_is_not_forgotten() {
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = dir.path().join("up");
    fs::write(&up, "").unwrap();
    let lease = add_group(state.path(), "notes", &service(dir.path()));
    lease.set(Lease::Until(clock::now()));
    let call = Call::new().unwrap();
    let path = state.path().to_path_buf();
    let watchdog = Watchdog { state: path, call: call.clone(), manager: Arc::new(service::manager), hurries: false };
    let thread = thread::spawn(move || watchdog.run());
    wait_for("the service to stop", || !up.exists());
    lease::remove(&state.path().join("groups/notes"));
    // With the state directory goes what watches it, which may be writing into it.
    wait_for("the directory to go", || fs::remove_dir_all(state.path()).is_ok());
    thread.join().unwrap().unwrap();
}

/// A program that takes `watchdog --state DIR` and runs the watchdog of this crate.
fn program(dir: &Path) -> PathBuf {
    let path = dir.join("stead");
    let this = std::env::current_exe().unwrap();
    let run = format!("exec '{}' --exact failover::watchdog::tests::a_process --ignored", this.display());
    fs::write(&path, format!("#!/bin/sh\n[ \"$1 $2\" = 'watchdog --state' ] && STEAD_STATE=\"$3\" {run}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
#[ignore = "the process that another test starts"]
fn a_process() {
    let state = std::env::var_os("STEAD_STATE").unwrap();
    watchdog(Path::new(&state)).unwrap();
}

#[test]
fn a_process_of_its_own_watches_once_and_ends_when_it_is_told_to() {
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = dir.path().join("up");
    fs::write(&up, "").unwrap();
    let lease = add_group(state.path(), "notes", &service(dir.path()));
    let (program, lock) = (program(dir.path()), state.path().join("groups/watchdog.lock"));
    for _ in 0..2 {
        ensure(&program, state.path()).unwrap();
        wait_for("the watchdog", || lock::is_locked(&lock));
    }
    let refused = watchdog(state.path()).unwrap_err();
    assert!(refused.why.contains("another one"), "{refused}");
    let pid = holder(&lock);
    wait_for("a session of its own", || getsid(Some(pid)) == Ok(pid));
    lease.set(Lease::Until(clock::now() + SOON));
    wait_for("the service to stop", || !up.exists());
    end(state.path()).unwrap();
    wait_for("the end", || !lock::is_locked(&lock));
    assert!(!state.path().join("groups/watchdog.end").exists());
    lease::remove(&state.path().join("groups/notes"));
}

/// The process that has the file open.
fn holder(lock: &Path) -> Pid {
    let lock = fs::canonicalize(lock).unwrap();
    let has_open = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == lock)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Pid::from_raw(pids.find(has_open).unwrap()).unwrap()
}

/// A daemon that is a shell, and what keeps it.
struct Kept {
    state: tempfile::TempDir,
    call: Call,
    lock: PathBuf,
}

impl Kept {
    fn new(hung_after: Duration) -> Kept {
        let (state, call) = (tempfile::tempdir().unwrap(), Call::new().unwrap());
        let path = state.path().display();
        let text = format!("echo $$ >> {path}/starts; exec flock -n -F {path}/lock sleep 1000");
        let order = Restart::of_process(u32::MAX, ["sh", "-c", &text].map(OsString::from), hung_after);
        let lock = state.path().join("lock");
        fs::write(&lock, "").unwrap();
        daemon_began(state.path(), Some(&order)).unwrap();
        keeper::start(state.path(), Log::start().unwrap(), &call.stop()).unwrap();
        Kept { state, call, lock }
    }

    fn starts(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.state.path().join("starts")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn is_up(&self, starts: usize) -> bool {
        self.starts().len() == starts && lock::is_locked(&self.lock)
    }

    fn told(&self) -> String {
        lines_since(self.state.path(), Timestamp(0)).into_iter().map(|line| line.text + "\n").collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.call.off();
        kill_all(&self.lock);
    }
}

#[test]
fn a_daemon_that_died_is_started_again_but_not_one_that_ended() {
    let kept = Kept::new(Duration::from_secs(60));
    wait_for("a daemon", || kept.is_up(1));
    kill_all(&kept.lock);
    wait_for("another daemon", || kept.is_up(2));
    daemon_ended(kept.state.path()).unwrap();
    kill_all(&kept.lock);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(kept.starts().len(), 2, "it ended in order");
    fs::remove_file(kept.state.path().join("stopped")).unwrap();
    wait_for("a third daemon", || kept.is_up(3));
    assert!(kept.told().contains("it was started again (3 of 5 times"), "{}", kept.told());
    daemon_began(kept.state.path(), None).unwrap();
    kill_all(&kept.lock);
    thread::sleep(Duration::from_secs(6));
    assert_eq!(kept.starts().len(), 3, "the last one did not ask for it");
}

#[test]
fn a_daemon_that_dies_all_the_time_is_left_in_peace() {
    let kept = Kept::new(Duration::from_secs(60));
    for starts in 1..=5 {
        wait_for("a daemon", || kept.is_up(starts));
        kill_all(&kept.lock);
    }
    thread::sleep(Duration::from_secs(3));
    assert_eq!(kept.starts().len(), 5);
}

#[test]
fn a_daemon_without_a_sign_of_life_is_ended_and_started_again() {
    let kept = Kept::new(Duration::from_secs(1));
    wait_for("a daemon", || kept.is_up(1));
    let hung_after = Duration::from_secs(1);
    let this = |pid| Restart::of_process(pid, ["true"].map(OsString::from), hung_after);
    let pid = kept.starts()[0];
    daemon_began(kept.state.path(), Some(&this(pid))).unwrap();
    thread::sleep(Duration::from_secs(3));
    assert!(kept.is_up(1), "it gave no sign yet: it is still beginning");
    let life = crate::life::dir(kept.state.path());
    fs::create_dir_all(&life).unwrap();
    let file = LeaseFile::open(&life).unwrap();
    for _ in 0..15 {
        file.beat();
        thread::sleep(Duration::from_millis(200));
        assert!(kept.is_up(1));
    }
    wait_for("its end", || !lock::is_locked(&kept.lock));
    wait_for("that it is told", || kept.told().contains("no sign of life for 1s"));
    lease::remove(&life);
}

/// As if the daemon were killed: whoever holds the lock.
fn kill_all(lock: &Path) {
    while lock::is_locked(lock) {
        let pid = holder(lock).as_raw_nonzero().to_string();
        let _ = Command::new("kill").args(["-9", &pid]).status();
        thread::sleep(Duration::from_millis(20));
    }
}
