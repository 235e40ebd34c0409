//! Recovery kits: resource agents by the standard of the Open Cluster Framework, version 1.1, as the clusters of Linux
//! distributions have them. Each that is installed works as it is.
//!
//! ```text
//!   AgentName ─▸ Agent ─▸ Metadata ── check: what is wrong with parameters
//!                    └──▸ Instance ── start, stop, status (a Resource); look: how well it runs, at a depth
//! ```
//! An agent is a program that others wrote: it is bounded in time and output, it is ended whole, its word that it has
//! started or stopped something is not evidence, and what it leaves running after a look is ended.

mod instance;
mod metadata;
mod parameters;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use instance::{Instance, Refusal};
pub use metadata::{Kind, Metadata, Offer, Parameter};
pub use parameters::{Wrong, check};
pub use stead_model::ocf::{Code, Reach, Seen};

use crate::command::Command;
use crate::{Failure, Outcome};

/// Where agents are by the standard; theirs is `resource.d` beneath.
pub const ROOT: &str = "/usr/lib/ocf";

/// Where agents are on this machine: `OCF_ROOT`, as the standard names it, else [`ROOT`].
pub fn root() -> PathBuf {
    std::env::var_os("OCF_ROOT").map_or_else(|| PathBuf::from(ROOT), PathBuf::from)
}

/// Which agent: `ocf:heartbeat:IPaddr2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentName {
    provider: String,
    kind: String,
}

/// An agent that is installed on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Which.
    pub name: AgentName,
    /// `OCF_ROOT`.
    pub root: PathBuf,
}

impl AgentName {
    /// Who made it, as `heartbeat`.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What it is for, as `IPaddr2`.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

/// Takes `ocf:PROVIDER:TYPE`, and `PROVIDER:TYPE`.
impl FromStr for AgentName {
    type Err = String;

    fn from_str(text: &str) -> Result<AgentName, String> {
        let parts = text.strip_prefix("ocf:").unwrap_or(text).split_once(':');
        match parts.filter(|(provider, kind)| is_word(provider) && is_word(kind)) {
            Some((provider, kind)) => Ok(AgentName { provider: provider.into(), kind: kind.into() }),
            None => Err(format!("{text:?} is not the name of an agent; write it as ocf:heartbeat:IPaddr2")),
        }
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ocf:{}:{}", self.provider, self.kind)
    }
}

/// All agents that are installed beneath a root, in the order of their names. What cannot be read has none.
pub fn agents(root: &Path) -> Vec<AgentName> {
    let mut found = Vec::new();
    for provider in names(&root.join("resource.d")) {
        let kinds = names(&root.join("resource.d").join(&provider));
        found.extend(kinds.into_iter().map(|kind| AgentName { provider: provider.clone(), kind }));
    }
    found.retain(|name| Agent::find(name.clone(), root).is_ok());
    found.sort();
    found
}

impl Agent {
    /// The agent of that name beneath a root, mostly [`ROOT`].
    ///
    /// # Errors
    /// It is not installed, or is no program.
    pub fn find(name: AgentName, root: &Path) -> Result<Agent, Failure> {
        let agent = Agent { name, root: root.to_owned() };
        let file = fs::metadata(agent.path());
        match file {
            Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(agent),
            Ok(_) => Err(Failure::Unusable(format!("{} is not executable: {}", agent.name, agent.path().display()))),
            Err(e) => {
                let path = agent.path();
                let remedy = "install what brings it, as the package resource-agents";
                Err(Failure::Unusable(format!("{} is not installed: {}: {e}; {remedy}", agent.name, path.display())))
            }
        }
    }

    /// The program.
    pub fn path(&self) -> PathBuf {
        self.root.join("resource.d").join(&self.name.provider).join(&self.name.kind)
    }

    /// Asks it what it is.
    ///
    /// # Errors
    /// In the outcome: it does not tell, or not by the standard.
    pub fn metadata(&self, limit: Duration) -> Outcome<Result<Metadata, Failure>> {
        Outcome::with_output(|output| {
            let ran = self.command("meta-data").run(limit);
            output.append(ran.output);
            let unusable = |why: String| Failure::Unusable(format!("{} tells no meta-data: {why}", self.name));
            if !ran.end.is_success() {
                return Err(unusable(format!("it {}", ran.end)));
            }
            if output.omitted() > 0 {
                return Err(unusable("it is longer than 64 KiB".into()));
            }
            Metadata::parse(&output.text()).map_err(unusable)
        })
    }

    /// Action is the only argument.
    fn command(&self, action: &str) -> Command {
        let mut command = Command::new([self.path().into_os_string(), action.into()]);
        let fixed = [
            ("OCF_ROOT", self.root.clone().into_os_string()),
            ("OCF_RA_VERSION_MAJOR", "1".into()),
            ("OCF_RA_VERSION_MINOR", "1".into()),
            ("OCF_RESOURCE_PROVIDER", self.name.provider.clone().into()),
            ("OCF_RESOURCE_TYPE", self.name.kind.clone().into()),
            ("LC_ALL", "C".into()),
        ];
        command.env = fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        command.ends_rest = action != "start";
        command
    }
}

/// What a path and a variable can hold without being read as something else.
fn is_word(text: &str) -> bool {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(is_usable)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_word(name)).collect()
}
