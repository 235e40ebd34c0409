//! What nodes say to each other about a group. Every note can be lost, doubled and late: answers carry the number of their
//! question, and numbers of one node rise over all its runs.

use serde::{Deserialize, Serialize};
use stead_model::Epoch;

use super::layout::RawNote;
use crate::ids::GroupId;

/// What a node is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Has the newest epoch and does not serve.
    Down = 1,
    /// Brings services up or down.
    Moving = 2,
    /// Serves.
    Active = 3,
    /// Keeps the replica and watches.
    Standby = 4,
    /// Has data that another node went past.
    RestoreRequired = 5,
    /// Has the group, and cannot keep its resources up.
    Failing = 6,
}

/// What a person holds a group in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Nothing.
    #[default]
    None = 0,
    /// It is watched, and nothing is done about what is seen.
    Maintenance = 1,
    /// Everything is down, and stays so.
    Offline = 2,
}

/// Why the active side changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The active side died, or a person says so.
    Failover = 1,
    /// Planned, nothing lost.
    Switchover = 2,
    /// Planned, back to where it was.
    Failback = 3,
}

impl Event {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Failover => "failover",
            Event::Switchover => "switchover",
            Event::Failback => "failback",
        }
    }

    fn from_byte(byte: u8) -> Option<Event> {
        [Event::Failover, Event::Switchover, Event::Failback].into_iter().find(|event| *event as u8 == byte)
    }
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum No {
    /// The active side was heard of lately.
    Seen = 1,
    /// Grants that were given have to lapse first.
    Waiting = 2,
    /// Started not long ago: what was granted before is not known.
    Silent = 3,
    /// A higher epoch is known, or another node has the vote.
    Other = 4,
    /// It cannot be done now.
    Unable = 5,
}

/// What is said. Numbers and epochs beside it are those of the [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// I am this, the epoch is the newest that is durable here, and the group is held so.
    Role(Role, Hold),
    /// Prolong my lease under this epoch, under which I serve, or would.
    Ask {
        /// Is it served already?
        serves: bool,
    },
    /// It is prolonged, for so many milliseconds from when that number was sent.
    Grant(u32),
    /// It is not; the epoch is the one that stands against it.
    Refuse(No),
    /// May I take over under this epoch?
    AskVote {
        /// Only if the active side yields, and was granted nothing since.
        planned: bool,
    },
    /// You may, and have a first lease of so many milliseconds from when that number was sent.
    Vote(u32),
    /// You may not.
    NoVote(No),
    /// I serve no more: what was granted for lower numbers of mine is void.
    Yield,
    /// I stand by, and use no vote that I asked for with a lower number.
    Standby,
    /// Hand over to me.
    AskYield(Event),
    /// I handed over everything, that question being yours.
    Yielded,
    /// I do not, or go on myself.
    NotYielded(No),
}

/// One thing that a node says about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which group.
    pub group: GroupId,
    /// Of a question: its own; of an answer: the question's.
    pub number: u64,
    /// The epoch that it is about.
    pub epoch: Epoch,
    /// What is said.
    pub say: Say,
}

impl Note {
    pub(super) fn to_raw(self) -> RawNote {
        let (kind, detail, millis) = self.say.parts();
        RawNote { group: self.group, kind, detail, zero: 0, millis, number: self.number, epoch: self.epoch }
    }

    pub(super) fn from_raw(raw: RawNote) -> Option<Note> {
        let say = Say::from_parts(raw.kind, raw.detail, raw.millis)?;
        Some(Note { group: raw.group, number: raw.number, epoch: raw.epoch, say })
    }
}

impl Say {
    fn parts(self) -> (u8, u8, u32) {
        match self {
            Say::Role(role, hold) => (1, role as u8, hold as u32),
            Say::Ask { serves } => (2, u8::from(serves), 0),
            Say::Grant(millis) => (3, 0, millis),
            Say::Refuse(no) => (4, no as u8, 0),
            Say::AskVote { planned } => (5, u8::from(planned), 0),
            Say::Vote(millis) => (6, 0, millis),
            Say::NoVote(no) => (7, no as u8, 0),
            Say::Yield => (8, 0, 0),
            Say::Standby => (9, 0, 0),
            Say::AskYield(event) => (10, event as u8, 0),
            Say::Yielded => (11, 0, 0),
            Say::NotYielded(no) => (12, no as u8, 0),
        }
    }

    fn from_parts(kind: u8, detail: u8, millis: u32) -> Option<Say> {
        Some(match kind {
            1 => Say::Role(Role::from_byte(detail)?, Hold::from_number(millis)),
            2 => Say::Ask { serves: detail == 1 },
            3 => Say::Grant(millis),
            4 => Say::Refuse(No::from_byte(detail)?),
            5 => Say::AskVote { planned: detail == 1 },
            6 => Say::Vote(millis),
            7 => Say::NoVote(No::from_byte(detail)?),
            8 => Say::Yield,
            9 => Say::Standby,
            10 => Say::AskYield(Event::from_byte(detail)?),
            11 => Say::Yielded,
            12 => Say::NotYielded(No::from_byte(detail)?),
            _ => return None,
        })
    }
}

impl Hold {
    /// What a later version adds holds as strongly as what is known.
    fn from_number(number: u32) -> Hold {
        match number {
            0 => Hold::None,
            1 => Hold::Maintenance,
            _ => Hold::Offline,
        }
    }
}

impl Role {
    /// Has it the group in its hands, so that nobody else may take it unasked?
    pub fn serves(self) -> bool {
        matches!(self, Role::Active | Role::Moving | Role::Failing)
    }

    fn from_byte(byte: u8) -> Option<Role> {
        use Role::*;
        [Down, Moving, Active, Standby, RestoreRequired, Failing].into_iter().find(|role| *role as u8 == byte)
    }
}

impl No {
    fn from_byte(byte: u8) -> Option<No> {
        use No::*;
        [Seen, Waiting, Silent, Other, Unable].into_iter().find(|no| *no as u8 == byte)
    }
}
