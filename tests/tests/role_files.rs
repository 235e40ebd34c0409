//! Files that are others while a node serves: made from a replicated one with the paths of the node, or from copies; put
//! back at failback; and what is changed by hand is kept. And the list of what is not kept alike by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use stead_tests::command::{text, until};
use stead_tests::host::Host;
use stead_tests::service::{lost, owed};
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(30);

/// The directory of a host as its daemon sees it: the same path on both.
const HERE: &str = "/proc/self/cwd";

/// A service that reads from `etc/notes.ini` of its host where its database is; the file in the set says it with the path
/// of paris, where it is another than on lyon.
fn town() -> Town {
    let town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let start = fs::read_to_string(&town.commands.start).unwrap();
    let (before, rest) = start.split_once("/store/disk/notes/notes.db").unwrap();
    let (before, host) = before.split_at(before.rfind("$(dirname").unwrap());
    let read = format!("{before}\"$(sed -n 's/^Directory=//p' {host}/etc/notes.ini)\"/notes.db{rest}");
    fs::write(&town.commands.start, read).unwrap();
    let directory = town.notes.source.display().to_string();
    fs::write(town.notes.source.join("notes.ini"), format!("[Notes]\r\nDirectory={directory}\nLog={directory}/log\n"))
        .unwrap();
    for host in [&town.site.hosts.paris, &town.site.hosts.lyon] {
        let name = host.name();
        for dir in ["etc", "roles"] {
            fs::create_dir(host.dir().join(dir)).unwrap();
        }
        let installed = format!("[Notes]\nDirectory={directory}\nInstalled={name}\n");
        write(host, "etc/notes.ini", &installed);
        write(host, "etc/relay.conf", &format!("standby {name}"));
        write(host, "roles/standby", &format!("standby {name}"));
        write(host, "roles/active", &format!("active {name}"));
        fs::set_permissions(host.dir().join("roles/active"), fs::Permissions::from_mode(0o640)).unwrap();
    }
    town.site.protect(&town.notes, &[]).unwrap();
    town
}

fn write(host: &Host, name: &str, text: &str) {
    fs::write(host.dir().join(name), text).unwrap();
}

fn read(host: &Host, name: &str) -> String {
    fs::read_to_string(host.dir().join(name)).unwrap_or_default()
}

fn becomes(host: &Host, name: &str, expected: &str) {
    until(&format!("{name} of {} is {expected}", host.name()), SOON, || Ok(read(host, name) == expected)).unwrap();
}

/// Has lyon apply the plan as it is, with those tables in its only group.
fn with(town: &Town, tables: &str) -> Result<()> {
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, format!("{plan}\n{tables}"))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")]).map(drop)
}

fn role_files(town: &Town) -> String {
    let from = town.notes.source.join("notes.ini");
    format!(
        "[[group.role-file]]\npath = '{HERE}/etc/notes.ini'\nfrom = '{}'\n\
         [[group.role-file]]\npath = '{HERE}/etc/relay.conf'\nas-active = '{HERE}/roles/active'\nas-standby = '{HERE}/roles/standby'\n",
        from.display()
    )
}

fn ini(directory: &Path) -> String {
    format!("[Notes]\r\nDirectory={0}\nLog={0}/log\n", directory.display())
}

fn installed(town: &Town, name: &str) -> String {
    format!("[Notes]\nDirectory={}\nInstalled={name}\n", town.notes.source.display())
}

fn checked(town: &Town) -> String {
    text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout)
}

fn items(town: &Town) -> (Option<i32>, Vec<Value>) {
    let output = town.site.lyon.output(["checklist", GROUP, "--json"]).unwrap();
    let items: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), items.as_array().unwrap().clone())
}

fn item<'a>(items: &'a [Value], area: &str, what: &str) -> &'a Value {
    let found = items.iter().find(|item| item["area"] == area && item["what"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("{area} {what}: {items:#?}"))
}

/// Lyon tells of a role file that was changed by hand, or no more.
fn is_alerted(town: &Town, is_told: bool) {
    let told = || town.site.lyon.cli(["alerts"]);
    let is_so = || Ok(told()?.contains("role-file-drift") == is_told);
    until("lyon tells whether a file drifted", SOON, is_so).with_context(|| town.standing()).unwrap();
    assert!(!is_told || told().unwrap().contains("on lyon: "), "{}", town.standing());
}

#[test]
fn the_node_that_takes_over_serves_with_its_own_paths_and_all_is_put_back() {
    let mut town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    with(&town, &role_files(&town)).unwrap();
    let (paris, lyon) = (town.site.hosts.paris.clone(), town.site.hosts.lyon.clone());
    let (source, replica) = (town.notes.source.clone(), town.notes.replica.clone());
    becomes(&paris, "etc/notes.ini", &ini(&source));
    becomes(&paris, "etc/relay.conf", "active paris");
    assert_eq!(read(&lyon, "etc/notes.ini"), installed(&town, "lyon"));
    assert_eq!(read(&lyon, "etc/relay.conf"), "standby lyon");
    town.is_served_by("paris").unwrap();
    assert!(!checked(&town).contains("etc/"), "{}", checked(&town));

    let client = town.client(100).unwrap();
    let replicated = Instant::now();
    town.site.paris.wait(GROUP).unwrap();
    town.paris_dies().unwrap();
    town.answers(&client, "lyon", SOON).unwrap();
    town.is_served_by("lyon").unwrap();
    assert_eq!(read(&lyon, "etc/notes.ini"), ini(&replica));
    assert_eq!(read(&lyon, "etc/relay.conf"), "active lyon");
    let mode = fs::metadata(lyon.dir().join("etc/relay.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640, "of the copy");

    // Somebody works on it by hand while lyon serves.
    write(&lyon, "etc/relay.conf", "active lyon, by hand");
    let said = checked(&town);
    assert!(said.contains("group notes on lyon:") && said.contains("relay.conf was changed by hand"), "{said}");
    is_alerted(&town, true);

    town.paris_returns().unwrap();
    town.settles_with("lyon").unwrap();
    assert_eq!(read(&paris, "etc/notes.ini"), installed(&town, "paris"), "put back on the node that returns");
    assert_eq!(read(&paris, "etc/relay.conf"), "standby paris");
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    town.answers(&client, "paris", SOON).unwrap();
    town.settles_with("paris").unwrap();
    assert_eq!(read(&paris, "etc/notes.ini"), ini(&source));
    assert_eq!(read(&paris, "etc/relay.conf"), "active paris");
    assert_eq!(read(&lyon, "etc/notes.ini"), installed(&town, "lyon"));
    assert_eq!(read(&lyon, "etc/relay.conf"), "standby lyon");
    assert_eq!(read(&lyon, "etc/relay.conf.stead-kept-1"), "active lyon, by hand");
    town.tells("lyon", "relay.conf was changed by hand: what it was is kept in").unwrap();
    is_alerted(&town, false);
    let said = checked(&town);
    assert!(said.contains("relay.conf.stead-kept-1 holds what"), "{said}");
    let answers = client.stop();
    assert_eq!(lost(&owed(&answers, replicated), &source.join("notes.db")).unwrap(), 0);
}

#[test]
fn a_daemon_that_dies_at_the_switch_finishes_it() {
    let mut town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    with(&town, &role_files(&town)).unwrap();
    let (paris, lyon) = (town.site.hosts.paris.clone(), town.site.hosts.lyon.clone());
    becomes(&paris, "etc/relay.conf", "active paris");
    for side in ["before", "after"] {
        town.settles_with("paris").unwrap();
        town.site.lyon.kill();
        town.site.lyon.launch_with(&[("STEAD_CRASH", &format!("{GROUP}/role files/{side}"))]).unwrap();
        town.settles_with("paris").unwrap();
        let client = town.client(100).unwrap();
        town.paris_dies().unwrap();
        until("lyon dies at the switch", SOON, || town.site.lyon.has_died()).unwrap();
        town.site.lyon.kill();
        town.site.lyon.launch().unwrap();
        town.answers(&client, "lyon", SOON).unwrap();
        client.stop();
        assert_eq!(read(&lyon, "etc/notes.ini"), ini(&town.notes.replica), "{side}");
        assert_eq!(read(&lyon, "etc/relay.conf"), "active lyon", "{side}");

        town.paris_returns().unwrap();
        town.settles_with("lyon").unwrap();
        town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
        town.settles_with("paris").unwrap();
        assert_eq!(read(&lyon, "etc/notes.ini"), installed(&town, "lyon"), "{side}");
        assert_eq!(read(&lyon, "etc/relay.conf"), "standby lyon", "{side}");
        assert!(!lyon.dir().join("etc/relay.conf.stead-kept-1").exists(), "nobody changed it");
    }
}

#[test]
fn what_is_not_there_is_found_before_the_day() {
    let town = town();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let lyon = &town.site.hosts.lyon;
    let before = town.site.lyon.cli(["plan", "show"]).unwrap();
    let copy: PathBuf = lyon.dir().join("roles/active");
    fs::rename(&copy, lyon.dir().join("elsewhere")).unwrap();
    let refused = |tables: &str| format!("{:#}", with(&town, tables).expect_err(tables));
    let why = refused(&role_files(&town));
    assert!(why.contains("line ") && why.contains("lyon could not switch role file"), "{why}");
    assert!(why.contains("roles/active is not there"), "{why}");
    let inside = format!("[[group.role-file]]\npath = '{}/x.ini'\n", town.notes.source.display());
    let why = refused(&inside);
    assert!(why.contains("line ") && why.contains("is in set notes and would be replicated over"), "{why}");
    let why = refused("[[group.role-file]]\npath = '/etc/x.ini'\nas-actif = '/etc/y'\n");
    assert!(why.contains("as-actif"), "{why}");
    assert_eq!(town.site.lyon.cli(["plan", "show"]).unwrap(), before);

    fs::rename(lyon.dir().join("elsewhere"), &copy).unwrap();
    with(&town, &role_files(&town)).unwrap();
    becomes(&town.site.hosts.paris, "etc/relay.conf", "active paris");
    town.is_served_by("paris").unwrap();
    town.site.paris.wait(GROUP).unwrap();
    let (_, list) = items(&town);
    for name in ["etc/notes.ini", "etc/relay.conf"] {
        assert_eq!(item(&list, "role file", name)["alike"], "same", "{list:#?}");
    }

    // It goes, and is missed on the node where it will be needed.
    fs::remove_file(&copy).unwrap();
    let said = checked(&town);
    assert!(said.contains("group notes on lyon:") && said.contains("is not there"), "{said}");
    let (code, list) = items(&town);
    assert_eq!(code, Some(3));
    let relay = item(&list, "role file", "etc/relay.conf");
    assert_eq!(relay["alike"], "different");
    assert!(relay["nodes"][1][1].as_str().unwrap().contains("is not there"), "{relay}");
    // Both nodes are this machine: what is of it is the same.
    assert_eq!(item(&list, "machine", "/etc/hosts")["alike"], "same");
    assert_eq!(item(&list, "machine", "time zone")["alike"], "same");
    assert_eq!(item(&list, "program", "notes-start")["alike"], "same");
    assert_eq!(item(&list, "owner", "user 0")["alike"], "same");
    assert_eq!(item(&list, "by hand", "firewall")["alike"], "reminder");

    let shown = text(&town.site.paris.output(["checklist"]).unwrap().stdout);
    println!("{shown}");
    assert!(shown.starts_with("group notes: [x] the same on both nodes"), "{shown}");
    assert!(shown.contains("\n[x] machine: time zone ("), "{shown}");
    let refused = town.site.lyon.output(["checklist", "nothing"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));

    // Nobody switches them any more: they stay, and what was there before is kept.
    town.site.lyon.cli(["unmonitor", GROUP]).unwrap();
    let paris = &town.site.hosts.paris;
    assert_eq!(read(paris, "etc/notes.ini.stead-kept-1"), installed(&town, "paris"));
    assert_eq!(read(paris, "etc/notes.ini"), ini(&town.notes.source));
    assert_eq!(read(paris, "etc/relay.conf"), "active paris");
}
