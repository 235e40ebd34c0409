//! Zones of the DNS that go with a group: BIND 9 on paris and on lyon, turned by the agent `bind-zone`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::run;
use crate::host::Host;
use crate::outside::{Bind, OTHER, ZONE};
use crate::run::MARK;
use crate::town::Town;

/// Its group.
pub const ZONES: &str = "zones";
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/ocf/resource.d/stead/bind-zone");

/// The two servers.
pub struct Zone {
    /// Paris's.
    pub paris: Bind,
    /// Lyon's.
    pub lyon: Bind,
    agents: PathBuf,
}

impl Zone {
    /// Both run as secondaries, and paris has the zones; secondaries elsewhere are told of changes, too.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub fn start(town: &mut Town, address: &str, secondaries: &[&Host]) -> Result<Zone> {
        let [paris, lyon] = [&town.site.hosts.paris, &town.site.hosts.lyon];
        let others = |first| [&[first], secondaries].concat();
        let mut zone = Zone {
            paris: Bind::turned(paris, &others(lyon))?,
            lyon: Bind::turned(lyon, &others(paris))?,
            agents: town.site.hosts.run().dir().join("ocf"),
        };
        zone.paris.fill(address, 60)?;
        zone.paris.boot()?;
        zone.lyon.boot()?;
        install(&zone.agents)?;
        for node in [&mut town.site.paris, &mut town.site.lyon] {
            node.set_variable("OCF_ROOT", &zone.agents.display().to_string());
            node.stop()?;
            node.launch()?;
        }
        Ok(zone)
    }

    /// Has lyon watch paris for the zone, with that time-out.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn monitor(&self, town: &Town, timeout: &str) -> Result<()> {
        let group = format!(
            "[[group]]\nname = \"{ZONES}\"\nsource = \"paris\"\ntarget = \"lyon\"\nsets = []\nwitness = \"oslo\"\n\
             timeout = \"{timeout}\"\n"
        );
        let file = town.site.hosts.run().dir().join("zones.toml");
        fs::write(&file, format!("{}\n{group}\n{}", town.site.lyon.cli(["plan", "show"])?, self.kit(town)?))?;
        town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")]).map(drop)
    }

    /// What `ocf-tester` says of the agent, on paris and beside any group.
    ///
    /// # Errors
    /// Where the agent does not pass, or the program is missing.
    pub fn tested(&self, town: &Town) -> Result<String> {
        let host = &town.site.hosts.paris;
        let servers = format!("servers={} {}", self.paris.address(), self.lyon.address());
        let zones = format!("zones={ZONE}");
        let files = ["primary", "secondary"].map(|role| format!("{role}=named/zones.{role}"));
        let rest = ["switch=named/zones", "pid=named/named.pid", "key=named/stead.key", "rndc=-c named/rndc.conf"];
        let all = [&zones, &servers, &files[0], &files[1]].map(String::as_str).into_iter().chain(rest);
        let mut tester = host.command("ocf-tester");
        tester.args(["-v", "-n", ZONES]).args(all.flat_map(|parameter| ["-o", parameter]));
        tester.arg(self.agents.join("resource.d/stead/bind-zone")).env(MARK, host.dir().join("tester"));
        run(&mut tester)
    }

    /// The kit, quick for the test. Its paths are beneath the directory of each host.
    fn kit(&self, town: &Town) -> Result<String> {
        let root = format!("root={}", self.agents.display());
        let servers = format!("servers={} {}", self.paris.address(), self.lyon.address());
        let (zones, files) = (format!("zones={ZONE} {OTHER}"), ["etc=named", "run=named", "key=named/stead.key"]);
        let values = [&zones, &servers, &root].map(String::as_str);
        let rest = ["rndc=-c named/rndc.conf", "wait=3"];
        let words = [&["kit", "show", "bind-zone"][..], &values, &files, &rest].concat();
        let kit = town.site.lyon.cli(words)?;
        Ok(kit.replace("\"10s\"", "\"500ms\"").replace("\"1m\"", "\"1s\""))
    }
}

/// The agent as it is, run in the directory of the host.
fn install(agents: &Path) -> Result<()> {
    let (place, agent) = (agents.join("resource.d/stead"), fs::canonicalize(AGENT)?);
    fs::create_dir_all(&place)?;
    let run = format!("#!/bin/sh\ncd \"$(dirname \"${MARK}\")\" && exec {} \"$@\"\n", agent.display());
    let file = place.join("bind-zone");
    fs::write(&file, run)?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o755))?)
}
