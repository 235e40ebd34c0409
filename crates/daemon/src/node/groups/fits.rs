//! Can both nodes of a group take its addresses, start its resources and switch its role files? Asked before anything is
//! changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use stead_api::Failure;
use stead_model::plan::{
    AddressPlan, GroupPlan, ResourcePlan, RoleFilePlan, line_of_address, line_of_resource, line_of_role_file,
};
use stead_model::{GroupName, NodeName};
use stead_resource::role_file::is_usable;

use super::Node;
use crate::check::addresses::unfit;
use crate::check::agents::{Misfit, misfits};
use crate::job;
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What the two nodes of a group are asked.
pub(in super::super) struct Question {
    group: GroupName,
    nodes: [NodeName; 2],
    addresses: Vec<AddressPlan>,
    resources: Vec<ResourcePlan>,
    /// Of role files: the path, and a copy with its field.
    copies: Vec<(PathBuf, &'static str, PathBuf)>,
}

/// Addresses and copies of role files, each with its reason, and resources.
struct Misfits {
    addresses: Vec<(String, String)>,
    resources: Vec<Misfit>,
    copies: Vec<(PathBuf, String)>,
}

/// Why a group cannot be made.
pub(in super::super) enum Unfit {
    /// An address has no place on a node.
    Address { group: GroupName, node: NodeName, address: String, why: String },
    /// A resource can never be started on a node.
    Resource { group: GroupName, node: NodeName, misfit: Misfit },
    /// A role file has no copy on a node.
    Copy { group: GroupName, node: NodeName, path: PathBuf, field: &'static str, why: String },
    /// A node does not say.
    Unsaid { group: GroupName, node: NodeName, why: String },
}

impl Question {
    /// About the addresses, resources and role files that are new or other ones than before; none: there are none.
    pub(in super::super) fn of(group: &GroupPlan, before: Option<&GroupPlan>) -> Option<Question> {
        let is_new = |address: &&AddressPlan| before.is_none_or(|before| !before.addresses.contains(address));
        let addresses: Vec<_> = group.addresses.iter().filter(is_new).cloned().collect();
        let is_new = |resource: &&ResourcePlan| before.is_none_or(|before| !before.resources.contains(resource));
        let resources: Vec<_> = group.resources.iter().filter(is_new).cloned().collect();
        let nodes = [group.source.clone(), group.target.clone()];
        let is_new = |file: &&RoleFilePlan| before.is_none_or(|before| !before.role_files.contains(file));
        let copies_of = |file: &RoleFilePlan| {
            let path = file.path.clone();
            file.copies(&group.name).into_iter().map(move |(field, copy)| (path.clone(), field, copy))
        };
        let copies: Vec<_> = group.role_files.iter().filter(is_new).flat_map(copies_of).collect();
        let is_any = !addresses.is_empty() || !resources.is_empty() || !copies.is_empty();
        is_any.then(|| Question { group: group.name.clone(), nodes, addresses, resources, copies })
    }
}

/// Asks the nodes, this one first.
pub(in super::super) fn asked(dialer: &Dialer, own: &NodeName, questions: &[Question]) -> Result<(), Unfit> {
    for question in questions {
        let mut nodes = question.nodes.clone();
        nodes.sort_by_key(|node| node != own);
        nodes.into_iter().try_for_each(|node| question.put_to(node, dialer, own))?;
    }
    Ok(())
}

impl Question {
    fn put_to(&self, node: NodeName, dialer: &Dialer, own: &NodeName) -> Result<(), Unfit> {
        let group = self.group.clone();
        let told = match node == *own {
            true => Ok(Misfits::of(&self.addresses, &self.resources, &self.needed())),
            false => self.ask(&node, dialer),
        };
        let told = told.map_err(|why| Unfit::Unsaid { group: group.clone(), node: node.clone(), why })?;
        if let Some((address, why)) = told.addresses.into_iter().next() {
            return Err(Unfit::Address { group, node, address, why });
        }
        if let Some(misfit) = told.resources.into_iter().next() {
            return Err(Unfit::Resource { group, node, misfit });
        }
        let missing = told.copies.into_iter().next();
        let meant = missing.and_then(|(copy, why)| Some((self.copies.iter().find(|(.., it)| *it == copy)?, why)));
        meant.map_or(Ok(()), |((path, field, _), why)| Err(Unfit::Copy { group, node, path: path.clone(), field, why }))
    }

    fn needed(&self) -> Vec<PathBuf> {
        self.copies.iter().map(|(.., copy)| copy.clone()).collect()
    }

    fn ask(&self, node: &NodeName, dialer: &Dialer) -> Result<Misfits, String> {
        let (addresses, resources, copies) = (self.addresses.clone(), self.resources.clone(), self.needed());
        let question = Ask::Fits { addresses, resources, copies };
        match ask(dialer, node, &question, TIMEOUT) {
            Ok(Tell::Unfit { addresses, resources, copies }) => Ok(Misfits { addresses, resources, copies }),
            Ok(other) => Err(format!("{node} answered {other:?}")),
            Err(failure) => Err(failure.why),
        }
    }
}

impl Misfits {
    fn of(addresses: &[AddressPlan], resources: &[ResourcePlan], copies: &[PathBuf]) -> Misfits {
        let missing = |copy: &PathBuf| Some((copy.clone(), is_usable(copy).err()?));
        Misfits {
            addresses: unfit(addresses),
            resources: misfits(resources),
            copies: copies.iter().filter_map(missing).collect(),
        }
    }
}

impl Unfit {
    pub(in super::super) fn failure(&self, what: &str) -> Failure {
        Failure::new(what, self.to_string(), self.remedy())
    }

    /// The same of a plan that was read from a text: with the line.
    pub(in super::super) fn in_plan(&self, text: &str, what: &str) -> Failure {
        let line = match self {
            Unfit::Address { group, address, .. } => line_of_address(text, group, address),
            Unfit::Resource { group, misfit, .. } => {
                line_of_resource(text, group, &misfit.resource, misfit.parameter.as_deref())
            }
            Unfit::Copy { group, path, field, .. } => {
                line_of_role_file(text, group, &path.display().to_string(), field)
            }
            Unfit::Unsaid { .. } => None,
        };
        let at = line.map_or(String::new(), |line| format!("line {line}: "));
        let group = match self {
            Unfit::Address { group, .. }
            | Unfit::Resource { group, .. }
            | Unfit::Copy { group, .. }
            | Unfit::Unsaid { group, .. } => group,
        };
        Failure::new(what, format!("{at}group {group}: {self}"), self.remedy())
    }

    fn remedy(&self) -> String {
        match self {
            Unfit::Address { .. } => "Correct it, or name the interface that it goes on, which both nodes have".into(),
            Unfit::Resource { node, .. } => format!("Correct it, or install what it needs on {node}"),
            Unfit::Copy { node, .. } => {
                format!("Put it there on {node}, with the owner and mode that the file is to have")
            }
            Unfit::Unsaid { node, .. } => format!("Try again once {node} answers"),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Address { node, address, why, .. } => write!(f, "{node} could not take address {address}: {why}"),
            Unfit::Resource { node, misfit, .. } => {
                write!(f, "{node} could not start resource {}: {}", misfit.resource, misfit.why)
            }
            Unfit::Copy { node, path, why, .. } => {
                write!(f, "{node} could not switch role file {}: {why}", path.display())
            }
            Unfit::Unsaid { node, why, .. } => {
                write!(f, "{node} does not say whether it could take its addresses: {why}")
            }
        }
    }
}

impl Node {
    /// Another node asks whether this one could take those addresses, start those resources and use those copies.
    pub(in super::super) fn tell_unfit(
        &self,
        addresses: Vec<AddressPlan>,
        resources: Vec<ResourcePlan>,
        copies: Vec<PathBuf>,
        reply: SyncSender<Result<Tell, Failure>>,
    ) {
        job::spawn(&self.events, move || {
            let Misfits { addresses, resources, copies } = Misfits::of(&addresses, &resources, &copies);
            let _ = reply.try_send(Ok(Tell::Unfit { addresses, resources, copies }));
            None
        });
    }
}
