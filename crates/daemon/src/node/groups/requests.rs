//! What persons want of groups: done here, or handed to the node that is to serve.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use stead_api::{Answer, Failure, FailureKind, Timeline, Want};
use stead_failover::machine;
use stead_model::plan::{GroupPlan, Span};
use stead_model::status::MonitorStatus;
use stead_model::{GroupName, NodeName};

use super::super::ops::Op;
use super::Node;
use crate::api_server::Responder;
use crate::check;
use crate::clock::wall_clock;
use crate::failover::config;
use crate::failover::{Answerer, Order, Reply};
use crate::job;
use crate::peer::ask;
use crate::peer::messages::{Ask, Tell};
use crate::state::sets::SetState;

const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any move takes until it is answered.
const MOVE_TIMEOUT: Duration = Duration::from_secs(400);

impl Node {
    pub(in super::super) fn move_group(&mut self, name: &GroupName, want: Want, expires_ms: u64, responder: Responder) {
        let what = format!("group {name} was not moved");
        let at = match self.known_group(name, &what) {
            Ok(group) => self.node_for(group, want),
            Err(failure) => return responder.failed(failure),
        };
        if at == self.name {
            return self.want(name, want, expires_ms, client(responder));
        }
        let (dialer, group) = (self.dialer.clone(), name.clone());
        responder.notice(format!("{at} is asked, which is to serve"));
        job::spawn(&self.events, move || {
            let asked = ask(&dialer, &at, &Ask::Move { group, want, expires_ms }, MOVE_TIMEOUT);
            responder.end(asked.map(|_| Answer::Done));
            None
        });
    }

    /// Another node hands on what a person wants.
    pub(in super::super) fn move_for(
        &mut self,
        name: &GroupName,
        want: Want,
        expires_ms: u64,
        from: &NodeName,
        reply: SyncSender<Result<Tell, Failure>>,
    ) {
        if !self.plan.group(name).is_some_and(|group| group.has(from)) {
            let why = format!("{from} takes no part in it");
            return drop(reply.try_send(Err(Failure::new(format!("group {name} was not moved"), why, ""))));
        }
        self.want(name, want, expires_ms, peer(reply));
    }

    fn want(&mut self, name: &GroupName, want: Want, expires_ms: u64, answer: Answerer) {
        self.tell_fitness();
        let (want, expires) = (of(want), Duration::from_millis(expires_ms));
        self.groups.failover.give(Order::Request { group: name.clone(), want, expires, answer });
    }

    /// The node that is to serve then, or that waits for the answer.
    fn node_for(&self, group: &GroupPlan, want: Want) -> NodeName {
        let monitor = self.monitor_of(&group.name);
        let active = monitor.as_ref().and_then(|monitor| monitor.active.clone()).unwrap_or(group.source.clone());
        let is_down = monitor.is_some_and(|monitor| monitor.doing == "down");
        match want {
            Want::Failback => group.source.clone(),
            Want::Failover { .. } if active == self.name && is_down => active,
            _ => group.other(&active).unwrap_or(&group.target).clone(),
        }
    }

    pub(super) fn monitor_of(&self, name: &GroupName) -> Option<MonitorStatus> {
        self.groups.failover.monitors().into_iter().find(|monitor| monitor.group == name.as_str())
    }

    pub(in super::super) fn restore(&mut self, name: &GroupName, no_wait: bool, responder: Responder) {
        let what = format!("group {name} was not restored");
        let begun = self.known_group(name, &what).cloned().and_then(|group| {
            self.is_to_restore(&group, &what)?;
            self.begin_restore(&group)?;
            Ok(group)
        });
        match begun {
            Ok(_) if no_wait => responder.done(Answer::Done),
            Ok(group) => self.ops.push(Op::Restore { group: Box::new(group), responder }),
            Err(failure) => responder.failed(failure),
        }
    }

    fn is_to_restore(&self, group: &GroupPlan, what: &str) -> Result<(), Failure> {
        let monitor = self.monitor_of(&group.name);
        let other = monitor.as_ref().and_then(|monitor| monitor.other.as_deref());
        // The source, too, may have stood in: for its target, while that was the active side.
        let stood_in =
            other == Some("restore-required") || group.sets.iter().any(|set| self.groups.awaiting.contains(set));
        let refused = |why, remedy| Err(Failure::new(what, why, remedy).kind(FailureKind::No));
        match monitor.and_then(|monitor| monitor.active) {
            Some(active) if active != self.name => {
                let why = format!("{active} serves, and it is restored from there");
                refused(why, format!("Run the command on {active}"))
            }
            Some(active) if active == group.source && !stood_in => {
                refused(format!("{active} serves, where it belongs"), "Look at: stead status".into())
            }
            _ => Ok(()),
        }
    }

    /// The other node gets what this one has from now on.
    fn begin_restore(&mut self, group: &GroupPlan) -> Result<(), Failure> {
        for set in &group.sets {
            let mut kept = SetState::load(&self.state, set)?;
            kept.restore = false;
            kept.save(&self.state, set, "source")?;
            self.groups.awaiting.remove(set);
            self.reconfigure(set)?;
        }
        Ok(())
    }

    pub(in super::super) fn explain_groups(&mut self, name: Option<GroupName>, responder: Responder) {
        if let Some(name) = &name
            && let Err(failure) = self.known_group(name, "nothing is told")
        {
            return responder.failed(failure);
        }
        let mut told = self.timelines(name.as_ref());
        let (dialer, peers) = (self.dialer.clone(), self.partners());
        job::spawn(&self.events, move || {
            for peer in peers {
                match ask(&dialer, &peer, &Ask::Explain { group: name.clone() }, ASK_TIMEOUT) {
                    Ok(Tell::Timelines(timelines)) => told.extend(timelines),
                    Ok(_) => {}
                    Err(failure) => responder.notice(format!("{peer} tells nothing: {}", failure.why)),
                }
            }
            responder.done(Answer::Timelines(told));
            None
        });
    }

    pub(in super::super) fn what_if(
        &mut self,
        name: &GroupName,
        heartbeat_ms: Option<u64>,
        timeout_ms: Option<u64>,
        responder: Responder,
    ) {
        let what = format!("nothing is concluded of group {name}");
        let group = match self.known_group(name, &what) {
            Ok(group) => group.clone(),
            Err(failure) => return responder.failed(failure),
        };
        let ms = |ms: Option<u64>, usual: Option<Span>| ms.map(|ms| Span(Duration::from_millis(ms))).or(usual);
        let other = GroupPlan {
            heartbeat: ms(heartbeat_ms, group.heartbeat),
            timeout: ms(timeout_ms, group.timeout),
            ..group.clone()
        };
        let monitor = config::monitor(&other);
        if let Err(e) = monitor.check() {
            return responder.failed(Failure::new(what, e.to_string(), "Choose other values"));
        }
        let node = self.name.clone();
        let told = move |entries| {
            responder.done(Answer::Timelines(vec![Timeline { group: group.name, node, entries }]));
        };
        self.groups.failover.give(Order::WhatIf { group: name.clone(), monitor, told: Box::new(told) });
    }

    /// The groups of which this node is one of the two, and where their sets are here.
    pub(in super::super) fn groups_with_roots(&self) -> Vec<(GroupPlan, Vec<PathBuf>)> {
        self.own_groups().into_iter().map(|group| (group.clone(), self.roots_of(&group))).collect()
    }

    /// The other node of a group asks what stands against it here.
    pub(in super::super) fn check_group(&self, name: &GroupName, reply: SyncSender<Result<Tell, Failure>>) {
        let found = self.groups_with_roots().into_iter().find(|(group, _)| group.name == *name);
        let Some((group, roots)) = found else {
            let why = format!("{} takes no part in it", self.name);
            let _ = reply.try_send(Err(Failure::new(format!("group {name} was not checked"), why, "")));
            return;
        };
        let own = self.name.clone();
        job::spawn(&self.events, move || {
            let texts = check::groups::on_this_machine(&group, &own, &roots);
            let _ = reply.try_send(Ok(Tell::Findings { texts, now: wall_clock() }));
            None
        });
    }

    pub(in super::super) fn timelines(&self, name: Option<&GroupName>) -> Vec<Timeline> {
        self.groups.failover.timelines(&self.name, name)
    }
}

fn of(want: Want) -> machine::Want {
    match want {
        Want::Failover { force } => machine::Want::Failover { force },
        Want::Switchover => machine::Want::Switchover,
        Want::Failback => machine::Want::Failback,
        Want::Approve => machine::Want::Approve,
        Want::Suspend => machine::Want::Suspend,
        Want::Resume => machine::Want::Resume,
    }
}

fn client(responder: Responder) -> Answerer {
    Box::new(move |reply| match reply {
        Reply::Begun => responder.notice("it was begun"),
        Reply::Done => responder.done(Answer::Done),
        Reply::Failed(failure) => responder.failed(failure),
    })
}

fn peer(reply: SyncSender<Result<Tell, Failure>>) -> Answerer {
    Box::new(move |told| match told {
        Reply::Begun => {}
        Reply::Done => _ = reply.try_send(Ok(Tell::Done)),
        Reply::Failed(failure) => _ = reply.try_send(Err(failure)),
    })
}
