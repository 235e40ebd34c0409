//! Sets of this node that hand on what it keeps for another: they follow the set that they come from.

use stead_api::Failure;
use stead_model::plan::SetPlan;
use stead_model::{NodeName, RulesSpec, SetName};
use tracing::{info, warn};

use super::Node;
use crate::job;
use crate::peer::ask;
use crate::peer::messages::Ask;
use crate::protect;

impl Node {
    /// The sets that hand the replica of that one on from here.
    pub(super) fn relays_of(&self, origin: &SetName) -> Vec<SetName> {
        let own = self.plan.sets.iter().filter(|set| set.source == self.name && set.relay.as_ref() == Some(origin));
        own.map(|set| set.name.clone()).collect()
    }

    /// Refuses to start a set that hands a replica on which is not open, and may not be guarded.
    pub(super) fn has_origin(&self, set: &SetPlan) -> Result<(), Failure> {
        let Some(origin) = set.relay.as_ref().filter(|origin| self.may_be_closed(origin)) else { return Ok(()) };
        let why = format!("the replica of set {origin}, which it hands on, is not open here");
        Err(Failure::new(format!("set {} is not handed on", set.name), why, "Look at: stead status"))
    }

    fn may_be_closed(&self, origin: &SetName) -> bool {
        self.unstarted.contains_key(origin) || !self.plan.connections_of(origin).any(|c| c.target == self.name)
    }

    /// Which names belong to a set; what is handed on has the rules of where it comes from.
    pub(super) fn rules_of(&self, set: &SetPlan) -> RulesSpec {
        let origin = set.relay.as_ref().and_then(|relay| self.plan.set(relay));
        origin.unwrap_or(set).rules.clone()
    }

    /// Has the sets that hand a replica on take over its rules.
    pub(super) fn follow_rules(&mut self, origin: &SetName) -> Result<(), Failure> {
        for name in self.relays_of(origin) {
            let Some(relay) = self.plan.set(&name).cloned() else { continue };
            let rules = self.rules_of(&relay);
            if rules == relay.rules {
                continue;
            }
            let connections = self.plan.connections_of(&name).cloned().collect();
            let plan = self.plan.with_set_changed(SetPlan { rules, ..relay }, connections);
            let what = format!("set {name} does not follow set {origin}");
            self.adopt(plan.map_err(|e| Failure::new(what, e.to_string(), ""))?)?;
            self.reconfigure(&name)?;
            self.tell_all(&name);
        }
        Ok(())
    }

    /// The replica is kept no longer: what hands it on ends before.
    pub(super) fn end_relays(&mut self, origin: &SetName) -> Result<(), Failure> {
        for name in self.relays_of(origin) {
            let targets = self.end_source(&name)?;
            info!("set {name} ended, for the replica of set {origin} that it hands on is kept no longer");
            self.release_unasked(name, targets);
        }
        Ok(())
    }

    /// Tells targets that a set is no longer protected, where nobody waits for it.
    fn release_unasked(&self, set: SetName, targets: Vec<NodeName>) {
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            for target in targets {
                let question = Ask::Release { set: set.clone(), undo: false };
                if let Err(failure) = ask(&dialer, &target, &question, protect::ASK_TIMEOUT) {
                    warn!(
                        "{target} still guards the replica of set {set} ({}); run there: stead unprotect {set} --force",
                        failure.why
                    );
                }
            }
            None
        });
    }
}
