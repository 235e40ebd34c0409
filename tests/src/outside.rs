//! Who is told where a group is: BIND 9 as a primary, as a secondary, or as what an agent makes of it; and a server that
//! counts what it is told.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::command::{run, until};
use crate::host::Host;
use crate::run::{is_alive, signal};

/// The zone.
pub const ZONE: &str = "example.test";
/// Another one, which goes with it where an agent turns them.
pub const OTHER: &str = "example.invalid";
/// The zone's record.
pub const NAME: &str = "www.example.test";
const PORT: u16 = 8080;
const KEY: &str =
    "key \"stead\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHM=\";\n};\n";

/// A server of names.
pub struct Bind {
    host: Host,
    dir: PathBuf,
    zones: &'static [&'static str],
    child: Option<Child>,
}

impl Bind {
    /// The primary of the zone, with [`NAME`] at that address, and that TTL in seconds; it tells the secondary of changes.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn primary(host: &Host, secondary: &Host, address: &str, ttl: u32) -> Result<Bind> {
        let bind = Bind::new(host, &[ZONE]);
        let role = format!("type primary; allow-update {{ key stead; }}; {}", notify(&[secondary]));
        bind.configure("controls { };", &bind.in_role(&role))?;
        bind.fill(address, ttl)?;
        bind.launched()
    }

    /// A secondary of whichever of those is ahead.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn secondary(host: &Host, primaries: &[&Host]) -> Result<Bind> {
        let bind = Bind::new(host, &[ZONE]);
        bind.configure("controls { };", &bind.in_role(&format!("type secondary; {}", primaries_of(primaries))))?;
        bind.launched()
    }

    /// One that is what the symlink `zones` says, for the agent bind-zone: the primary, which tells all those of changes, or
    /// a secondary of the first of them; a secondary to begin with, and not started.
    ///
    /// # Errors
    /// Where its directory cannot be written.
    pub fn turned(host: &Host, others: &[&Host]) -> Result<Bind> {
        let bind = Bind::new(host, &[ZONE, OTHER]);
        let include = format!("include \"{}\";\n", bind.dir.join("zones").display());
        bind.configure("controls { inet 127.0.0.1 allow { any; } keys { stead; }; };", &include)?;
        let primary = format!("type primary; update-policy {{ grant stead zonesub ANY; }}; {}", notify(others));
        let primary = format!("{primary} serial-update-method unixtime;");
        fs::write(bind.dir.join("zones.primary"), bind.in_role(&primary))?;
        bind.follow(&others[..1])?;
        let client = "options { default-server 127.0.0.1; default-key stead; };\n";
        fs::write(bind.dir.join("rndc.conf"), format!("{KEY}{client}"))?;
        Ok(bind)
    }

    /// Writes of whom it is a secondary where it is one. It has to be told.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn follow(&self, primaries: &[&Host]) -> Result<()> {
        let role =
            format!("type secondary; notify no; min-retry-time 1; max-retry-time 2; {}", primaries_of(primaries));
        Ok(fs::write(self.dir.join("zones.secondary"), self.in_role(&role))?)
    }

    /// Writes the zone, with [`NAME`] at that address, and that TTL in seconds.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn fill(&self, address: &str, ttl: u32) -> Result<()> {
        let head = "$TTL 60\n@ SOA ns admin 1 3600 600 86400 60\n@ NS ns\n";
        let text = format!("{head}ns A {}\nwww {ttl} A {address}\n", self.host.address());
        self.zones.iter().try_for_each(|zone| fs::write(self.dir.join(zone), &text)).map_err(Into::into)
    }

    fn new(host: &Host, zones: &'static [&'static str]) -> Bind {
        Bind { host: host.clone(), dir: host.dir().join("named"), zones, child: None }
    }

    fn in_role(&self, role: &str) -> String {
        let statement = |zone: &&str| {
            let file = self.dir.join(zone);
            format!("zone \"{zone}\" {{ {role} masterfile-format text; file \"{}\"; }};\n", file.display())
        };
        self.zones.iter().map(statement).collect()
    }

    fn configure(&self, control: &str, zones: &str) -> Result<()> {
        let (dir, address) = (&self.dir, self.host.address());
        fs::create_dir_all(dir)?;
        let options = format!(
            "options {{ directory \"{0}\"; pid-file \"named.pid\"; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; \
             recursion no; allow-transfer {{ any; }}; notify-delay 0; dnssec-validation no; }};\n{control}\n",
            dir.display()
        );
        fs::write(dir.join("named.conf"), format!("{options}{KEY}{zones}"))?;
        Ok(fs::write(self.key_file(), KEY)?)
    }

    fn launched(mut self) -> Result<Bind> {
        self.launch()?;
        Ok(self)
    }

    /// Starts it, again.
    ///
    /// # Errors
    /// Where it does not come to run.
    pub fn launch(&mut self) -> Result<()> {
        let log = self.dir.join("log");
        let mut named = self.host.command("named");
        named.arg("-c").arg(self.dir.join("named.conf")).args(["-g", "-n", "1"]);
        named.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        self.child = Some(named.spawn().context("bind9 is not installed")?);
        let runs = || Ok(fs::read_to_string(&log)?.contains(" running\n"));
        until("named runs", Duration::from_secs(20), runs)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it as the machine does at its boot, when what lay in `/run` is gone: as a secondary.
    ///
    /// # Errors
    /// As [`Bind::launch`].
    pub fn boot(&mut self) -> Result<()> {
        let zones = self.dir.join("zones");
        let _ = fs::remove_file(&zones);
        std::os::unix::fs::symlink("zones.secondary", zones)?;
        self.launch()
    }

    /// Has its control channel do that.
    ///
    /// # Errors
    /// Where it does not.
    pub fn control(&self, words: &[&str]) -> Result<String> {
        run(self.host.command("rndc").arg("-c").arg(self.dir.join("rndc.conf")).args(words))
    }

    /// Is its process gone, though nobody here ended it?
    pub fn has_ended(&self) -> bool {
        self.child.as_ref().is_none_or(|child| !is_alive(child.id() as i32))
    }

    /// Where it answers.
    pub fn address(&self) -> &str {
        self.host.address()
    }

    /// Sends its process a signal.
    pub fn signal(&self, what: Signal) {
        self.child.iter().for_each(|child| signal(child.id() as i32, what));
    }

    /// Has it hold that text under a new name in its zones, by a dynamic update.
    ///
    /// # Errors
    /// Where it does not take it.
    pub fn update(&self, word: &str) -> Result<()> {
        let file = self.dir.join("update");
        let of = |zone: &&str| format!("zone {zone}\nupdate add {word}.{zone} 60 TXT {word}\nsend\n");
        let texts = self.zones.iter().map(of).collect::<String>();
        fs::write(&file, format!("server {}\n{texts}", self.host.address()))?;
        run(self.host.command("nsupdate").arg("-k").arg(self.key_file()).args(["-t", "3"]).arg(&file)).map(drop)
    }

    /// Has it that text in all of its zones?
    pub fn has(&self, word: &str) -> bool {
        self.zones.iter().all(|zone| self.told(&format!("{word}.{zone}"), "TXT") == format!("\"{word}\""))
    }

    /// The zone's serial there.
    pub fn serial(&self) -> Option<u32> {
        self.told(ZONE, "SOA").split(' ').nth(2)?.parse().ok()
    }

    /// The file with the key that it knows.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("stead.key")
    }

    /// What it says that [`NAME`] is.
    pub fn says(&self) -> String {
        self.told(NAME, "A")
    }

    fn told(&self, name: &str, kind: &str) -> String {
        asked(&self.host, &self.host, name, kind)
    }

    /// Waits until it says that.
    ///
    /// # Errors
    /// After a while; says what it says.
    pub fn comes_to_say(&self, address: &str, within: Duration) -> Result<()> {
        let what = format!("{} says {address}", self.host.name());
        until(&what, within, || Ok(self.says() == address))
            .with_context(|| format!("{:?}\n{}", self.says(), self.log()))
    }

    /// What it wrote since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where [`NAME`] is, as a client on that host is told by a name server.
pub fn resolved(client: &Host, server: &Host) -> Option<IpAddr> {
    asked(client, server, NAME, "A").parse().ok()
}

/// A server that is just starting says nothing.
fn asked(client: &Host, server: &Host, name: &str, kind: &str) -> String {
    let at = format!("@{}", server.address());
    let mut dig = client.command("dig");
    let said = run(dig.args(["+short", "+tries=1", "+time=1", &at, name, kind])).unwrap_or_default();
    said.trim().to_owned()
}

fn notify(others: &[&Host]) -> String {
    format!("also-notify {{ {} }}; notify explicit;", addresses(others))
}

fn primaries_of(hosts: &[&Host]) -> String {
    format!("primaries {{ {} }};", addresses(hosts))
}

fn addresses(hosts: &[&Host]) -> String {
    hosts.iter().map(|host| format!("{};", host.address())).collect()
}

/// A server that takes every request of HTTP, and keeps it.
pub struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    /// One on that host.
    ///
    /// # Errors
    /// Where its port is taken.
    pub fn start(host: &Host) -> Result<Listener> {
        let at = (host.address().to_owned(), PORT);
        let listener = host.inside(|| TcpListener::bind(&at))??;
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let into = heard.clone();
        thread::spawn(move || {
            for request in listener.incoming().flatten().filter_map(|stream| answer(stream).ok()) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
        });
        Ok(Listener { url: format!("http://{}:{PORT}", host.address()), heard })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bodies that it was sent.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: TcpStream) -> Result<String> {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    loop {
        let len = stream.read(&mut bytes)?;
        text += &String::from_utf8_lossy(&bytes[..len]);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let expected = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).context("no length")?;
            if body.len() >= expected.parse()? {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(body.to_owned());
            }
        }
        anyhow::ensure!(len > 0, "half a request");
    }
}

/// The registrations of a group: that record at those servers, and that hook.
pub fn registrations(servers: &[&Bind], key_file: &Path, listener: &Listener, ttl: u32) -> String {
    let servers: Vec<_> = servers.iter().map(|server| server.host.address()).collect();
    format!(
        "\n[[group.dns]]\nzone = \"{ZONE}\"\nname = \"{NAME}\"\ntype = \"A\"\nttl = \"{ttl}s\"\nservers = {servers:?}\n\
         key-file = \"{}\"\n\n[group.dns.values]\nparis = \"10.77.0.1\"\nlyon = \"10.77.0.2\"\n\n\
         [[group.hook]]\nurl = \"{}/moved\"\nbody = \"{{group}} {{event}} {{epoch}} {{node}}\"\n",
        key_file.display(),
        listener.url()
    )
}
