//! What of a group cannot be meant, each with the field that says it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::parts::{Why, is_of_one_host};
use super::role_files::ROLE_FILES_MAX;
use super::{AddressPlan, FencePlan, GroupPlan, HeartbeatPath, ScriptPlan};
use crate::plan::{Plan, PlanError, ResourcePlan, Span};
use crate::{GroupName, NodeName, SetName};

const HEARTBEAT_MS: RangeInclusive<u128> = 10..=60_000;
const TIMEOUT_MS: RangeInclusive<u128> = 30..=3_600_000;
const WAIT_MS: RangeInclusive<u128> = 30..=15_000;
const SWITCH_BACK_MS: RangeInclusive<u128> = 10_000..=7 * 86_400_000;
/// Heartbeat paths and reference addresses: more would only make each heartbeat longer.
const MANY: usize = 16;
const RESOURCES_MAX: usize = 1_000;

/// What is wrong with a group.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BadGroup {
    #[error("source and target are both {0}")]
    OneNode(NodeName),
    #[error("witness is {0}, which is its source or target; a witness is a third node")]
    Witness(NodeName),
    #[error("there are no sets, addresses, services or resources that could move")]
    Nothing,
    #[error("sets names {0} twice")]
    SetTwice(SetName),
    #[error("sets names {0}, which goes with group {1} already")]
    SetElsewhere(SetName, GroupName),
    #[error("sets names {set}, which has no connection between {source_node} and {target}")]
    NotBetween { set: SetName, source_node: NodeName, target: NodeName },
    #[error("sets names {0}, which relays set {1}: its source has only a replica and serves nothing")]
    Relays(SetName, SetName),
    #[error("sets names {0}, which set {1} relays: end {1} first, it could not go on while {0} comes from the target")]
    Relayed(SetName, SetName),
    #[error("{field} is {value}, which is not between {least} and {most}")]
    Range { field: &'static str, value: Span, least: Span, most: Span },
    #[error("timeout of {timeout} is less than three times the heartbeat of {heartbeat}")]
    TooTight { timeout: Span, heartbeat: Span },
    #[error(
        "wait of {wait} bears a lease of {lease}, which is less than two heartbeats of {heartbeat}; use a longer wait"
    )]
    ShortLease { wait: Span, lease: Span, heartbeat: Span },
    #[error("there are {count} of {field}, and {MANY} are the most")]
    TooMany { field: &'static str, count: usize },
    #[error("references: {address} {why}")]
    Reference { address: IpAddr, why: &'static str },
    #[error("path from {from} to {to} {why}")]
    Path { from: IpAddr, to: IpAddr, why: &'static str },
    #[error("address {address:?} {why}")]
    Address { address: String, why: &'static str },
    #[error("address {0} goes with group {1} already")]
    AddressElsewhere(IpAddr, GroupName),
    #[error("unit {0} is in it twice")]
    UnitTwice(String),
    #[error("unit {0} goes with group {1} already")]
    UnitElsewhere(String, GroupName),
    #[error("service {number}: {why}")]
    Service { number: usize, why: &'static str },
    #[error("share {0} is in it twice")]
    ShareTwice(String),
    #[error("share {0} goes with group {1} already")]
    ShareElsewhere(String, GroupName),
    #[error("resource {0:?} is in it twice")]
    ResourceTwice(String),
    #[error("resource {resource:?} requires {other:?}, which is none of the group's resources{near}")]
    Requires { resource: String, other: String, near: String },
    #[error("resources {} require each other in a ring: none of them could be started first", .0.join(", "))]
    Ring(Vec<String>),
    #[error("resource {resource:?}: {why}")]
    Resource { resource: String, why: String },
    #[error("resource {resource:?}: identity: {field} {why}")]
    Identity { resource: String, field: &'static str, why: &'static str },
    #[error("there are {0} resources, and {RESOURCES_MAX} are the most")]
    TooManyResources(usize),
    #[error("there are {0} role files, and {ROLE_FILES_MAX} are the most")]
    TooManyRoleFiles(usize),
    #[error("role-file {path:?}: {field} {why}")]
    RoleFile { path: String, field: &'static str, why: String },
    #[error("check {number}: {why}")]
    Check { number: usize, why: &'static str },
    #[error("{list} {number}: {field} {why}")]
    Outside { list: &'static str, number: usize, field: &'static str, why: String },
    #[error("scripts: {script}: {why}")]
    Script { script: &'static str, why: &'static str },
    #[error("fence names {0}, which is neither source nor target")]
    FenceNode(NodeName),
    #[error("fence of {node}: {why}")]
    Fence { node: NodeName, why: &'static str },
}

impl Plan {
    pub(in crate::plan) fn check_groups(&self) -> Result<(), PlanError> {
        for (at, group) in self.groups.iter().enumerate() {
            if self.groups[..at].iter().any(|other| other.name == group.name) {
                return Err(PlanError::DuplicateGroup(group.name.clone()));
            }
            self.check_group(group, &self.groups[..at])
                .map_err(|error| PlanError::Group { group: group.name.clone(), error: Box::new(error) })?;
        }
        Ok(())
    }

    fn check_group(&self, group: &GroupPlan, others: &[GroupPlan]) -> Result<(), BadGroup> {
        group.check()?;
        others.iter().try_for_each(|other| group.check_beside(other))?;
        group.sets.iter().try_for_each(|set| self.check_group_set(group, set))?;
        self.check_places_of_role_files(group)
    }

    /// Either direction is right: a set is turned round while the target stands in. The witness does not know the sets.
    fn check_group_set(&self, group: &GroupPlan, name: &SetName) -> Result<(), BadGroup> {
        if let Some(relay) = self.sets.iter().find(|set| set.relay.as_ref() == Some(name)) {
            return Err(BadGroup::Relayed(name.clone(), relay.name.clone()));
        }
        let Some(set) = self.set(name) else { return Ok(()) };
        if let Some(relay) = &set.relay {
            return Err(BadGroup::Relays(name.clone(), relay.clone()));
        }
        let other = group.other(&set.source);
        if other.is_some_and(|other| self.connections_of(name).any(|c| c.target == *other)) {
            return Ok(());
        }
        let (source_node, target) = (group.source.clone(), group.target.clone());
        Err(BadGroup::NotBetween { set: name.clone(), source_node, target })
    }
}

impl GroupPlan {
    fn check(&self) -> Result<(), BadGroup> {
        self.check_nodes()?;
        self.check_set_names()?;
        self.check_times()?;
        self.check_addresses()?;
        self.check_paths()?;
        self.check_references()?;
        self.check_services()?;
        self.check_resources()?;
        self.check_role_files()?;
        self.check_checks()?;
        self.check_outside()?;
        self.check_scripts()?;
        self.fence.iter().try_for_each(|(node, fence)| self.check_fence(node, fence))
    }

    fn check_nodes(&self) -> Result<(), BadGroup> {
        if self.source == self.target {
            return Err(BadGroup::OneNode(self.source.clone()));
        }
        match &self.witness {
            Some(witness) if self.other(witness).is_some() => Err(BadGroup::Witness(witness.clone())),
            _ => Ok(()),
        }
    }

    fn check_set_names(&self) -> Result<(), BadGroup> {
        let serves = !self.services.is_empty() || !self.resources.is_empty();
        if self.sets.is_empty() && self.addresses.is_empty() && !serves {
            return Err(BadGroup::Nothing);
        }
        first_twice(self.sets.iter()).map_or(Ok(()), |set| Err(BadGroup::SetTwice(set.clone())))
    }

    fn check_times(&self) -> Result<(), BadGroup> {
        let (heartbeat, timeout) = (self.heartbeat(), self.timeout());
        within("heartbeat", heartbeat, HEARTBEAT_MS)?;
        within("timeout", timeout, TIMEOUT_MS)?;
        within("wait", self.wait(), WAIT_MS)?;
        self.switch_back.map_or(Ok(()), |span| within("switch-back", span.0, SWITCH_BACK_MS))?;
        if timeout < heartbeat * 3 {
            return Err(BadGroup::TooTight { timeout: Span(timeout), heartbeat: Span(heartbeat) });
        }
        self.check_lease()
    }

    /// As leases are computed: the wait, less a thirtieth as margin, less 1 % for either clock, less the stop budget of at
    /// most 1 s.
    fn check_lease(&self) -> Result<(), BadGroup> {
        let (wait, heartbeat) = (self.wait(), self.heartbeat());
        let budget = (wait / 3).min(Duration::from_secs(1)) + Duration::from_millis(1);
        let lease = ((wait - wait / 30) * 99 / 101).saturating_sub(budget);
        if self.witness.is_none() || lease >= heartbeat * 2 {
            return Ok(());
        }
        Err(BadGroup::ShortLease { wait: Span(wait), lease: Span(lease), heartbeat: Span(heartbeat) })
    }

    fn check_addresses(&self) -> Result<(), BadGroup> {
        for plan in &self.addresses {
            plan.check().map_err(|why| BadGroup::Address { address: plan.address.clone(), why })?;
        }
        match first_twice(self.addresses.iter().filter_map(AddressPlan::ip)) {
            Some(twice) => Err(BadGroup::Address { address: twice.to_string(), why: "is in it twice" }),
            None => Ok(()),
        }
    }

    fn check_paths(&self) -> Result<(), BadGroup> {
        not_too_many("path", self.paths.len())?;
        for (at, path) in self.paths.iter().enumerate() {
            let twice = if self.paths[..at].contains(path) { Err("is in it twice") } else { Ok(()) };
            let checked = twice.and_then(|()| path.check()).and_then(|()| self.check_path(path));
            checked.map_err(|why| BadGroup::Path { from: path.source, to: path.target, why })?;
        }
        Ok(())
    }

    fn check_path(&self, path: &HeartbeatPath) -> Why {
        match self.moves(path.source) || self.moves(path.target) {
            true => Err("uses an address that moves with the group; use one that stays with its node"),
            false => Ok(()),
        }
    }

    fn check_references(&self) -> Result<(), BadGroup> {
        not_too_many("references", self.references.len())?;
        for address in &self.references {
            let why = match address {
                address if self.moves(*address) => "moves with the group, so that it is silent when it is asked",
                address if !is_of_one_host(*address) => "is not the address of one host",
                _ => continue,
            };
            return Err(BadGroup::Reference { address: *address, why });
        }
        Ok(())
    }

    fn moves(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|plan| plan.ip() == Some(address))
    }

    fn check_services(&self) -> Result<(), BadGroup> {
        for (at, service) in self.services.iter().enumerate() {
            service.check().map_err(|why| BadGroup::Service { number: at + 1, why })?;
        }
        first_twice(self.units()).map_or(Ok(()), |unit| Err(BadGroup::UnitTwice(unit)))
    }

    fn check_resources(&self) -> Result<(), BadGroup> {
        if self.resources.len() > RESOURCES_MAX {
            return Err(BadGroup::TooManyResources(self.resources.len()));
        }
        if let Some(twice) = first_twice(self.resources.iter().map(|resource| &resource.name)) {
            return Err(BadGroup::ResourceTwice(twice.clone()));
        }
        if let Some(twice) = first_twice(self.shares()) {
            return Err(BadGroup::ShareTwice(twice));
        }
        for resource in &self.resources {
            resource.check().map_err(|why| BadGroup::Resource { resource: resource.name.clone(), why: why.into() })?;
            resource.check_identity()?;
            resource.requires.iter().try_for_each(|other| self.check_required(resource, other))?;
        }
        let ring = self.ring().map(|names| BadGroup::Ring(names.into_iter().map(str::to_owned).collect()));
        ring.map_or(Ok(()), Err)
    }

    fn check_required(&self, resource: &ResourcePlan, other: &String) -> Result<(), BadGroup> {
        let names = || self.resources.iter().map(|resource| resource.name.as_str());
        if names().any(|name| name == other) {
            return Ok(());
        }
        let near = crate::nearest(other, names()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Err(BadGroup::Requires { resource: resource.name.clone(), other: other.clone(), near })
    }

    fn check_checks(&self) -> Result<(), BadGroup> {
        for (at, check) in self.checks.iter().enumerate() {
            check.check().map_err(|why| BadGroup::Check { number: at + 1, why })?;
        }
        Ok(())
    }

    fn check_scripts(&self) -> Result<(), BadGroup> {
        let scripts = &self.scripts;
        for (name, script) in [
            ("pre-failover", &scripts.pre_failover),
            ("post-failover", &scripts.post_failover),
            ("pre-failback", &scripts.pre_failback),
            ("post-failback", &scripts.post_failback),
        ] {
            let checked = script.as_ref().map_or(Ok(()), ScriptPlan::check);
            checked.map_err(|why| BadGroup::Script { script: name, why })?;
        }
        Ok(())
    }

    fn check_fence(&self, node: &NodeName, fence: &FencePlan) -> Result<(), BadGroup> {
        self.other(node).ok_or_else(|| BadGroup::FenceNode(node.clone()))?;
        fence.check().map_err(|why| BadGroup::Fence { node: node.clone(), why })
    }

    /// What two groups cannot both have. A unit is one of its node, so that other nodes may have one of that name.
    fn check_beside(&self, other: &GroupPlan) -> Result<(), BadGroup> {
        if let Some(set) = self.sets.iter().find(|set| other.sets.contains(set)) {
            return Err(BadGroup::SetElsewhere(set.clone(), other.name.clone()));
        }
        if let Some(address) = self.addresses.iter().filter_map(AddressPlan::ip).find(|ip| other.moves(*ip)) {
            return Err(BadGroup::AddressElsewhere(address, other.name.clone()));
        }
        self.check_outside_beside(other)?;
        self.check_role_files_beside(other)?;
        let is_apart = self.other(&other.source).is_none() && self.other(&other.target).is_none();
        if is_apart {
            return Ok(());
        }
        if let Some(share) = self.shares().find(|share| other.shares().any(|theirs| theirs == *share)) {
            return Err(BadGroup::ShareElsewhere(share, other.name.clone()));
        }
        match self.units().find(|unit| other.units().any(|theirs| theirs == *unit)) {
            Some(unit) => Err(BadGroup::UnitElsewhere(unit, other.name.clone())),
            None => Ok(()),
        }
    }

    /// Names of its shares of Samba, which does not mind their case, and paths of its exports.
    fn shares(&self) -> impl Iterator<Item = String> {
        let samba = self.resources.iter().filter_map(|resource| resource.samba.as_ref());
        let nfs = self.resources.iter().filter_map(|resource| resource.nfs.as_ref());
        samba.map(|plan| plan.share.to_ascii_lowercase()).chain(nfs.map(|plan| plan.path.display().to_string()))
    }

    /// Names of its units with their kind, so that `notes` is `notes.service`.
    fn units(&self) -> impl Iterator<Item = String> {
        let whole = |unit: &String| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") };
        let of_services = self.services.iter().filter_map(|service| service.unit.as_ref());
        let of_resources = self.resources.iter().filter_map(|resource| resource.unit.as_ref());
        of_services.chain(of_resources).map(whole)
    }
}

fn within(field: &'static str, value: Duration, ms: RangeInclusive<u128>) -> Result<(), BadGroup> {
    let span = |ms: &u128| Span(Duration::from_millis(*ms as u64));
    match ms.contains(&value.as_millis()) {
        true => Ok(()),
        false => Err(BadGroup::Range { field, value: Span(value), least: span(ms.start()), most: span(ms.end()) }),
    }
}

fn not_too_many(field: &'static str, count: usize) -> Result<(), BadGroup> {
    if count > MANY { Err(BadGroup::TooMany { field, count }) } else { Ok(()) }
}

pub(super) fn first_twice<T: Ord + Clone>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.find(|item| !seen.insert(item.clone()))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
