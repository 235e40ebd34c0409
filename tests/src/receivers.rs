//! Who is told of alerts: an SNMP manager, a mail server and a web hook, on a test host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::until;
use crate::host::Host;

const MANAGER: u16 = 10162;
const MAILBOX: u16 = 10025;
const HOOK: u16 = 10080;

/// The three, running or not. What they were told stays.
pub struct Receivers {
    host: Host,
    children: Vec<Child>,
}

impl Receivers {
    /// None runs yet.
    ///
    /// # Errors
    /// Where the secrets cannot be written.
    pub fn new(host: &Host) -> Result<Receivers> {
        let receivers = Receivers { host: host.clone(), children: Vec::new() };
        for (name, text) in [("auth", "authentic-word"), ("privacy", "private-word")] {
            let path = receivers.file(name);
            fs::write(&path, text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(receivers)
    }

    /// The part of a plan that names them. The lines go to each.
    pub fn plan(&self, lines: &str) -> String {
        let (address, dir) = (self.host.address(), self.host.dir().display());
        format!(
            "\n[alerts]\ndisconnected = \"1s\"\n\n[[alerts.snmp]]\nname = \"noc\"\naddress = \"{address}:{MANAGER}\"\n\
             inform = true\nuser = \"stead\"\nauth-password-file = \"{dir}/auth\"\n\
             privacy-password-file = \"{dir}/privacy\"\n{lines}\n\
             [[alerts.mail]]\nname = \"admins\"\nserver = \"{address}:{MAILBOX}\"\nencryption = \"none\"\n\
             from = \"stead@example.org\"\nto = [\"admins@example.org\"]\n{lines}\n\
             [[alerts.webhook]]\nname = \"chat\"\nurl = \"http://{address}:{HOOK}/hooks/7\"\n{lines}"
        )
    }

    /// Starts all three; they answer when it returns.
    ///
    /// # Errors
    /// Where one of them does not.
    pub fn start(&mut self) -> Result<()> {
        let conf = self.file("snmptrapd.conf");
        let user = "createUser stead SHA-256 authentic-word AES private-word\nauthUser log stead priv\n";
        fs::write(&conf, format!("{user}format2 %V| %v|\\n\n"))?;
        let address = self.host.address().to_owned();
        let mut manager = self.host.command("snmptrapd");
        manager.args(["-f", "-C", "-n", "-m", "ALL", "-M", &mibs(), "-c"]).arg(conf);
        manager.arg("-Lf").arg(self.file("manager.log")).arg("-p").arg(self.file("manager.pid"));
        manager.arg(format!("udp:{address}:{MANAGER}")).env("SNMP_PERSISTENT_DIR", self.host.dir());
        self.run(manager)?;
        for (script, port) in [("mailbox", MAILBOX), ("hook", HOOK)] {
            // Debian's, which has what the scripts import.
            let mut python = self.host.command("/usr/bin/python3");
            python.arg(script_path(script)).args([&address, &port.to_string()]).arg(self.file(script));
            self.run(python)?;
        }
        until("the receivers answer", Duration::from_secs(20), || {
            let listens = |port| self.host.inside(|| std::net::TcpStream::connect((address.as_str(), port)).is_ok());
            let log = fs::read_to_string(self.file("manager.log")).unwrap_or_default();
            Ok(log.contains("NET-SNMP version") && listens(MAILBOX)? && listens(HOOK)?)
        })
    }

    fn run(&mut self, mut command: Command) -> Result<()> {
        let errors = fs::File::options().create(true).append(true).open(self.file("receivers.errors"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn();
        self.children.push(child.context("a receiver cannot be started")?);
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.host.dir().join(name)
    }

    /// Lines of the manager's log about notifications, with the names of the MIB.
    pub fn notifications(&self) -> Vec<String> {
        let log = fs::read_to_string(self.file("manager.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("STEAD-MIB::")).map(Into::into).collect()
    }

    /// Mails that came.
    ///
    /// # Errors
    /// Where they are no JSON.
    pub fn mails(&self) -> Result<Vec<Value>> {
        self.lines("mailbox")
    }

    /// What was posted.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub fn posts(&self) -> Result<Vec<Value>> {
        Ok(self.lines("hook")?.into_iter().map(|request| request["body"].clone()).collect())
    }

    /// The alarms that were posted, one after the other.
    ///
    /// # Errors
    /// As [`Receivers::posts`].
    pub fn alarms(&self) -> Result<Vec<Value>> {
        Ok(self.posts()?.iter().flat_map(|body| body["alarms"].as_array().cloned().unwrap_or_default()).collect())
    }

    fn lines(&self, name: &str) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("receivers").join(format!("{name}.py"))
}

/// Debian has no MIBs of the IETF: their place is taken by those of the tests.
fn mibs() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).expect("a workspace").display();
    format!("{root}/crates/resource/tests/mibs:{root}/docs/reference:/usr/share/snmp/mibs")
}
