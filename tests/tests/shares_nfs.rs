//! Exports of a real NFS server, nfs-ganesha, that go with their group; clients without the kernel's help.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use stead_tests::command::{text, until};
use stead_tests::host::Host;
use stead_tests::run::kill_program;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(60);

/// In this order they end: what nobody starts again is ended last.
struct Office {
    town: Town,
    ganesha: Ganesha,
}

/// The server changes its user, and with it loses the mark by which whatever a test started is ended.
struct Ganesha {
    run: PathBuf,
}

impl Drop for Ganesha {
    fn drop(&mut self) {
        kill_program("ganesha.nfsd", &self.run);
    }
}

/// The host's own directory, with a configuration that exports the set from where it lies there.
fn configure(host: &Host, notes: &Path) -> Result<()> {
    let dir = host.dir().join("ganesha");
    fs::create_dir_all(dir.join("recovery"))?;
    let text = format!(
        "NFS_CORE_PARAM {{ Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; Protocols = 4; }}\n\
         NFS_KRB5 {{ Active_krb5 = false; }}\n\
         NFSV4 {{ Grace_Period = 5; Lease_Lifetime = 5; RecoveryBackend = fs; RecoveryRoot = {}; }}\n\
         EXPORT {{ Export_Id = 7; Filesystem_Id = 7.7; Path = {}; Pseudo = /files; Access_Type = RW; \
         Squash = No_Root_Squash; Protocols = 4; Transports = TCP; SecType = sys; FSAL {{ Name = VFS; }} }}\n\
         LOG {{ Default_Log_Level = EVENT; }}\n",
        dir.join("recovery").display(),
        notes.display()
    );
    Ok(fs::write(dir.join("ganesha.conf"), text)?)
}

impl Office {
    fn new() -> Result<Office> {
        let town = Town::unprotected(Path::new(LOAD), "notes")?;
        fs::create_dir_all(town.notes.source.join("shared"))?;
        symlink("../../../ganesha", town.notes.source.join("here"))?;
        configure(&town.site.hosts.paris, &town.notes.source.join("shared"))?;
        configure(&town.site.hosts.lyon, &town.notes.replica.join("shared"))?;
        let ganesha = Ganesha { run: town.site.hosts.run().dir().into() };
        town.site.protect(&town.notes, &[])?;
        let address = format!("{ADDRESS}/24");
        town.site.lyon.cli(["monitor", GROUP, "--set", GROUP, "--address", &address, "--witness", "oslo"])?;
        town.is_served_by("paris")?;
        let office = Office { town, ganesha };
        office.apply_kit()?;
        Ok(office)
    }

    fn apply_kit(&self) -> Result<()> {
        let lyon = &self.town.site.lyon;
        let here = self.town.notes.source.join("here").display().to_string();
        let values = [
            format!("config={here}/ganesha.conf"),
            format!("run={here}"),
            format!("log={here}/ganesha.log"),
            format!("address={ADDRESS}"),
        ];
        let kit = lyon.cli(["kit", "show", "nfs-ganesha"].into_iter().chain(values.iter().map(String::as_str)))?;
        let quick = [("\"10s\"", "\"500ms\""), ("\"30s\"", "\"3s\""), ("\"20s\"", "\"5s\"")];
        let kit = quick.into_iter().fold(kit, |kit, (usual, quick)| kit.replace(usual, quick));
        let kit = kit.replacen("quick =", "stop-timeout = \"15s\"\nquick =", 1);
        let file = self.ganesha.run.join("plan.toml");
        fs::write(&file, format!("{}\n{kit}", lyon.cli(["plan", "show"])?))?;
        lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
        self.town.tells("paris", "resources: done")
    }

    /// What a new client on berne gets.
    fn ask(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut client = self.town.berne.command("timeout");
        let output = client.args(["5", program]).args(words).stdin(Stdio::null()).output()?;
        let told = text(&output.stdout) + &text(&output.stderr);
        ensure!(output.status.success(), "{told}");
        Ok(text(&output.stdout))
    }

    fn gives(&self, name: &str, content: &str) -> Result<()> {
        let given = || Ok(self.ask("nfs-cat", &[&url(name)]).is_ok_and(|got| got == content));
        until(&format!("{name} is read"), SOON, given).with_context(|| self.standing())
    }

    fn takes(&self, name: &str, content: &str) -> Result<()> {
        let file = self.ganesha.run.join("put");
        fs::write(&file, content)?;
        let taken = || Ok(self.ask("nfs-cp", &[&file.display().to_string(), &url(name)]).is_ok());
        until(&format!("{name} is written"), SOON, taken).with_context(|| self.standing())
    }

    fn pid(&self) -> Result<Pid> {
        let text = fs::read_to_string(self.town.site.hosts.paris.dir().join("ganesha/stead-ganesha.pid"))?;
        Pid::from_raw(text.trim().parse()?).context("no process")
    }

    fn is_another(&self, before: Pid) -> Result<()> {
        let another = || Ok(self.pid().is_ok_and(|pid| pid != before));
        until("ganesha is started again", SOON, another).with_context(|| self.standing())
    }

    fn standing(&self) -> String {
        let asked = self.ask("nfs-ls", &[&url("")]).unwrap_or_else(|e| format!("{e:#}"));
        let log = fs::read_to_string(self.town.site.hosts.paris.dir().join("ganesha/ganesha.log")).unwrap_or_default();
        let log: Vec<_> = log.lines().rev().take(30).collect();
        format!("a client is told: {asked}\n{}\n{}", log.join("\n"), self.town.standing())
    }
}

fn url(name: &str) -> String {
    let slash = if name.is_empty() { "" } else { "/" };
    format!("nfs://{ADDRESS}/files{slash}{name}?version=4")
}

#[test]
fn the_kit_keeps_ganesha_up_moves_it_and_brings_it_back() {
    let mut office = Office::new().unwrap();
    office.takes("one", "said on paris").unwrap();
    let shared = office.town.notes.source.join("shared");
    assert_eq!(fs::read_to_string(shared.join("one")).unwrap(), "said on paris");

    let first = office.pid().unwrap();
    kill_process(first, Signal::KILL).unwrap();
    office.is_another(first).unwrap();
    office.gives("one", "said on paris").unwrap();
    office.town.tells("paris", "all resources are up again").unwrap();

    // It lives and does nothing: only the deep check finds that.
    let second = office.pid().unwrap();
    kill_process(second, Signal::STOP).unwrap();
    office.is_another(second).unwrap();
    office.takes("two", "said after a hang").unwrap();

    // Handles of files that the kernel has forgotten find them again.
    fs::write("/proc/sys/vm/drop_caches", "2\n").unwrap();
    office.gives("one", "said on paris").unwrap();

    office.town.site.settle(&office.town.notes).unwrap();
    office.town.paris_dies().unwrap();
    let _ = kill_process(office.pid().unwrap(), Signal::KILL);
    office.town.is_served_by("lyon").unwrap();
    office.gives("one", "said on paris").unwrap();
    office.gives("two", "said after a hang").unwrap();
    office.takes("three", "said on lyon").unwrap();

    office.town.paris_returns().unwrap();
    office.town.settles_with("lyon").unwrap();
    office.town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    office.town.is_served_by("paris").unwrap();
    for (name, content) in [("one", "said on paris"), ("two", "said after a hang"), ("three", "said on lyon")] {
        office.gives(name, content).unwrap();
    }
    office.town.site.settle(&office.town.notes).unwrap();
}
