//! Who is told where a group is: BIND 9 with a primary and a secondary, and a server that counts what it is told.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{run, until};
use crate::host::Host;

/// The zone.
pub const ZONE: &str = "example.test";
/// Its record.
pub const NAME: &str = "www.example.test";
const PORT: u16 = 8080;
const KEY: &str =
    "key \"stead\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHM=\";\n};\n";

/// A server of names.
pub struct Bind {
    host: Host,
    dir: PathBuf,
    child: Option<Child>,
}

impl Bind {
    /// The primary of the zone, with [`NAME`] at that address, and that TTL in seconds; it tells the secondary of changes.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn primary(host: &Host, secondary: &Host, address: &str, ttl: u32) -> Result<Bind> {
        let to = secondary.address();
        let zone = format!("type primary; allow-update {{ key stead; }}; also-notify {{ {to}; }}; notify explicit;");
        let bind = Bind::prepare(host, &zone)?;
        let head = "$TTL 60\n@ SOA ns admin 1 3600 600 86400 60\n@ NS ns\n";
        let text = format!("{head}ns A {}\nwww {ttl} A {address}\n", host.address());
        fs::write(bind.dir.join("zone"), text)?;
        bind.launched()
    }

    /// Its secondary.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn secondary(host: &Host, primary: &Host) -> Result<Bind> {
        Bind::prepare(host, &format!("type secondary; primaries {{ {}; }};", primary.address()))?.launched()
    }

    fn prepare(host: &Host, zone: &str) -> Result<Bind> {
        let (dir, address) = (host.dir().join("named"), host.address());
        fs::create_dir_all(&dir)?;
        let options = format!(
            "options {{ directory \"{0}\"; pid-file none; listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; \
             recursion no; allow-transfer {{ any; }}; notify-delay 0; dnssec-validation no; }};\ncontrols {{ }};\n",
            dir.display()
        );
        let zone = format!("zone \"{ZONE}\" {{ {zone} file \"{}\"; }};\n", dir.join("zone").display());
        fs::write(dir.join("named.conf"), format!("{options}{KEY}{zone}"))?;
        fs::write(dir.join("stead.key"), KEY)?;
        Ok(Bind { host: host.clone(), dir, child: None })
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

    /// The file with the key that it knows.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("stead.key")
    }

    /// What it says that [`NAME`] is.
    ///
    /// # Errors
    /// Where `dig` cannot be run.
    pub fn says(&self) -> Result<String> {
        let at = format!("@{}", self.host.address());
        let mut dig = self.host.command("dig");
        // A server that is just starting says nothing.
        let said = run(dig.args(["+short", "+tries=1", "+time=1", &at, NAME, "A"])).unwrap_or_default();
        Ok(said.trim().to_owned())
    }

    /// Waits until it says that.
    ///
    /// # Errors
    /// After a while; says what it says.
    pub fn comes_to_say(&self, address: &str, within: Duration) -> Result<()> {
        let what = format!("{} says {address}", self.host.name());
        until(&what, within, || Ok(self.says()? == address))
            .with_context(|| format!("{:?}\n{}", self.says(), self.log()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.kill();
    }
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

/// The registrations of a group: that record, and that hook.
pub fn registrations(bind: &Bind, key_file: &Path, listener: &Listener, ttl: u32) -> String {
    format!(
        "\n[[group.dns]]\nzone = \"{ZONE}\"\nname = \"{NAME}\"\ntype = \"A\"\nttl = \"{ttl}s\"\nservers = [\"{}\"]\n\
         key-file = \"{}\"\n\n[group.dns.values]\nparis = \"10.77.0.1\"\nlyon = \"10.77.0.2\"\n\n\
         [[group.hook]]\nurl = \"{}/moved\"\nbody = \"{{group}} {{event}} {{epoch}} {{node}}\"\n",
        bind.host.address(),
        key_file.display(),
        listener.url()
    )
}
