//! What persons want of groups: done here, or handed to the node that is to serve.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use stead_api::{Answer, Failure, Timeline, Want};
use stead_failover::machine;
use stead_model::plan::{GroupPlan, Span};
use stead_model::status::MonitorStatus;
use stead_model::{GroupName, NodeName};

use super::Node;
use crate::api_server::Responder;
use crate::event::Event;
use crate::failover::config;
use crate::failover::{Answerer, Order, Reply};
use crate::job;
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};

pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of what a failed step wrote that are told.
const OUTPUT_LINES: usize = 5;
/// Longer than any move takes until it is answered.
pub(super) const MOVE_TIMEOUT: Duration = Duration::from_secs(400);

impl Node {
    pub(in super::super) fn move_group(&mut self, name: &GroupName, want: Want, expires_ms: u64, responder: Responder) {
        let what = format!("group {name} was not moved");
        let at = match self.known_group(name, &what) {
            Ok(group) => self.node_for(group, want),
            Err(failure) => return responder.failed(failure),
        };
        if at == self.name {
            let reason = self.reason_of(name);
            return self.want(name, want, expires_ms, client(responder, reason));
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
        let reason = self.reason_of(name);
        self.want(name, want, expires_ms, peer(reply, reason));
    }

    /// How to learn why the other node of a group could not hand over.
    pub(super) fn reason_of(&self, name: &GroupName) -> Reason {
        let other = self.plan.group(name).and_then(|group| group.other(&self.name)).cloned();
        Reason { dialer: self.dialer.clone(), events: self.events.clone(), group: name.clone(), other }
    }

    fn want(&mut self, name: &GroupName, want: Want, expires_ms: u64, answer: Answerer) {
        self.tell_fitness();
        let (want, expires) = (of(want), Duration::from_millis(expires_ms));
        self.groups.failover.give(Order::Request { group: name.clone(), want, expires, answer });
    }

    /// The node that is to serve then, or that waits for the answer.
    pub(super) fn node_for(&self, group: &GroupPlan, want: Want) -> NodeName {
        let monitor = self.monitor_of(&group.name);
        let active = monitor.as_ref().and_then(|monitor| monitor.active.clone()).unwrap_or(group.source.clone());
        let is_gone = monitor.as_ref().is_some_and(|monitor| monitor.state == "failed");
        let is_down = monitor.is_some_and(|monitor| ["down", "offline"].contains(&monitor.doing.as_str()));
        match want {
            Want::Failback => group.source.clone(),
            // Whoever has the group says how it is held; where that one is gone, the other one may be told to go on.
            Want::Online | Want::Maintain { on: false } if is_gone => self.name.clone(),
            Want::Offline | Want::Online | Want::Maintain { .. } => active,
            Want::Failover { .. } if active == self.name && is_down => active,
            _ => group.other(&active).unwrap_or(&group.target).clone(),
        }
    }

    pub(in super::super) fn monitor_of(&self, name: &GroupName) -> Option<MonitorStatus> {
        self.groups.failover.monitors().into_iter().find(|monitor| monitor.group == name.as_str())
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

    pub(in super::super) fn timelines(&self, name: Option<&GroupName>) -> Vec<Timeline> {
        self.groups.failover.timelines(&self.name, name)
    }
}

pub(super) fn of(want: Want) -> machine::Want {
    match want {
        Want::Failover { force } => machine::Want::Failover { force },
        Want::Switchover => machine::Want::Switchover,
        Want::Failback => machine::Want::Failback,
        Want::Approve => machine::Want::Approve,
        Want::Suspend => machine::Want::Suspend,
        Want::Resume => machine::Want::Resume,
        Want::Offline => machine::Want::Offline,
        Want::Online => machine::Want::Online,
        Want::Maintain { on } => machine::Want::Maintain(on),
    }
}

/// Asks the node that could not hand over why.
#[derive(Clone)]
pub(super) struct Reason {
    dialer: Dialer,
    events: SyncSender<Event>,
    group: GroupName,
    other: Option<NodeName>,
}

impl Reason {
    /// The failure with what the other node says of it; it may take a while.
    pub(super) fn of(&self, failure: Failure) -> Failure {
        let Some(other) = &self.other else { return failure };
        let question = Ask::Explain { group: Some(self.group.clone()) };
        let told = match ask(&self.dialer, other, &question, ASK_TIMEOUT) {
            Ok(Tell::Timelines(timelines)) => why_not_handed_over(&timelines),
            _ => None,
        };
        match told {
            Some(why) => Failure { why: format!("{other} could not hand over: {why}"), ..failure },
            None => failure,
        }
    }

    /// The same on a thread that may wait.
    fn tell(&self, failure: Failure, told: impl FnOnce(Failure) + Send + 'static) {
        let reason = self.clone();
        job::spawn(&self.events, move || {
            told(reason.of(failure));
            None
        });
    }
}

/// The step that failed last, with the end of what it wrote.
fn why_not_handed_over(timelines: &[Timeline]) -> Option<String> {
    let entries = timelines.iter().flat_map(|timeline| &timeline.entries).rev();
    let recent = entries.take_while(|entry| !entry.text.ends_with(": handing over"));
    let step = recent.into_iter().find(|entry| entry.failed)?;
    let lines: Vec<_> = step.output.iter().flat_map(|output| output.lines().rev().take(OUTPUT_LINES)).collect();
    let output: String = lines.iter().rev().map(|line| format!("\n  {line}")).collect();
    Some(format!("{}{output}", step.text))
}

fn client(responder: Responder, reason: Reason) -> Answerer {
    Box::new(move |reply| match reply {
        Reply::NotHandedOver(failure) => {
            let responder = responder.clone();
            reason.tell(failure, move |failure| responder.failed(failure));
        }
        Reply::Begun => responder.notice("it was begun"),
        Reply::Done => responder.done(Answer::Done),
        Reply::Failed(failure) => responder.failed(failure),
    })
}

fn peer(reply: SyncSender<Result<Tell, Failure>>, reason: Reason) -> Answerer {
    Box::new(move |told| match told {
        Reply::NotHandedOver(failure) => {
            let reply = reply.clone();
            reason.tell(failure, move |failure| drop(reply.try_send(Err(failure))));
        }
        Reply::Begun => {}
        Reply::Done => _ = reply.try_send(Ok(Tell::Done)),
        Reply::Failed(failure) => _ = reply.try_send(Err(failure)),
    })
}

#[cfg(test)]
mod tests {
    use stead_api::TimelineEntry;

    use super::*;
    use crate::clock::wall_clock;

    fn entry(text: &str, failed: bool, output: Option<&str>) -> TimelineEntry {
        let output = output.map(String::from);
        let text = text.into();
        TimelineEntry { at: wall_clock(), text, step: None, failed, took_ms: None, outage_ms: None, output }
    }

    #[test]
    fn the_step_that_failed_says_why_nothing_was_handed_over() {
        let timeline =
            |entries| vec![Timeline { group: "x".parse().unwrap(), node: "paris".parse().unwrap(), entries }];
        let old = entry("undo service a: failed: long ago", true, None);
        let begun = entry("switchover: handing over", false, None);
        assert_eq!(why_not_handed_over(&timeline(vec![old.clone(), begun.clone()])), None);
        let failed = entry("undo service a: failed: it ended with 1", true, Some("1\n2\n3\n4\n5\n6\n"));
        let after = entry("the other node did not take over: going on here", false, None);
        let told = why_not_handed_over(&timeline(vec![old, begun, failed, after])).unwrap();
        assert_eq!(told, "undo service a: failed: it ended with 1\n  2\n  3\n  4\n  5\n  6");
    }
}
