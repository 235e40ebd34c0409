//! systemd itself: process 1 of namespaces of its own, on a copy of this machine's files that is gone when it ends.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{run, until};
use crate::host::Host;
use crate::run::Run;

const SOON: Duration = Duration::from_secs(20);
/// In a cgroup of its own, which systemd takes for the root of all.
const START: &str = r#"mkdir "$1" && echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;
const APART: &str = "setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --cgroup --uts --mount-proc";
/// What it changes is kept in memory, but for what the host has of its own; nothing of this machine's is started in it but a bus
/// and the journal.
const BOOT: &str = r#"set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty fuse; do cp -a /dev/$node dev; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
cat /proc/sys/kernel/random/uuid > run/boot
mount --bind run/boot proc/sys/kernel/random/boot_id
rm -rf etc/systemd/system/*
find lib/systemd/system/*.wants/ -type l ! -name '*journal*' ! -name 'dbus*' -delete
echo "$2" > etc/hostname
for own in srv var/lib/stead etc/systemd/system usr/bin/stead usr/bin/notes; do
    [ "$3" ] && [ -e "$3/$own" ] || continue
    if [ -d "$3/$own" ]; then mkdir -p $own; else touch $own; fi
    mount --bind "$3/$own" $own
done
mkdir before
pivot_root . before
umount -l before
rmdir before
export container=test
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
"#;

/// One that runs; it ends with the test.
pub struct Booted {
    /// What made its namespaces, and ends it when it is ended.
    maker: Child,
    pid: String,
    cgroup: PathBuf,
    run: Run,
}

impl Booted {
    /// Without a host it has the network of this process. What is in [`Booted::root`] of the host outlives it.
    ///
    /// # Errors
    /// Where this machine does not let it run; what it printed is named.
    pub fn on(host: Option<&Host>) -> Result<Booted> {
        let run = Run::new()?;
        let [log, root] = ["log", "root"].map(|name| run.dir().join(name));
        fs::create_dir(&root)?;
        let (out, cgroup) = (File::create(&log)?, cgroup(run.name())?);
        let mut maker = host.map_or_else(|| Command::new("sh"), |host| host.command("sh"));
        maker.args(["-c", START, "sh"]).arg(&cgroup).args(APART.split(' '));
        let (name, own) = host.map(|host| (host.name(), Booted::root(host))).unwrap_or(("localhost", PathBuf::new()));
        maker.args(["sh", "-c", BOOT, "sh"]).arg(root).arg(name).arg(own);
        let maker = maker.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let mut booted = Booted { maker, pid: String::new(), cgroup, run };
        let runs = until("systemd runs", SOON, || {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", booted.maker.id()))?;
            booted.pid = children.trim().to_owned();
            Ok(booted.bus().exists())
        });
        runs.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(booted)
    }

    /// Waits until it is off.
    ///
    /// # Errors
    /// After a while.
    pub fn goes_off(mut self) -> Result<()> {
        until("systemd ends", Duration::from_secs(60), || Ok(self.maker.try_wait()?.is_some()))
    }

    /// What a host has of its own: some directories and programs, each at its place beneath this one.
    pub fn root(host: &Host) -> PathBuf {
        host.dir().join("root")
    }

    /// Of its bus.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.bus().display())
    }

    /// A `systemctl` that asks it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn systemctl(&self) -> Result<PathBuf> {
        let path = self.run.dir().join("systemctl");
        fs::write(&path, format!("#!/bin/sh\nexec nsenter --target {} --mount --pid systemctl \"$@\"\n", self.pid))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// A program that runs among what it started.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--mount", "--pid", "--cgroup", "--uts", program]);
        command
    }

    /// Gives it a unit, started at boot or not.
    ///
    /// # Errors
    /// Where it does not take it.
    pub fn add(&self, unit: &str, text: &str, is_enabled: bool) -> Result<()> {
        let link = self.link(unit);
        fs::create_dir_all(link.parent().context("it has a directory")?)?;
        fs::write(self.inside("etc/systemd/system").join(unit), text)?;
        if is_enabled {
            symlink(format!("/etc/systemd/system/{unit}"), link)?;
        }
        run(Command::new(self.systemctl()?).arg("daemon-reload")).map(drop)
    }

    /// Is that unit started at boot?
    pub fn is_enabled(&self, unit: &str) -> bool {
        fs::symlink_metadata(self.link(unit)).is_ok()
    }

    /// A path as its programs see it, as this process has it.
    pub fn inside(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.pid).join("root").join(path)
    }

    fn bus(&self) -> PathBuf {
        self.inside("run/dbus/system_bus_socket")
    }

    fn link(&self, unit: &str) -> PathBuf {
        self.inside("etc/systemd/system/multi-user.target.wants").join(unit)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = (self.maker.kill(), self.maker.wait());
        let _ = until("its cgroups go", SOON, || {
            let mut remove = Command::new("find");
            Ok(remove.arg(&self.cgroup).args(["-depth", "-type", "d", "-delete"]).output()?.status.success())
        });
    }
}

/// Of that name, beneath this process's own.
fn cgroup(name: &str) -> Result<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).context("there is no cgroup v2")?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is_hierarchy = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let hierarchy = mounts.lines().find(is_hierarchy).and_then(|line| line.split(' ').nth(1));
    Ok(Path::new(hierarchy.context("cgroup v2 is not mounted")?).join(own).join(name))
}
