//! A resource of a group: what is started and stopped in the order of what it requires, looked at while it is up, and
//! restarted where it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Span;
use super::group::{CheckPlan, GroupPlan};
use super::identity::IdentityPlan;
use super::share::{NfsPlan, SambaPlan};

/// The table `[[group.resource]]`: by an agent, a unit, three commands, or a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResourcePlan {
    /// Its name, unique in the group: letters, digits, `-` and `_`. An agent keeps its state under it.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub name: String,
    /// Names of those that have to be up before it is started, and are stopped after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// A resource agent: `ocf:heartbeat:pgsql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What the agent is given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Name of a unit of systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Starts it: program with its absolute path, and arguments; no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<String>,
    /// Stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Its code tells: 0 running, 3 stopped, else not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// The names under which its programs are run; none: the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityPlan>,
    /// A share of Samba.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samba: Option<SambaPlan>,
    /// An export of NFS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NfsPlan>,
    /// How long its start may take, at most 1 h; none: what the agent says, else 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Span>,
    /// How long its stop may take, at most 1 h; none: what the agent says, else 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Span>,
    /// The quick check: is it up? An agent's monitor, a unit's state, the status command, the server of a share.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub quick: LookPlan,
    /// The deep check of an agent: its monitor that does real work. None: it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deep: Option<LookPlan>,
    /// Other deep checks, done on the node that serves.
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckPlan>,
    /// So often it is restarted within `within`, at most 100, before the other node takes over; none: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The time in which restarts are counted, 1 s to 7 d; none: 10 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// How a resource is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LookPlan {
    /// Between two looks, 100 ms to 1 h; none: 10 s, a deep one 1 min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long one may take, at most 1 h; none: what the agent says, else 20 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many have to fail, one after the other, at most 1000; none: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

impl ResourcePlan {
    /// So often it is restarted in [`ResourcePlan::within`]: 3 where the plan does not say.
    pub fn restarts(&self) -> u32 {
        self.restarts.unwrap_or(3)
    }

    /// The directory that it shares; none: it is no share.
    pub fn shared_path(&self) -> Option<&Path> {
        let of_samba = self.samba.as_ref().map(|samba| samba.path.as_path());
        of_samba.or(self.nfs.as_ref().map(|nfs| nfs.path.as_path()))
    }

    /// The time in which restarts are counted: 10 min where the plan does not say.
    pub fn within(&self) -> Duration {
        self.within.map_or(Duration::from_secs(600), |span| span.0)
    }
}

impl GroupPlan {
    /// For each resource the places of those that it requires; one that there is not is left out.
    pub fn required(&self) -> Vec<Vec<usize>> {
        let place = |name: &String| self.resources.iter().position(|resource| resource.name == *name);
        self.resources.iter().map(|resource| resource.requires.iter().filter_map(place).collect()).collect()
    }

    /// Names of resources that require each other, in a ring; none: all can be started in some order.
    pub fn ring(&self) -> Option<Vec<&str>> {
        let requires = self.required();
        let mut startable = BTreeSet::new();
        loop {
            let is_next = |at: &usize| !startable.contains(at) && requires[*at].iter().all(|it| startable.contains(it));
            let next: Vec<usize> = (0..requires.len()).filter(is_next).collect();
            if next.is_empty() {
                break;
            }
            startable.extend(next);
        }
        let first = (0..requires.len()).find(|at| !startable.contains(at))?;
        let mut way = vec![first];
        loop {
            let next = requires[*way.last()?].iter().find(|it| !startable.contains(it))?;
            if let Some(begin) = way.iter().position(|seen| seen == next) {
                return Some(way[begin..].iter().map(|at| self.resources[*at].name.as_str()).collect());
            }
            way.push(*next);
        }
    }
}
