//! What persons ask for: once, with an end. Nothing of it is remembered over a restart; what it set going is undone or
//! finished as its record says.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Machine, Output, State};
use crate::heartbeat::{Event, Hold};
use crate::monitor::Presence;
use crate::timeline::Entry;

/// A request of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number, for the answers.
    pub id: u64,
    /// What for.
    pub want: Want,
    /// After that it is not begun any more; of [`Want::Suspend`]: when it ends.
    pub expires: Instant,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// That this node serves, the other one being dead.
    Failover {
        /// Whatever stands against it; what is not here is lost.
        force: bool,
    },
    /// That this node serves in place of the other one, nothing lost.
    Switchover,
    /// The same, back to where it was.
    Failback,
    /// Yes to what was asked.
    Approve,
    /// That nothing is taken over by itself until the request expires.
    Suspend,
    /// That it is again.
    Resume,
    /// That everything is taken down and stays so.
    Offline,
    /// That it serves again.
    Online,
    /// That it is watched and nothing is done about what is seen, or no longer.
    Maintain(bool),
}

/// An answer to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was begun; another answer follows.
    Accepted,
    /// It is so.
    Done,
    /// It was not begun, and nothing changed.
    Refused(Refusal),
    /// It was begun and did not come about.
    Failed(Refusal),
}

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The request came too late.
    Expired,
    /// The group is moving already, for another reason.
    Moving,
    /// This node serves already.
    Serves,
    /// The other node serves.
    SourceServes,
    /// The other node does not serve, so it cannot hand over.
    SourceDoesNotServe,
    /// It is not known whether the other node lives.
    NotKnown,
    /// There is nobody who could say that this node may serve.
    NotGranted,
    /// Nobody waits for a person.
    NothingToApprove,
    /// This node took over from one that could not serve as often as it may.
    MovedTooOften,
    /// A person took it offline.
    Offline,
    /// A person works on it.
    Maintained,
    /// A person suspended it.
    Suspended,
    /// The replica does not follow the newest epoch.
    OtherEpoch,
    /// The replica is not complete.
    Mirroring,
    /// The connection is halted.
    Halted,
    /// There is no consistent point to go to.
    NoConsistentPoint,
    /// It is not proven that everything that was confirmed is here.
    NotInSync,
    /// This node has to be restored first.
    RestoreFirst,
    /// The witness hears the active side.
    WitnessSees,
    /// The witness knows a newer epoch, or voted for another node.
    OtherVote,
    /// No reference address answers: this node is cut off, or may be.
    Isolated,
    /// It is not certain that the other node is off.
    NotFenced,
    /// The other node could not hand over.
    NotHandedOver,
    /// Not everything that has to agree did, in time.
    TimedOut,
    /// A step failed for good.
    StepFailed,
    /// The other node has a newer epoch.
    Superseded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Expired => "the request came too late",
            Refusal::Moving => "the group is moving already",
            Refusal::Serves => "this node serves already",
            Refusal::SourceServes => "the other node serves; use a switchover",
            Refusal::SourceDoesNotServe => "the other node does not serve; use a failover",
            Refusal::NotKnown => "it is not known whether the other node lives",
            Refusal::NotGranted => "nobody is heard who could say that this node may serve; --force if none other does",
            Refusal::NothingToApprove => "there is nothing to approve",
            Refusal::MovedTooOften => "its resources fail on both nodes, and it was moved often enough within the hour",
            Refusal::Offline => "a person took it offline",
            Refusal::Maintained => "it is in maintenance",
            Refusal::Suspended => "takeovers are suspended",
            Refusal::OtherEpoch => "the replica does not follow the newest epoch",
            Refusal::Mirroring => "the replica is not complete",
            Refusal::Halted => "the connection is halted",
            Refusal::NoConsistentPoint => "the replica has no consistent point",
            Refusal::NotInSync => "it is not proven that every confirmed change is here",
            Refusal::RestoreFirst => "this node has to be restored first",
            Refusal::WitnessSees => "the witness hears the active side: the line between the nodes is cut",
            Refusal::OtherVote => "the witness knows a newer epoch or voted for the other node",
            Refusal::Isolated => "no reference address is known to answer: this node may be cut off",
            Refusal::NotFenced => "it is not certain that the other node is off",
            Refusal::NotHandedOver => "the other node could not hand over",
            Refusal::TimedOut => "not everything agreed in time",
            Refusal::StepFailed => "a step failed",
            Refusal::Superseded => "the other node has a newer epoch",
        })
    }
}

/// How many may wait for the same.
const JOINED_MAX: usize = 64;

/// Requests whose end is waited for, all for the same.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ids: Vec<u64>,
    event: Option<Event>,
    until: Option<Instant>,
}

impl Pending {
    /// When they are answered, whatever became of them.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Machine {
    pub(super) fn request(&mut self, request: Request, now: Instant) {
        let Request { id, want, expires } = request;
        self.tell(Entry::Request { id, what: want.to_string() });
        if now >= expires {
            return self.answer(id, Answer::Refused(Refusal::Expired));
        }
        match want {
            Want::Failover { force } => self.want_failover(id, force, now),
            Want::Switchover => self.want_planned(id, Event::Switchover, now),
            Want::Failback => self.want_planned(id, Event::Failback, now),
            Want::Approve => self.want_approved(id, now),
            Want::Suspend => self.suspend(id, Some(expires)),
            Want::Resume => self.suspend(id, None),
            Want::Offline => self.want_offline(id, now),
            Want::Online => self.want_online(id, now),
            Want::Maintain(maintained) => self.want_maintained(id, maintained),
        }
    }

    fn want_failover(&mut self, id: u64, force: bool, now: Instant) {
        let refusal = match self.state {
            State::Active => return self.answer(id, Answer::Done),
            State::Down { .. } => return self.want_up(id, force, now),
            State::Confirming(claim) if force && claim.event == Event::Failover => {
                self.accept(id, Event::Failover);
                return self.insist();
            }
            State::Confirming(_) | State::Fencing(_) | State::Committing(_) | State::Raising => {
                return self.join(id, Event::Failover);
            }
            State::Standby | State::Approval if force => None,
            State::Standby | State::Approval if self.peer_serves() => Some(Refusal::SourceServes),
            State::Standby | State::Approval => self.unfit(),
            State::RestoreRequired => Some(Refusal::RestoreFirst).filter(|_| !force),
            State::Asking(_) | State::HandingOver { .. } | State::Yielded { .. } => Some(Refusal::Moving),
            State::Closing { .. } | State::Falling(_) => Some(Refusal::Moving),
        };
        match refusal {
            Some(refusal) => self.answer(id, Answer::Refused(refusal)),
            None => {
                self.accept(id, Event::Failover);
                self.claim_for(Event::Failover, true, force, now);
            }
        }
    }

    /// The newest epoch is this node's: it serves as soon as it is granted to, or at once where a person insists.
    pub(super) fn want_up(&mut self, id: u64, force: bool, now: Instant) {
        let nobody_grants = self.config.witness.is_none() && self.monitor.presence() != Presence::Present;
        if nobody_grants && !force {
            return self.answer(id, Answer::Refused(Refusal::NotGranted));
        }
        self.hold(Hold::None);
        self.accept(id, Event::Failover);
        self.pending.until = Some(now + self.config.limits.confirm);
        self.beat_at = now;
        if let State::Down { retry, .. } = &mut self.state {
            *retry = Some(now);
        }
        if force {
            self.unleased = true;
            self.pending_goes_on(now);
            self.raise(now);
        }
    }

    fn want_planned(&mut self, id: u64, event: Event, now: Instant) {
        let refusal = match self.state {
            State::Standby | State::Approval if !self.peer_serves() => Some(Refusal::SourceDoesNotServe),
            State::Standby | State::Approval => self.unfit(),
            State::RestoreRequired => Some(Refusal::RestoreFirst),
            State::Active | State::Down { .. } => Some(Refusal::Serves),
            State::Asking(_) | State::Confirming(_) | State::Fencing(_) | State::Committing(_) | State::Raising => {
                return self.join(id, event);
            }
            State::HandingOver { .. } | State::Yielded { .. } => Some(Refusal::Moving),
            State::Closing { .. } | State::Falling(_) => Some(Refusal::Moving),
        };
        match refusal {
            Some(refusal) => self.answer(id, Answer::Refused(refusal)),
            None => {
                self.accept(id, event);
                self.ask_to_yield(event, true, now);
            }
        }
    }

    fn want_approved(&mut self, id: u64, now: Instant) {
        if self.state != State::Approval {
            return self.answer(id, Answer::Refused(Refusal::NothingToApprove));
        }
        if self.peer_fails() {
            self.accept(id, Event::Switchover);
            return self.ask_to_yield(Event::Switchover, true, now);
        }
        self.accept(id, Event::Failover);
        self.claim_for(Event::Failover, true, false, now);
    }

    fn suspend(&mut self, id: u64, until: Option<Instant>) {
        self.suspended_until = until;
        (self.refused, self.failed, self.consider_at) = (None, None, self.now);
        self.answer(id, Answer::Done);
    }

    /// The same is under way: they end together. Another one is not begun beside it.
    fn join(&mut self, id: u64, event: Event) {
        let running = self.pending.event.or(self.running_event());
        if running == Some(event) && self.pending.ids.len() < JOINED_MAX {
            self.accept(id, event);
        } else {
            self.answer(id, Answer::Refused(Refusal::Moving));
        }
    }

    fn running_event(&self) -> Option<Event> {
        self.record.work.as_ref().map(|work| work.event)
    }

    pub(super) fn accept(&mut self, id: u64, event: Event) {
        self.pending.ids.push(id);
        self.pending.event = Some(event);
        self.pending.until = Some(self.now + self.config.limits.planned * 2);
        self.answer(id, Answer::Accepted);
    }

    pub(super) fn answer(&mut self, request: u64, answer: Answer) {
        self.outputs.push_back(Output::Answer { request, answer });
    }

    /// Everybody agreed to what was asked for; now it is brought about.
    pub(super) fn pending_goes_on(&mut self, now: Instant) {
        self.pending.until = self.pending.until.map(|_| now + self.config.limits.planned * 2);
    }

    pub(super) fn pending_done(&mut self) {
        self.end_pending(Answer::Done);
    }

    pub(super) fn pending_failed(&mut self, refusal: Refusal) {
        self.end_pending(Answer::Failed(refusal));
    }

    pub(super) fn pending_overdue(&mut self, now: Instant) {
        if self.pending.until.is_some_and(|until| now >= until) {
            self.pending_failed(Refusal::TimedOut);
        }
    }

    fn end_pending(&mut self, answer: Answer) {
        (self.pending.event, self.pending.until) = (None, None);
        for id in std::mem::take(&mut self.pending.ids) {
            self.answer(id, answer);
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Want::Failover { force: false } => "failover",
            Want::Failover { force: true } => "failover --force",
            Want::Switchover => "switchover",
            Want::Failback => "failback",
            Want::Approve => "approve",
            Want::Suspend => "suspend",
            Want::Resume => "resume",
            Want::Offline => "offline",
            Want::Online => "online",
            Want::Maintain(true) => "maintenance",
            Want::Maintain(false) => "end of maintenance",
        })
    }
}
