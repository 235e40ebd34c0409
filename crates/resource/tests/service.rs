//! Services: what every way of asking systemd has to do, and plain commands with real processes.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::systemd::{Units, conforms};
use stead_resource::command::Command;
use stead_resource::service::{Commands, Systemctl, Unit};
use stead_resource::{Done, Failure, Resource, State};

const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn systemctl_conforms() {
    let units = Units::new();
    conforms(&units, Systemctl { program: units.systemctl() });
}

#[test]
fn a_unit_that_failed_too_often_is_given_a_new_chance() {
    let units = Units::new();
    units.add("notes.service", "failed", "disabled");
    let unit = Unit { name: "notes".parse().unwrap(), manager: Systemctl { program: units.systemctl() } };
    assert_eq!(unit.start(LIMIT).value, Ok(Done::Changed));
    let asked = units.get("notes.service", "asked").unwrap();
    assert!(asked.contains("reset-failed\nstart"), "{asked}");
}

#[test]
fn where_systemd_does_not_run_nothing_is_known() {
    let missing = Systemctl { program: "/nonexistent/systemctl".into() };
    let mut managers = vec![missing];
    if !Path::new("/run/systemd/system").exists() {
        managers.push(Systemctl::default());
    }
    for manager in managers {
        let unit = Unit { name: "notes".parse().unwrap(), manager };
        assert!(matches!(unit.status(LIMIT).value, State::Unknown(_)));
        assert!(unit.stop(LIMIT).value.is_err());
    }
}

/// A service of real processes: its pid is in a file, and it takes a while until it serves.
fn sleeper(dir: &Path) -> Commands {
    let sh = |text: &str| Command::new(["sh", "-c", &format!("cd {}; {text}", dir.display())]);
    Commands {
        start: sh("sh -c 'sleep 0.2; echo $$ > pid; exec sleep 1000' >/dev/null 2>&1 & echo starting"),
        stop: sh("[ ! -e pid ] || kill $(cat pid); rm -f pid"),
        status: sh("[ -e broken ] && exit 1; [ -e pid ] && kill -0 $(cat pid) && exit 0; exit 3"),
    }
}

#[test]
fn commands_start_and_stop_a_service() {
    let dir = tempfile::tempdir().unwrap();
    let service = sleeper(dir.path());
    assert_eq!(service.status(LIMIT).value, State::Stopped);
    assert_eq!(service.stop(LIMIT).value, Ok(Done::Already));
    let started = service.start(LIMIT);
    assert_eq!(started.value, Ok(Done::Changed));
    assert!(started.output.text().contains("starting") && started.took >= Duration::from_millis(200));
    assert_eq!(service.start(LIMIT).value, Ok(Done::Already));
    assert_eq!(service.status(LIMIT).value, State::Started);
    assert_eq!(service.stop(LIMIT).value, Ok(Done::Changed));
    assert_eq!(service.status(LIMIT).value, State::Stopped);
}

#[test]
fn a_status_that_is_not_known_is_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let service = sleeper(dir.path());
    std::fs::write(dir.path().join("broken"), "").unwrap();
    assert!(matches!(service.status(LIMIT).value, State::Unknown(why) if why.contains("code 1")));
    assert!(matches!(service.stop(SHORT).value, Err(Failure::Unknown(_))));
}

#[test]
fn a_command_that_claims_but_does_nothing_has_failed() {
    let idle = Command::new(["true"]);
    let service = Commands { start: idle.clone(), stop: idle, status: Command::new(["sh", "-c", "exit 3"]) };
    let began = Instant::now();
    assert!(matches!(service.start(SHORT).value, Err(Failure::Failed(_))));
    assert!(began.elapsed() >= SHORT);
}

#[test]
fn commands_that_hang_or_are_missing_are_told_apart() {
    let stopped = Command::new(["sh", "-c", "exit 3"]);
    let hanging = Command { grace: Duration::from_millis(50), ..Command::new(["sleep", "1000"]) };
    let service = Commands { start: hanging, stop: stopped.clone(), status: stopped.clone() };
    assert!(matches!(service.start(SHORT).value, Err(Failure::TimedOut(_))));
    let missing = Commands { start: Command::new(["/nonexistent/start"]), ..service };
    assert!(matches!(missing.start(SHORT).value, Err(Failure::Unusable(_))));
}

/// A status command that connects through an address which is gone waits for its time-out.
#[test]
fn a_status_that_hangs_while_it_runs_leaves_time_for_its_stop() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("up");
    std::fs::write(&file, "").unwrap();
    let sh = |text: &str| Command::new(["sh", "-c", &text.replace("FILE", &file.display().to_string())]);
    let status = Command { grace: SHORT, ..sh("[ -e FILE ] || exit 3; exec sleep 1000") };
    let service = Commands { start: sh("true"), stop: sh("rm FILE"), status };
    assert_eq!(service.stop(LIMIT).value, Ok(Done::Changed));
}

#[test]
fn names_of_units_are_checked() {
    use stead_resource::service::UnitName;
    for good in ["notes", "notes.service", "getty@tty1.service", "srv-notes.mount", "a:b_c-d.socket"] {
        assert!(good.parse::<UnitName>().is_ok(), "{good}");
    }
    for bad in ["", "*.service", "a b", "-x", "notes.", ".service", "a/b.service", "x;y"] {
        assert!(bad.parse::<UnitName>().is_err(), "{bad}");
    }
}
