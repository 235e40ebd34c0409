//! An export of the NFS server in the kernel.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_model::plan::NfsPlan;

use super::program::{self, last_line};
use crate::command::{Command, End};
use crate::procedure::{Switch, To};
use crate::{Failure, Outcome, Output, State, Stop, Term};

/// Where the kernel's server is told what to do, where there is one.
const SERVER: &str = "/proc/fs/nfsd";

/// A directory that the kernel exports while the group is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nfs {
    plan: NfsPlan,
    /// The same on both nodes: by it clients' handles find the export again.
    fsid: String,
    server: PathBuf,
    program: Vec<OsString>,
}

/// How the export is.
enum Seen {
    Served,
    /// It is in the table, and no server runs.
    Unserved,
    /// Only some clients may mount it.
    InPart,
    Gone,
}

impl Nfs {
    /// As the plan has it; `name` is that of the resource, which no other of the machine has.
    pub fn new(plan: NfsPlan, name: &str) -> Nfs {
        Nfs { plan, fsid: fsid(name), server: SERVER.into(), program: vec!["exportfs".into()] }
    }

    /// Looks whether clients can mount it.
    ///
    /// # Errors
    /// In the outcome: what speaks against it; [`Failure::Failed`] by evidence.
    pub fn check(&self, limit: Duration, stop: &Stop) -> Outcome<Result<(), Failure>> {
        Outcome::with_output(|output| match self.seen(Term::new(limit, stop), output) {
            Ok(Seen::Served) => Ok(()),
            Ok(other) => Err(Failure::Failed(other.told().into())),
            Err(why) => Err(Failure::Unknown(why.to_string())),
        })
    }

    /// Why it can never be exported on this machine; none: nothing speaks against it. Changes nothing.
    pub fn misfit(&self, limit: Duration) -> Option<String> {
        let (stop, mut output) = (Stop::never(), Output::default());
        let looked = self.table(Term::new(limit, &stop), &mut output);
        let has_server = self.server.exists() || knows_nfsd();
        match looked {
            Err(why) => Some(why.to_string()),
            Ok(_) if !has_server => Some("this kernel has no NFS server (no nfsd in /proc/filesystems)".into()),
            Ok(_) => None,
        }
    }

    fn seen(&self, term: Term<'_>, output: &mut Output) -> Result<Seen, Failure> {
        let table = match self.table(term, output) {
            // What is not installed here exports nothing.
            Err(Failure::Unusable(_)) => return Ok(Seen::Gone),
            table => table?,
        };
        // A client's name may stand there in another form.
        Ok(match table.len() {
            0 => Seen::Gone,
            exported if exported < self.plan.clients.len() => Seen::InPart,
            _ if self.serves() => Seen::Served,
            _ => Seen::Unserved,
        })
    }

    /// Clients that may mount the directory, whoever said so.
    fn table(&self, term: Term<'_>, output: &mut Output) -> Result<BTreeSet<String>, Failure> {
        let (_, text) = self.exportfs(&["-s".into()], term, output)?;
        Ok(text.lines().filter_map(|line| client_of(line, &self.plan.path)).map(str::to_owned).collect())
    }

    fn publish(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        if !self.serves() {
            let remedy = "start nfs-server here, or have the export require a resource that does";
            return Err(Failure::Failed(format!("{}: {remedy}", Seen::Unserved.told())));
        }
        self.plan.clients.iter().try_for_each(|client| {
            term.stop.check()?;
            self.change(&["-i".into(), "-o".into(), self.options().into(), self.export(client)], term, output)
        })
    }

    /// Locks that clients hold through it are released: they would keep its file system busy.
    fn withdraw(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        for client in self.table(term, output)? {
            self.change(&["-u".into(), self.export(&client)], term, output)?;
        }
        let _ = fs::write(self.server.join("unlock_filesystem"), self.plan.path.as_os_str().as_encoded_bytes());
        Ok(())
    }

    fn change(&self, words: &[OsString], term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let (end, text) = self.exportfs(words, term, output)?;
        match end {
            End::Exited(0) => Ok(()),
            end => Err(Failure::Failed(format!("exportfs {end}: {}", last_line(&text)))),
        }
    }

    fn exportfs(&self, words: &[OsString], term: Term<'_>, output: &mut Output) -> Result<(End, String), Failure> {
        let command = Command::new(self.program.iter().chain(words));
        program::run(command, "exportfs", "install the NFS server, as the package nfs-kernel-server", term, output)
    }

    fn options(&self) -> String {
        let has_fsid = self.plan.options.iter().any(|option| option.starts_with("fsid="));
        let fsid = (!has_fsid).then(|| format!("fsid={}", self.fsid));
        self.plan.options.iter().cloned().chain(fsid).collect::<Vec<_>>().join(",")
    }

    /// `CLIENT:PATH`; an address of IPv6 in brackets, or its end could not be told.
    fn export(&self, client: &str) -> OsString {
        let (host, prefix) = client.split_once('/').map_or((client, None), |(host, prefix)| (host, Some(prefix)));
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let prefix = prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
        let mut word = OsString::from(format!("{host}{prefix}:"));
        word.push(&self.plan.path);
        word
    }

    /// Does the kernel's server have threads?
    fn serves(&self) -> bool {
        let threads = fs::read_to_string(self.server.join("threads")).unwrap_or_default();
        threads.trim().parse::<u32>().is_ok_and(|threads| threads > 0)
    }
}

impl Switch for Nfs {
    fn look(&self, term: Term<'_>, output: &mut Output) -> State {
        match self.seen(term, output) {
            Ok(Seen::Served) => State::Started,
            Ok(Seen::Gone) => State::Stopped,
            Ok(other) => State::Unknown(other.told().into()),
            Err(why) => State::Unknown(why.to_string()),
        }
    }

    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        match to {
            To::Start => self.publish(term, output),
            To::Stop => self.withdraw(term, output),
        }
    }

    /// Both end when it is so.
    fn may_change(&self, _: &State) -> bool {
        false
    }
}

impl Seen {
    fn told(&self) -> &'static str {
        match self {
            Seen::Served => "it is exported",
            Seen::Unserved => "the kernel's NFS server does not run here",
            Seen::InPart => "some of its clients cannot mount it",
            Seen::Gone => "it is not exported",
        }
    }
}

fn knows_nfsd() -> bool {
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    kinds.lines().any(|line| line.split_whitespace().last() == Some("nfsd"))
}

/// `PATH  CLIENT(options)`.
fn client_of<'a>(line: &'a str, path: &Path) -> Option<&'a str> {
    let (found, rest) = line.split_once(char::is_whitespace)?;
    let client = rest.trim_start().split_once('(')?.0;
    (Path::new(found) == path).then_some(client)
}

/// A UUID of its own kind (RFC 9562, version 8) from a name: FNV-1a of 128 bits.
fn fsid(name: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let id = hash & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let text = format!("{id:032x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;
    use crate::{Done, Resource};

    const LIMIT: Duration = Duration::from_secs(10);

    /// A table of exports of its own, for as long as it lives.
    struct Table(Child);

    impl Table {
        /// None: this machine does not let it be made.
        fn new() -> Option<Table> {
            let script = "mount -t tmpfs table /var/lib/nfs && : > /var/lib/nfs/etab && echo made && exec sleep 60";
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]);
            let mut child = unshare.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take()?), &mut line).ok()?;
            let has_exportfs = std::process::Command::new("exportfs").arg("-s").output().is_ok();
            let table = Table(child);
            (line == "made\n" && has_exportfs).then_some(table)
        }

        fn nfs(&self, dir: &Path, clients: &[&str]) -> Nfs {
            let clients = clients.iter().map(|client| client.to_string()).collect();
            let plan = NfsPlan { path: dir.join("shared"), clients, options: vec!["rw".into()] };
            let enter = format!("--mount=/proc/{}/ns/mnt", self.0.id());
            let program = ["nsenter", &enter, "exportfs"].map(OsString::from).into();
            Nfs { program, server: dir.join("nfsd"), ..Nfs::new(plan, "office-files") }
        }
    }

    impl Drop for Table {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn an_export_is_made_seen_and_taken_back() {
        let Some(table) = Table::new() else { return eprintln!("not run: no exportfs, or no mounts of its own") };
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shared")).unwrap();
        let nfs = table.nfs(dir.path(), &["10.0.0.0/24", "fd00::/64"]);
        let refused = nfs.start(LIMIT).value.unwrap_err().to_string();
        assert!(refused.contains("does not run here: start nfs-server"), "{refused}");
        fs::create_dir(dir.path().join("nfsd")).unwrap();
        fs::write(dir.path().join("nfsd/threads"), "8\n").unwrap();

        assert_eq!(nfs.start(LIMIT).value, Ok(Done::Changed));
        assert_eq!(nfs.start(LIMIT).value, Ok(Done::Already));
        assert_eq!(nfs.check(LIMIT, &Stop::never()).value, Ok(()));
        let stop = Stop::never();
        let (_, text) = nfs.exportfs(&["-s".into()], Term::new(LIMIT, &stop), &mut Output::default()).unwrap();
        assert!(text.lines().count() == 2 && text.contains(&format!("fsid={}", nfs.fsid)), "{text}");

        fs::write(dir.path().join("nfsd/threads"), "0\n").unwrap();
        let seen = nfs.check(LIMIT, &stop).value.unwrap_err().to_string();
        assert_eq!(seen, "the kernel's NFS server does not run here");
        assert_eq!(nfs.stop(LIMIT).value, Ok(Done::Changed), "whatever the server does");
        assert_eq!(nfs.stop(LIMIT).value, Ok(Done::Already));
        assert_eq!(nfs.check(LIMIT, &stop).value.unwrap_err().to_string(), "it is not exported");
        let unlocked = fs::read_to_string(dir.path().join("nfsd/unlock_filesystem")).unwrap();
        assert_eq!(Path::new(&unlocked), nfs.plan.path);
    }

    #[test]
    fn what_some_clients_cannot_mount_is_not_served() {
        let Some(table) = Table::new() else { return eprintln!("not run: no exportfs, or no mounts of its own") };
        let dir = tempfile::tempdir().unwrap();
        ["shared", "nfsd"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        fs::write(dir.path().join("nfsd/threads"), "8\n").unwrap();
        assert_eq!(table.nfs(dir.path(), &["10.0.0.1"]).start(LIMIT).value, Ok(Done::Changed));
        let both = table.nfs(dir.path(), &["10.0.0.1", "10.0.0.2"]);
        assert!(both.check(LIMIT, &Stop::never()).value.unwrap_err().to_string().contains("some of its clients"));
        assert_eq!(both.start(LIMIT).value, Ok(Done::Changed));
        assert_eq!(both.check(LIMIT, &Stop::never()).value, Ok(()));
        assert_eq!(both.stop(LIMIT).value, Ok(Done::Changed));
    }

    #[test]
    fn a_bad_option_and_a_missing_program_say_so() {
        let Some(table) = Table::new() else { return eprintln!("not run: no exportfs, or no mounts of its own") };
        let dir = tempfile::tempdir().unwrap();
        ["shared", "nfsd"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        fs::write(dir.path().join("nfsd/threads"), "8\n").unwrap();
        let mut nfs = table.nfs(dir.path(), &["*"]);
        nfs.plan.options = vec!["bogus".into()];
        let refused = nfs.start(LIMIT).value.unwrap_err().to_string();
        assert!(refused.contains("bogus"), "{refused}");
        nfs.program = vec!["/no/exportfs".into()];
        assert!(nfs.misfit(LIMIT).unwrap().contains("install the NFS server"));
        assert!(nfs.start(LIMIT).value.unwrap_err().to_string().contains("install the NFS server"));
        assert_eq!(nfs.stop(LIMIT).value, Ok(Done::Already), "what is not installed exports nothing");
    }

    #[test]
    fn an_fsid_is_a_uuid_that_stays() {
        assert_eq!(fsid("office-files"), fsid("office-files"));
        assert_ne!(fsid("office-files"), fsid("office-home"));
        let id = fsid("office-files");
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!((lengths.as_slice(), &id[14..15]), ([8, 4, 4, 4, 12].as_slice(), "8"), "{id}");
    }
}
