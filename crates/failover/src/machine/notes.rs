//! What is said to the other nodes, and what they say.

use std::time::Instant;

use stead_model::Epoch;

use super::{Machine, Peer, Saved, State, Then};
use crate::heartbeat::{No, Note, Role, Say};
use crate::ids::NodeId;
use crate::timeline::Entry;

use super::requests::Refusal;

impl Machine {
    /// Says at each interval what it is and what it wants.
    pub(super) fn beat(&mut self, now: Instant) {
        self.beat_at = now + self.config.monitor.interval;
        let (peer, number) = (self.config.peer, self.next_number());
        self.say(peer, number, self.durable, Say::Role(self.role(), self.record.hold));
        match self.state {
            State::Down { retry: Some(at), .. } if now >= at => self.ask(now),
            State::Raising | State::Active | State::HandingOver { .. } | State::Closing { .. } => self.ask(now),
            // Also where the witness has agreed: what is confirmed and fenced may take longer than a lease.
            State::Confirming(claim) | State::Fencing(claim) if !claim.force => {
                self.ask_vote(claim.epoch, claim.yielded, now);
            }
            State::Asking(claim) => self.say(peer, claim.number, self.record.epoch, Say::AskYield(claim.event)),
            State::Yielded { number, own, .. } => self.say_yielded(number, own),
            state if state.is_idle() => self.say_standby(),
            _ => {}
        }
    }

    fn ask(&mut self, now: Instant) {
        let (number, serves) = (self.next_number(), self.state.needs_lease());
        self.holder.ask(number, now);
        for to in [Some(self.config.peer), self.config.witness].into_iter().flatten() {
            self.say(to, number, self.durable, Say::Ask { serves });
        }
    }

    fn ask_vote(&mut self, epoch: Epoch, planned: bool, now: Instant) {
        let Some(witness) = self.config.witness else { return };
        let number = self.next_number();
        self.holder.ask(number, now);
        self.say(witness, number, epoch, Say::AskVote { planned });
    }

    fn say_standby(&mut self) {
        let Some(witness) = self.config.witness else { return };
        let number = self.next_number();
        self.say(witness, number, self.durable, Say::Standby);
    }

    pub(super) fn say_yielded(&mut self, number: u64, own: u64) {
        for to in [Some(self.config.peer), self.config.witness].into_iter().flatten() {
            self.say(to, own, self.durable, Say::Yield);
        }
        self.say(self.config.peer, number, self.durable, Say::Yielded);
    }

    pub(super) fn note(&mut self, from: NodeId, note: Note, now: Instant) {
        let (is_peer, is_witness) = (from == self.config.peer, self.config.witness == Some(from));
        if note.group != self.config.group || !(is_peer || is_witness) {
            return;
        }
        match note.say {
            Say::Grant(millis) => self.granted(note, millis, now),
            Say::Refuse(no) => self.not_granted(note, no),
            Say::Vote(millis) if is_witness => self.voted(note, millis, now),
            Say::NoVote(no) if is_witness => self.not_voted(note, no, now),
            Say::Role(role, hold) if is_peer => {
                self.peer_is(role, note.epoch, now);
                self.peer_holds(hold, &note);
            }
            Say::Ask { serves } if is_peer => self.asked(note, serves, now),
            Say::Yield if is_peer => self.granter.void(note.number, now),
            Say::AskYield(event) if is_peer => self.asked_to_yield(note, event, now),
            Say::Yielded if is_peer => self.yielded(note, now),
            Say::NotYielded(_) if is_peer => self.not_yielded(note.number, now),
            _ => {}
        }
    }

    fn peer_is(&mut self, role: Role, epoch: Epoch, now: Instant) {
        let serves = role.serves();
        let before = self.peer.and_then(|peer| peer.idle_since);
        let idle_since = if serves { None } else { before.or(Some(now)) };
        self.peer = Some(Peer { role, idle_since });
        // A claim of one's own is settled first: the other node says it again.
        if self.record.is_beaten_by(epoch) && !matches!(self.state, State::Committing(_)) {
            self.learn(epoch, now);
        }
    }

    /// The other node has a newer epoch, durably.
    fn learn(&mut self, epoch: Epoch, now: Instant) {
        let was_writer = self.record.is_writer(self.config.me);
        self.record.learn(self.config.me, epoch);
        self.highest = self.highest.max(epoch.number);
        self.save(Saved::Nothing);
        if was_writer {
            self.tell(Entry::Superseded(epoch.number));
            self.pending_failed(Refusal::Superseded);
        }
        match self.state {
            State::Yielded { .. } | State::Down { unsure: None, .. } => self.stand_by(now),
            _ if was_writer => self.fall(Then::Standby, now),
            _ if self.state.claim().is_some() => self.give_up(Refusal::Superseded, now),
            _ => {}
        }
    }

    /// The other node asks for a lease.
    fn asked(&mut self, note: Note, serves: bool, now: Instant) {
        let (ours, theirs) = (self.record.epoch, note.epoch);
        let its_own = theirs.writer == self.config.peer.0;
        // What is newer is learned from what it says of itself, and granted once that is durable.
        if !its_own || theirs.number > ours.number || self.durable != ours {
            return;
        }
        let say = if theirs != ours {
            Say::Refuse(No::Other)
        } else if self.granter.is_silent(now) {
            Say::Refuse(No::Silent)
        } else {
            self.granter.grant(note.number, serves, now).map_or(Say::Refuse(No::Waiting), Say::Grant)
        };
        self.say(self.config.peer, note.number, ours, say);
    }

    fn granted(&mut self, note: Note, millis: u32, now: Instant) {
        if note.epoch != self.durable || !self.holder.granted(note.number, millis, now) {
            return;
        }
        self.unleased = false;
        if matches!(self.state, State::Down { retry: Some(at), .. } if now >= at) {
            self.pending_goes_on(now);
            self.raise(now);
        }
    }

    fn not_granted(&mut self, note: Note, no: No) {
        self.highest = self.highest.max(note.epoch.number);
        let is_down = matches!(self.state, State::Down { .. });
        if is_down && no == No::Other && self.holder.has_asked(note.number) {
            self.pending_failed(Refusal::OtherVote);
        }
    }
}
