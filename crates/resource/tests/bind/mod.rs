//! BIND 9, as Debian has it: servers with zones of their own, on the loopback of a host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stead_resource::dns::{Kind, Record};
use tempfile::TempDir;

use crate::common::{Host, wait_for};

pub const KEY: &str =
    "key \"stead\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHM=\";\n};\n";
pub const ZONES: [&str; 2] = ["example.test", "0.10.in-addr.arpa"];

/// A server; it ends with this value.
pub struct Bind<'a> {
    host: &'a Host,
    pub dir: TempDir,
    address: &'static str,
    child: Option<Child>,
}

impl<'a> Bind<'a> {
    /// The primary of both zones, which takes changes by [`KEY`] and tells the secondary of them.
    pub fn primary(host: &'a Host, address: &'static str, secondary: &str) -> Bind<'a> {
        let policy = format!("allow-update {{ key stead; }}; also-notify {{ {secondary}; }}; notify explicit");
        Bind::start(host, address, &format!("type primary; {policy};"))
    }

    /// A secondary of that primary.
    pub fn secondary(host: &'a Host, address: &'static str, primary: &str) -> Bind<'a> {
        let policy = format!("type secondary; primaries {{ {primary}; }}; masterfile-format text;");
        Bind::start(host, address, &policy)
    }

    pub fn start(host: &'a Host, address: &'static str, policy: &str) -> Bind<'a> {
        let dir = tempfile::tempdir().unwrap();
        let zone = |zone| {
            let file = dir.path().join(format!("{zone}.zone"));
            format!("zone \"{zone}\" {{ {policy} file \"{}\"; }};\n", file.display())
        };
        let options = format!(
            "options {{ directory \"{0}\"; pid-file none; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; recursion no; \
             allow-transfer {{ any; }}; notify-delay 0; notify-source {address}; transfer-source {address}; dnssec-validation no; }};\n\
             controls {{ }};\n",
            dir.path().display()
        );
        fs::write(dir.path().join("named.conf"), format!("{options}{KEY}{}", ZONES.map(zone).concat())).unwrap();
        if policy.contains("type primary") {
            write_zones(dir.path());
        }
        host.run(&format!("ip addr replace {address}/8 dev lo"));
        let mut bind = Bind { host, dir, address, child: None };
        bind.launch();
        bind
    }

    pub fn launch(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut named = Command::new("named");
        named.arg("-c").arg(self.dir.path().join("named.conf")).args(["-g", "-n", "1"]);
        named.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(self.host.inside(|| named.spawn().expect("this test needs bind9")));
        let log = self.dir.path().join("log");
        wait_for("the server", || fs::read_to_string(&log).is_ok_and(|log| log.contains(" running\n")));
    }

    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What `dig` prints of a name.
    pub fn dig(&self, name: &str, kind: &str) -> String {
        self.host.run(&format!("dig +short +tries=1 +time=2 @{} {name} {kind}", self.address)).trim().to_owned()
    }

    /// Has `nsupdate` do something.
    pub fn change(&self, lines: &str) {
        let key = key_file(self.dir.path(), KEY);
        let script = self.dir.path().join("script");
        fs::write(&script, format!("server {}\n{lines}\nsend\n", self.address)).unwrap();
        self.host.run(&format!("nsupdate -k {} {}", key.display(), script.display()));
    }

    /// A record of its zone, to be changed with that key.
    pub fn record(&self, name: &str, kind: Kind, key: &str) -> Record {
        let zone = if kind == Kind::Ptr { ZONES[1] } else { ZONES[0] };
        Record {
            zone: zone.into(),
            name: format!("{name}.{zone}"),
            kind,
            ttl_s: 30,
            servers: vec![format!("{}:53", self.address).parse().unwrap()],
            key_file: key_file(self.dir.path(), key),
        }
    }
}

impl Drop for Bind<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn key_file(dir: &Path, key: &str) -> PathBuf {
    let name = crc32fast::hash(key.as_bytes());
    let file = dir.join(format!("{name}.key"));
    fs::write(&file, key).unwrap();
    file
}

fn write_zones(dir: &Path) {
    let head = "$TTL 60\n@ IN SOA ns.example.test. admin.example.test. 1 3600 600 86400 60\n@ IN NS ns.example.test.\n";
    let records = "ns A 127.0.0.11\nwww 300 A 10.0.0.1\nwww AAAA fd00::1\nmail CNAME paris.example.test.\ntwo A 10.0.0.1\ntwo A 10.0.0.9\n";
    fs::write(dir.join(format!("{}.zone", ZONES[0])), format!("{head}{records}")).unwrap();
    fs::write(dir.join(format!("{}.zone", ZONES[1])), format!("{head}100.0 PTR paris.example.test.\n")).unwrap();
}

pub const LIMIT: Duration = Duration::from_secs(5);
