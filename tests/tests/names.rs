//! Applications that insist on the host name of their source: started under it on either node, while both keep their own.
//! The web server is that of docs/operating/web-server.md, step by step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stead_tests::command::{run, text, until};
use stead_tests::host::Host;
use stead_tests::node::stead;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const PROCEDURE: &str = include_str!("../../docs/operating/web-server.md");
const SOON: Duration = Duration::from_secs(40);
const ID: &str = "0123456789abcdef0123456789abcdef";

/// Has lyon apply the plan as it is, with that behind it.
fn with(town: &Town, more: &str) -> Result<()> {
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, format!("{plan}\n{more}"))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")]).map(drop)
}

/// The host name as another program on that host sees it.
fn own_name(host: &Host) -> String {
    let told = run(host.command("sh").args(["-c", "uname -n; cat /etc/hostname"])).unwrap();
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The mounts that a process sees, at that path alone: their types, the topmost last.
fn mounts_at(pid: &str, path: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let at = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == path);
    let kind = |line: &str| Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned());
    Ok(table.lines().filter(at).filter_map(kind).collect())
}

/// The configuration of the procedure.
fn documented_configuration() -> String {
    let begins = "`/srv/web/nginx.conf`:\n\n   ```\n";
    let (_, rest) = PROCEDURE.split_once(begins).expect("the procedure has a configuration");
    let (text, _) = rest.split_once("   ```").expect("which ends");
    text.lines().map(|line| format!("{}\n", line.trim_start_matches("   "))).collect()
}

/// A web server whose site is that of the host's name: under another one it has no pages.
struct Web {
    root: PathBuf,
    hosts: [Host; 2],
}

impl Web {
    fn new(town: &Town) -> Web {
        let hosts = [&town.site.hosts.paris, &town.site.hosts.lyon].map(Host::clone);
        let web = Web { root: town.notes.source.clone(), hosts };
        fs::create_dir_all(web.root.join("html")).unwrap();
        fs::write(web.root.join("html/index.html"), "page one\n").unwrap();
        configure(&web.hosts[0], &web.root);
        web
    }

    /// The kit with the name, as the procedure adds them to the plan.
    fn resource(&self, town: &Town) -> Result<String> {
        let root = self.root.display();
        let values = [format!("config={root}/nginx.conf"), format!("prefix={root}"), format!("address={ADDRESS}:80")];
        let fixed = ["page=/name", "expect=paris"];
        let args = ["kit", "show", "nginx"].into_iter().chain(values.iter().map(String::as_str)).chain(fixed);
        let kit = town.site.lyon.cli(args)?;
        // Quick, so that the test is.
        let kit = kit.replacen(
            "quick = { interval = \"10s\" }",
            "quick = { interval = \"500ms\" }\nstop-timeout = \"15s\"",
            1,
        );
        Ok(format!("{kit}\n[group.resource.identity]\nhost = \"paris\"\n"))
    }

    /// The process that serves on a host, in decimal digits.
    fn pid(&self, host: &Host) -> Result<String> {
        Ok(fs::read_to_string(host.dir().join("web/nginx.pid"))?.trim().to_owned())
    }

    /// Where it runs it has lost the mark by which everything of a host is killed.
    fn kill(&self, host: &Host) {
        let Ok(pid) = self.pid(host) else { return };
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "nginx\n") {
            let _ = run(Command::new("kill").args(["-KILL", &pid]));
        }
    }

    fn is_served(&self, town: &Town, page: &str) {
        let served = || Ok(asked(town, "paris", "/").is_ok_and(|told| told == page));
        until(&format!("{page} is served"), SOON, served).with_context(|| town.standing()).unwrap();
        assert_eq!(asked(town, "paris", "/name").unwrap_or_default(), "", "the site has no such page");
        assert_eq!(asked(town, ADDRESS, "/name").unwrap(), "paris");
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|host| self.kill(host));
    }
}

/// The hosts of a test share one `/run`: each has a file of its own, in which that is another path.
fn configure(host: &Host, root: &Path) {
    let run = host.dir().join("web");
    fs::create_dir(&run).unwrap();
    let run = run.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = kinds.map(|kind| format!("{kind}_temp_path {run}/{kind};")).join(" ");
    let text = documented_configuration()
        .replace("/run/nginx-web.pid", &format!("{run}/nginx.pid"))
        .replace("/var/log/nginx/web.log", &format!("{run}/error.log"))
        .replace("user www-data;", "master_process off;")
        .replace("http {", &format!("http {{\n    access_log off;\n    {paths}"));
    fs::write(root.join("nginx.conf"), text).unwrap();
}

/// What a client gets of the site of that name behind the address.
fn asked(town: &Town, site: &str, page: &str) -> Result<String> {
    let mut curl = town.berne.command("curl");
    curl.args(["-sS", "--fail", "--max-time", "2", "-H", &format!("Host: {site}"), &format!("http://{ADDRESS}{page}")]);
    let output = curl.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(text(&output.stdout).trim().to_owned())
}

/// Systemd has them `shared`: what is mounted later arrives in other views. In containers they are `private`, mostly.
fn has_its_mounts(host: &Host, how: &str) {
    run(Command::new("mount").arg(format!("--make-{how}")).arg(host.store())).unwrap();
}

#[test]
fn a_web_server_has_the_name_of_its_source_wherever_it_runs() {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let (paris, lyon) = (town.site.hosts.paris.clone(), town.site.hosts.lyon.clone());
    [&paris, &lyon].into_iter().for_each(|host| has_its_mounts(host, "shared"));
    let before = own_name(&lyon);
    assert!(!before.contains("paris"), "this machine has the name of the test");
    let web = Web::new(&town);
    let replica = town.notes.replica.clone();

    // Protecting, and failover.
    town.site.protect(&town.notes, &["--exclude", "/nginx.conf"]).unwrap();
    configure(&lyon, &lyon.beneath(&replica));
    let (address, group) = (format!("{ADDRESS}/24"), ["monitor", GROUP, "--set", GROUP, "--witness", "oslo"]);
    town.site.lyon.cli(group.into_iter().chain(["--address", &address])).unwrap();
    town.is_served_by("paris").unwrap();
    with(&town, &web.resource(&town).unwrap()).unwrap();
    town.tells("paris", "resources: done").unwrap();
    web.is_served(&town, "page one");
    let checked = text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    assert!(!checked.contains("resource nginx"), "{checked}");
    let view = Path::new("/proc").join(web.pid(&paris).unwrap()).join("root");
    let seen = fs::read_to_string(view.join("etc/hosts")).unwrap();
    assert!(seen.starts_with(&format!("{ADDRESS} paris\n")), "{seen}");

    // The source dies.
    town.site.paris.wait(GROUP).unwrap();
    town.paris_dies().unwrap();
    web.kill(&paris);
    town.is_served_by("lyon").unwrap();
    web.is_served(&town, "page one");
    assert_eq!(own_name(&lyon), before);
    fs::write(replica.join("html/index.html"), "page two\n").unwrap();
    web.is_served(&town, "page two");

    // Restoring and failback, while a program that never ends has a view of the mounts of its own.
    town.paris_returns().unwrap();
    town.settles_with("lyon").unwrap();
    let mut lasting = lyon.command(stead().unwrap());
    let mut lasting = lasting.args(["as", "milan", "--", "sleep", "1000"]).spawn().unwrap();
    let view = lasting.id().to_string();
    let has_view = || Ok(fs::read_to_string(format!("/proc/{view}/comm"))?.trim() == "sleep");
    until("it has begun", SOON, has_view).unwrap();
    assert_eq!(mounts_at(&view, &replica).unwrap(), mounts_at("self", &replica).unwrap());
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    web.is_served(&town, "page two");
    town.settles_with("paris").unwrap();
    assert_eq!(mounts_at(&view, &replica).unwrap(), mounts_at("self", &replica).unwrap());
    assert!(!mounts_at(&view, &replica).unwrap().iter().any(|kind| kind.starts_with("fuse")));
    assert_eq!(own_name(&lyon), before);
    let _ = (lasting.kill(), lasting.wait());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" - tmpfs stead "), "{mounts}");
}

/// Starts under its own name alone, writes down what it sees into a directory, and goes on with a file open there.
fn program(town: &Town) -> PathBuf {
    let path = town.site.hosts.run().dir().join("application");
    let text = r#"#!/bin/sh
pid=$(dirname "$STEAD_TEST_HOST")/$2.pid
runs() { [ -e "$pid" ] && [ -e "/proc/$(cat "$pid")/exe" ]; }
[ "$(uname -n)" = "$2" ] || { echo "this is not $2 but $(uname -n)"; exit 1; }
case $1 in
start)
    runs && exit
    { cat /etc/hostname /etc/machine-id; getent hosts "$2" | tr -s ' '; } >"$3/told.$2"
    (cd "$3" && exec sleep 1000 <"$3/told.$2" >/dev/null 2>&1) &
    echo $! >"$pid" ;;
stop) while runs; do kill "$(cat "$pid")"; sleep 0.05; done; rm -f "$pid" ;;
status) runs || exit 3 ;;
esac
"#;
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn resource(program: &Path, name: &str, dir: &Path, identity: &str) -> String {
    let command = |word| format!("{word} = ['{}', '{word}', '{name}', '{}']\n", program.display(), dir.display());
    let commands = ["start", "stop", "status"].map(command).concat();
    let look = "quick = { interval = '200ms' }\n";
    format!(
        "[[group.resource]]\nname = '{name}'\n{look}{commands}[group.resource.identity]\nhost = '{name}'\n{identity}\n"
    )
}

#[test]
fn two_names_are_on_one_node_at_once_and_neither_is_its_own() {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    let lyon = town.site.hosts.lyon.clone();
    [&town.site.hosts.paris, &lyon].into_iter().for_each(|host| has_its_mounts(host, "private"));
    town.site.protect(&town.notes, &[]).unwrap();
    let (before, source, replica) = (own_name(&lyon), town.notes.source.clone(), town.notes.replica.clone());
    town.monitor(&["--witness", "oslo"]).unwrap();
    let program = program(&town);
    let everywhere = town.site.hosts.run().dir().to_path_buf();
    let identity = format!("machine-id = '{ID}'\n");
    let other = "[[group]]\nname = 'mail'\nsource = 'lyon'\ntarget = 'paris'\nwitness = 'oslo'\nsets = []\n";
    let mail = resource(&program, "rome", &everywhere, "hosts = ['10.77.0.7 rome']");
    with(&town, &format!("{}{other}{mail}", resource(&program, "paris", &source, &identity))).unwrap();
    let told = |dir: &Path, name: &str| fs::read_to_string(dir.join(format!("told.{name}"))).unwrap_or_default();
    let of_paris = format!("paris\n{ID}\n{ADDRESS} paris\n");
    until("it has started on paris", SOON, || Ok(told(&source, "paris") == of_paris)).unwrap();
    let own_id = fs::read_to_string("/etc/machine-id").unwrap();
    let of_rome = format!("rome\n{own_id}10.77.0.7 rome\n");
    until("the other one has started on lyon", SOON, || Ok(told(&everywhere, "rome") == of_rome)).unwrap();

    // What it says on lyon is said there.
    fs::remove_file(source.join("told.paris")).unwrap();
    town.site.paris.wait(GROUP).unwrap();
    town.paris_dies().unwrap();
    town.is_served_by("lyon").unwrap();
    town.tells("lyon", "resources: done").unwrap();
    assert_eq!(told(&replica, "paris"), of_paris);
    let checked = text(&town.site.lyon.output(["plan", "check"]).unwrap().stdout);
    assert!(checked.contains("has a name of its own: mount --make-rshared /"), "{checked}");
    let pid = |name: &str| fs::read_to_string(lyon.dir().join(format!("{name}.pid"))).unwrap().trim().to_owned();
    let names = |pid: &str| run(Command::new("nsenter").args(["-t", pid, "-u", "uname", "-n"])).unwrap();
    assert_eq!([names(&pid("paris")), names(&pid("rome"))], ["paris\n", "rome\n"]);
    assert_eq!(own_name(&lyon), before);

    // It holds a file of the set open, in a view of its own: it is stopped, and the set goes back.
    town.paris_returns().unwrap();
    town.settles_with("lyon").unwrap();
    let ended = pid("paris");
    town.site.lyon.cli(["failback", GROUP, "--yes"]).unwrap();
    town.is_served_by("paris").unwrap();
    until("it has started on paris", SOON, || Ok(told(&source, "paris") == of_paris)).unwrap();
    assert!(!lyon.dir().join("paris.pid").exists() && !Path::new("/proc").join(&ended).join("exe").exists());
    assert!(!mounts_at("self", &replica).unwrap().iter().any(|kind| kind.starts_with("fuse")));
    assert_eq!((own_name(&lyon), names(&pid("rome"))), (before, "rome\n".into()));
}

#[test]
fn names_that_cannot_be_are_refused_with_their_line() {
    let town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    for (resource, expected) in [
        ("agent = 'ocf:heartbeat:nginx'\nidentity = { host = 'pa_ris' }", "identity: host is no host name"),
        (
            "agent = 'ocf:heartbeat:nginx'\nidentity = { host = 'paris', machine-id = '1' }",
            "identity: machine-id is not made",
        ),
        ("agent = 'ocf:heartbeat:nginx'\nidentity = { host = 'paris', name = 'x' }", "unknown field `name`"),
        ("unit = 'web'\nidentity = { host = 'paris' }", "have its ExecStart begin with stead as, in a drop-in"),
    ] {
        let refused = with(&town, &format!("[[group.resource]]\nname = 'web'\n{resource}\n"));
        let why = format!("{:#}", refused.expect_err(resource));
        assert!(why.contains(expected) && why.contains("line "), "{expected}: {why}");
    }
}

#[test]
fn who_may_not_change_names_is_told_so() {
    let stead = stead().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]).arg(&stead);
    let output = command.args(["as", "paris", "--", "uname", "-n"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(125), String::new()));
    let told = text(&output.stderr);
    assert!(told.contains("uname was not started under the name paris") && told.contains("SYS_ADMIN"), "{told}");
    let output = Command::new(&stead).args(["as", "paris", "--", "sh", "-c", "uname -n; exit 7"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), "paris\n".into()));
}
