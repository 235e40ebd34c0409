//! Could the resources that a plan changes work on both nodes, by what their agents say? Asked before anything is changed. A
//! node that does not say so in time is told of, and forbids nothing.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use stead_api::Failure;
use stead_model::NodeName;
use stead_model::plan::{GroupPlan, ResourcePlan};

use super::Node;
use super::fits::Unfit;
use crate::check::trial::{self, Trial, Tried};
use crate::job;
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Of a group: its trial on this node, and the plan from which the other one makes its own.
pub(in super::super) struct Trials {
    group: GroupPlan,
    here: Trial,
}

impl Trials {
    /// On both nodes at once; what is not known of them, each in a line.
    pub(in super::super) fn held(&self, dialer: &Dialer, own: &NodeName) -> Result<Vec<String>, Unfit> {
        let group = &self.group.name;
        let other = if self.group.source == *own { &self.group.target } else { &self.group.source };
        let (here, there) = thread::scope(|scope| {
            let asked = scope.spawn(|| self.ask(other, dialer));
            (self.here.of_all(), asked.join().unwrap_or_else(|_| Err("the question failed".into())))
        });
        let mut unknown = Vec::new();
        for (node, tried) in [(own, Ok(here)), (other, there)] {
            let Tried { misfits, unknown: more, later } = tried.unwrap_or_else(|why| Tried::untold(&why));
            if let Some(misfit) = misfits.into_iter().next() {
                return Err(Unfit::Resource { group: group.clone(), node: node.clone(), misfit });
            }
            let told = more.into_iter().chain(later);
            unknown.extend(told.map(|line| format!("group {group} on {node}: not known to work: {line}")));
        }
        Ok(unknown)
    }

    fn ask(&self, node: &NodeName, dialer: &Dialer) -> Result<Tried, String> {
        let question = Ask::Try { group: Box::new(self.group.clone()), resources: self.here.resources.clone() };
        match ask(dialer, node, &question, TIMEOUT) {
            Ok(Tell::Tried(tried)) => Ok(tried),
            Ok(other) => Err(format!("{node} answered {other:?}")),
            Err(failure) => Err(failure.why),
        }
    }
}

impl Node {
    /// Of the resources that are new or other ones than before; none: there are none.
    pub(in super::super) fn trials_of(&self, group: &GroupPlan) -> Option<Trials> {
        let before = self.plan.group(&group.name);
        let is_new = |resource: &&ResourcePlan| before.is_none_or(|before| !before.resources.contains(resource));
        let names: Vec<_> = group.resources.iter().filter(is_new).map(|resource| resource.name.clone()).collect();
        (!names.is_empty()).then(|| Trials { here: self.trial(group, names), group: group.clone() })
    }

    fn trial(&self, group: &GroupPlan, resources: Vec<String>) -> Trial {
        let (has_data, serves) = (self.has_data(group), self.serves(&group.name));
        Trial { group: self.on_this_node(group), resources, has_data, serves, limit: trial::TIMEOUT }
    }

    /// Another node asks whether resources could work on this one.
    pub(in super::super) fn tell_tried(
        &self,
        group: &GroupPlan,
        resources: Vec<String>,
        reply: SyncSender<Result<Tell, Failure>>,
    ) {
        let trial = self.trial(group, resources);
        job::spawn(&self.events, move || {
            let _ = reply.try_send(Ok(Tell::Tried(trial.of_all())));
            None
        });
    }
}
