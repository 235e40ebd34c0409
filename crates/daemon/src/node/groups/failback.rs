//! Failbacks: both sides are compared while they are in use, then the source serves again.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use stead_api::{Answer, Compared, Failback, Failure, FailureKind, Level, Then, Want};
use stead_model::plan::GroupPlan;
use stead_model::status::{State, Status};
use stead_model::{GroupName, NodeName, SetName};

use super::super::ops::Op;
use super::Node;
use super::requests::{ASK_TIMEOUT, MOVE_TIMEOUT, Reason, of};
use crate::api_server::Responder;
use crate::failover::{Order, Reply};
use crate::job::{self, JobDone};
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, ask};
use crate::seam::{Command, CommandId, Outcome};

/// Longest comparison.
const COMPARE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often another node is asked how far its comparison is, and after which silence it takes nobody to be waiting.
const LOOK: Duration = Duration::from_secs(1);
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long this node may take to see that the source serves again.
const HOME_WITHIN: Duration = Duration::from_secs(60);
/// Differences that a refusal names.
const NAMED_MAX: usize = 10;

/// Who asked for a comparison: a peer, by a number of its own, or a client of this node.
type Number = (NodeName, u64);

/// Sets of a group that are being compared with what the other node has.
pub(super) struct Comparison {
    group: GroupName,
    waits: BTreeMap<CommandId, SetName>,
    found: Vec<Compared>,
    failed: Option<Failure>,
    until: Instant,
    waiting: Waiting,
}

enum Waiting {
    Client(Box<Failback>, Responder),
    Peer { number: Number, heard: Instant },
}

impl Comparison {
    fn is_wanted(&self, now: Instant) -> bool {
        match &self.waiting {
            Waiting::Client(_, responder) => !responder.is_gone() && now < self.until,
            Waiting::Peer { heard, .. } => now < *heard + FORGET_AFTER && now < self.until,
        }
    }

    fn is_over(&self) -> bool {
        self.waits.is_empty() || self.failed.is_some()
    }
}

impl Node {
    pub(in super::super) fn failback(&mut self, options: Failback, responder: Responder) {
        let what = format!("group {} was not moved", options.group);
        let group = match self.known_group(&options.group, &what) {
            Ok(group) => group.clone(),
            Err(failure) => return responder.failed(failure),
        };
        let active = self.monitor_of(&group.name).and_then(|monitor| monitor.active);
        let compares = options.verify != Level::None && !group.sets.is_empty() && self.source_stands_by(&group);
        match active {
            // Where nobody stands by, there is nothing to compare: what stands against it is told by the mind.
            _ if !compares => self.go_back(options, vec![], responder),
            Some(active) if active == self.name && active == group.target => {
                let is_content = options.verify == Level::Content;
                let waiting = Waiting::Client(Box::new(options), responder);
                self.begin_comparison(&group, is_content, waiting);
            }
            Some(active) if active == group.target => self.have_compared(active, options, responder),
            _ => self.go_back(options, vec![], responder),
        }
    }

    fn source_stands_by(&self, group: &GroupPlan) -> bool {
        let monitor = self.monitor_of(&group.name);
        let does = monitor.and_then(|one| if group.source == self.name { Some(one.doing) } else { one.other });
        does.as_deref() == Some("standby")
    }

    /// The other node, which serves, compares.
    fn have_compared(&mut self, active: NodeName, options: Failback, responder: Responder) {
        self.commands += 1;
        let (dialer, number) = (self.dialer.clone(), self.meant.run.wrapping_add(self.commands));
        job::spawn(&self.events, move || {
            let result = remote_comparison(&dialer, &active, &options, number, &responder);
            Some(JobDone::Compared { options, result, responder })
        });
    }

    /// Another node asks for a comparison, or how far it is.
    pub(in super::super) fn compare_for(
        &mut self,
        name: &GroupName,
        content: bool,
        number: Number,
    ) -> Result<Tell, Failure> {
        let what = format!("group {name} was not compared");
        let group = self.known_group(name, &what)?.clone();
        if !group.has(&number.0) {
            return Err(Failure::new(what, format!("{} takes no part in it", number.0), ""));
        }
        let at = self.groups.comparisons.iter().position(|one| one.is_of(&number));
        let Some(at) = at else {
            let waiting = Waiting::Peer { number, heard: Instant::now() };
            return self.begin_comparison(&group, content, waiting).map_or(Ok(Tell::Compared(None)), Err);
        };
        let comparison = &mut self.groups.comparisons[at];
        if let Waiting::Peer { heard, .. } = &mut comparison.waiting {
            *heard = Instant::now();
        }
        if !comparison.is_over() {
            return Ok(Tell::Compared(None));
        }
        let comparison = self.groups.comparisons.swap_remove(at);
        comparison.failed.map_or(Ok(Tell::Compared(Some(comparison.found))), Err)
    }

    /// Begins it; a client is told where it cannot be begun, a peer gets that back.
    fn begin_comparison(&mut self, group: &GroupPlan, content: bool, waiting: Waiting) -> Option<Failure> {
        let what = format!("group {} was not compared", group.name);
        if let Err(failure) = self.can_compare(group, &what) {
            match waiting {
                Waiting::Client(_, responder) => responder.failed(failure),
                Waiting::Peer { .. } => return Some(failure),
            }
            return None;
        }
        let mut waits = BTreeMap::new();
        for set in &group.sets {
            self.commands += 1;
            waits.insert(self.commands, set.clone());
        }
        let (group, until) = (group.name.clone(), Instant::now() + COMPARE_MAX);
        let begun = waits.clone();
        self.groups.comparisons.push(Comparison { group, waits, found: vec![], failed: None, until, waiting });
        for (id, set) in begun {
            self.plane.command(&set, id, Command::Verify { repair: false, content });
        }
        None
    }

    /// Only what is replicated is compared: everything else would wait, or differ for that reason.
    fn can_compare(&self, group: &GroupPlan, what: &str) -> Result<(), Failure> {
        let statuses = self.plane.status();
        for set in &group.sets {
            self.as_source(set, what)?;
            let target = &self.along(group, set, what)?.target;
            let state = statuses.iter().find(|c| c.set == *set && c.target == *target);
            let is_so = state.is_some_and(|c| c.state == State::Replicating) && !self.groups.awaiting.contains(set);
            if !is_so {
                let why = format!("set {set} is not replicated to {target} yet and has to be restored first");
                let remedy = format!("Run: stead restore {}, and look at: stead status", group.name);
                return Err(Failure::new(what, why, remedy).kind(FailureKind::No));
            }
        }
        Ok(())
    }

    /// A command ended; was it part of a comparison?
    pub(in super::super) fn compared(&mut self, id: CommandId, result: &Result<Outcome, Failure>) -> bool {
        let found = self.groups.comparisons.iter_mut().find(|comparison| comparison.waits.contains_key(&id));
        let Some(comparison) = found else { return false };
        let Some(set) = comparison.waits.remove(&id) else { return false };
        match result {
            Ok(Outcome::Verified(report)) => comparison.found.push(Compared { set, report: report.clone() }),
            Ok(Outcome::Done) => {}
            Err(failure) => comparison.failed = Some(failure.clone()),
        }
        self.end_comparisons();
        true
    }

    /// Looks after comparisons: who is told how far they are, which have ended, which nobody waits for any more.
    pub(super) fn look_after_comparisons(&mut self) {
        if self.groups.comparisons.is_empty() {
            return;
        }
        let (now, local) = (Instant::now(), self.local_status());
        for comparison in &self.groups.comparisons {
            if let Waiting::Client(_, responder) = &comparison.waiting {
                responder.progress(of_sets(&local, comparison.waits.values()));
            }
        }
        let (wanted, given_up): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.groups.comparisons).into_iter().partition(|one| one.is_wanted(now));
        self.groups.comparisons = wanted;
        for comparison in given_up {
            comparison.waits.keys().for_each(|id| self.plane.forget(*id));
            if let Waiting::Client(_, responder) = comparison.waiting {
                let what = format!("group {} was not compared", comparison.group);
                let why = format!("it took longer than {} h", COMPARE_MAX.as_secs() / 3600);
                responder.failed(Failure::new(what, why, "Look at: stead status").kind(FailureKind::TimedOut));
            }
        }
    }

    /// Clients whose comparison is over get on.
    fn end_comparisons(&mut self) {
        let is_due = |one: &Comparison| one.is_over() && matches!(one.waiting, Waiting::Client(..));
        while let Some(at) = self.groups.comparisons.iter().position(is_due) {
            let comparison = self.groups.comparisons.swap_remove(at);
            comparison.waits.keys().for_each(|id| self.plane.forget(*id));
            if let Waiting::Client(options, responder) = comparison.waiting {
                let result = comparison.failed.map_or(Ok(comparison.found), Err);
                self.compared_all(*options, result, responder);
            }
        }
    }

    /// Both sides were compared, or could not be.
    pub(in super::super) fn compared_all(
        &mut self,
        options: Failback,
        result: Result<Vec<Compared>, Failure>,
        responder: Responder,
    ) {
        match result.and_then(|found| are_equal(&options.group, found)) {
            Ok(found) => self.go_back(options, found, responder),
            Err(failure) => responder.failed(failure),
        }
    }

    /// The move itself.
    fn go_back(&mut self, options: Failback, found: Vec<Compared>, responder: Responder) {
        let what = format!("group {} was not moved", options.group);
        let at = match self.known_group(&options.group, &what) {
            Ok(group) => self.node_for(group, Want::Failback),
            Err(failure) => return responder.failed(failure),
        };
        let (dialer, expires_ms, group) = (self.dialer.clone(), options.expires_ms, options.group.clone());
        let (events, is_here) = (self.events.clone(), at == self.name);
        let reason = self.reason_of(&group);
        let told = is_here.then(|| self.moved_here(&options));
        job::spawn(&events, move || {
            let moved = match told {
                Some(told) => wait_for(&told, &what, &reason, &responder),
                None => {
                    responder.notice(format!("{at} is asked, which is to serve"));
                    let question = Ask::Move { group: group.clone(), want: Want::Failback, expires_ms };
                    ask(&dialer, &at, &question, MOVE_TIMEOUT).map(drop)
                }
            };
            match moved {
                Ok(()) if options.then == Then::Stop => Some(JobDone::WentBack { group, responder }),
                Ok(()) => {
                    responder.done(Answer::FailedBack(found));
                    None
                }
                Err(failure) => {
                    responder.failed(failure);
                    None
                }
            }
        });
    }

    /// Asks the mind of the group here; what it replies comes back that way.
    fn moved_here(&mut self, options: &Failback) -> Receiver<Reply> {
        self.tell_fitness();
        let (reply, told) = sync_channel(4);
        let (group, expires) = (options.group.clone(), Duration::from_millis(options.expires_ms));
        let answer = Box::new(move |told: Reply| drop(reply.try_send(told)));
        self.groups.failover.give(Order::Request { group, want: of(Want::Failback), expires, answer });
        told
    }

    /// The source serves again, and the group is to end.
    pub(in super::super) fn went_back(&mut self, group: GroupName, responder: Responder) {
        self.ops.push(Op::AtHome { group, deadline: Instant::now() + HOME_WITHIN, responder });
    }

    /// True: it waits on.
    pub(in super::super) fn ends_at_home(
        &mut self,
        group: &GroupName,
        deadline: Instant,
        now: Instant,
        responder: &Responder,
    ) -> bool {
        let is_away = self.plan.group(group).is_some_and(|plan| self.is_at_home(plan, "").is_err());
        if is_away && now < deadline {
            return true;
        }
        self.unmonitor(group, responder.clone());
        false
    }
}

impl Comparison {
    fn is_of(&self, asked: &Number) -> bool {
        matches!(&self.waiting, Waiting::Peer { number, .. } if number == asked)
    }
}

fn remote_comparison(
    dialer: &Dialer,
    active: &NodeName,
    options: &Failback,
    number: u64,
    responder: &Responder,
) -> Result<Vec<Compared>, Failure> {
    let content = options.verify == Level::Content;
    let question = Ask::Compare { group: options.group.clone(), content, number };
    let until = Instant::now() + COMPARE_MAX;
    responder.notice(format!("{active} is asked, which serves, to compare what both have"));
    while Instant::now() < until && !responder.is_gone() {
        match ask(dialer, active, &question, ASK_TIMEOUT)? {
            Tell::Compared(Some(found)) => return Ok(found),
            Tell::Compared(None) => {}
            other => {
                let why = format!("{active} answered {other:?}");
                return Err(Failure::new("nothing was compared", why, "Use releases that fit together"));
            }
        }
        if let Ok(Tell::Standing(standing)) = ask(dialer, active, &Ask::Standing, ASK_TIMEOUT) {
            let mut connections = standing.connections;
            connections.retain(|connection| connection.source == *active);
            let node = active.clone();
            let unreachable = Vec::new();
            responder.progress(Status {
                node,
                connections,
                monitors: Vec::new(),
                unreachable,
                remarks: Vec::new(),
                dropped_heartbeats: Vec::new(),
            });
        }
        std::thread::sleep(LOOK);
    }
    let why = format!("{active} was not done in time");
    Err(Failure::new("nothing was compared", why, "Look at: stead status").kind(FailureKind::TimedOut))
}

/// Waits until the mind has said the last word.
fn wait_for(told: &Receiver<Reply>, what: &str, reason: &Reason, responder: &Responder) -> Result<(), Failure> {
    loop {
        match told.recv_timeout(MOVE_TIMEOUT) {
            Ok(Reply::Begun) => responder.notice("it was begun"),
            Ok(Reply::Done) => return Ok(()),
            Ok(Reply::Failed(failure)) => return Err(failure),
            Ok(Reply::NotHandedOver(failure)) => return Err(reason.of(failure)),
            Err(RecvTimeoutError::Timeout) => {
                let failure = Failure::new(what, "nothing was heard of it in time", "Look at: stead explain");
                return Err(failure.kind(FailureKind::TimedOut));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(what, "the group is run no longer", "Look at: stead status"));
            }
        }
    }
}

/// Refuses where something differs: whoever goes back nevertheless says so.
fn are_equal(group: &GroupName, found: Vec<Compared>) -> Result<Vec<Compared>, Failure> {
    let differing: Vec<_> = found.iter().filter(|one| one.report.different > 0).collect();
    if differing.is_empty() {
        return Ok(found);
    }
    let count: u64 = differing.iter().map(|one| one.report.different).sum();
    let lines = differing.iter().flat_map(|one| one.report.differences.iter());
    let named: Vec<_> = lines.take(NAMED_MAX).map(|one| format!("\n  {}: {}", one.path, one.what)).collect();
    let more = count.saturating_sub(named.len() as u64);
    let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
    let sets: Vec<_> = differing.iter().map(|one| one.set.as_str()).collect();
    let why = format!("both sides differ in {count} places{}{more}", named.concat());
    let repair: Vec<_> = sets.iter().map(|set| format!("stead verify {set} --repair")).collect();
    let remedy = format!(
        "Put that right where it serves now: {}; or go back nevertheless: stead failback {group} --verify none",
        repair.join(", ")
    );
    Err(Failure::new(format!("group {group} was not moved"), why, remedy).kind(FailureKind::No))
}

fn of_sets<'a>(status: &Status, sets: impl Iterator<Item = &'a SetName>) -> Status {
    let sets: Vec<_> = sets.collect();
    let mut status = status.clone();
    status.connections.retain(|connection| sets.contains(&&connection.set));
    status
}

#[cfg(test)]
mod tests {
    use stead_model::status::{Difference, VerifyReport};

    use super::*;

    fn found(set: &str, different: u64, named: usize) -> Compared {
        let one = |at| Difference { path: format!("/srv/{at}"), what: "content".into(), repaired: false };
        let differences = (0..named).map(one).collect();
        Compared { set: set.parse().unwrap(), report: VerifyReport { files: 9, bytes: 9, different, differences } }
    }

    #[test]
    fn what_differs_is_refused_with_the_first_differences_and_what_to_do() {
        let group: GroupName = "office".parse().unwrap();
        let equal = vec![found("notes", 0, 0), found("mail", 0, 0)];
        assert_eq!(are_equal(&group, equal.clone()), Ok(equal));
        let failure = are_equal(&group, vec![found("notes", 0, 0), found("mail", 12, 12)]).unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        let told = failure.to_string();
        assert!(told.contains("differ in 12 places\n  /srv/0: content\n"), "{told}");
        assert!(told.contains("  /srv/9: content\n  … and 2 more\n"), "{told}");
        assert!(told.contains("stead verify mail --repair; or go back nevertheless"), "{told}");
    }
}
