//! Agents of Debian's resource-agents that no kit has, in a group: a file system, and Apache, which serves what is on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use stead_tests::command::{run, text, until};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(30);

/// In this order they end: the device is free once nothing on the hosts is mounted.
struct Scene {
    town: Town,
    device: Loop,
}

/// A disk that both hosts reach, one at a time.
struct Loop(String);

impl Loop {
    /// An empty ext4.
    fn new(image: &Path) -> Result<Loop> {
        fs::File::create(image)?.set_len(32 << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        Ok(Loop(run(Command::new("losetup").args(["--find", "--show"]).arg(image))?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).output();
    }
}

impl Scene {
    fn new() -> Result<Scene> {
        let town = Town::new(Path::new(LOAD))?;
        let device = Loop::new(&town.site.hosts.run().dir().join("image"))?;
        let scene = Scene { town, device };
        for own in scene.sides() {
            fs::create_dir_all(own.join("mnt"))?;
            fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
            fs::write(own.join("apache.conf"), configuration(&own))?;
        }
        let address = format!("{ADDRESS}/24");
        let watched = ["monitor", GROUP, "--set", GROUP, "--address", &address, "--witness", "oslo"];
        scene.town.site.lyon.cli(watched)?;
        scene.town.is_served_by("paris")?;
        Ok(scene)
    }

    /// Paris's and lyon's own directories, beside their copies of the set.
    fn sides(&self) -> [PathBuf; 2] {
        let notes = &self.town.notes;
        [&notes.source, &notes.replica].map(|set| set.parent().expect("a directory of a disk").join("own"))
    }

    /// By the paths of the set the directory is each node's own. The agent has curl ask by the card `lo`, which does not lead
    /// to the address.
    fn resources(&self) -> String {
        let own = self.town.notes.source.join("../own").display().to_string();
        format!(
            "[[group.resource]]\nname = 'disk'\nagent = 'ocf:heartbeat:Filesystem'\nquick = {{ interval = '300ms' }}\n\
             [group.resource.parameters]\ndevice = '{device}'\ndirectory = '{own}/mnt'\nfstype = 'ext4'\n\
             [[group.resource]]\nname = 'web'\nrequires = ['disk']\nagent = 'ocf:heartbeat:apache'\n\
             quick = {{ interval = '300ms' }}\n\
             [group.resource.parameters]\nhttpd = '/usr/sbin/apache2'\nconfigfile = '{own}/apache.conf'\nclient = 'wget'\n\
             statusurl = 'http://{ADDRESS}/server-status'\n",
            device = self.device.0
        )
    }

    fn apply(&self) -> Result<()> {
        let plan = self.town.site.lyon.cli(["plan", "show"])?;
        let file = self.town.site.hosts.run().dir().join("plan.toml");
        fs::write(&file, format!("{plan}\n{}", self.resources()))?;
        self.town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
        self.town.tells("paris", "resources: done")
    }

    fn answers(&self, expected: &str) -> Result<()> {
        let asked = || {
            let url = format!("http://{ADDRESS}/");
            let output = self.town.berne.command("curl").args(["-s", "--max-time", "2", &url]).output()?;
            anyhow::Ok(text(&output.stdout))
        };
        let answered = || Ok(asked()?.contains(expected));
        until(&format!("{expected} is answered"), SOON, answered).with_context(|| self.town.standing())
    }

    /// Is the disk mounted on paris, and on lyon?
    fn mounted(&self) -> Result<[bool; 2]> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let is_mounted = |own: &PathBuf| {
            let place = own.join("mnt").display().to_string();
            mounts.lines().any(|line| line.split(' ').nth(1) == Some(&place))
        };
        Ok(self.sides().each_ref().map(is_mounted))
    }
}

fn configuration(own: &Path) -> String {
    let own = own.display();
    let modules = ["mpm_event", "authz_core", "dir", "status"];
    let modules = modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    format!(
        "ServerRoot \"{own}\"\n{}DefaultRuntimeDir {own}\nPidFile {own}/apache.pid\nErrorLog {own}/apache.log\n\
         ServerName web.example.test\nListen {ADDRESS}:80\nUser www-data\nGroup www-data\nDocumentRoot {own}/mnt\n\
         <Directory {own}/mnt>\nRequire all granted\n</Directory>\n\
         <Location /server-status>\nSetHandler server-status\n</Location>\n",
        modules.concat()
    )
}

#[test]
fn a_file_system_and_apache_on_it_are_recovered_moved_and_brought_back() {
    let scene = Scene::new().unwrap();
    let (town, [paris, lyon]) = (&scene.town, scene.sides());
    scene.apply().unwrap();
    assert_eq!(scene.mounted().unwrap(), [true, false]);
    fs::write(paris.join("mnt/index.html"), "page one\n").unwrap();
    scene.answers("page one").unwrap();

    // The quick look of the disk finds it; what is served from it is restarted, too.
    run(Command::new("umount").arg("-l").arg(paris.join("mnt"))).unwrap();
    town.tells("paris", "resource disk: is restarted").unwrap();
    town.tells("paris", "all resources are up again").unwrap();
    scene.answers("page one").unwrap();
    assert_eq!(scene.mounted().unwrap(), [true, false]);

    let pid: i32 = fs::read_to_string(paris.join("apache.pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    town.tells("paris", "resource web: is restarted").unwrap();
    scene.answers("page one").unwrap();

    town.site.lyon.cli(["group", "move", GROUP, "--yes"]).unwrap();
    town.is_served_by("lyon").unwrap();
    scene.answers("page one").unwrap();
    assert_eq!(scene.mounted().unwrap(), [false, true]);
    fs::write(lyon.join("mnt/index.html"), "page two\n").unwrap();
    scene.answers("page two").unwrap();

    town.settles_with("lyon").unwrap();
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    scene.answers("page two").unwrap();
    assert_eq!(scene.mounted().unwrap(), [true, false]);
    let restarted = fs::read_to_string(town.site.paris.log_path()).unwrap();
    assert_eq!(restarted.matches("resource disk: is restarted").count(), 1, "{}", town.standing());
}
