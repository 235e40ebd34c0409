//! systemd over D-Bus: a real bus, and what stands for systemd on it.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::systemd::{Units, conforms};
use stead_resource::service::{Dbus, Unit};
use stead_resource::{Resource, State};
use zbus::ObjectServer;
use zbus::connection::{Builder, Connection};
use zbus::wire::OwnedObjectPath;

const ROOT: &str = "/org/freedesktop/systemd1";

/// A bus of its own, which ends with the test.
struct Bus {
    daemon: Child,
    address: String,
    /// Its socket is in it.
    _dir: tempfile::TempDir,
}

impl Bus {
    fn new() -> Bus {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Command::new("dbus-daemon");
        daemon.args(["--session", "--nofork", "--print-address=1"]).stdout(Stdio::piped()).stderr(Stdio::null());
        daemon.arg(format!("--address=unix:path={}/bus", dir.path().display()));
        let mut daemon = daemon.spawn().expect("this test needs dbus-daemon");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Bus { daemon, address: address.trim().to_owned(), _dir: dir }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

struct Manager(Arc<Units>);
struct OneUnit(Arc<Units>, String);
struct Job;

fn path(kind: &str, name: &str) -> OwnedObjectPath {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{ROOT}/{kind}/{name}").try_into().unwrap()
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    async fn load_unit(&self, name: String, #[zbus(object_server)] server: &ObjectServer) -> OwnedObjectPath {
        let path = path("unit", &name);
        let _ = server.at(&path, OneUnit(self.0.clone(), name)).await;
        path
    }

    async fn start_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> OwnedObjectPath {
        let job = path("job", &name);
        match self.0.get(&name, "will").unwrap_or("active".into()).as_str() {
            "hang" => drop(server.at(&job, Job).await),
            word => self.0.set(&name, "active", word),
        }
        job
    }

    fn stop_unit(&self, name: String, _mode: String) -> OwnedObjectPath {
        self.0.set(&name, "active", "inactive");
        path("job", &name)
    }

    fn kill_unit(&self, name: String, _whom: String, signal: i32) {
        assert_eq!(signal, 9);
        self.0.set(&name, "active", "failed");
    }

    fn reset_failed_unit(&self, name: String) -> zbus::fdo::Result<()> {
        let is_failed = self.0.get(&name, "active").as_deref() == Some("failed");
        if is_failed {
            self.0.set(&name, "active", "inactive");
        }
        if is_failed { Ok(()) } else { Err(zbus::fdo::Error::Failed("not failed".into())) }
    }

    fn disable_unit_files(&self, names: Vec<String>, _runtime: bool) -> Vec<(String, String, String)> {
        for name in names.iter().filter(|name| self.0.get(name, "file").as_deref() == Some("enabled")) {
            self.0.set(name, "file", "disabled");
        }
        Vec::new()
    }

    fn reload(&self) {}
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl OneUnit {
    #[zbus(property)]
    fn load_state(&self) -> String {
        self.0.get(&self.1, "load").unwrap_or("not-found".into())
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        self.0.get(&self.1, "active").unwrap_or("inactive".into())
    }

    #[zbus(property)]
    fn unit_file_state(&self) -> String {
        self.0.get(&self.1, "file").unwrap_or_default()
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Job")]
impl Job {
    #[zbus(property)]
    fn state(&self) -> String {
        "running".into()
    }
}

fn serve(bus: &Bus, units: Arc<Units>) -> Connection {
    zbus::block_on(async {
        let builder = Builder::address(bus.address.as_str()).name("org.freedesktop.systemd1");
        builder.serve_at(ROOT, Manager(units)).build().await.unwrap()
    })
}

#[test]
fn dbus_conforms() {
    let bus = Bus::new();
    let units = Arc::new(Units::new());
    let _systemd = serve(&bus, units.clone());
    conforms(&units, Dbus::at(&bus.address));
}

#[test]
fn a_bus_without_systemd_and_no_bus_tell_nothing() {
    let bus = Bus::new();
    for address in [bus.address.as_str(), "unix:path=/nonexistent/bus"] {
        let unit = Unit { name: "notes".parse().unwrap(), manager: Dbus::at(address) };
        assert!(matches!(unit.status(Duration::from_secs(10)).value, State::Unknown(_)));
        assert!(unit.stop(Duration::from_secs(1)).value.is_err());
    }
}

#[test]
fn a_bus_that_says_nothing_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let unit = Unit { name: "notes".parse().unwrap(), manager: Dbus::at(format!("unix:path={}", path.display())) };
    let began = Instant::now();
    assert!(matches!(unit.status(Duration::from_millis(300)).value, State::Unknown(_)));
    assert!(began.elapsed() < Duration::from_secs(2));
}
