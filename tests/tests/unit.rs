//! The daemon as the unit that ships, under systemd itself: installed as the README has it, and started again where it hangs
//! or dies, while captures and services go on; and what it writes to the journal.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use stead_tests::booted::Booted;
use stead_tests::command::{run, until};
use stead_tests::host::{Host, Hosts};
use stead_tests::node::stead;

const SOON: Duration = Duration::from_secs(30);
const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist");
const UNITS: [&str; 3] = ["stead.service", "stead-barrier.service", "stead-away.service"];
/// Sooner than the minute that the unit has.
const HANGS: &str = "[Service]\nWatchdogSec=3\n";
/// A service that writes to the set for as long as it runs.
const SERVICE: &str = "#!/bin/sh
runs() { kill -0 \"$(cat /run/notes.pid)\" 2>/dev/null; }
case $1 in
start) runs && exit
	setsid sh -c 'echo $$ >/run/notes.pid; while :; do date >>/srv/notes/log; sleep 0.05; done' <&- >/dev/null 2>&1 &
	until runs; do sleep 0.01; done ;;
stop) kill -KILL \"$(cat /run/notes.pid)\"; while runs; do sleep 0.01; done ;;
status) runs || exit 3 ;;
esac
";

/// Works in the set from the boot on, with one file for as long as it runs.
const WRITER: &str = "[Service]
ExecStart=sh -c 'exec >>/srv/notes/log && while :; do date +%N; sleep 0.01; done'
Restart=always
RestartSec=100ms
StartLimitIntervalSec=0
[Install]
WantedBy=multi-user.target
";

/// A machine that was set up as the README says.
struct Machine(Booted);

impl Machine {
    fn set_up(host: &Host) -> Result<Machine> {
        let root = Booted::root(host);
        let place = |place: &str| -> Result<PathBuf> {
            let path = root.join(place);
            fs::create_dir_all(path.parent().context("it is in a directory")?)?;
            Ok(path)
        };
        symlink(stead()?, place("usr/bin/stead")?)?;
        let service = place("usr/bin/notes")?;
        fs::write(&service, SERVICE)?;
        fs::set_permissions(&service, fs::Permissions::from_mode(0o755))?;
        symlink(host.disk(), place("srv")?)?;
        fs::create_dir_all(place("var/lib/stead")?)?;
        for unit in UNITS {
            fs::copy(Path::new(DIST).join(unit), place(&format!("etc/systemd/system/{unit}"))?)?;
        }
        fs::write(place("etc/systemd/system/stead.service.d/hangs.conf")?, HANGS)?;

        let machine = Machine(Booted::on(Some(host))?);
        machine.run(&format!("systemd-analyze verify --man=no {}", UNITS.join(" ")))?;
        machine.run("systemctl enable --now stead")?;
        Ok(machine)
    }

    fn run(&self, words: &str) -> Result<String> {
        let mut words = words.split(' ');
        let mut command = self.0.command(words.next().context("a program")?);
        Ok(run(command.args(words))?.trim().to_owned())
    }

    fn property(&self, name: &str) -> Result<String> {
        self.run(&format!("systemctl show --property={name} --value stead"))
    }

    /// Waits until systemd has started the daemon again so many times, and it answers.
    fn is_back(&self, restarts: &str) -> Result<()> {
        let is_back = || Ok(self.property("NRestarts")? == restarts && self.run("stead status --local").is_ok());
        until(&format!("it was started again {restarts} times"), SOON, is_back).with_context(|| self.journal())
    }

    /// Waits until it serves.
    fn serves(&self) {
        let status = || anyhow::Ok(serde_json::from_str::<Value>(&self.run("stead status --json --local")?)?);
        let serves = || Ok(status()?["monitors"][0]["doing"] == "active");
        until("it serves", SOON, serves).with_context(|| self.journal()).unwrap();
    }

    /// Waits until the service has written more than it has now.
    fn is_written_to(&self) -> Result<()> {
        let written = || fs::metadata(self.0.inside("srv/notes/log")).map_or(0, |log| log.len());
        let before = written();
        until("the service writes", SOON, || Ok(written() > before))
    }

    /// What of this machine outlives the daemon: the service, and whoever captures.
    fn outlives(&self) -> Result<(String, String)> {
        Ok((self.run("cat /run/notes.pid")?, self.run("pgrep -f stead.capture")?))
    }

    fn journal(&self) -> String {
        self.run("journalctl --no-pager -u stead").unwrap_or_default()
    }

    /// What is in the journal with that field.
    fn entries(&self, field: &str) -> Result<Vec<Value>> {
        let said = self.run(&format!("journalctl --no-pager -o json {field}"))?;
        said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Both, and paris has a set of which lyon has a copy.
fn machines() -> Option<(Machine, Machine, Hosts)> {
    let hosts = Hosts::new().unwrap();
    if let Err(why) = Booted::on(Some(&hosts.paris)) {
        println!("systemd cannot be run here: {why:#}");
        return None;
    }
    let [paris, lyon] = [&hosts.paris, &hosts.lyon].map(|host| Machine::set_up(host).unwrap());
    paris.run(&format!("stead join {}", lyon.run("stead invite").unwrap())).unwrap();
    fs::create_dir(paris.0.inside("srv/notes")).unwrap();
    paris.run("stead protect /srv/notes --on lyon --set notes").unwrap();
    Some((paris, lyon, hosts))
}

/// Lyon watches paris, which serves.
fn monitored(paris: &Machine, lyon: &Machine) {
    let service = "--start=/usr/bin/notes start|--stop=/usr/bin/notes stop|--status=/usr/bin/notes status";
    run(lyon.0.command("stead").args(["monitor", "notes", "--set", "notes"]).args(service.split('|'))).unwrap();
    paris.serves();
}

#[test]
fn a_daemon_that_hangs_dies_or_is_restarted_is_not_missed() {
    let Some((paris, lyon, _hosts)) = machines() else { return };
    monitored(&paris, &lyon);
    let before = paris.outlives().unwrap();
    let signal = |signal: &str| paris.run(&format!("kill -{signal} {}", paris.property("MainPID")?));
    signal("STOP").unwrap();
    paris.is_back("1").unwrap();
    signal("KILL").unwrap();
    paris.is_back("2").unwrap();
    paris.run("systemctl restart stead").unwrap();
    paris.run("stead status --local").unwrap();
    assert_eq!(paris.outlives().unwrap(), before);
    paris.is_written_to().unwrap();

    paris.run("stead wait notes --timeout 60s").unwrap();
    paris.run("systemctl stop stead").unwrap();
    assert_eq!(paris.property("Result").unwrap(), "success");
    assert_eq!(lyon.property("NRestarts").unwrap(), "0");
}

#[test]
fn the_journal_is_searched_by_set_group_and_kind_of_alert() {
    let Some((paris, lyon, _hosts)) = machines() else { return };
    monitored(&paris, &lyon);
    // Lyon has to hear first that paris serves.
    until("lyon serves", SOON, || Ok(paris.run("stead switchover notes --yes").is_ok())).unwrap();
    let has = |machine: &Machine, field: &str, said: &str| {
        let entries = machine.entries(field).unwrap();
        let of_stead = entries.iter().all(|entry| entry["SYSLOG_IDENTIFIER"] == "stead");
        let found = entries.iter().any(|entry| entry["MESSAGE"].as_str().unwrap().contains(said));
        assert!(of_stead && found, "{field}: {entries:?}");
    };
    has(&paris, "STEAD_SET=notes", "the connection's state set=notes target=lyon state=replicating");
    has(&paris, "STEAD_GROUP=notes", "handed over");
    until("it is alerted", SOON, || Ok(!lyon.entries("STEAD_KIND=stands-in")?.is_empty())).unwrap();
    has(&lyon, "STEAD_KIND=stands-in", "lyon stands in for paris");
    assert!(lyon.entries("STEAD_SET=other").unwrap().is_empty());
}

#[test]
fn what_is_written_from_the_boot_on_is_captured() {
    let Some((paris, lyon, hosts)) = machines() else { return };
    let unit = Booted::root(&hosts.paris).join("etc/systemd/system/writer.service");
    fs::write(unit, WRITER).unwrap();
    paris.run("systemctl daemon-reload").unwrap();
    paris.run("systemctl enable --now writer").unwrap();
    paris.is_written_to().unwrap();
    // Without a word to anybody.
    drop(paris);
    let paris = Machine(Booted::on(Some(&hosts.paris)).unwrap());
    // The directory is empty until the daemon is up.
    let runs = |unit: &str| paris.run(&format!("systemctl is-active {unit}")).is_ok();
    let work = || Ok(runs("stead") && runs("writer") && paris.0.inside("srv/notes/log").exists());
    until("both run", SOON, work).with_context(|| paris.journal()).unwrap();
    paris.is_written_to().unwrap();
    paris.run("systemctl stop writer").unwrap();
    paris.run("stead wait notes --timeout 60s").unwrap();
    let [ours, theirs] = [&paris, &lyon].map(|machine| fs::read(machine.0.inside("srv/notes/log")).unwrap());
    assert!(!ours.is_empty() && ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
}

#[test]
fn a_machine_that_is_shut_down_hands_over_first_what_it_serves() {
    let Some((paris, lyon, hosts)) = machines() else { return };
    monitored(&paris, &lyon);
    paris.run("systemctl enable --now stead-away").unwrap();
    paris.run("systemctl restart stead").unwrap();
    paris.serves();
    assert!(!lyon.run("stead explain notes").unwrap().contains("switchover"), "a restart of the daemon moves nothing");

    paris.is_written_to().unwrap();
    paris.run("systemctl poweroff").unwrap();
    paris.0.goes_off().unwrap();
    lyon.serves();
    lyon.is_written_to().unwrap();
    let told = lyon.run("stead explain notes").unwrap();
    assert!(told.contains("switchover") && !told.contains("is silent"), "{told}");
    let [ours, theirs] = [hosts.paris.disk(), hosts.lyon.disk()].map(|disk| fs::read(disk.join("notes/log")).unwrap());
    assert!(!ours.is_empty() && theirs.starts_with(&ours), "something that paris had is lost");
}
