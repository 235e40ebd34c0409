//! What a person holds a group in: offline, or in maintenance. Durable on the node that has the group; the other one learns
//! it from what that says of itself, and takes nothing over meanwhile.

use std::time::Instant;

use super::requests::Refusal;
use super::{Answer, Machine, Saved, State, Then};
use crate::heartbeat::{Event, Hold, Note};
use crate::planted::{Planted, is_planted};
use crate::timeline::Entry;

impl Machine {
    /// Everything is taken down, and stays so.
    pub(super) fn want_offline(&mut self, id: u64, now: Instant) {
        match self.state {
            State::Active | State::Raising => {
                self.accept(id, Event::Switchover);
                self.hold(Hold::Offline);
                self.beat(now);
                self.close(now);
            }
            State::Down { .. } => {
                self.hold(Hold::Offline);
                if let State::Down { retry, .. } = &mut self.state {
                    *retry = None;
                }
                self.beat(now);
                self.answer(id, Answer::Done);
            }
            State::Standby | State::Approval | State::RestoreRequired => {
                self.answer(id, Answer::Refused(Refusal::SourceServes));
            }
            _ => self.answer(id, Answer::Refused(Refusal::Moving)),
        }
    }

    /// It serves again, where it was offline; who stands by may take over again.
    pub(super) fn want_online(&mut self, id: u64, now: Instant) {
        match self.state {
            State::Down { .. } => {
                self.hold(Hold::None);
                self.want_up(id, false, now);
            }
            State::Closing { .. } => {
                self.hold(Hold::None);
                self.accept(id, Event::Failover);
                self.state = State::Closing { retry: Some(now) };
            }
            State::Falling(Then::Down(_)) => {
                self.hold(Hold::None);
                self.accept(id, Event::Failover);
                self.state = State::Falling(Then::Down(Some(now)));
            }
            _ => self.release(id, Hold::Offline),
        }
    }

    /// It is watched, and nothing is done about what is seen; or no longer.
    pub(super) fn want_maintained(&mut self, id: u64, maintained: bool) {
        if !maintained {
            return self.release(id, Hold::Maintenance);
        }
        match self.state {
            State::Active | State::Raising => {
                self.hold(Hold::Maintenance);
                self.beat_at = self.now;
                self.answer(id, Answer::Done);
            }
            State::Down { .. } => self.answer(id, Answer::Refused(Refusal::Offline)),
            State::Standby | State::Approval | State::RestoreRequired => {
                self.answer(id, Answer::Refused(Refusal::SourceServes));
            }
            _ => self.answer(id, Answer::Refused(Refusal::Moving)),
        }
    }

    fn release(&mut self, id: u64, from: Hold) {
        if self.record.hold == from {
            self.hold(Hold::None);
            self.beat_at = self.now;
        }
        self.answer(id, Answer::Done);
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        if self.record.hold != hold {
            self.record.hold = hold;
            (self.refused, self.failed) = (None, None);
            self.tell(Entry::Held(hold));
            self.save(Saved::Nothing);
        }
    }

    /// The node that has the group says how it is held. What it said before that comes late.
    pub(super) fn peer_holds(&mut self, hold: Hold, note: &Note) {
        let has_it = note.epoch == self.durable && note.epoch.writer == self.config.peer.0;
        if has_it && self.state.is_idle() && note.number > self.held_by {
            self.held_by = note.number;
            self.hold(hold);
        }
    }

    /// What of it stands against a takeover that nobody asked for.
    pub(super) fn held(&self) -> Option<Refusal> {
        match self.record.hold {
            Hold::Maintenance => Some(Refusal::Maintained),
            Hold::Offline if !is_planted(Planted::OfflineIsTaken) => Some(Refusal::Offline),
            Hold::None | Hold::Offline => None,
        }
    }
}
