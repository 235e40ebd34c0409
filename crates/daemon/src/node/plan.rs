//! Another plan takes the place of this one: compared with it, examined on all machines that it moves addresses to, and
//! only then made true, one part after the other.

use std::collections::{BTreeMap, BTreeSet};

use stead_api::{Answer, Failure, FailureKind};
use stead_model::plan::{self, Plan};
use stead_model::{GroupName, NodeName};

use super::Node;
use super::groups::fits::{Question, asked};
use super::groups::trials::Trials;
use super::live::ask_change;
use crate::api_server::Responder;
use crate::apply::{self, Steps};
use crate::check;
use crate::failover::config;
use crate::job::{self, JobDone};
use crate::peer::Dialer;
use crate::protect;
use crate::state::sets::SetState;

const WHAT: &str = "the plan was not applied, nothing was changed";

/// What the nodes of groups are asked before anything is changed.
#[derive(Default)]
struct Questions {
    fits: Vec<Question>,
    trials: Vec<Trials>,
}

/// A plan that is being made true.
pub(crate) struct Applying {
    /// As TOML.
    pub(crate) text: String,
    /// The sets are as it says, and only groups are left.
    pub(crate) are_sets_done: bool,
}

impl Questions {
    /// What is not known of the nodes, each in a line; refused with the line of the plan that one of them speaks against.
    fn put(&self, dialer: &Dialer, own: &NodeName, text: &str) -> Result<Vec<String>, Failure> {
        let held = || self.trials.iter().map(|trials| trials.held(dialer, own)).collect::<Result<Vec<_>, _>>();
        let unknown = asked(dialer, own, &self.fits).and_then(|()| held());
        unknown.map(|lines| lines.concat()).map_err(|unfit| unfit.in_plan(text, WHAT))
    }
}

impl Node {
    /// Tells what a plan would change.
    pub(super) fn plan_compare(&mut self, text: String, responder: Responder) {
        let (wanted, questions) = match self.examine(&text) {
            Ok(examined) => examined,
            Err(failure) => return responder.failed(failure),
        };
        let (now, dialer, own) = (self.plan.at_home(), self.dialer.clone(), self.name.clone());
        job::spawn(&self.events, move || {
            let differences = plan::differences(&now, &wanted.at_home());
            let unknown = questions.put(&dialer, &own, &text);
            responder.end(unknown.map(|unknown| Answer::Compared { differences, over: now.to_toml(), unknown }));
            None
        });
    }

    pub(super) fn plan_apply(&mut self, text: String, over: Option<String>, responder: Responder) {
        let questions = match self.examine(&text) {
            Ok((_, questions)) => questions,
            Err(failure) => return responder.failed(failure),
        };
        let (dialer, own) = (self.dialer.clone(), self.name.clone());
        job::spawn(&self.events, move || {
            let result = questions.put(&dialer, &own, &text).map(drop);
            let applying = Applying { text, are_sets_done: false };
            Some(JobDone::Examined { applying, over, result, responder })
        });
    }

    /// All machines can do what the plan wants of them, or not.
    pub(super) fn examined(
        &mut self,
        applying: Applying,
        over: Option<String>,
        result: Result<(), Failure>,
        responder: Responder,
    ) {
        let is_other = over.is_some_and(|over| over != self.plan.at_home().to_toml());
        let changed = || Failure::new(WHAT, "the plan was changed by another command meanwhile", "Apply it again");
        match result {
            Err(failure) => responder.failed(failure),
            Ok(()) if is_other => responder.failed(changed()),
            Ok(()) => self.apply_further(applying, responder),
        }
    }

    /// Groups that end come first, then the sets, then the other groups.
    pub(super) fn apply_further(&mut self, applying: Applying, responder: Responder) {
        let wanted = match self.parsed(&applying.text) {
            Ok(wanted) if self.has_other_groups(&wanted, applying.are_sets_done) => {
                return self.apply_groups(&wanted, applying, responder);
            }
            Ok(_) if applying.are_sets_done => return responder.done(Answer::Done),
            Ok(wanted) => wanted,
            Err(failure) => return responder.failed(failure),
        };
        let checked = self.check_modes(&wanted).and_then(|()| apply::steps(&self.plan, &wanted, &self.name));
        match checked {
            Ok(steps) => self.tell_changes(steps, wanted, applying, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    fn tell_changes(&mut self, steps: Steps, wanted: Plan, applying: Applying, responder: Responder) {
        let (changes, dialer) = (self.changes(&steps), self.dialer.clone());
        job::spawn(&self.events, move || {
            let mut untold = BTreeMap::new();
            for change in changes {
                let key = (change.set.name.clone(), change.connection.target.clone());
                if let Err(failure) = ask_change(&dialer, change) {
                    untold.insert(key, failure);
                }
            }
            let (steps, wanted) = (Box::new(steps), Box::new(wanted));
            Some(JobDone::Changing { steps, wanted, applying, untold, responder })
        });
    }

    /// People say where sets belong, wherever they are at the moment.
    fn parsed(&self, text: &str) -> Result<Plan, Failure> {
        let wanted = Plan::parse(text).map_err(|e| unusable(&e));
        wanted.map(|wanted| wanted.as_in(&self.plan))
    }

    /// Refuses what could not be applied, as far as it is seen from here; with what the nodes are to be asked.
    fn examine(&self, text: &str) -> Result<(Plan, Questions), Failure> {
        let wanted = self.parsed(text)?;
        wanted.check_nodes(&self.known_nodes(), text).map_err(|e| unusable(&e))?;
        if wanted.alerts != self.plan.alerts {
            check::receivers(&wanted).map_err(|e| unusable(&e.in_text(text)))?;
        }
        self.check_modes(&wanted)?;
        let mut going_on = self.plan.clone();
        going_on.groups.retain(|group| wanted.group(&group.name).is_some());
        apply::steps(&going_on, &wanted, &self.name)?;
        Ok((wanted.clone(), self.examine_groups(&wanted)?))
    }

    /// Nodes that a plan may name: those that are trusted, and those that it names already.
    fn known_nodes(&self) -> BTreeSet<NodeName> {
        let peers = self.peers.list().iter().map(|peer| peer.name.clone());
        self.plan.nodes().into_iter().chain(peers).chain([self.name.clone()]).collect()
    }

    fn examine_groups(&self, wanted: &Plan) -> Result<Questions, Failure> {
        for group in self.plan.groups.iter().filter(|group| wanted.group(&group.name).is_none()) {
            self.is_at_home(group, WHAT)?;
        }
        let others = wanted.groups.iter().filter(|group| self.plan.group(&group.name) != Some(group));
        let mut questions = Questions::default();
        for group in others {
            if group.other(&self.name).is_none() {
                return Err(self.is_of_others(&group.name, [&group.target, &group.source]));
            }
            config::machine(group, &self.name, false, 1)?;
            questions.fits.extend(Question::of(group, self.plan.group(&group.name)));
            questions.trials.extend(self.trials_of(group));
        }
        Ok(questions)
    }

    pub(super) fn is_of_others(&self, group: &GroupName, nodes: [&NodeName; 2]) -> Failure {
        let why = format!("group {group} would be another, and this node is none of its two");
        Failure::new(WHAT, why, format!("Apply that part of the plan on {} or {}", nodes[0], nodes[1]))
    }

    /// Refuses modes that sets which run cannot have.
    fn check_modes(&self, wanted: &Plan) -> Result<(), Failure> {
        let own =
            wanted.connections.iter().filter(|c| self.plan.set(&c.set).is_some_and(|set| set.source == self.name));
        own.into_iter().try_for_each(|connection| {
            let dirs = SetState::load(&self.state, &connection.set)?.dirs;
            protect::source::is_supported(connection.mode, &dirs, "the plan was not applied")
        })
    }
}

fn unusable(e: &plan::PlanError) -> Failure {
    let remedy = "Nothing was changed; compare with: stead plan show";
    Failure::new("the plan was not applied", e.to_string(), remedy).kind(FailureKind::Usage)
}
