//! Units of systemd itself: asked over D-Bus and by `systemctl`, and kept up by the recovery kit.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use stead_resource::service::{Dbus, Manager, Systemctl, Unit};
use stead_resource::{Done, Failure, Resource, State};
use stead_tests::booted::Booted;
use stead_tests::command::{run, until};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(500);

fn unit<M: Manager>(name: &str, manager: M) -> Unit<M> {
    Unit { name: name.parse().unwrap(), manager }
}

fn text(service: &str) -> String {
    format!("[Service]\n{service}\n[Install]\nWantedBy=multi-user.target\n")
}

#[test]
fn units_are_worked_over_d_bus() {
    let Some(systemd) = booted() else { return };
    works(&systemd, || Dbus::at(systemd.address()));
}

#[test]
fn units_are_worked_by_systemctl() {
    let Some(systemd) = booted() else { return };
    let program = systemd.systemctl().unwrap();
    works(&systemd, || Systemctl { program: program.clone() });
}

fn booted() -> Option<Booted> {
    Booted::on(None).map_err(|why| println!("systemd cannot be run here: {why:#}")).ok()
}

fn works<M: Manager>(systemd: &Booted, manager: impl Fn() -> M) {
    starts_and_stops(systemd, unit("notes", manager()));
    is_kept_from_boot(systemd, unit("notes", manager()), unit("fixed", manager()));
    tells_what_fails(systemd, unit("broken", manager()));
    ends_what_hangs(systemd, unit("slow", manager()), unit("deaf", manager()));
}

fn starts_and_stops(systemd: &Booted, notes: Unit<impl Manager>) {
    let state = notes.status(LIMIT).value;
    assert!(matches!(state, State::Unknown(_)), "it is not there: {state:?}");
    systemd.add("notes.service", &text("ExecStart=sleep infinity"), true).unwrap();
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
    systemd.add("fixed.service", "[Service]\nExecStart=sleep infinity\n", false).unwrap();
    assert!(matches!(fixed.keep_from_boot(LIMIT).value, Err(Failure::Unusable(why)) if why.contains("static")));
}

/// systemd starts nothing that failed too often, but where it is told to forget that.
fn tells_what_fails(systemd: &Booted, broken: Unit<impl Manager>) {
    systemd.add("broken.service", &text("Type=exec\nExecStart=/run/broken"), false).unwrap();
    for _ in 0..7 {
        assert!(matches!(broken.start(LIMIT).value, Err(Failure::Failed(_))));
        assert_eq!(broken.status(LIMIT).value, State::Stopped);
    }
    systemd.add("broken.service", &text("ExecStart=sleep infinity"), false).unwrap();
    assert_eq!(broken.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(broken.stop(LIMIT).value, Ok(Done::Changed));
}

fn ends_what_hangs(systemd: &Booted, slow: Unit<impl Manager>, deaf: Unit<impl Manager>) {
    systemd.add("slow.service", &text("Type=notify\nExecStart=sleep infinity"), false).unwrap();
    assert_eq!(slow.start(SHORT).value, Err(Failure::TimedOut(SHORT)));
    assert!(matches!(slow.status(LIMIT).value, State::Unknown(why) if why.contains("activating")));
    assert_eq!(slow.stop(LIMIT).value, Ok(Done::Changed));
    let service = "ExecStart=sh -c \"trap '' TERM; while :; do sleep 1; done\"\nTimeoutStopSec=infinity";
    systemd.add("deaf.service", &text(service), false).unwrap();
    assert_eq!(deaf.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(deaf.stop(SHORT).value, Err(Failure::TimedOut(SHORT)));
    assert!(matches!(deaf.status(LIMIT).value, State::Unknown(why) if why.contains("deactivating")));
    assert_eq!(deaf.kill(LIMIT).value, Ok(()));
    assert_eq!(deaf.stop(LIMIT).value.map(drop), Ok(()));
    assert_eq!(deaf.status(LIMIT).value, State::Stopped);
}

/// Each host has a systemd of its own, with a web server that says whose it is.
#[test]
fn the_kit_keeps_a_unit_up_moves_it_and_brings_it_back() {
    if booted().is_none() {
        return;
    }
    let mut town = Town::new(Path::new(env!("CARGO_BIN_EXE_stead-load"))).unwrap();
    let systemds = [&town.site.hosts.paris, &town.site.hosts.lyon].map(|host| Booted::on(Some(host)).unwrap());
    let [paris, lyon] = &systemds;
    for (systemd, node) in [(paris, &mut town.site.paris), (lyon, &mut town.site.lyon)] {
        fs::create_dir(systemd.inside("srv/web")).unwrap();
        fs::write(systemd.inside("srv/web/index.html"), node.name()).unwrap();
        let service = "ExecStart=python3 -m http.server 80 --directory /srv/web";
        systemd.add("web.service", &text(service), true).unwrap();
        node.stop().unwrap();
        let program = systemd.systemctl().unwrap();
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        node.launch_with(&[("PATH", &path)]).unwrap();
    }
    kept(&town).unwrap();
    answers(&town, "paris");

    let tell = |systemd: &Booted, words: &[&str]| run(Command::new(systemd.systemctl().unwrap()).args(words)).unwrap();
    tell(paris, &["kill", "--signal=KILL", "web"]);
    town.tells("paris", "resource web: is restarted").unwrap();
    answers(&town, "paris");
    // It cannot be started here any more.
    paris.add("web.service", &text("ExecStart=false"), false).unwrap();
    tell(paris, &["kill", "--signal=KILL", "web"]);
    answers(&town, "lyon");
    town.settles_with("lyon").unwrap();
    assert!(!tell(paris, &["show", "--property=ActiveState", "web"]).contains("=active"));

    paris.add("web.service", &text("ExecStart=python3 -m http.server 80 --directory /srv/web"), false).unwrap();
    town.site.lyon.cli(["group", "move", GROUP, "--yes"]).unwrap();
    answers(&town, "paris");
    town.settles_with("paris").unwrap();
    assert!(!tell(lyon, &["show", "--property=ActiveState", "web"]).contains("=active"));
}

/// Has lyon watch paris, with the kit in the group.
fn kept(town: &Town) -> Result<()> {
    let (host, address) = (format!("{ADDRESS}/24"), format!("address={ADDRESS}:80"));
    town.site.lyon.cli(["monitor", GROUP, "--set", GROUP, "--address", &host, "--witness", "oslo"])?;
    town.is_served_by("paris")?;
    let kit = town.site.lyon.cli(["kit", "show", "systemd", "unit=web.service", "name=web", &address])?;
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, format!("{plan}\n{}", kit.replace("\"10s\"", "\"500ms\"")))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
    town.tells("paris", "resources: done")
}

/// Waits until a client is answered by that host.
fn answers(town: &Town, name: &str) {
    let asked = || -> Result<String> {
        town.berne.inside(|| {
            let mut stream = TcpStream::connect_timeout(&format!("{ADDRESS}:80").parse()?, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?
    };
    let answered = || Ok(asked().is_ok_and(|text| text.ends_with(name)));
    until(&format!("{name} answers"), Duration::from_secs(40), answered).with_context(|| town.standing()).unwrap();
}
