//! The third node: grants to the active side, and votes for a candidate once it sees the active side no more and
//! everything that it granted is over.
//!
//! ```text
//!              a candidate asks, the holder not seen           grants lapsed, vote durable
//!   granting ────────────────────────────────────▸ closing ─────────────────────────────▸ voted
//!      ▴                                              │                                      │
//!      ├──────── candidate asks no more, stands by ───┘                                      │
//!      └──────────────── candidate asks for a lease under it, or gives it back ─────────────┘
//! ```
//! Duties of the caller: as those of the crate; [`Ballot`]s are saved in order, each durably before
//! [`WitnessInput::Saved`].

use std::collections::VecDeque;
use std::time::Instant;

use stead_model::Epoch;

use super::ballot::{Ballot, Claim, Vote};
use super::{Granter, Times};
use crate::heartbeat::{No, Note, Say};
use crate::ids::{GroupId, NodeId};
use crate::monitor::Presence;
use crate::planted::{Planted, is_planted};

/// A group that is witnessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessConfig {
    /// Which.
    pub group: GroupId,
    /// Its two nodes.
    pub nodes: [NodeId; 2],
    /// As on these.
    pub times: Times,
}

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub enum WitnessInput {
    /// A note about the group in a heartbeat that was taken.
    Note {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        note: Note,
    },
    /// This and everything before is durable.
    Saved {
        /// Number of [`WitnessOutput::Save`].
        number: u64,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessOutput {
    /// Send it now, over every path.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        note: Note,
    },
    /// Make it durable, then say [`WitnessInput::Saved`].
    Save {
        /// Rises.
        number: u64,
        /// All of it.
        ballot: Ballot,
    },
}

/// Why [`Witness::handle_timeout`] is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessTimer {
    /// The candidate asked no more: the holder is granted to again.
    ReOpen,
    /// Every grant is over: the candidate has the vote.
    Lapsed,
}

/// Nothing is granted for the sake of a candidate.
#[derive(Clone, Copy, Debug)]
struct Closing {
    candidate: NodeId,
    /// When it asked last.
    asked: Instant,
    /// Its question, which is answered as soon as it may be; `None`: it does not ask for a vote.
    question: Option<Note>,
}

/// The witness's part in one group.
#[derive(Debug)]
pub struct Witness {
    config: WitnessConfig,
    ballot: Ballot,
    pub(super) saving: Option<u64>,
    /// The save that only notes that a vote, which is durable, is used.
    using: Option<u64>,
    saves: u64,
    granter: Granter,
    closing: Option<Closing>,
    answer_when_saved: Option<Vote>,
    outputs: VecDeque<WitnessOutput>,
}

impl Witness {
    /// Begins with what was saved last; silent for a full wait, since what it granted before is not known.
    pub fn new(config: WitnessConfig, ballot: Option<Ballot>, now: Instant) -> Witness {
        let mut granter = Granter::new(config.times, now);
        if is_planted(Planted::GrantAtOnce) {
            granter.open_at_once(now);
        }
        Witness {
            config,
            ballot: ballot.unwrap_or_default(),
            saving: None,
            using: None,
            saves: 0,
            granter,
            closing: None,
            answer_when_saved: None,
            outputs: VecDeque::new(),
        }
    }

    /// The group was just made: nobody was granted anything in it before.
    pub fn is_new(&mut self, now: Instant) {
        self.granter.open_at_once(now);
    }

    /// Goes on by another configuration; `false`: it cannot. The node that does not hold the epoch may be another one, as
    /// long as nobody asks for a vote or has one.
    pub fn reconfigure(&mut self, config: &WitnessConfig) -> bool {
        let holder = NodeId(self.ballot.floor.writer);
        let keeps = |config: &WitnessConfig| config.nodes.contains(&holder);
        let is_same_else = config.group == self.config.group && config.times == self.config.times;
        let is_idle = self.closing.is_none() && self.ballot.vote.is_none() && self.saving.is_none();
        let goes_on = is_same_else && is_idle && keeps(config) && keeps(&self.config);
        if goes_on {
            self.config = *config;
        }
        goes_on || self.config == *config
    }

    /// Takes an input.
    pub fn handle(&mut self, input: WitnessInput, now: Instant) {
        match input {
            WitnessInput::Note { from, note } if self.is_ours(from, &note) => self.note(from, note, now),
            WitnessInput::Note { .. } => {}
            WitnessInput::Saved { number } if self.saving == Some(number) => self.saved(now),
            WitnessInput::Saved { .. } => {}
        }
    }

    /// To be called when [`Witness::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.poll_timeout().filter(|(at, _)| now >= *at);
        match (due, self.closing) {
            (Some((_, WitnessTimer::ReOpen)), _) => self.closing = None,
            (Some((_, WitnessTimer::Lapsed)), Some(Closing { question: Some(note), .. })) => {
                self.vote(Vote { epoch: note.epoch, number: note.number }, now);
            }
            _ => {}
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<WitnessOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Witness::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, WitnessTimer)> {
        let closing = self.closing?;
        let reopens = (closing.asked + self.config.times.wait, WitnessTimer::ReOpen);
        let votes = closing.question.is_some() && self.saving.is_none();
        let lapsed = votes.then(|| (self.granter.lapsed_at(), WitnessTimer::Lapsed));
        lapsed.into_iter().chain([reopens]).min_by_key(|(at, _)| *at)
    }

    /// Does it see the active side?
    pub fn presence(&self, now: Instant) -> Presence {
        match () {
            () if self.granter.is_silent(now) => Presence::Unknown,
            () if self.granter.is_seen(now) => Presence::Present,
            () => Presence::Absent,
        }
    }

    /// What it remembers.
    pub fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    fn is_ours(&self, from: NodeId, note: &Note) -> bool {
        note.group == self.config.group && self.config.nodes.contains(&from)
    }

    fn note(&mut self, from: NodeId, note: Note, now: Instant) {
        if matches!(self.poll_timeout(), Some((at, WitnessTimer::ReOpen)) if now >= at) {
            self.closing = None;
        }
        let its_own = note.epoch.writer == from.0;
        match note.say {
            // The vote that it uses is durable: a slow disk does not cost it its lease.
            Say::Ask { .. } if self.is_noted_only(note.epoch) && its_own => self.grant(from, note, now),
            // What is not durable yet is asked for again.
            Say::Ask { .. } | Say::AskVote { .. } if self.saving.is_some() || !its_own => {}
            Say::Ask { .. } => self.asked(from, note, now),
            Say::AskVote { planned } => self.asked_for_vote(from, note, planned, now),
            Say::Yield if self.is_granted_to(from) => self.granter.void(note.number, now),
            Say::Standby => self.stands_by(from, note),
            _ => {}
        }
    }

    /// Is what was granted last that node's? With a vote it is the other's: what the one before says again is over.
    fn is_granted_to(&self, node: NodeId) -> bool {
        self.ballot.vote.is_none() && self.ballot.floor.writer == node.0
    }

    fn asked(&mut self, from: NodeId, note: Note, now: Instant) {
        match self.ballot.claim(note.epoch) {
            Claim::Holds => self.grant(from, note, now),
            Claim::Uses => {
                self.save(Ballot { floor: note.epoch, vote: None });
                self.using = self.saving;
                self.grant(from, note, now);
            }
            Claim::Forces => self.forced(from, note, now),
            Claim::Beaten(by) => self.say(from, note.number, by, Say::Refuse(No::Other)),
        }
    }

    /// Is all that is being saved that the vote for that epoch is used?
    fn is_noted_only(&self, epoch: Epoch) -> bool {
        self.saving.is_some() && self.saving == self.using && self.ballot.floor == epoch
    }

    fn grant(&mut self, from: NodeId, note: Note, now: Instant) {
        let (closing, serves) = (self.closing.is_some(), note.say == Say::Ask { serves: true });
        let say = match self.granter.is_silent(now) {
            true => Say::Refuse(No::Silent),
            false if closing => Say::Refuse(No::Waiting),
            false => self.granter.grant(note.number, serves, now).map_or(Say::Refuse(No::Waiting), Say::Grant),
        };
        self.say(from, note.number, self.ballot.floor, say);
    }

    /// A higher epoch than any that was voted for: it stands, but what was granted lapses first.
    fn forced(&mut self, from: NodeId, note: Note, now: Instant) {
        if now < self.granter.lapsed_at() {
            self.closing = Some(Closing { candidate: from, asked: now, question: None });
            return self.say(from, note.number, self.ballot.floor, Say::Refuse(No::Waiting));
        }
        self.closing = None;
        self.granter.change_holder();
        self.save(Ballot { floor: note.epoch, vote: None });
    }

    fn asked_for_vote(&mut self, from: NodeId, note: Note, planned: bool, now: Instant) {
        // A late question: the vote stands for a later one, which a `Standby` from between must not give back.
        let late = self.ballot.vote.is_some_and(|vote| vote.epoch.writer == from.0 && note.number < vote.number);
        if late {
            return;
        }
        if let Some(by) = self.ballot.objection(note.epoch) {
            return self.say(from, note.number, by, Say::NoVote(No::Other));
        }
        let no = match self.closing {
            _ if self.granter.is_silent(now) => Some(No::Silent),
            // Its own vote, whose answer was lost: nobody else was granted anything since.
            _ if self.ballot.vote.is_some() => None,
            Some(closing) if closing.candidate != from => Some(No::Waiting),
            // It may have gone on since, and written.
            None if planned => (!self.granter.is_void()).then_some(No::Seen),
            None if self.granter.is_seen(now) => Some(No::Seen),
            _ if now < self.granter.lapsed_at() => {
                self.closing = Some(Closing { candidate: from, asked: now, question: Some(note) });
                Some(No::Waiting)
            }
            _ => None,
        };
        match no {
            Some(no) => self.say(from, note.number, self.ballot.floor, Say::NoVote(no)),
            None => self.vote(Vote { epoch: note.epoch, number: note.number }, now),
        }
    }

    fn vote(&mut self, vote: Vote, now: Instant) {
        self.closing = None;
        self.save(Ballot { vote: Some(vote), ..self.ballot });
        self.answer_when_saved = Some(vote);
        if is_planted(Planted::VoteNotDurable) {
            self.answer(vote, now);
        }
    }

    fn saved(&mut self, now: Instant) {
        self.saving = None;
        if let Some(vote) = self.answer_when_saved.take() {
            self.answer(vote, now);
        }
    }

    /// With the vote goes a first lease.
    fn answer(&mut self, vote: Vote, now: Instant) {
        self.granter.change_holder();
        let lease = self.granter.grant(vote.number, true, now).unwrap_or(0);
        self.say(NodeId(vote.epoch.writer), vote.number, vote.epoch, Say::Vote(lease));
    }

    fn stands_by(&mut self, from: NodeId, note: Note) {
        if self.ballot.gives_back(from.0, note.number, note.epoch) {
            self.granter_after_give_back();
            self.save(Ballot { vote: None, ..self.ballot });
        }
        self.closing = self.closing.filter(|closing| closing.candidate != from);
    }

    /// The lease that went with the vote was never used.
    fn granter_after_give_back(&mut self) {
        self.granter.change_holder();
        self.answer_when_saved = None;
    }

    fn save(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        self.saves += 1;
        self.saving = Some(self.saves);
        self.outputs.push_back(WitnessOutput::Save { number: self.saves, ballot });
    }

    fn say(&mut self, to: NodeId, number: u64, epoch: Epoch, say: Say) {
        let note = Note { group: self.config.group, number, epoch, say };
        self.outputs.push_back(WitnessOutput::Send { to, note });
    }
}
