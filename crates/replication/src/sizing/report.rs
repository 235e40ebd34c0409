//! What comes out.

use serde::Serialize;

use super::line::LineReport;

/// How much changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// Changes: writes, new names, new attributes.
    pub changes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// The same, each byte once that was written again within the queue's reach.
    pub coalesced_bytes: u64,
    /// Bytes that travel: everything written and everything else that changed, compressed, with all headers.
    pub sent_bytes: u64,
    /// The same without what was written again within the queue's reach.
    pub sent_coalesced_bytes: u64,
}

/// How much changed in a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// When it begins, in seconds from the start.
    pub at_seconds: u64,
    /// How much changed in it.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// The line that keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KeepsUp {
    /// It keeps up while the replica is behind by no more than this.
    pub within_seconds: f64,
    /// The smallest line that keeps up for 95 % of the time, in bytes each second.
    pub usually_bytes_per_second: u64,
    /// The smallest line that always keeps up.
    pub always_bytes_per_second: u64,
}

impl KeepsUp {
    /// The part of the time that counts as usual.
    pub const USUALLY: f64 = 0.95;
}

/// What is missing in the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Records that found no room between the application and the one who counts.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of which it is only known that they changed.
    pub files: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// How long it was watched.
    pub lasted_seconds: f64,
    /// All of it.
    pub total: Amounts,
    /// By minute, up to the last in which something changed.
    pub minutes: Vec<Slot>,
    /// By hour.
    pub hours: Vec<Slot>,
    /// The line that keeps up.
    pub keeps_up: KeepsUp,
    /// The lines that were asked for.
    pub lines: Vec<LineReport>,
    /// What is missing in the figures.
    pub lost: Lost,
    /// Lines are judged by what changed in each piece of this length.
    pub grain_seconds: u64,
    /// The queue's reach.
    pub reach_bytes: u64,
}

/// Sums of so many minutes each.
pub(super) fn slots(minutes: &[Amounts], of: usize) -> Vec<Slot> {
    let sum = |minutes: &[Amounts]| minutes.iter().fold(Amounts::default(), |sum, minute| sum.plus(minute));
    let each = minutes.chunks(of).zip(0..);
    each.map(|(minutes, n): (_, u64)| Slot { at_seconds: n * of as u64 * 60, amounts: sum(minutes) }).collect()
}

impl Amounts {
    fn plus(self, other: &Amounts) -> Amounts {
        Amounts {
            changes: self.changes + other.changes,
            written_bytes: self.written_bytes + other.written_bytes,
            coalesced_bytes: self.coalesced_bytes + other.coalesced_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            sent_coalesced_bytes: self.sent_coalesced_bytes + other.sent_coalesced_bytes,
        }
    }
}
