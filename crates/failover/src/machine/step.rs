//! The steps of taking over and handing over: what is asked of the hands, one at a time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_model::Epoch;

use super::config::{OnFailure, Resources};
use crate::heartbeat::Event;
use crate::planted::{Planted, is_planted};
use crate::resources::Reach;

/// A script of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// On the node that takes over, before anything is brought up.
    PreFailover,
    /// There, when all is up.
    PostFailover,
    /// On the node that hands over, before anything is taken down.
    PreFailback,
    /// On the node that takes over, when all is up.
    PostFailback,
}

/// What one action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Do the reference addresses answer? Done: at least one; failed: none; unknown: it could not be asked.
    References,
    /// Make sure that the other node is off.
    Fence,
    /// Apply the journal up to the last consistent point, set the rest aside, open the replica for writing.
    Drain,
    /// Run a script.
    Script(Hook),
    /// Mount capture on the replica; undone: unmount it.
    Capture,
    /// Put the files in place that are there while the node serves; undone: those that are there while it does not.
    RoleFiles,
    /// Add an address and announce it; undone: remove it.
    Address(u16),
    /// Start a service; undone: stop it.
    Service(u16),
    /// Start the resources that depend on each other; undone: stop them.
    Resources,
    /// Bring the last changes to the other node, and prove it equal.
    HandOver,
    /// Tell people and hooks.
    Tell,
}

/// Is it done or undone?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// Bring it about.
    Do,
    /// Take it back.
    Undo,
}

/// One action for the hands. Whatever is so already is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Number, for the outcome.
    pub id: u64,
    /// What.
    pub step: Step,
    /// Which way.
    pub turn: Turn,
    /// How long it may take: then it counts as unknown, and is to be killed.
    pub limit: Duration,
    /// Why.
    pub event: Event,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so.
    Done,
    /// It was so already.
    Already,
    /// It is not so.
    Failed(String),
    /// It is not so, and would be so on no node.
    Hopeless(String),
    /// Nobody knows whether it is so.
    Unknown(String),
}

impl Outcome {
    /// What cannot be kept up, for a reason that reaches so far.
    pub fn given_up(why: String, reach: Reach) -> Outcome {
        if reach == Reach::Everywhere { Outcome::Hopeless(why) } else { Outcome::Failed(why) }
    }

    /// Would it be so on no node?
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(self, Outcome::Hopeless(_))
    }

    /// Is it certainly so?
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Done | Outcome::Already)
    }
}

impl Step {
    /// Is a repetition after a restart needed, since the machine may have lost it?
    pub(super) fn is_lost_by_a_restart(self) -> bool {
        let is_up = matches!(self, Step::Capture | Step::Address(_) | Step::Service(_) | Step::Resources);
        is_up || self == Step::RoleFiles
    }
}

impl Resources {
    fn up(&self) -> Vec<Step> {
        let capture = self.capture.then_some(Step::Capture);
        let addresses = (0..self.addresses).map(Step::Address);
        let role_files = self.role_files.then_some(Step::RoleFiles);
        let services = (0..self.services).map(Step::Service);
        let resources = self.resources.then_some(Step::Resources);
        let (before, after) = if is_planted(Planted::FilesTooLate) { (None, role_files) } else { (role_files, None) };
        capture.into_iter().chain(addresses).chain(before).chain(services).chain(resources).chain(after).collect()
    }

    /// Everything that follows the durable epoch of a takeover.
    pub(super) fn takeover(&self, event: Event) -> Vec<(Step, Turn)> {
        let (pre, post) = match event {
            Event::Failback => (None, self.post_failback.map(|_| Hook::PostFailback)),
            _ => (self.pre_failover.map(|_| Hook::PreFailover), self.post_failover.map(|_| Hook::PostFailover)),
        };
        let mut steps = vec![Step::Drain];
        steps.extend(pre.map(Step::Script));
        steps.extend(self.up());
        steps.extend(post.map(Step::Script));
        steps.push(Step::Tell);
        steps.into_iter().map(|step| (step, Turn::Do)).collect()
    }

    /// What the active side has up.
    pub(super) fn raise(&self) -> Vec<(Step, Turn)> {
        self.up().into_iter().map(|step| (step, Turn::Do)).collect()
    }

    /// The same taken down at once: addresses first, so that nobody is answered.
    pub(super) fn fall(&self) -> Vec<(Step, Turn)> {
        let addresses = (0..self.addresses).rev().map(Step::Address);
        let services = (0..self.services).rev().map(Step::Service);
        let resources = self.resources.then_some(Step::Resources);
        let role_files = self.role_files && !is_planted(Planted::FilesStay);
        let last = [role_files.then_some(Step::RoleFiles), self.capture.then_some(Step::Capture)];
        let steps = addresses.chain(resources).chain(services).chain(last.into_iter().flatten());
        steps.map(|step| (step, Turn::Undo)).collect()
    }

    /// The same taken down in order, with nothing lost.
    pub(super) fn hand_over(&self, event: Event) -> Vec<(Step, Turn)> {
        let pre = self.pre_failback.filter(|_| event == Event::Failback).map(|_| Step::Script(Hook::PreFailback));
        let mut steps: Vec<_> = pre.into_iter().map(|step| (step, Turn::Do)).collect();
        let goes_down = self.resources && !is_planted(Planted::ResourcesStay);
        steps.extend(goes_down.then_some((Step::Resources, Turn::Undo)));
        steps.extend((0..self.services).rev().map(|at| (Step::Service(at), Turn::Undo)));
        if !is_planted(Planted::YieldEarly) {
            steps.push((Step::HandOver, Turn::Do));
        }
        steps.extend((0..self.addresses).rev().map(|at| (Step::Address(at), Turn::Undo)));
        steps.extend(self.role_files.then_some((Step::RoleFiles, Turn::Undo)));
        steps.extend(self.capture.then_some((Step::Capture, Turn::Undo)));
        steps
    }

    /// The same for nobody: there is nothing to hand over.
    pub(super) fn close(&self) -> Vec<(Step, Turn)> {
        let mut steps = self.hand_over(Event::Switchover);
        steps.retain(|(step, _)| *step != Step::HandOver);
        steps
    }

    pub(super) fn on_failure(&self, hook: Hook) -> OnFailure {
        let of = match hook {
            Hook::PreFailover => self.pre_failover,
            Hook::PostFailover => self.post_failover,
            Hook::PreFailback => self.pre_failback,
            Hook::PostFailback => self.post_failback,
        };
        of.unwrap_or(OnFailure::GoOn)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::References => f.write_str("reference addresses"),
            Step::Fence => f.write_str("fence"),
            Step::Drain => f.write_str("drain the journal"),
            Step::Script(Hook::PreFailover) => f.write_str("script pre-failover"),
            Step::Script(Hook::PostFailover) => f.write_str("script post-failover"),
            Step::Script(Hook::PreFailback) => f.write_str("script pre-failback"),
            Step::Script(Hook::PostFailback) => f.write_str("script post-failback"),
            Step::Capture => f.write_str("capture"),
            Step::RoleFiles => f.write_str("role files"),
            Step::Address(at) => write!(f, "address {at}"),
            Step::Service(at) => write!(f, "service {at}"),
            Step::Resources => f.write_str("resources"),
            Step::HandOver => f.write_str("hand over the last changes"),
            Step::Tell => f.write_str("tell"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Already => f.write_str("was so already"),
            Outcome::Failed(why) => write!(f, "failed: {why}"),
            Outcome::Hopeless(why) => write!(f, "failed, as it would on any node: {why}"),
            Outcome::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}
