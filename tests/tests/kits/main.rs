//! The recovery kits with the real programs: started, looked at, recovered, moved, brought back; with the data that was
//! served before.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use stead_tests::command::{run, text, until};
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(40);

/// A service that a kit keeps up.
trait Service {
    /// Its kit, with the values for this town.
    fn kit(&self) -> Vec<String>;

    /// What a client gets of it.
    fn asked(&self, town: &Town) -> Result<String>;

    /// A file that holds the number of its process.
    fn pid_file(&self) -> PathBuf;

    fn pid(&self) -> Result<Pid> {
        let text = fs::read_to_string(self.pid_file())?;
        Pid::from_raw(text.trim().parse()?).context("no process")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }
}

/// Where both hosts see the same, beneath the directory of the run.
fn place(town: &Town, name: &str) -> PathBuf {
    let path = town.site.hosts.run().dir().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    path
}

fn answers(town: &Town, service: &impl Service, expected: &str) -> Result<()> {
    let answered = || Ok(service.asked(town).is_ok_and(|told| told.contains(expected)));
    until(&format!("{expected} is answered"), SOON, answered).with_context(|| town.standing())
}

/// Its process is another one than `before`: while it starts, the file is there and may be empty.
fn is_another(town: &Town, service: &impl Service, before: Pid) -> Result<()> {
    let another = || Ok(service.pid().is_ok_and(|pid| pid != before));
    until("it is started again", SOON, another).with_context(|| town.standing())
}

/// The process that runs now.
fn running(town: &Town, service: &impl Service) -> Result<Pid> {
    let runs = || Ok(service.pid().is_ok());
    until("it runs", SOON, runs).with_context(|| town.standing())?;
    service.pid()
}

/// Has lyon watch paris, with the kit in the group.
fn kept(town: &Town, service: &impl Service) -> Result<()> {
    let (host, address) = (format!("{ADDRESS}/24"), "--address");
    town.site.lyon.cli(["monitor", GROUP, "--set", GROUP, address, &host, "--witness", "oslo"])?;
    town.is_served_by("paris")?;
    let kit = service.kit();
    let kit = town.site.lyon.cli(["kit", "show"].into_iter().chain(kit.iter().map(String::as_str)))?;
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    // Quick, so that the test is.
    let quick = [("\"10s\"", "\"500ms\""), ("\"30s\"", "\"500ms\""), ("\"20s\"", "\"2s\"")];
    let kit = quick.into_iter().fold(kit, |kit, (usual, quick)| kit.replace(usual, quick));
    fs::write(&file, format!("{plan}\n{}", kit.replacen("quick =", "stop-timeout = \"15s\"\nquick =", 1)))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
    town.tells("paris", "resources: done")
}

/// It is kept up through a crash, a hang, a dead server, and brought back.
fn is_kept(town: &mut Town, service: &impl Service, name: &str) -> Result<()> {
    kept(town, service)?;
    answers(town, service, "one")?;

    let first = running(town, service)?;
    service.signal(Signal::KILL)?;
    town.tells("paris", &format!("resource {name}: is restarted"))?;
    is_another(town, service, first)?;
    answers(town, service, "one")?;

    // It lives and does nothing: only the deep check finds that.
    town.tells("paris", "all resources are up again")?;
    let second = running(town, service)?;
    service.signal(Signal::STOP)?;
    is_another(town, service, second)?;
    answers(town, service, "one")?;

    town.site.paris.wait(GROUP)?;
    town.paris_dies()?;
    // It changed its user, and with it lost the mark by which all of paris dies.
    let _ = service.signal(Signal::KILL);
    town.is_served_by("lyon")?;
    answers(town, service, "one")?;
    town.paris_returns()?;
    town.settles_with("lyon")?;
    town.site.lyon.cli(["failback", GROUP, "--yes"])?;
    town.is_served_by("paris")?;
    answers(town, service, "one")
}

struct Nginx {
    root: PathBuf,
    run: PathBuf,
}

impl Nginx {
    fn new(town: &Town) -> Nginx {
        let nginx = Nginx { root: town.notes.source.clone(), run: place(town, "run") };
        fs::create_dir(nginx.root.join("html")).unwrap();
        fs::write(nginx.root.join("html/index.html"), "page one\n").unwrap();
        let run = nginx.run.display();
        let paths =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {run}/{kind};"));
        let text = format!(
            "pid {run}/nginx.pid;\nerror_log {run}/error.log;\nworker_processes 1;\nmaster_process off;\ndaemon on;\nevents {{}}\n\
             http {{ access_log off; {} server {{ listen 80; root html; }} }}\n",
            paths.join(" ")
        );
        fs::write(nginx.root.join("nginx.conf"), text).unwrap();
        nginx
    }
}

impl Service for Nginx {
    fn kit(&self) -> Vec<String> {
        let root = self.root.display();
        let values = [
            format!("config={root}/nginx.conf"),
            format!("prefix={root}"),
            format!("address={ADDRESS}:80"),
            "expect=page one".into(),
        ];
        ["nginx".to_owned()].into_iter().chain(values).collect()
    }

    fn asked(&self, town: &Town) -> Result<String> {
        let page = town.berne.inside(|| -> Result<String> {
            let address = format!("{ADDRESS}:80").parse()?;
            let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        page?
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join("nginx.pid")
    }
}

#[test]
fn nginx_is_kept_up_moved_and_brought_back() {
    let mut town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    fs::create_dir_all(&town.notes.source).unwrap();
    let nginx = Nginx::new(&town);
    town.site.protect(&town.notes, &[]).unwrap();
    is_kept(&mut town, &nginx, "nginx").unwrap();
}

struct MariaDb {
    data: PathBuf,
    run: PathBuf,
}

impl MariaDb {
    fn new(town: &Town) -> MariaDb {
        let mariadb = MariaDb { data: town.notes.source.join("data"), run: place(town, "run") };
        let mut install = Command::new("mysql_install_db");
        install.args(["--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(install.arg(format!("--datadir={}", mariadb.data.display()))).unwrap();
        // One on each line: so the server reads them when it has no clients.
        let words = "FLUSH PRIVILEGES;\nCREATE DATABASE notes;\nCREATE TABLE notes.said (word TEXT) ENGINE=InnoDB;\n\
                     INSERT INTO notes.said VALUES ('one');\nCREATE USER guest@'%';\n\
                     GRANT SELECT ON notes.* TO guest@'%';\n";
        let mut bootstrap = Command::new("mariadbd");
        bootstrap.args(["--no-defaults", "--user=mysql", "--bootstrap", "--innodb-buffer-pool-size=8M"]);
        bootstrap.arg(format!("--datadir={}", mariadb.data.display())).stdin(Stdio::piped());
        let mut child = bootstrap.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "the tables are made");
        mariadb
    }
}

impl Service for MariaDb {
    fn kit(&self) -> Vec<String> {
        let run = self.run.display();
        let values = [
            format!("data={}", self.data.display()),
            format!("run={run}"),
            format!("log={run}/mariadb.log"),
            "table=notes.said".into(),
        ];
        ["mariadb".to_owned()].into_iter().chain(values).collect()
    }

    fn asked(&self, town: &Town) -> Result<String> {
        let mut client = town.berne.command("timeout");
        client.args([
            "3",
            "mariadb",
            "--no-defaults",
            "-h",
            ADDRESS,
            "-u",
            "guest",
            "-Ne",
            "SELECT word FROM notes.said",
        ]);
        let output = client.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(text(&output.stdout))
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join("stead.pid")
    }
}

#[test]
fn mariadb_is_kept_up_moved_and_brought_back() {
    let town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    fs::create_dir_all(&town.notes.source).unwrap();
    let mariadb = MariaDb::new(&town);
    town.site.protect(&town.notes, &[]).unwrap();
    // In this order they end: what nobody starts again is ended last.
    let mut pair = Pair { town, mariadb };
    is_kept(&mut pair.town, &pair.mariadb, "mariadb").unwrap();
}

struct Pair {
    town: Town,
    mariadb: MariaDb,
}

/// The server changes its user, and with it loses the mark by which whatever a test started is ended.
impl Drop for MariaDb {
    fn drop(&mut self) {
        let run = self.run.display().to_string();
        let is_its = |entry: &fs::DirEntry| {
            fs::read(entry.path().join("cmdline")).is_ok_and(|words| String::from_utf8_lossy(&words).contains(&run))
        };
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_its) {
            let number = entry.file_name().to_string_lossy().parse().ok();
            if let Some(pid) = number.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}
