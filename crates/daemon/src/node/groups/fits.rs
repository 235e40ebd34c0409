//! Can both nodes of a group take its addresses and start its resources? Asked before anything is changed.

use std::fmt;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use stead_api::Failure;
use stead_model::plan::{AddressPlan, GroupPlan, ResourcePlan, line_of_address, line_of_resource};
use stead_model::{GroupName, NodeName};

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
}

/// Addresses, each with its reason, and resources.
type Misfits = (Vec<(String, String)>, Vec<Misfit>);

/// Why a group cannot be made.
pub(in super::super) enum Unfit {
    /// An address has no place on a node.
    Address { group: GroupName, node: NodeName, address: String, why: String },
    /// A resource can never be started on a node.
    Resource { group: GroupName, node: NodeName, misfit: Misfit },
    /// A node does not say.
    Unsaid { group: GroupName, node: NodeName, why: String },
}

impl Question {
    /// About the addresses and resources that are new or other ones than before; none: there are none.
    pub(in super::super) fn of(group: &GroupPlan, before: Option<&GroupPlan>) -> Option<Question> {
        let is_new = |address: &&AddressPlan| before.is_none_or(|before| !before.addresses.contains(address));
        let addresses: Vec<_> = group.addresses.iter().filter(is_new).cloned().collect();
        let is_new = |resource: &&ResourcePlan| before.is_none_or(|before| !before.resources.contains(resource));
        let resources: Vec<_> = group.resources.iter().filter(is_new).cloned().collect();
        let nodes = [group.source.clone(), group.target.clone()];
        let is_any = !addresses.is_empty() || !resources.is_empty();
        is_any.then(|| Question { group: group.name.clone(), nodes, addresses, resources })
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
            true => Ok((unfit(&self.addresses), misfits(&self.resources))),
            false => self.ask(&node, dialer),
        };
        let (addresses, resources) =
            told.map_err(|why| Unfit::Unsaid { group: group.clone(), node: node.clone(), why })?;
        if let Some((address, why)) = addresses.into_iter().next() {
            return Err(Unfit::Address { group, node, address, why });
        }
        let misfit = resources.into_iter().next();
        misfit.map_or(Ok(()), |misfit| Err(Unfit::Resource { group, node, misfit }))
    }

    fn ask(&self, node: &NodeName, dialer: &Dialer) -> Result<Misfits, String> {
        let question = Ask::Fits { addresses: self.addresses.clone(), resources: self.resources.clone() };
        match ask(dialer, node, &question, TIMEOUT) {
            Ok(Tell::Unfit { addresses, resources }) => Ok((addresses, resources)),
            Ok(other) => Err(format!("{node} answered {other:?}")),
            Err(failure) => Err(failure.why),
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
            Unfit::Unsaid { .. } => None,
        };
        let at = line.map_or(String::new(), |line| format!("line {line}: "));
        let group = match self {
            Unfit::Address { group, .. } | Unfit::Resource { group, .. } | Unfit::Unsaid { group, .. } => group,
        };
        Failure::new(what, format!("{at}group {group}: {self}"), self.remedy())
    }

    fn remedy(&self) -> String {
        match self {
            Unfit::Address { .. } => "Correct it, or name the interface that it goes on, which both nodes have".into(),
            Unfit::Resource { node, .. } => format!("Correct it, or install what it needs on {node}"),
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
            Unfit::Unsaid { node, why, .. } => {
                write!(f, "{node} does not say whether it could take its addresses: {why}")
            }
        }
    }
}

impl Node {
    /// Another node asks whether this one could take those addresses and start those resources.
    pub(in super::super) fn tell_unfit(
        &self,
        addresses: Vec<AddressPlan>,
        resources: Vec<ResourcePlan>,
        reply: SyncSender<Result<Tell, Failure>>,
    ) {
        job::spawn(&self.events, move || {
            let (addresses, resources) = (unfit(&addresses), misfits(&resources));
            let _ = reply.try_send(Ok(Tell::Unfit { addresses, resources }));
            None
        });
    }
}
