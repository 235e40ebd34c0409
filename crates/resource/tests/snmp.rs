//! Notifications as Net-SNMP's `snmptrapd` takes and decodes them.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stead_model::alert::{Alert, Edge, Wrong};
use stead_model::delivery::{Message, Notice};
use stead_model::plan::{Plan, Receiver};
use stead_resource::notify::Teller;

const LIMIT: Duration = Duration::from_secs(10);

/// The program, on an address of its own, with everything in one directory.
struct Manager {
    dir: tempfile::TempDir,
    address: String,
    child: Option<Child>,
}

impl Manager {
    fn new() -> Manager {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("community", "geheim\n"), ("auth", "authentic-word"), ("privacy", "private-word\n")] {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Manager { dir, address: free.to_string(), child: None }
    }

    /// Traps of version 3 are believed from that engine; informs by the manager's own.
    fn start(&mut self, engine: Option<&str>, auth: &str, privacy: &str) {
        let user = |engine: &str| format!("createUser {engine} stead {auth} authentic-word {privacy} private-word\n");
        let of_traps = engine.map_or(String::new(), |engine| user(&format!("-e {engine}")));
        let text =
            format!("authCommunity log geheim\n{}{of_traps}authUser log stead priv\nformat2 @%V| %v|\\n\n", user(""));
        fs::write(self.dir.path().join("snmptrapd.conf"), text).unwrap();
        let mut command = Command::new("snmptrapd");
        command.args(["-f", "-C", "-n", "-m", "ALL", "-M"]).arg(mibs());
        command.arg("-c").arg(self.dir.path().join("snmptrapd.conf")).arg("-Lf").arg(self.log());
        command.arg("-p").arg(self.dir.path().join("pid")).arg(format!("udp:{}", self.address));
        command.env("SNMP_PERSISTENT_DIR", self.dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("snmptrapd, of Debian's package of that name"));
        self.told(|log| log.contains("NET-SNMP version"));
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn told(&self, is_there: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            if is_there(&log) || Instant::now() > end {
                assert!(is_there(&log), "the manager was told: {log}");
                return log;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn receiver(&self, lines: &str) -> Receiver {
        let dir = self.dir.path().display();
        let text = format!("version = 1\n[[alerts.snmp]]\nname = \"noc\"\naddress = \"{}\"\n{lines}", self.address);
        let plan = Plan::parse(&text.replace("DIR", &dir.to_string())).unwrap();
        plan.alerts.receivers().named("noc").unwrap()
    }

    fn teller(&self) -> Teller {
        Teller::new("paris".parse().unwrap(), self.dir.path().join("engine"))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const V2C: &str = "version = \"v2c\"\ncommunity-file = \"DIR/community\"\n";
const V3: &str = "user = \"stead\"\nauth-password-file = \"DIR/auth\"\nprivacy-password-file = \"DIR/privacy\"\n";
const INFORM: &str = "inform = true\n";

/// Debian has no MIBs of the IETF: their place is taken by those beside this file.
fn mibs() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = here.join("tests/mibs");
    let reference = here.ancestors().nth(2).unwrap().join("docs/reference");
    format!("{}:{}:/usr/share/snmp/mibs", own.display(), reference.display())
}

fn message(event: Edge) -> Message {
    let alert = Alert {
        wrong: Wrong::Behind,
        set: "notes".parse().unwrap(),
        source: "paris".parse().unwrap(),
        target: "lyon".parse().unwrap(),
        since: "2026-11-20T07:15:30.250Z".parse().unwrap(),
        text: "what is on lyon is 400 s behind".into(),
    };
    let at = "2026-11-20T07:16:00.000Z".parse().unwrap();
    let notice = Notice { number: 7, event, at, node: "paris".parse().unwrap(), alert };
    Message { receiver: "noc".into(), notices: vec![notice], held_back: 3 }
}

/// Tells a raise and its clear; both arrive, decoded with the MIB.
fn tells_both(manager: &Manager, lines: &str) {
    let (teller, receiver) = (manager.teller(), manager.receiver(lines));
    for event in [Edge::Raise, Edge::Clear] {
        teller.tell(&receiver, &message(event), LIMIT).value.unwrap();
    }
    let log = manager.told(|log| log.contains("steadAlarmRaise") && log.contains("steadAlarmClear"));
    let line = log.lines().find(|line| line.contains("steadAlarmRaise")).unwrap();
    let said = [
        "STEAD-MIB::steadAlarmId.0 = STRING: paris/behind/notes/lyon|",
        "STEAD-MIB::steadAlarmNumber.0 = Gauge32: 7|",
        "STEAD-MIB::steadAlarmKind.0 = STRING: behind|",
        "STEAD-MIB::steadAlarmSeverity.0 = INTEGER: warning(2)|",
        "STEAD-MIB::steadAlarmSet.0 = STRING: notes|",
        "STEAD-MIB::steadAlarmSource.0 = STRING: paris|",
        "STEAD-MIB::steadAlarmTarget.0 = STRING: lyon|",
        "STEAD-MIB::steadAlarmSince.0 = STRING: 2026-11-20,7:15:30.2,+0:0|",
        "STEAD-MIB::steadAlarmAt.0 = STRING: 2026-11-20,7:16:0.0,+0:0|",
        "STEAD-MIB::steadAlarmText.0 = STRING: what is on lyon is 400 s behind|",
        "STEAD-MIB::steadHeldBack.0 = Gauge32: 3|",
    ];
    for said in said {
        assert!(line.contains(said), "{said} is missing: {line}");
    }
    let values: Vec<&str> = line.split('|').collect();
    assert!(values[0].contains("sysUpTime.0 = ") && values[1].contains("snmpTrapOID.0 = "), "{line}");
}

#[test]
fn the_mib_is_well_formed() {
    let mib = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/reference/STEAD-MIB.txt");
    let mut lint = Command::new("smilint");
    let output = lint.args(["-c", "/dev/null", "-l", "3"]).arg(mib).env("SMIPATH", mibs()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_trap_and_an_inform_of_version_2c_arrive() {
    for lines in [V2C.to_owned(), format!("{V2C}{INFORM}")] {
        let mut manager = Manager::new();
        manager.start(None, "SHA", "AES");
        tells_both(&manager, &lines);
    }
}

#[test]
fn informs_of_version_3_arrive_authenticated_and_encrypted() {
    for (auth, plan) in [("SHA", "sha"), ("SHA-256", "sha256"), ("SHA-512", "sha512")] {
        let mut manager = Manager::new();
        manager.start(None, auth, "AES");
        tells_both(&manager, &format!("{V3}{INFORM}auth = \"{plan}\"\n"));
    }
}

#[test]
fn traps_of_version_3_arrive_from_an_engine_that_stays_over_restarts() {
    let mut manager = Manager::new();
    let first = manager.teller().tell(&manager.receiver(V3), &message(Edge::Raise), LIMIT);
    first.value.expect("nobody has to listen to a trap");
    let kept = || fs::read_to_string(manager.dir.path().join("engine")).unwrap();
    let engine = kept().lines().next().unwrap().to_owned();
    assert_eq!(kept(), format!("{engine}\n1\n"));
    manager.start(Some(&engine), "SHA-256", "AES");
    tells_both(&manager, V3);
    let kept = fs::read_to_string(manager.dir.path().join("engine")).unwrap();
    assert_eq!(kept, format!("{engine}\n2\n"), "the same, started once more");
}

#[test]
fn informs_that_nobody_confirms_fail_in_time() {
    let mut manager = Manager::new();
    let began = Instant::now();
    let tell = |manager: &Manager, lines: &str, limit| {
        manager.teller().tell(&manager.receiver(lines), &message(Edge::Raise), limit).value
    };
    let _deaf = UdpSocket::bind(&manager.address).unwrap();
    let told = tell(&manager, &format!("{V2C}{INFORM}"), Duration::from_millis(500));
    assert!(told.is_err() && began.elapsed() < LIMIT / 2, "{told:?} after {:?}", began.elapsed());
    drop(_deaf);
    fs::write(manager.dir.path().join("auth"), "another-word").unwrap();
    manager.start(None, "SHA-256", "AES");
    let told = tell(&manager, &format!("{V3}{INFORM}"), LIMIT).unwrap_err();
    assert!(told.to_string().contains("cannot be told"), "{told}");
}
