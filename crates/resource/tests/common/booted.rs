//! systemd itself: process 1 of namespaces of its own, on a copy of this machine's files that is gone when it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// In a cgroup of its own, which systemd takes for the root of all.
const START: &str = r#"mkdir "$1" && echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;
const APART: &str = "setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --cgroup --mount-proc";
/// What it changes is kept in memory; nothing of this machine's is started in it but a bus.
const BOOT: &str = r#"set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
rm -rf etc/systemd/system/*
printf '[Unit]\nRequires=dbus.socket\nAfter=dbus.socket\n' > etc/systemd/system/test.target
mkdir before
pivot_root . before
umount -l before
rmdir before
export container=test
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
"#;

/// One that runs; it ends with the test.
pub struct Booted {
    /// What made its namespaces, and ends it when it is ended.
    maker: Child,
    pid: String,
    cgroup: PathBuf,
    dir: tempfile::TempDir,
}

impl Booted {
    /// None, and that is printed: this machine does not let it run.
    pub fn new() -> Option<Booted> {
        let dir = tempfile::tempdir().unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let cgroup = cgroup();
        let mut maker = Command::new("sh");
        maker.args(["-c", START, "sh"]).arg(&cgroup).args(APART.split(' ')).arg("sh");
        maker.args(["-c", BOOT, "sh"]).arg(dir.path().join("root"));
        let mut maker = maker.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let pid = until(|| {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", maker.id())).ok()?;
            let pid = children.trim().to_owned();
            fs::metadata(bus(&pid)).is_ok().then_some(pid)
        });
        if pid.is_none() {
            let _ = (maker.kill(), maker.wait());
            println!("systemd cannot be run here: {}", fs::read_to_string(dir.path().join("log")).unwrap());
        }
        Some(Booted { maker, pid: pid?, cgroup, dir })
    }

    /// Of its bus.
    pub fn address(&self) -> String {
        format!("unix:path={}", bus(&self.pid))
    }

    /// A `systemctl` that asks it.
    pub fn systemctl(&self) -> PathBuf {
        let path = self.dir.path().join("systemctl");
        fs::write(&path, format!("#!/bin/sh\nexec nsenter --target {} --mount --pid systemctl \"$@\"\n", self.pid))
            .unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// Gives it a unit, `enabled` or not.
    pub fn add(&self, unit: &str, text: &str, enabled: bool) {
        let dir = self.units();
        fs::write(dir.join(unit), text).unwrap();
        if enabled {
            fs::create_dir_all(dir.join("multi-user.target.wants")).unwrap();
            std::os::unix::fs::symlink(format!("/etc/systemd/system/{unit}"), self.link(unit)).unwrap();
        }
        let reloaded = Command::new(self.systemctl()).arg("daemon-reload").status().unwrap();
        assert!(reloaded.success());
    }

    /// Is that unit started at boot?
    pub fn is_enabled(&self, unit: &str) -> bool {
        fs::symlink_metadata(self.link(unit)).is_ok()
    }

    fn units(&self) -> PathBuf {
        format!("/proc/{}/root/etc/systemd/system", self.pid).into()
    }

    fn link(&self, unit: &str) -> PathBuf {
        self.units().join("multi-user.target.wants").join(unit)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = (self.maker.kill(), self.maker.wait());
        let remove = || Command::new("find").arg(&self.cgroup).args(["-depth", "-type", "d", "-delete"]).output().ok();
        until(|| remove().filter(|done| done.status.success()));
    }
}

/// Beneath this process's own.
fn cgroup() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let [groups, mounts] = ["cgroup", "mounts"].map(|file| fs::read_to_string(format!("/proc/self/{file}")).unwrap());
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let is_hierarchy = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let place = mounts.lines().find(is_hierarchy).and_then(|line| line.split(' ').nth(1)).unwrap_or("/sys/fs/cgroup");
    let name = format!("systemd-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    Path::new(place).join(own).join(name)
}

fn bus(pid: &str) -> String {
    format!("/proc/{pid}/root/run/dbus/system_bus_socket")
}

fn until<T>(mut told: impl FnMut() -> Option<T>) -> Option<T> {
    let moment = Instant::now() + SOON;
    loop {
        match told() {
            None if Instant::now() < moment => std::thread::sleep(Duration::from_millis(10)),
            told => return told,
        }
    }
}
