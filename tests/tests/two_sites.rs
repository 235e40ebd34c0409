//! A hot standby at another site, as docs/operating/two-sites.md has it: no address moves. Data, a file that differs by
//! role, a record of the DNS, the zone that it is in, and a provider who is told; there and back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use stead_tests::command::{text, until};
use stead_tests::host::Host;
use stead_tests::outside::{Bind, Listener, ZONE, registrations, resolved};
use stead_tests::service::{Client, Commands, lost, owed};
use stead_tests::town::{GROUP, Town};
use stead_tests::zone::{ZONES, Zone};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(30);
/// As long as a secondary that was asking a primary when that died goes on to wait for it, and more.
const FOLLOWS: Duration = Duration::from_secs(90);
const PARIS: &str = "10.77.0.1";
const LYON: &str = "10.77.0.2";
const PORT: u16 = 7000;
/// The directory of a host as its daemon sees it: the same path on both.
const HERE: &str = "/proc/self/cwd";

/// The two sites, and who is elsewhere.
struct Sites {
    town: Town,
    zone: Zone,
    /// A secondary name server, which clients ask.
    secondary: Bind,
    /// Where calls go: to whoever registered last.
    calls: Listener,
    /// What the other provider is told by requests.
    provider: Listener,
}

/// All of the page until `When paris fails`.
fn sites() -> Sites {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let oslo = town.oslo.host().clone();
    let zone = Zone::start(&mut town, PARIS, &[&oslo]).unwrap();
    // Lyon first: a primary that is silent is waited for.
    let secondary = Bind::secondary(&oslo, &[&town.site.hosts.lyon, &town.site.hosts.paris]).unwrap();
    let (calls, provider) = (Listener::start(&oslo).unwrap(), Listener::start(&town.berne).unwrap());
    let commands = service(&town, &calls).unwrap();
    [&town.site.hosts.paris, &town.site.hosts.lyon].into_iter().try_for_each(configure).unwrap();
    town.site.protect(&town.notes, &[]).unwrap();

    zone.monitor(&town, "8s").unwrap();
    until("paris has the zone", SOON, || Ok(zone.paris.update("begin").is_ok())).unwrap();
    let watch = ["monitor", GROUP, "--set", GROUP, "--witness", "oslo"].map(String::from).into_iter();
    town.site.lyon.cli(watch.chain(commands.options())).unwrap();
    // What runs already goes on with the configuration that it was started with.
    town.is_served_by("paris").unwrap();
    town.site.lyon.cli(["group", "offline", GROUP, "--yes"]).unwrap();
    let role_file = format!(
        "\n[[group.role-file]]\npath = '{HERE}/etc/registrations.conf'\nas-active = '{HERE}/roles/registrations.conf'\n\
         as-standby = '{HERE}/etc/registrations.none'\n"
    );
    let told = registrations(&[&zone.lyon, &zone.paris], &zone.paris.key_file(), &provider, 30);
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, town.site.lyon.cli(["plan", "show"]).unwrap() + &role_file + &told).unwrap();
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")]).unwrap();
    town.site.lyon.cli(["group", "online", GROUP]).unwrap();
    town.is_served_by("paris").unwrap();
    town.tells("paris", "dns www.example.test A: is 10.77.0.1").unwrap();
    Sites { town, zone, secondary, calls, provider }
}

/// A service on every address of its host that registers for calls where its configuration says so.
fn service(town: &Town, calls: &Listener) -> Result<Commands> {
    let place = town.site.hosts.run().dir();
    let commands = Commands::write(place, Path::new(LOAD), format!("0.0.0.0:{PORT}").parse()?, "notes")?;
    let host = "$(dirname \"$STEAD_TEST_HOST\")";
    let register = format!(
        "cd {host}\nlines=$(cat etc/registrations.conf)\n[ -n \"$lines\" ] || exit 0\n\
         setsid bash -c 'while :; do curl -s -m 1 -d \"$0\" {}/register; sleep 0.1; done' \"$lines\" \
         >/dev/null 2>&1 </dev/null &\necho $! >registrar.pid\n",
        calls.url()
    );
    let start = fs::read_to_string(&commands.start)?;
    fs::write(&commands.start, start + &register)?;
    let end = format!("#!/bin/bash\nkill -- -\"$(cat {host}/registrar.pid)\" 2>/dev/null\n");
    let stop = fs::read_to_string(&commands.stop)?;
    fs::write(&commands.stop, stop.replacen("#!/bin/bash\n", &end, 1))?;
    Ok(commands)
}

/// What differs by node, and by role.
fn configure(host: &Host) -> Result<()> {
    ["etc", "roles"].iter().try_for_each(|dir| fs::create_dir(host.dir().join(dir)))?;
    fs::write(host.dir().join("etc/registrations.none"), "")?;
    fs::write(host.dir().join("etc/registrations.conf"), "")?;
    Ok(fs::write(host.dir().join("roles/registrations.conf"), format!("register {}", host.name()))?)
}

impl Sites {
    /// A client that goes by the name alone.
    fn client(&self) -> Client {
        let (client, server) = (self.town.berne.clone(), self.town.oslo.host().clone());
        let place = move || resolved(&client, &server).map(|ip| (ip, PORT).into());
        Client::start_by(&self.town.berne, place, 50).unwrap()
    }

    /// Both groups are at that node, and everybody knows it.
    fn are_at(&self, name: &str, client: &Client) {
        let (address, primary) = if name == "paris" { (PARIS, &self.zone.paris) } else { (LYON, &self.zone.lyon) };
        self.town.is_served_by(name).unwrap();
        self.does(ZONES, name, "active");
        self.secondary.comes_to_say(address, FOLLOWS).unwrap_or_else(|e| panic!("{e:#}\n{}", self.town.standing()));
        until("the secondary is up to date", FOLLOWS, || Ok(self.secondary.serial() == primary.serial())).unwrap();
        self.town.answers(client, name, SOON).unwrap();
        self.gets_calls(name);
        let told = || Ok(self.town.monitor_at(self.town.node(name))?["remark"].is_null());
        until("nothing is left to tell", SOON, told).unwrap_or_else(|e| panic!("{e}\n{}", self.town.standing()));
    }

    fn gets_calls(&self, name: &str) {
        let last = || Ok(self.calls.heard().last().is_some_and(|last| *last == format!("register {name}")));
        until(&format!("{name} gets the calls"), SOON, last)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.town.standing()));
    }

    fn does(&self, group: &str, name: &str, what: &str) {
        let does = || Ok(self.town.group_at(group, self.town.node(name))?["doing"] == what);
        until(&format!("{name} is {what} in {group}"), SOON, does)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.town.standing()));
    }

    /// Who registered, each once for as long as nobody else did.
    fn registered(&self) -> Vec<String> {
        let mut all = self.calls.heard();
        all.dedup();
        all
    }
}

#[test]
fn the_other_site_serves_under_the_same_name_and_gives_everything_back() {
    let mut sites = sites();
    let client = sites.client();
    sites.are_at("paris", &client);
    let said = text(&sites.town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    assert!(!["dns ", "role file", "resource "].iter().any(|what| said.contains(what)), "{said}");
    let list = text(&sites.town.site.lyon.output(["checklist", GROUP]).unwrap().stdout);
    assert!(list.contains("[x] role file: ") && list.contains("registrations.conf"), "{list}");

    // The line between the sites fails, and the witness hears both.
    let (paris, lyon) = (sites.town.site.hosts.paris.clone(), sites.town.site.hosts.lyon.clone());
    paris.loses_heartbeats_to(&lyon, true).unwrap();
    sites.town.tells("lyon", "no takeover: the witness hears the active side").unwrap();
    sites.town.goes_on(&client, "paris").unwrap();
    paris.loses_heartbeats_to(&lyon, false).unwrap();

    // Paris fails: the service and the calls move at once, the record with the zone's primary.
    let replicated = Instant::now();
    sites.town.site.paris.wait(GROUP).unwrap();
    sites.town.paris_dies().unwrap();
    sites.town.is_served_by("lyon").unwrap();
    sites.gets_calls("lyon");
    sites.are_at("lyon", &client);
    assert_eq!(sites.provider.heard().len(), 1, "{:?}", sites.provider.heard());
    assert!(!sites.zone.lyon.has("changed"));
    sites.zone.lyon.update("changed").unwrap();

    // It returns, with the zone and the configuration that it had.
    sites.zone.paris.boot().unwrap();
    sites.town.paris_returns().unwrap();
    sites.does(ZONES, "paris", "standby");
    sites.does(GROUP, "paris", "restore-required");
    assert_eq!(fs::read_to_string(paris.dir().join("etc/registrations.conf")).unwrap(), "");
    sites.town.site.lyon.cli(["restore", GROUP, "--yes"]).unwrap();
    sites.town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    sites.town.site.lyon.cli(["failback", ZONES, "--yes"]).unwrap();
    sites.are_at("paris", &client);
    assert_eq!(fs::read_to_string(lyon.dir().join("etc/registrations.conf")).unwrap(), "");
    assert!(sites.zone.paris.has("changed") && sites.zone.paris.has("begin"));

    let registered = ["paris", "lyon", "paris"].map(|name| format!("register {name}"));
    assert_eq!(sites.registered(), registered, "two that register take each other's calls");
    let heard = sites.provider.heard();
    let moves = [("failover", "lyon"), ("failback", "paris")];
    let is = |(told, (event, node)): (&String, (&str, &str))| {
        told.starts_with(&format!("{GROUP} {event} ")) && told.ends_with(&format!(" {node}"))
    };
    assert!(heard.len() == 2 && heard.iter().zip(moves).all(is), "{heard:?}");
    let answers = client.stop();
    assert_eq!(lost(&owed(&answers, replicated), &sites.town.notes.source.join("notes.db")).unwrap(), 0);
}

#[test]
fn a_site_that_hears_nobody_stops_to_serve_and_is_secondary_when_it_is_heard_again() {
    let sites = sites();
    let client = sites.client();
    sites.are_at("paris", &client);
    let paris = sites.town.site.hosts.paris.clone();
    let cards = |are_up| ["eth0", "eth1"].iter().for_each(|card| paris.card(card, are_up).unwrap());
    cards(false);
    sites.are_at("lyon", &client);
    let is_secondary = || Ok(sites.zone.paris.control(&["zonestatus", ZONE])?.contains("type: secondary"));
    until("paris's server is a secondary by itself", SOON, is_secondary).unwrap();
    assert_eq!(fs::read_to_string(paris.dir().join("etc/registrations.conf")).unwrap(), "");

    cards(true);
    sites.does(ZONES, "paris", "standby");
    sites.does(GROUP, "paris", "restore-required");
    until("paris has lyon's zone", SOON, || Ok(sites.zone.paris.serial() == sites.zone.lyon.serial())).unwrap();
    assert_eq!(sites.zone.paris.says(), LYON);
    assert_eq!(sites.registered(), ["register paris", "register lyon"], "nobody registers whose lease is over");
    sites.town.answers(&client, "lyon", SOON).unwrap();
}
