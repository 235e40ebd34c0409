//! A Samba server, through the programs that come with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::program::{self, last_line};
use crate::command::{Command, End, Secret};
use crate::{Failure, Output, Term};

/// The server of a configuration; none: that which Samba's programs take by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server<'a>(pub(super) Option<&'a Path>);

/// What a configuration says of its server.
pub(super) struct Facts {
    /// The file.
    pub(super) config: PathBuf,
    /// Where the server keeps its number.
    pub(super) pid_dir: PathBuf,
}

/// What the server's first process says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It takes connections.
    Given,
    /// It runs, and does not answer.
    Silent,
    /// It does not run.
    Absent,
}

impl Server<'_> {
    pub(super) fn facts(&self, term: Term<'_>, output: &mut Output) -> Result<Facts, Failure> {
        let (_, text) = self.testparm(&["--parameter-name=pid directory"], term, output)?;
        let config = text.lines().find_map(|line| line.strip_prefix("Load smb config files from "));
        let pid_dir = text.lines().rfind(|line| line.starts_with('/'));
        match (config, pid_dir) {
            (Some(config), Some(pid_dir)) => Ok(Facts { config: config.into(), pid_dir: pid_dir.into() }),
            _ => Err(Failure::Failed(format!("Samba cannot read its configuration: {}", last_line(&text)))),
        }
    }

    /// The path of a share by the configuration; none: it has no such share.
    pub(super) fn path_of(&self, share: &str, term: Term<'_>, output: &mut Output) -> Result<Option<PathBuf>, Failure> {
        let section = format!("--section-name={share}");
        let (_, text) = self.testparm(&[&section, "--parameter-name=path"], term, output)?;
        Ok(text.lines().rfind(|line| line.starts_with('/')).map(PathBuf::from))
    }

    fn testparm(&self, words: &[&str], term: Term<'_>, output: &mut Output) -> Result<(End, String), Failure> {
        let mut argv: Vec<OsString> = ["testparm", "-s"].iter().chain(words).map(OsString::from).collect();
        argv.extend(self.0.map(|config| config.as_os_str().to_owned()));
        run(Command::new(argv), term, output)
    }

    /// It is waited for as long as that, in whole seconds.
    pub(super) fn answer(&self, wait: Duration, term: Term<'_>, output: &mut Output) -> Result<Answer, Failure> {
        let seconds = wait.as_secs().max(1).to_string();
        let (end, text) = self.control(&["-t", &seconds, "smbd", "ping"], term, output)?;
        Ok(match end {
            End::Exited(0) => Answer::Given,
            _ if text.contains("Can't find pid") => Answer::Absent,
            _ => Answer::Silent,
        })
    }

    /// Has each of its processes read the configuration again. They do so in the order of what they are told.
    pub(super) fn reload(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        self.control(&["all", "reload-config"], term, output).map(drop)
    }

    /// Ends each client's use of the share.
    pub(super) fn close(&self, share: &str, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        self.control(&["all", "close-share", share], term, output).map(drop)
    }

    fn control(&self, words: &[&str], term: Term<'_>, output: &mut Output) -> Result<(End, String), Failure> {
        let argv = [OsString::from("smbcontrol")].into_iter().chain(self.option());
        run(Command::new(argv.chain(words.iter().map(OsString::from))), term, output)
    }

    /// Processes that serve the share to a client.
    pub(super) fn holders(&self, share: &str, term: Term<'_>, output: &mut Output) -> Result<Vec<Pid>, Failure> {
        let argv = ["smbstatus".into(), "--shares".into()].into_iter().chain(self.option());
        let (end, text) = run(Command::new(argv), term, output)?;
        match end {
            End::Exited(0) => {
                Ok(text.lines().filter_map(|line| holder(line, share)).filter(|pid| lives(*pid)).collect())
            }
            end => Err(Failure::Unknown(format!("smbstatus {end}: {}", last_line(&text)))),
        }
    }

    fn option(&self) -> impl Iterator<Item = OsString> {
        let words = |config: &Path| [OsString::from("-s"), config.as_os_str().to_owned()];
        self.0.map(words).into_iter().flatten()
    }
}

/// Would Samba take that section? One that it does not take would keep it from reading all others.
pub(super) fn accepts(section: &str, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
    let mut command = Command::new(["testparm", "-s", "/dev/stdin"]);
    command.input = Secret(section.as_bytes().to_vec());
    let (end, text) = run(command, term, output)?;
    let refuses = |line: &&str| {
        line.starts_with("Unknown parameter") || line.starts_with("set_variable") || line.starts_with("ERROR")
    };
    match text.lines().find(refuses) {
        Some(line) => Err(Failure::Unusable(format!("Samba does not take its options: {line}"))),
        None if end.is_success() => Ok(()),
        None => Err(Failure::Unusable(format!("Samba does not take it: {}", last_line(&text)))),
    }
}

/// Ends a process of the server that does not let go. Its number may have come to somebody else meanwhile: the process is
/// held first, then looked at.
pub(super) fn end_by_force(pid: Pid) {
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if name.starts_with("smbd") {
        let _ = pidfd_send_signal(held, Signal::KILL);
    }
}

/// One that has ended is known to Samba until its first process, which may hang, has taken note.
fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

/// `share  pid  machine  …`; in a cluster the number of the node stands before that of the process.
fn holder(line: &str, share: &str) -> Option<Pid> {
    let mut words = line.split_whitespace();
    let is_it = words.next()?.eq_ignore_ascii_case(share);
    let pid = words.next()?.rsplit(':').next()?.parse().ok()?;
    Pid::from_raw(pid).filter(|_| is_it)
}

fn run(mut command: Command, term: Term<'_>, output: &mut Output) -> Result<(End, String), Failure> {
    command.env.push(("LC_ALL".into(), "C".into()));
    let name = command.argv[0].to_string_lossy().into_owned();
    program::run(command, &name, "install Samba, as the package samba", term, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_serve_a_share_are_found_by_its_name() {
        let pid = |line| holder(line, "files").map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(pid("files        17636   10.0.0.4     Fri Nov 27 00:58:52 2026 UTC     -   -"), Some(17636));
        assert_eq!(pid("FILES 1:42 10.0.0.4"), Some(42));
        for line in ["", "Service      pid     Machine", "files2 7 10.0.0.4", "files", "----"] {
            assert_eq!(pid(line), None, "{line}");
        }
    }
}
