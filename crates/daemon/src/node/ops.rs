//! Clients that wait: for a mirror, for a command of the data path, or for the next status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure, FailureKind};
use stead_model::plan::GroupPlan;
use stead_model::status::{ConnectionStatus, State, Status};
use stead_model::{GroupName, NodeName, SetName};
use tracing::warn;

use super::Node;
use crate::api_server::Responder;
use crate::gather;
use crate::seam::{Command, CommandId, Outcome};

/// How often a watcher gets a new status.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// A client that waits.
pub(crate) enum Op {
    /// `protect`: until every connection of the set has ended its first mirror.
    FirstMirror { set: SetName, responder: Responder },
    /// Until the data path says that the command ended.
    Command {
        set: SetName,
        id: CommandId,
        deadline: Option<Instant>,
        progress: bool,
        what: String,
        responder: Responder,
    },
    /// `pause` and `resume`: until the connections stand so.
    Settle { set: SetName, on: Option<NodeName>, paused: bool, deadline: Instant, responder: Responder },
    /// `restore`: until the other node has everything.
    Restore { group: Box<GroupPlan>, sets: Vec<SetName>, responder: Responder },
    /// `failback --then stop`: until the group is where it belongs in this node's eyes, too; then it ends.
    AtHome { group: GroupName, deadline: Instant, responder: Responder },
    /// `status --watch`: until the client goes.
    Watch { next: Instant, local: bool, busy: Arc<AtomicBool>, responder: Responder },
}

impl Op {
    fn responder(&self) -> &Responder {
        match self {
            Op::FirstMirror { responder, .. }
            | Op::Command { responder, .. }
            | Op::Settle { responder, .. }
            | Op::Restore { responder, .. }
            | Op::AtHome { responder, .. }
            | Op::Watch { responder, .. } => responder,
        }
    }
}

impl Node {
    /// Begins a command of the data path whose end the client waits for.
    pub(super) fn begin(
        &mut self,
        set: &SetName,
        command: Command,
        timeout: Option<Duration>,
        what: String,
        responder: Responder,
    ) {
        self.commands += 1;
        let id = self.commands;
        let progress = matches!(command, Command::Mirror | Command::Verify { .. });
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.ops.push(Op::Command { set: set.clone(), id, deadline, progress, what, responder });
        self.plane.command(set, id, command);
    }

    pub(super) fn command_done(&mut self, id: CommandId, result: Result<Outcome, Failure>) {
        let at = self.ops.iter().position(|op| matches!(op, Op::Command { id: waiting, .. } if *waiting == id));
        let by_schedule = self.pulse.take_verify(id);
        let asked = at.map(|at| self.ops.swap_remove(at));
        let set = match &asked {
            Some(Op::Command { set, .. }) => Some(set.clone()),
            _ => by_schedule,
        };
        match (&set, &result) {
            (Some(set), Ok(Outcome::Verified(report))) => self.keep_report(set, report),
            (Some(set), Err(failure)) if asked.is_none() => warn!("set {set} was not verified by schedule: {failure}"),
            _ => {}
        }
        let Some(asked) = asked else { return };
        asked.responder().end(result.map(|outcome| match outcome {
            Outcome::Done => Answer::Done,
            Outcome::Verified(report) => Answer::Verified(report),
        }));
    }

    /// Looks after everyone who waits: who is gone, whose time is up, who is to be told.
    pub(super) fn tick_ops(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        let local = self.local_status();
        let now = Instant::now();
        let mut ops = std::mem::take(&mut self.ops);
        ops.retain_mut(|op| !op.responder().is_gone() && self.still_waits(op, &local, now) || self.forgotten(op));
        self.ops.append(&mut ops);
    }

    /// Takes leave of an operation that ends; never true.
    fn forgotten(&mut self, op: &Op) -> bool {
        if let Op::Command { id, .. } = op {
            self.plane.forget(*id);
        }
        false
    }

    /// The whole group is restored when the other node stands by; some sets of it when they are replicated.
    fn is_restoring(&self, group: &GroupPlan, sets: &[SetName], local: &Status, responder: &Responder) -> bool {
        let monitor = local.monitors.iter().find(|monitor| monitor.group == group.name.as_str());
        let is_standby = monitor.is_some_and(|monitor| monitor.other.as_deref() == Some("standby"));
        let left = self.left_to_restore(group);
        let stands_so = is_standby || !left.is_empty();
        restored(&group.name, sets, local, stands_so.then_some(left), responder)
    }

    fn still_waits(&mut self, op: &mut Op, local: &Status, now: Instant) -> bool {
        match op {
            Op::FirstMirror { set, responder } => {
                let planned = self.plan.connections_of(set).count();
                first_mirror(set, of_set(local, set), planned, responder)
            }
            Op::Command { deadline: Some(deadline), what, responder, set, .. } if *deadline <= now => {
                responder.failed(out_of_time(what, &of_set(local, set)));
                false
            }
            Op::Settle { set, on, paused, deadline, responder } => {
                let settled = Node::settled(local, set, on.as_ref(), *paused, *deadline);
                if settled {
                    responder.done(Answer::Done);
                }
                !settled
            }
            Op::Restore { group, sets, responder } => self.is_restoring(group, sets, local, responder),
            Op::AtHome { group, deadline, responder } => self.ends_at_home(group, *deadline, now, responder),
            Op::Command { progress, set, responder, .. } => {
                if *progress {
                    responder.progress(of_set(local, set));
                }
                true
            }
            Op::Watch { next, local, busy, responder } => {
                if *next <= now && !busy.swap(true, Ordering::SeqCst) {
                    *next = now + WATCH_EVERY;
                    let (ask, responder, busy) = (self.gathering(*local), responder.clone(), busy.clone());
                    crate::job::spawn(&self.events, move || {
                        responder.progress(gather::everywhere(ask));
                        busy.store(false, Ordering::SeqCst);
                        None
                    });
                }
                true
            }
        }
    }
}

/// Tells a client of `restore` how it stands; true: it waits on. `left`: what would be left to restore; none: something else
/// is waited for.
fn restored(
    group: &GroupName,
    sets: &[SetName],
    local: &Status,
    left: Option<Vec<SetName>>,
    responder: &Responder,
) -> bool {
    let mut status = local.clone();
    status.connections.retain(|connection| sets.contains(&connection.set));
    let halted = status.connections.iter().find(|c| c.state == State::Halted);
    if let Some(connection) = halted {
        let why = connection.reason.clone().unwrap_or_else(|| connection.state.to_string());
        let remedy = "It goes on by itself once the cause is gone: watch it with stead status";
        responder.failed(Failure::new(format!("group {group} is not restored"), why, remedy));
        return false;
    }
    if let Some(left) = left.filter(|_| status.connections.iter().all(|c| c.state == State::Replicating)) {
        responder.done(Answer::Restored { left });
        return false;
    }
    responder.progress(status);
    true
}

/// Tells a client of `protect` how the mirror stands; true: it waits on.
fn first_mirror(set: &SetName, status: Status, planned: usize, responder: &Responder) -> bool {
    let stopped = status.connections.iter().find(|c| matches!(c.state, State::Halted | State::RestoreRequired));
    if let Some(connection) = stopped {
        let why = connection.reason.clone().unwrap_or_else(|| connection.state.to_string());
        let remedy = "It goes on by itself once the cause is gone: watch it with stead status; \
                      or give it up with stead unprotect";
        responder.failed(Failure::new(format!("set {set} is not mirrored to {}", connection.target), why, remedy));
        return false;
    }
    let done = |c: &ConnectionStatus| matches!(c.state, State::Replicating | State::Behind | State::Paused);
    if status.connections.len() >= planned.max(1) && status.connections.iter().all(done) {
        responder.done(Answer::Protected { set: set.clone(), status });
        return false;
    }
    responder.progress(status);
    true
}

fn out_of_time(what: &str, status: &Status) -> Failure {
    let mut why: Vec<String> = status.connections.iter().map(standing).collect();
    if why.is_empty() {
        why.push("the time was up".into());
    }
    Failure::new(what, why.join("; "), "Look at: stead status").kind(FailureKind::TimedOut)
}

fn standing(connection: &ConnectionStatus) -> String {
    let reason = connection.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    format!(
        "{} is {}{reason}, {} changes are not applied",
        connection.target, connection.state, connection.queue.changes
    )
}

pub(super) fn of_set(status: &Status, set: &SetName) -> Status {
    let mut status = status.clone();
    status.connections.retain(|connection| connection.set == *set);
    status
}
