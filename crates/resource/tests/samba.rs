//! Shares with a real Samba on loopback: published, used, withdrawn; a server that is dead, hung, or does not know of them.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stead_model::plan::SambaPlan;
use stead_resource::share::Samba;
use stead_resource::{Done, Failure, Resource, Stop};

const LIMIT: Duration = Duration::from_secs(20);

/// A configuration of Samba in a directory of its own, and its server; it ends with it.
struct Bench {
    dir: tempfile::TempDir,
    port: u16,
}

impl Bench {
    /// None: Samba is not installed.
    fn new(more: &str) -> Option<Bench> {
        if ["smbd", "smbclient"].iter().any(|program| Command::new(program).arg("-V").output().is_err()) {
            eprintln!("not run: no Samba here");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bench = Bench { dir: tempfile::tempdir().unwrap(), port };
        let dir = bench.dir.path().display();
        let mut text = format!(
            "[global]\ninterfaces = lo\nbind interfaces only = yes\nsmb ports = {port}\nserver role = standalone server\n\
             map to guest = bad user\nguest account = root\ndisable spoolss = yes\nlog file = {dir}/log\n"
        );
        for name in ["lock", "state", "cache", "pid"] {
            fs::create_dir(bench.dir.path().join(name)).unwrap();
            text += &format!("{name} directory = {dir}/{name}\n");
        }
        for name in ["private", "ncalrpc"] {
            fs::create_dir(bench.dir.path().join(name)).unwrap();
            text += &format!("{name} dir = {dir}/{name}\n");
        }
        fs::create_dir(bench.dir.path().join("shared")).unwrap();
        fs::write(bench.dir.path().join("shared/word"), "one").unwrap();
        fs::write(bench.config(), text + more).unwrap();
        Some(bench)
    }

    fn including() -> Option<Bench> {
        let bench = Bench::new("")?;
        let mut file = fs::OpenOptions::new().append(true).open(bench.config()).unwrap();
        writeln!(file, "include = {}", bench.dir.path().join("pid/stead-shares.conf").display()).unwrap();
        Some(bench)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("smb.conf")
    }

    fn samba(&self) -> Samba {
        self.samba_with("read only", "no")
    }

    fn samba_with(&self, option: &str, value: &str) -> Samba {
        let options = [(option, value), ("guest ok", "yes")].map(|(name, value)| (name.into(), value.into())).into();
        let path = self.dir.path().join("shared");
        Samba::new(SambaPlan { share: "Files".into(), path, config: Some(self.config()), options })
    }

    fn serve(&self) {
        assert!(Command::new("smbd").arg("-D").arg("-s").arg(self.config()).status().unwrap().success());
        wait_for("smbd takes connections", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.path().join("pid/smbd.pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn client(&self) -> Command {
        let mut client = Command::new("smbclient");
        client.args(["-N", "-p", &self.port.to_string(), "//127.0.0.1/files"]);
        client
    }

    /// What a new client gets.
    fn read(&self) -> String {
        let got = self.dir.path().join("got");
        let _ = fs::remove_file(&got);
        let output = self.client().arg("-c").arg(format!("get word {}", got.display())).output().unwrap();
        fs::read_to_string(got).unwrap_or_else(|_| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A client that stays connected, and the server's process for it.
    fn stays(&self) -> (Child, Pid) {
        let client = self.client().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut found = None;
        wait_for("it is connected", || {
            found = self.holder();
            found.is_some()
        });
        (client, found.unwrap())
    }

    fn holder(&self) -> Option<Pid> {
        let status = Command::new("smbstatus").arg("-S").arg("-s").arg(self.config()).output().unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("Files"))?;
        Pid::from_raw(line.split_whitespace().nth(1)?.parse().ok()?)
    }
}

/// Has it ended? Its number may be there until its parent has taken note.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z"))
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let last = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < last, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn checked(samba: &Samba) -> Result<(), String> {
    samba.check(Duration::from_secs(3), &Stop::never()).value.map_err(|why| why.to_string())
}

#[test]
fn a_share_is_published_used_and_withdrawn_with_its_clients() {
    let Some(bench) = Bench::including() else { return };
    bench.serve();
    let samba = bench.samba();
    assert!(bench.read().contains("NT_STATUS_BAD_NETWORK_NAME"), "{}", bench.read());
    assert_eq!(samba.misfit(LIMIT), None);
    assert_eq!(samba.stop(LIMIT).value, Ok(Done::Already));
    assert_eq!(checked(&samba), Err("it is not shared".into()));

    assert_eq!(samba.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(samba.start(LIMIT).value, Ok(Done::Already));
    assert_eq!((bench.read().as_str(), checked(&samba)), ("one", Ok(())));
    assert_eq!(samba.misfit(LIMIT), None, "its own section speaks not against it");

    let other = bench.samba_with("read only", "yes");
    assert_eq!(checked(&other), Err("it is shared in another way than by the plan".into()));
    assert_eq!(other.start(LIMIT).value, Ok(Done::Changed));
    assert_eq!(samba.start(LIMIT).value, Ok(Done::Changed));

    let (mut client, _) = bench.stays();
    assert_eq!(samba.stop(LIMIT).value, Ok(Done::Changed));
    assert_eq!(bench.holder(), None);
    assert!(bench.read().contains("NT_STATUS_BAD_NETWORK_NAME"), "{}", bench.read());
    assert_eq!(samba.stop(LIMIT).value, Ok(Done::Already));
    let _ = client.kill();
    let _ = client.wait();
}

#[test]
fn a_dead_server_and_a_hung_one_are_told_apart_and_hold_nothing_up() {
    let Some(bench) = Bench::including() else { return };
    let samba = bench.samba();
    let why = samba.start(Duration::from_secs(4)).value.unwrap_err();
    assert!(matches!(&why, Failure::Failed(why) if why.starts_with("smbd does not run here: start it")), "{why:?}");
    assert_eq!(samba.stop(LIMIT).value, Ok(Done::Changed));

    bench.serve();
    assert_eq!(samba.start(LIMIT).value, Ok(Done::Changed));
    let (mut client, holder) = bench.stays();
    let server = bench.pid().unwrap();
    kill_process(server, Signal::STOP).unwrap();
    assert_eq!(checked(&samba), Err("smbd runs here and does not answer".into()));
    kill_process(holder, Signal::STOP).unwrap();
    // Neither of its processes does anything: the one that has the client is ended by force.
    assert_eq!(samba.stop(Duration::from_secs(4)).value, Ok(Done::Changed));
    assert!(has_ended(holder));
    kill_process(server, Signal::KILL).unwrap();
    wait_for("it is gone", || checked(&samba) == Err("it is not shared".into()));
    let _ = client.kill();
    let _ = client.wait();
}

#[test]
fn what_samba_would_not_share_is_refused_with_the_remedy_and_harms_nobody() {
    let Some(bench) = Bench::new("") else { return };
    bench.serve();
    let file = bench.dir.path().join("pid/stead-shares.conf");
    let remedy = format!("add at its end the line \"include = {}\"", file.display());
    let refused = |samba: &Samba| {
        let why = samba.start(LIMIT).value.unwrap_err();
        assert!(matches!(why, Failure::Unusable(_)), "{why:?}");
        assert_eq!(samba.misfit(LIMIT), Some(why.to_string()));
        why.to_string()
    };
    assert!(refused(&bench.samba()).ends_with(&remedy), "{}", refused(&bench.samba()));
    assert!(!file.exists(), "nothing is written that nobody reads");
    let text = fs::read_to_string(bench.config()).unwrap();
    let amid = text.replacen("[global]\n", &format!("[global]\ninclude = {}\n", file.display()), 1);
    fs::write(bench.config(), amid).unwrap();
    assert!(refused(&bench.samba()).ends_with("put that line at the end"), "{}", refused(&bench.samba()));
    fs::write(bench.config(), text).unwrap();
    let why = refused(&bench.samba_with("raed only", "no"));
    assert!(why.contains("does not take its options: Unknown parameter encountered: \"raed only\""), "{why}");
    let why = refused(&bench.samba_with("read only", "maybe"));
    assert!(why.contains("is not boolean"), "{why}");

    let Some(bench) = Bench::new("[files]\npath = /srv\n") else { return };
    let why = refused(&bench.samba());
    assert!(why.contains("has a share Files of /srv by itself: take it out there"), "{why}");
    let elsewhere = SambaPlan {
        share: "files".into(),
        path: "/srv".into(),
        config: Some(Path::new("/no/smb.conf").into()),
        ..SambaPlan::default()
    };
    let elsewhere = Samba::new(elsewhere);
    assert_eq!(elsewhere.misfit(LIMIT), None, "as in a set that is not mirrored yet");
    assert_eq!(elsewhere.stop(LIMIT).value, Ok(Done::Already));
}
