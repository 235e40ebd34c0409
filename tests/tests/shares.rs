//! Shares of a real Samba that go with their group: kept up, taken over, brought back, with the data and the users; and
//! withdrawn where the group is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use stead_tests::command::{text, until};
use stead_tests::host::Host;
use stead_tests::samba::{SHARE, Samba, Users};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(60);

/// In this order they end: what nobody starts again is ended last.
struct Office {
    town: Town,
    samba: Samba,
}

impl Office {
    fn new(users: Users) -> Result<Office> {
        let town = Town::unprotected(Path::new(LOAD), "notes")?;
        fs::create_dir_all(&town.notes.source)?;
        let samba = Samba::new(&town, users)?;
        town.site.protect(&town.notes, &[])?;
        let address = format!("{ADDRESS}/24");
        town.site.lyon.cli(["monitor", GROUP, "--set", GROUP, "--address", &address, "--witness", "oslo"])?;
        town.is_served_by("paris")?;
        Ok(Office { town, samba })
    }

    /// The plan with those resources in its only group, as a file.
    fn plan_with(&self, resources: &str) -> Result<PathBuf> {
        let plan = self.town.site.lyon.cli(["plan", "show"])?;
        let file = self.town.site.hosts.run().dir().join("plan.toml");
        fs::write(&file, format!("{plan}\n{resources}"))?;
        Ok(file)
    }

    fn apply(&self, plan: &Path) -> Result<()> {
        self.town.site.lyon.cli([Path::new("plan"), Path::new("apply"), plan, Path::new("--yes")])?;
        self.town.tells("paris", "resources: done")
    }

    /// Waits until a client reads that, which was written before.
    fn gives(&self, name: &str, content: &str) -> Result<()> {
        let given = || Ok(self.samba.get(&self.town, name).is_ok_and(|got| got == content));
        until(&format!("{name} is read"), SOON, given).with_context(|| self.standing())
    }

    fn takes(&self, name: &str, content: &str) -> Result<()> {
        let taken = || Ok(self.samba.put(&self.town, name, content).is_ok());
        until(&format!("{name} is written"), SOON, taken).with_context(|| self.standing())
    }

    fn is_another(&self, before: Pid) -> Result<()> {
        let another = || Ok(self.samba.pid(&self.town.site.hosts.paris).is_ok_and(|pid| pid != before));
        until("smbd is started again", SOON, another).with_context(|| self.standing())
    }

    /// The server on paris crashes whenever it runs, oftener than it is restarted there.
    fn goes_on_crashing(&self, paris: &Host) -> Result<()> {
        let serves = || Ok(self.town.monitor_at(self.town.node("lyon"))?["doing"] == "active");
        let moved = until("lyon serves", SOON, || {
            let _ = self.samba.signal(paris, Signal::KILL);
            serves()
        });
        moved.with_context(|| self.standing())?;
        self.town.tells("paris", "the resources cannot be kept up here")
    }

    fn standing(&self) -> String {
        let asked = self.samba.ask(&self.town, "ls").unwrap_or_else(|e| format!("{e:#}"));
        format!("a client is told: {asked}\n{}", self.town.standing())
    }
}

/// The share as a resource of its own: the servers are somebody else's.
fn share(samba: &Samba) -> String {
    let (path, config) = (samba.shared(), samba.here().join("smb.conf"));
    format!(
        "[[group.resource]]\nname = 'files'\nquick = {{ interval = '500ms' }}\nstop-timeout = '15s'\n\
         [group.resource.samba]\nshare = '{SHARE}'\npath = '{}'\nconfig = '{}'\noptions = {{ 'read only' = 'no' }}\n",
        path.display(),
        config.display()
    )
}

#[test]
fn the_kit_keeps_samba_up_moves_it_and_brings_it_back() {
    let mut office = Office::new(Users::InTheSet).unwrap();
    let here = office.samba.here().display().to_string();
    let values = [
        format!("share={SHARE}"),
        format!("path={}", office.samba.shared().display()),
        format!("config={here}/smb.conf"),
        format!("run={here}/pid"),
        format!("address={ADDRESS}"),
        format!("login=--authentication-file={here}/check"),
    ];
    let kit = ["kit", "show", "samba"].into_iter().chain(values.iter().map(String::as_str));
    let kit = office.town.site.lyon.cli(kit).unwrap();
    // Quick, so that the test is; not so quick that a share which is on its way is missed by the check.
    let quick = [("\"10s\"", "\"500ms\""), ("\"30s\"", "\"3s\""), ("\"20s\"", "\"5s\"")];
    let kit = quick.into_iter().fold(kit, |kit, (usual, quick)| kit.replace(usual, quick));
    let kit = kit.replacen("quick =", "restarts = 2\nstop-timeout = \"15s\"\nquick =", 1);

    // Samba would not share it: refused on either node, with the line and the remedy.
    let plan = office.plan_with(&kit).unwrap();
    let refused = office.town.site.lyon.output([Path::new("plan"), Path::new("apply"), &plan, Path::new("--yes")]);
    let told = text(&refused.unwrap().stderr);
    let written = fs::read_to_string(&plan).unwrap();
    let line = 1 + written.lines().position(|line| line == "[group.resource.samba]").unwrap();
    let place = format!("line {line}: group {GROUP}: lyon could not start resource {SHARE}");
    assert!(told.contains(&place) && told.contains("smb.conf does not include"), "{told}");
    assert!(told.contains("add at its end the line"), "{told}");
    office.samba.include(&office.town).unwrap();
    office.apply(&plan).unwrap();

    office.takes("one", "said on paris").unwrap();
    assert_eq!(fs::read_to_string(office.samba.shared().join("one")).unwrap(), "said on paris");
    let paris = office.town.site.hosts.paris.clone();

    let first = office.samba.pid(&paris).unwrap();
    office.samba.signal(&paris, Signal::KILL).unwrap();
    office.is_another(first).unwrap();
    office.gives("one", "said on paris").unwrap();
    office.town.tells("paris", "all resources are up again").unwrap();

    // It lives and does nothing: only the deep check finds that.
    let second = office.samba.pid(&paris).unwrap();
    office.samba.signal(&paris, Signal::STOP).unwrap();
    office.is_another(second).unwrap();
    office.takes("two", "said after a hang").unwrap();

    office.goes_on_crashing(&paris).unwrap();
    office.gives("one", "said on paris").unwrap();
    office.gives("two", "said after a hang").unwrap();
    office.town.settles_with("lyon").unwrap();
    office.town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    office.town.is_served_by("paris").unwrap();
    office.gives("two", "said after a hang").unwrap();

    office.town.site.settle(&office.town.notes).unwrap();
    let mut before = office.samba.stays(&office.town).unwrap();
    office.town.paris_dies().unwrap();
    // It has lost the mark by which all of paris dies.
    let _ = office.samba.signal(&paris, Signal::KILL);
    office.town.is_served_by("lyon").unwrap();
    office.gives("one", "said on paris").unwrap();
    office.gives("two", "said after a hang").unwrap();
    office.takes("three", "said on lyon").unwrap();
    before.is_cut().unwrap();

    office.town.paris_returns().unwrap();
    assert!(!office.samba.is_shared_by(&paris) || office.samba.pid(&paris).is_err(), "nobody shares the old copy");
    office.town.settles_with("lyon").unwrap();
    office.town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    office.town.is_served_by("paris").unwrap();
    for (name, content) in [("one", "said on paris"), ("two", "said after a hang"), ("three", "said on lyon")] {
        office.gives(name, content).unwrap();
    }
    office.takes("four", "said after all").unwrap();
    office.town.site.settle(&office.town.notes).unwrap();
}

#[test]
fn servers_that_run_anyway_share_it_where_the_group_is_and_nowhere_else() {
    let office = Office::new(Users::OnEachHost).unwrap();
    let (paris, lyon) = (office.town.site.hosts.paris.clone(), office.town.site.hosts.lyon.clone());
    office.samba.include(&office.town).unwrap();
    [&paris, &lyon].iter().for_each(|host| office.samba.serve(host).unwrap());
    let plan = office.plan_with(&share(&office.samba)).unwrap();
    office.apply(&plan).unwrap();
    office.takes("one", "said on paris").unwrap();
    assert!(office.samba.is_shared_by(&paris) && !office.samba.is_shared_by(&lyon));

    // A planned move ends what clients have with the old server.
    office.town.site.paris.wait(GROUP).unwrap();
    let mut before = office.samba.stays(&office.town).unwrap();
    office.town.site.lyon.cli(["group", "move", GROUP, "--yes"]).unwrap();
    office.town.is_served_by("lyon").unwrap();
    office.gives("one", "said on paris").unwrap();
    office.takes("two", "said on lyon").unwrap();
    before.is_cut().unwrap();
    assert!(office.samba.is_shared_by(&lyon) && !office.samba.is_shared_by(&paris));
    office.town.settles_with("lyon").unwrap();

    // One that is cut off shares it no more, although it lives and its server does.
    lyon.plugged(false).unwrap();
    office.town.is_served_by("paris").unwrap();
    until("lyon shares it no more", SOON, || Ok(!office.samba.is_shared_by(&lyon))).unwrap();
    office.samba.pid(&lyon).unwrap();
    office.gives("two", "said on lyon").unwrap();
    lyon.plugged(true).unwrap();
    office.town.settles_with("paris").unwrap();
    office.gives("one", "said on paris").unwrap();
    assert!(office.samba.is_shared_by(&paris) && !office.samba.is_shared_by(&lyon));
    office.town.site.settle(&office.town.notes).unwrap();
}
