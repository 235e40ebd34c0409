//! What stands for systemd where it is to say what it says seldom, or where it cannot be run: a directory with the state of
//! each unit, as files.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use stead_resource::service::{Manager, Unit};
use stead_resource::{Done, Failure, Resource, State};

const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);

/// The units of one test.
pub struct Units(pub tempfile::TempDir);

/// Prints and changes the files as `systemctl` would print and change systemd's state. `UNIT.will` says what comes of a start:
/// its first word is the state, `hang` never ends; `UNIT.stops` the same of a stop.
const SYSTEMCTL: &str = r#"#!/bin/sh
dir=$(dirname "$0")
while [ "${1#--no-}" != "$1" ] || [ "$1" = --system ]; do shift; done
verb=$1
for last; do unit=$last; done
get() { cat "$dir/$unit.$1" 2>/dev/null || echo "$2"; }
echo "$verb" >> "$dir/$unit.asked"
case $verb in
show)
    echo "Warning: something that is of no interest" >&2
    echo "LoadState=$(get load not-found)"
    echo "ActiveState=$(get active inactive)"
    echo "UnitFileState=$(get file '')" ;;
start)
    will=$(get will active)
    [ "$will" = hang ] && exec sleep 1000
    echo "$will" > "$dir/$unit.active"
    [ "$will" = failed ] && { echo "Job for $unit failed." >&2; exit 1; }
    exit 0 ;;
stop)
    [ "$(get stops '')" = hang ] && exec sleep 1000
    echo inactive > "$dir/$unit.active" ;;
kill) echo failed > "$dir/$unit.active" ;;
disable) [ "$(get file '')" != enabled ] || echo disabled > "$dir/$unit.file" ;;
reset-failed) [ "$(get active inactive)" != failed ] || echo inactive > "$dir/$unit.active" ;;
*) exit 1 ;;
esac
"#;

impl Units {
    pub fn new() -> Units {
        let units = Units(tempfile::tempdir().unwrap());
        fs::write(units.systemctl(), SYSTEMCTL).unwrap();
        fs::set_permissions(units.systemctl(), PermissionsExt::from_mode(0o755)).unwrap();
        units
    }

    /// The program that tells of them.
    pub fn systemctl(&self) -> PathBuf {
        self.0.path().join("systemctl")
    }

    /// A unit in that state: `active`, and `file` for whether it starts at boot.
    pub fn add(&self, unit: &str, active: &str, file: &str) {
        for (what, value) in [("load", "loaded"), ("active", active), ("file", file)] {
            self.set(unit, what, value);
        }
    }

    pub fn set(&self, unit: &str, what: &str, value: &str) {
        let _ = fs::remove_file(self.path(unit, "asked"));
        fs::write(self.path(unit, what), format!("{value}\n")).unwrap();
    }

    pub fn get(&self, unit: &str, what: &str) -> Option<String> {
        fs::read_to_string(self.path(unit, what)).ok().map(|text| text.trim().to_owned())
    }

    fn path(&self, unit: &str, what: &str) -> PathBuf {
        self.0.path().join(format!("{unit}.{what}"))
    }
}

/// What every manager has to do, over units that stand for systemd's; there are none yet.
pub fn conforms(units: &Units, manager: impl Manager) {
    let unit = Unit { name: "notes".parse().unwrap(), manager };
    let name = "notes.service";

    assert!(
        matches!(unit.status(LIMIT).value, State::Unknown(_)),
        "a unit that is not there is not known to be stopped"
    );
    assert!(matches!(unit.keep_from_boot(LIMIT).value, Err(Failure::Unusable(_))));

    units.add(name, "inactive", "enabled");
    assert_eq!(unit.status(LIMIT).value, State::Stopped);
    assert_eq!(unit.stop(LIMIT).value, Ok(Done::Already));
    assert_eq!(unit.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(unit.status(LIMIT).value, State::Started);
    assert_eq!(unit.start(LIMIT).value, Ok(Done::Already));
    assert_eq!(unit.stop(LIMIT).value, Ok(Done::Changed));
    assert_eq!(unit.status(LIMIT).value, State::Stopped);

    assert_eq!(unit.keep_from_boot(LIMIT).value, Ok(Done::Changed));
    assert_eq!(units.get(name, "file").as_deref(), Some("disabled"));
    assert_eq!(unit.keep_from_boot(LIMIT).value, Ok(Done::Already));
    units.set(name, "file", "static");
    assert!(matches!(unit.keep_from_boot(LIMIT).value, Err(Failure::Unusable(why)) if why.contains("static")));

    units.set(name, "will", "failed");
    let started = unit.start(LIMIT);
    assert!(matches!(started.value, Err(Failure::Failed(_))), "{started:?}");
    assert!(started.took < Duration::from_secs(3), "{started:?}");
    assert_eq!(unit.status(LIMIT).value, State::Stopped);

    for word in ["activating", "deactivating", "maintenance"] {
        units.set(name, "active", word);
        assert!(matches!(unit.status(LIMIT).value, State::Unknown(why) if why.contains(word)));
    }

    units.add(name, "active", "disabled");
    assert_eq!(unit.kill(LIMIT).value, Ok(()));
    assert_eq!(unit.status(LIMIT).value, State::Stopped);

    units.add(name, "inactive", "disabled");
    units.set(name, "will", "hang");
    let started = unit.start(SHORT);
    assert_eq!(started.value, Err(Failure::TimedOut(SHORT)));
    assert!(started.took < SHORT + Duration::from_secs(4), "{started:?}");
}
