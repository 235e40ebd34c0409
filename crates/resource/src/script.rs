//! Script hooks: an administrator's programs before and after a server's service moves.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use stead_model::NodeName;

use crate::command::{Command, End};
use crate::{Outcome, Stop};

/// When a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Before the target takes addresses and starts services.
    PreFailover,
    /// When the target serves.
    PostFailover,
    /// Before the service moves back: it stops the service on the target.
    PreFailback,
    /// When the service has moved back.
    PostFailback,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Event::PreFailover => "pre-failover",
            Event::PostFailover => "post-failover",
            Event::PreFailback => "pre-failback",
            Event::PostFailback => "post-failback",
        })
    }
}

/// What happened: a script finds it in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// `STEAD_EVENT`: as `pre-failover`.
    pub event: Event,
    /// `STEAD_GROUP`: what moves.
    pub group: String,
    /// `STEAD_SOURCE`: the node that served first.
    pub source: NodeName,
    /// `STEAD_TARGET`: the node that stands in for it.
    pub target: NodeName,
    /// `STEAD_EPOCH`: number of the epoch under which the script runs, in decimal.
    pub epoch: u64,
    /// `STEAD_REASON`: in words, for people.
    pub reason: String,
    /// `STEAD_SET_PATHS`: roots of the sets on this node, one on a line, the last without an end of line. A colon, as in
    /// `PATH`, may be part of a path; a shell reads lines with `while IFS= read -r path`.
    pub set_paths: Vec<PathBuf>,
}

/// A script hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What is run; variables of the occasion are added.
    pub command: Command,
}

impl Script {
    /// Runs it. How it ended is told as it was; what follows from that is not decided here.
    pub fn run(&self, occasion: &Occasion, limit: Duration) -> Outcome<End> {
        self.run_until(occasion, limit, &Stop::never())
    }

    /// The same, until it is called off.
    pub fn run_until(&self, occasion: &Occasion, limit: Duration, stop: &Stop) -> Outcome<End> {
        let env = match occasion.variables() {
            Ok(env) => env,
            Err(why) => return Outcome::of(|| End::NotStarted(why)),
        };
        let mut command = self.command.clone();
        command.env.extend(env);
        let ran = command.run_until(limit, stop);
        Outcome { value: ran.end, took: ran.took, output: ran.output }
    }
}

impl Occasion {
    fn variables(&self) -> Result<Vec<(String, OsString)>, String> {
        if let Some(path) = self.set_paths.iter().find(|path| path.as_os_str().as_bytes().contains(&b'\n')) {
            return Err(format!("the path {path:?} has an end of line in it, which STEAD_SET_PATHS cannot tell"));
        }
        let paths: Vec<&[u8]> = self.set_paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
        let words: [(&str, OsString); 7] = [
            ("EVENT", self.event.to_string().into()),
            ("GROUP", self.group.clone().into()),
            ("SOURCE", self.source.as_str().into()),
            ("TARGET", self.target.as_str().into()),
            ("EPOCH", self.epoch.to_string().into()),
            ("REASON", self.reason.clone().into()),
            ("SET_PATHS", std::ffi::OsStr::from_bytes(&paths.join(&b'\n')).into()),
        ];
        Ok(words.into_iter().map(|(name, value)| (format!("STEAD_{name}"), value)).collect())
    }
}
