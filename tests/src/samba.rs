//! Samba on the two hosts of a town: each with a configuration and directories of its own, users in the protected set.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{run, text, until};
use crate::host::Host;
use crate::run::kill_program;
use crate::town::{ADDRESS, Town};

/// What clients call the share.
pub const SHARE: &str = "files";
/// A user that each Debian has, and its password.
const LOGIN: &str = "games%secret";
const IDS: (u32, u32) = (5, 60);
/// Directories of the server, as smb.conf names them.
const DIRS: [(&str, &str); 6] = [
    ("lock directory", "lock"),
    ("state directory", "state"),
    ("cache directory", "cache"),
    ("pid directory", "pid"),
    ("private dir", "private"),
    ("ncalrpc dir", "ncalrpc"),
];

/// Where users and their passwords are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// In the set: right where the server runs with the group alone, for it keeps them open.
    InTheSet,
    /// On each host by itself.
    OnEachHost,
}

/// The servers of both hosts; what runs of them ends with it.
pub struct Samba {
    run: PathBuf,
    notes: PathBuf,
}

impl Samba {
    /// Makes directories and configurations, and in the set what is shared, the users, and `here`: a way to the directory of
    /// the host on which it is walked.
    ///
    /// # Errors
    /// Where Samba is not installed.
    pub fn new(town: &Town, users: Users) -> Result<Samba> {
        let samba = Samba { run: town.site.hosts.run().dir().into(), notes: town.notes.source.clone() };
        let (paris, lyon) = (&town.site.hosts.paris, &town.site.hosts.lyon);
        fs::create_dir_all(samba.shared())?;
        chown(samba.shared(), Some(IDS.0), Some(IDS.1))?;
        symlink("../../../samba", samba.notes.join("here"))?;
        for (host, notes) in [(paris, &town.notes.source), (lyon, &town.notes.replica)] {
            let place = if users == Users::InTheSet { notes.clone() } else { dir(host) };
            configure(host, &place)?;
        }
        add_user(paris)?;
        if users == Users::OnEachHost {
            add_user(lyon)?;
        }
        Ok(samba)
    }

    /// Has the configurations of both hosts include the shares of their node.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn include(&self, town: &Town) -> Result<()> {
        for host in [&town.site.hosts.paris, &town.site.hosts.lyon] {
            let mut file = fs::OpenOptions::new().append(true).open(config(host))?;
            writeln!(file, "include = {}", sections(host).display())?;
        }
        Ok(())
    }

    /// The shared directory on the source.
    pub fn shared(&self) -> PathBuf {
        self.notes.join("shared")
    }

    /// The host's own directory, as the plan names it.
    pub fn here(&self) -> PathBuf {
        self.notes.join("here")
    }

    /// Starts the server of a host.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn serve(&self, host: &Host) -> Result<()> {
        run(host.command("smbd").arg("--daemon").arg("--configfile").arg(config(host)))?;
        until("smbd runs", Duration::from_secs(10), || Ok(self.pid(host).is_ok()))
    }

    /// The first process of a host's server.
    ///
    /// # Errors
    /// Where there is none, or its number is not written yet.
    pub fn pid(&self, host: &Host) -> Result<Pid> {
        let written = fs::read_to_string(dir(host).join("pid/smbd.pid"))?;
        let pid = Pid::from_raw(written.trim().parse()?).context("no process")?;
        ensure!(Path::new("/proc").join(pid.as_raw_nonzero().to_string()).exists(), "it has ended");
        Ok(pid)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn signal(&self, host: &Host, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(host)?, signal)?)
    }

    /// Is the share told to the server of that host?
    pub fn is_shared_by(&self, host: &Host) -> bool {
        fs::read_to_string(sections(host)).is_ok_and(|text| text.contains(&format!("[{SHARE}]\n")))
    }

    /// What a new client on berne gets for a command of smbclient.
    ///
    /// # Errors
    /// Where the server does not do it, within three seconds.
    pub fn ask(&self, town: &Town, command: &str) -> Result<String> {
        let mut client = client(town, "5");
        let output = client.args(["-c", command]).stdin(Stdio::null()).output()?;
        let told = text(&output.stdout) + &text(&output.stderr);
        ensure!(output.status.success() && !told.contains("NT_STATUS"), "{told}");
        Ok(told)
    }

    /// Writes a file through the share.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub fn put(&self, town: &Town, name: &str, content: &str) -> Result<()> {
        let file = self.run.join("put");
        fs::write(&file, content)?;
        self.ask(town, &format!("put {} {name}", file.display())).map(drop)
    }

    /// Reads a file through the share.
    ///
    /// # Errors
    /// Where the server does not give it.
    pub fn get(&self, town: &Town, name: &str) -> Result<String> {
        let file = self.run.join("got");
        let _ = fs::remove_file(&file);
        self.ask(town, &format!("get {name} {}", file.display()))?;
        Ok(fs::read_to_string(file)?)
    }

    /// A client on berne that is connected, and stays so.
    ///
    /// # Errors
    /// Where it is not connected within ten seconds.
    pub fn stays(&self, town: &Town) -> Result<Staying> {
        let log = self.run.join("staying");
        let out = fs::File::create(&log)?;
        let mut command = client(town, "600");
        let child = command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let mut staying = Staying { child, log };
        staying.say("ls")?;
        until("it is connected", Duration::from_secs(10), || Ok(staying.told().contains("blocks available")))?;
        Ok(staying)
    }
}

/// The server changes its user, and with it loses the mark by which whatever a test started is ended.
impl Drop for Samba {
    fn drop(&mut self) {
        kill_program("smbd", &self.run);
    }
}

/// A client that is connected.
pub struct Staying {
    child: Child,
    log: PathBuf,
}

impl Staying {
    /// Has it do something.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn say(&mut self, command: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("piped")?;
        Ok(writeln!(stdin, "{command}")?)
    }

    /// What it has told so far.
    pub fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has noticed that it is connected no more: it is told so, and hangs not.
    ///
    /// # Errors
    /// After half a minute.
    pub fn is_cut(&mut self) -> Result<()> {
        let cut = ["NT_STATUS_CONNECTION", "NT_STATUS_NETWORK_NAME_DELETED", "NT_STATUS_IO_TIMEOUT", "disconnected"];
        until("the client that was connected is told", Duration::from_secs(30), || {
            let _ = self.say("ls");
            let told = self.told();
            Ok(cut.iter().any(|word| told.contains(word)))
        })
        .with_context(|| self.told())
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `users`: the directory of the users' file.
fn configure(host: &Host, users: &Path) -> Result<()> {
    let dir = dir(host);
    let mut config = format!(
        "[global]\nserver role = standalone server\ndisable spoolss = yes\nload printers = no\nlog file = {}\n\
         passdb backend = tdbsam:{}\n",
        dir.join("log").display(),
        users.join("users.tdb").display()
    );
    for (field, name) in DIRS {
        fs::create_dir_all(dir.join(name))?;
        config += &format!("{field} = {}\n", dir.join(name).display());
    }
    fs::set_permissions(dir.join("ncalrpc"), fs::Permissions::from_mode(0o755))?;
    fs::write(dir.join("check"), "username = games\npassword = secret\n")?;
    Ok(fs::write(dir.join("smb.conf"), config)?)
}

fn add_user(host: &Host) -> Result<()> {
    let mut password = host.command("smbpasswd");
    password.arg("-c").arg(config(host)).args(["-L", "-s", "-a", "games"]);
    let mut child = password.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().context("piped")?.write_all(b"secret\nsecret\n")?;
    ensure!(child.wait()?.success(), "the user is not made");
    Ok(())
}

fn client(town: &Town, seconds: &str) -> Command {
    let mut client = town.berne.command("timeout");
    // What it prints is read while it runs.
    client.args([seconds, "stdbuf", "-o0", "smbclient", "-U", LOGIN, &format!("//{ADDRESS}/{SHARE}")]);
    client
}

fn dir(host: &Host) -> PathBuf {
    host.dir().join("samba")
}

fn config(host: &Host) -> PathBuf {
    dir(host).join("smb.conf")
}

fn sections(host: &Host) -> PathBuf {
    dir(host).join("pid/stead-shares.conf")
}
