//! Units of systemd itself, asked over D-Bus and by `systemctl`.

mod common;

use std::time::Duration;

use common::booted::Booted;
use stead_resource::service::{Dbus, Manager, Systemctl, Unit};
use stead_resource::{Done, Failure, Resource, State};

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(500);

fn unit<M: Manager>(name: &str, manager: M) -> Unit<M> {
    Unit { name: name.parse().unwrap(), manager }
}

fn text(service: &str) -> String {
    format!("[Service]\n{service}\n[Install]\nWantedBy=multi-user.target\n")
}

#[test]
fn over_d_bus() {
    if let Some(systemd) = Booted::new() {
        works(&systemd, || Dbus::at(systemd.address()));
    }
}

#[test]
fn by_systemctl() {
    if let Some(systemd) = Booted::new() {
        works(&systemd, || Systemctl { program: systemd.systemctl() });
    }
}

fn works<M: Manager>(systemd: &Booted, manager: impl Fn() -> M) {
    starts_and_stops(systemd, unit("notes", manager()));
    is_kept_from_boot(systemd, unit("notes", manager()), unit("fixed", manager()));
    tells_what_fails(systemd, unit("broken", manager()));
    ends_what_hangs(systemd, unit("slow", manager()), unit("deaf", manager()));
}

fn starts_and_stops(systemd: &Booted, notes: Unit<impl Manager>) {
    assert!(matches!(notes.status(LIMIT).value, State::Unknown(_)), "it is not there");
    systemd.add("notes.service", &text("ExecStart=sleep infinity"), true);
    assert_eq!(notes.status(LIMIT).value, State::Stopped);
    assert_eq!(notes.stop(LIMIT).value, Ok(Done::Already));
    assert_eq!(notes.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(notes.status(LIMIT).value, State::Started);
    assert_eq!(notes.start(LIMIT).value, Ok(Done::Already));
    assert_eq!(notes.kill(LIMIT).value, Ok(()));
    assert_eq!(notes.stop(LIMIT).value.map(drop), Ok(()));
    assert_eq!(notes.status(LIMIT).value, State::Stopped);
    assert_eq!(notes.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(notes.stop(LIMIT).value, Ok(Done::Changed));
}

fn is_kept_from_boot(systemd: &Booted, notes: Unit<impl Manager>, fixed: Unit<impl Manager>) {
    assert!(systemd.is_enabled("notes.service"));
    assert_eq!(notes.keep_from_boot(LIMIT).value, Ok(Done::Changed));
    assert!(!systemd.is_enabled("notes.service"));
    assert_eq!(notes.keep_from_boot(LIMIT).value, Ok(Done::Already));
    systemd.add("fixed.service", "[Service]\nExecStart=sleep infinity\n", false);
    assert!(matches!(fixed.keep_from_boot(LIMIT).value, Err(Failure::Unusable(why)) if why.contains("static")));
}

/// systemd starts nothing that failed too often, but where it is told to forget that.
fn tells_what_fails(systemd: &Booted, broken: Unit<impl Manager>) {
    systemd.add("broken.service", &text("Type=exec\nExecStart=/run/broken"), false);
    for _ in 0..7 {
        assert!(matches!(broken.start(LIMIT).value, Err(Failure::Failed(_))));
        assert_eq!(broken.status(LIMIT).value, State::Stopped);
    }
    systemd.add("broken.service", &text("ExecStart=sleep infinity"), false);
    assert_eq!(broken.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(broken.stop(LIMIT).value, Ok(Done::Changed));
}

fn ends_what_hangs(systemd: &Booted, slow: Unit<impl Manager>, deaf: Unit<impl Manager>) {
    systemd.add("slow.service", &text("Type=notify\nExecStart=sleep infinity"), false);
    assert_eq!(slow.start(SHORT).value, Err(Failure::TimedOut(SHORT)));
    assert!(matches!(slow.status(LIMIT).value, State::Unknown(why) if why.contains("activating")));
    assert_eq!(slow.stop(LIMIT).value, Ok(Done::Changed));
    let service = "ExecStart=sh -c \"trap '' TERM; while :; do sleep 1; done\"\nTimeoutStopSec=infinity";
    systemd.add("deaf.service", &text(service), false);
    assert_eq!(deaf.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(deaf.stop(SHORT).value, Err(Failure::TimedOut(SHORT)));
    assert!(matches!(deaf.status(LIMIT).value, State::Unknown(why) if why.contains("deactivating")));
    assert_eq!(deaf.kill(LIMIT).value, Ok(()));
    assert_eq!(deaf.stop(LIMIT).value.map(drop), Ok(()));
    assert_eq!(deaf.status(LIMIT).value, State::Stopped);
}
