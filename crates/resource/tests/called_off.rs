//! What blocks is called off: it ends soon, with everything that it started, and brings nothing up any more.

mod common;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::systemd::Units;
use common::{LONG, Net, is_alive, pids, wait_for};
use stead_resource::address::{Address, Holder, Lease, Mode, Probe, Watch};
use stead_resource::command::{Command, End, Secret};
use stead_resource::fence::Agent;
use stead_resource::reference::{Presence, Reference, Way};
use stead_resource::service::{Commands, Systemctl, Unit};
use stead_resource::{Call, Deadline, Done, Failure, Resource, State, Stop};

const SOON: Duration = Duration::from_secs(1);

/// Stubborn, with a child in a session of its own and a daemon; tells when all of them are there.
const STUBBORN: &str = "trap '' TERM
    setsid sh -c 'trap \"\" TERM; echo $$ >> pids; exec sleep 1000' &
    setsid sh -c '(setsid sh -c \"echo \\$\\$ >> pids; exec sleep 1000\" &) ; exit 0'
    echo $$ >> pids
    while :; do sleep 1000; done";

/// In both ways of keeping its processes together; the grace is long, and not for who is called off.
fn both(dir: &Path, text: &str) -> [Command; 2] {
    let text = format!("cd {}; {text}", dir.display());
    [true, false].map(|use_cgroup| Command { grace: LONG, use_cgroup, ..Command::new(["sh", "-c", &text]) })
}

/// Does some work, calls it off when it `has_begun`, and says what came of it and how long that took from then on.
fn call_off<T: Send>(work: impl FnOnce(&Stop) -> T + Send, has_begun: impl FnMut() -> bool) -> (T, Duration) {
    let call = Call::new().unwrap();
    thread::scope(|scope| {
        let stop = call.stop();
        let works = scope.spawn(move || work(&stop));
        wait_for("the begin", has_begun);
        let began = Instant::now();
        call.off();
        call.off();
        (works.join().unwrap(), began.elapsed())
    })
}

fn after(time: Duration) -> impl FnMut() -> bool {
    let began = Instant::now();
    move || began.elapsed() >= time
}

#[test]
fn a_command_is_ended_whole_within_a_second() {
    for way in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let command = &both(dir.path(), STUBBORN)[way];
        let (ran, took) = call_off(|stop| command.run_until(LONG, stop), || pids(dir.path()).len() == 3);
        assert_eq!(ran.end, End::Cancelled { unkillable: 0 });
        assert!(took < SOON, "{took:?}");
        assert_eq!(pids(dir.path()).iter().filter(|pid| is_alive(pid)).count(), 0, "cgroup: {}", command.use_cgroup);
    }
}

#[test]
fn a_command_that_was_told_to_end_gets_no_more_grace() {
    let dir = tempfile::tempdir().unwrap();
    for command in both(dir.path(), "trap 'touch asked' TERM; while :; do sleep 0.01; done") {
        let limit = Duration::from_millis(100);
        let asked = dir.path().join("asked");
        let (ran, took) = call_off(|stop| command.run_until(limit, stop), || asked.exists());
        assert_eq!(ran.end, End::TimedOut { limit, unkillable: 0 });
        assert!(took < SOON, "{took:?}");
        fs::remove_file(asked).unwrap();
    }
}

#[test]
fn what_is_called_off_before_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let call = Call::new().unwrap();
    call.off();
    for command in both(dir.path(), "touch started") {
        assert!(matches!(command.run_until(LONG, &call.stop()).end, End::NotStarted(_)));
        assert_eq!(command.run_until(LONG, &Stop::never()).end, End::Exited(0));
        fs::remove_file(dir.path().join("started")).unwrap();
    }
}

#[test]
fn a_deadline_ends_a_command_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let deadline = Deadline::new().unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    deadline.set(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 + 200_000_000);
    let began = Instant::now();
    let ran = both(dir.path(), STUBBORN)[0].run_until(LONG, &deadline.stop());
    assert_eq!(ran.end, End::Cancelled { unkillable: 0 });
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
}

#[test]
fn a_service_that_hangs_is_not_known_and_one_that_was_not_begun_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let sh = |text: &str| both(dir.path(), text)[0].clone();
    let service = Commands { start: sh("touch begun; exec sleep 1000"), stop: sh("true"), status: sh("exit 3") };
    let begun = dir.path().join("begun");
    let (started, took) = call_off(|stop| service.start_until(LONG, stop).value, || begun.exists());
    assert!(matches!(started, Err(Failure::Unknown(_))), "{started:?}");
    assert!(took < SOON, "{took:?}");

    fs::remove_file(&begun).unwrap();
    let slow = Commands { status: sh("touch looked; sleep 1000; exit 3"), ..service };
    let looked = dir.path().join("looked");
    let (started, _) = call_off(|stop| slow.start_until(LONG, stop).value, || looked.exists());
    assert_eq!(started, Err(Failure::Cancelled));
    assert!(!begun.exists());
}

#[test]
fn a_unit_that_hangs_is_not_known() {
    let units = Units::new();
    units.add("notes.service", "inactive", "disabled");
    units.set("notes.service", "will", "hang");
    let unit = Unit { name: "notes".parse().unwrap(), manager: Systemctl { program: units.systemctl() } };
    let asked = || units.get("notes.service", "asked").is_some_and(|asked| asked.ends_with("start"));
    let (started, took) = call_off(|stop| unit.start_until(LONG, stop).value, asked);
    assert!(matches!(started, Err(Failure::Unknown(_))), "{started:?}");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn an_agent_that_hangs_or_waits_has_not_proven_anything() {
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    let read = "while read -r line; do case $line in action=*) action=${line#action=} ;; esac; done";
    for text in ["touch begun; exec sleep 1000", "touch begun; [ $action != status ]"] {
        let command = both(dir.path(), &format!("{read}; {text}"))[0].clone();
        let agent = Agent { command, parameters: vec![("plug".into(), Secret(b"paris".into()))] };
        let (fenced, took) = call_off(|stop| agent.off_until(LONG, stop).value, || begun.exists());
        assert!(fenced.is_err() && fenced != Err(Failure::Cancelled), "{fenced:?}");
        assert!(took < SOON, "{took:?}");
        fs::remove_file(&begun).unwrap();
    }
}

#[test]
fn who_asked_in_vain_for_too_short_a_time_does_not_know() {
    let net = Net::new();
    for way in [Way::Echo, Way::Neighbour { interface: "eth0".into() }] {
        let nobody = Reference { address: "10.9.0.77".parse().unwrap(), way };
        let ask = |stop: &Stop| net.lyon.inside(|| nobody.ask_until(LONG, stop)).value;
        let (presence, took) = call_off(ask, after(Duration::from_millis(100)));
        assert!(matches!(presence, Presence::Unknown(_)), "{presence:?}");
        assert!(took < SOON, "{took:?}");
    }
}

#[test]
fn an_address_that_is_probed_is_not_taken() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let before = net.lyon.tables();
    let holder = Holder::Possible(Probe { count: 3, wait: LONG / 4 });
    let cidr = "10.9.0.100/24".parse().unwrap();
    let address = Address { cidr, interface: None, mode: Mode::Beside, holder, saved: dir.path().join("saved") };
    let take = |stop: &Stop| net.lyon.inside(|| address.start_until(LONG, stop)).value;
    let (taken, took) = call_off(take, after(Duration::from_millis(100)));
    assert_eq!((taken, address.saved.exists()), (Err(Failure::Cancelled), false));
    assert!(took < SOON, "{took:?}");
    let over = Deadline::new().unwrap();
    let fenced = Address { holder: Holder::Fenced, ..address };
    assert_eq!(net.lyon.inside(|| fenced.start_until(LONG, &over.stop())).value, Err(Failure::Cancelled));
    assert_eq!(net.lyon.tables(), before);
    assert_eq!(net.lyon.inside(|| fenced.status(LONG)).value, State::Stopped);
    assert_eq!(net.lyon.inside(|| fenced.start(LONG)).value, Ok(Done::Changed));
}

#[test]
fn a_watch_ends_and_announces_nothing_more() {
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let cidr = "10.9.0.100/24".parse().unwrap();
    let saved = dir.path().join("saved");
    let address = Address { cidr, interface: None, mode: Mode::Beside, holder: Holder::Fenced, saved };
    net.lyon.inside(|| address.start(LONG)).value.unwrap();
    let mut watch = net.lyon.inside(|| Watch::new(cidr)).unwrap();
    let watching = |stop: &Stop| watch.next_until(LONG, Lease::Held, stop);
    let (seen, took) = call_off(watching, after(Duration::from_millis(100)));
    assert_eq!(seen, Ok(None));
    assert!(took < SOON, "{took:?}");
}
