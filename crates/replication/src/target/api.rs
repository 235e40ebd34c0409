//! What goes into the target half and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use stead_model::{Epoch, NodeName, Position, Sequence, SetName};

use crate::frame::{Changes, Difference, Encoded, Frame, Goodbye, Need};

/// What a target is made of.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// The set.
    pub set: SetName,
    /// This node.
    pub node: NodeName,
    /// Bytes received and not yet applied; beyond, the connection is not read.
    pub backlog_bytes_max: usize,
    /// Bytes of one group for the journal or for apply.
    pub group_bytes_max: usize,
    /// Bytes applied after which a checkpoint is made.
    pub checkpoint_bytes: u64,
    /// Time after which a checkpoint is made of what was applied.
    pub checkpoint_every: Duration,
    /// Shortest and longest time before what failed is tried again.
    pub retry: (Duration, Duration),
    /// Silence after which the connection is ended.
    pub silence_max: Duration,
}

impl TargetConfig {
    /// The usual sizes.
    pub fn new(set: SetName, node: NodeName) -> Self {
        TargetConfig {
            set,
            node,
            backlog_bytes_max: 256 << 20,
            group_bytes_max: 4 << 20,
            checkpoint_bytes: 256 << 20,
            checkpoint_every: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(30)),
            silence_max: Duration::from_secs(20),
        }
    }
}

/// What is durable with each checkpoint, and read back after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// Everything up to here is applied and synced.
    pub position: Position,
    /// A first mirror was finished: there is a replica.
    pub mirrored: bool,
    /// A scan that is not a mere comparison was running at that position.
    pub scanning: bool,
    /// Time of the last consistent point up to here; 0: none.
    pub consistent_time: u64,
}

/// What a restarted target begins with.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The highest epoch that was saved.
    pub epoch: Option<Epoch>,
    /// The last checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// There is something in the replica's directory, although no mirror was ever finished.
    pub partial: bool,
    /// What the journal holds after the checkpoint, oldest first, up to the first damage.
    pub journal: Vec<Changes>,
}

/// What goes in.
#[derive(Clone, Debug)]
pub enum TargetInput {
    /// A source connected (it speaks first); it replaces an earlier connection.
    Connected,
    /// The connection is gone.
    Disconnected,
    /// A frame came.
    Received(Frame),
    /// Everything handed to the journal up to this sequence is durable.
    Journaled {
        /// The `last` of the output.
        last: Sequence,
    },
    /// The journal cannot be written; why. It is tried again.
    JournalFailed {
        /// For people.
        reason: String,
    },
    /// Batches were applied, in order. May come several times for one group.
    Applied {
        /// Last sequence of the last of them.
        last: Sequence,
        /// What was found to be needed.
        needs: Vec<Need>,
        /// What was found to differ.
        differences: Vec<Difference>,
    },
    /// The batch after the last applied one cannot be applied; nothing after it was. It is tried again.
    ApplyFailed {
        /// For people.
        reason: String,
    },
    /// The checkpoint is durable; its position may lie before the one that was asked for.
    Checkpointed(Checkpoint),
    /// The epoch is durable.
    EpochSaved(Epoch),
    /// Send a daemon's message.
    Control(Vec<u8>),
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetOutput {
    /// Send that to the source.
    Send(Encoded),
    /// Append these frames to the journal and sync once. Answered by `Journaled` or `JournalFailed` (then nothing of it
    /// counts as written, and the same comes again).
    Journal {
        /// Whole encoded frames, in order.
        frames: Vec<Arc<[u8]>>,
        /// Last sequence of the last one.
        last: Sequence,
    },
    /// Apply these batches in order. Answered by `Applied` up to the last one, or by `ApplyFailed` (then what was not
    /// applied comes again).
    Apply(Vec<Batch>),
    /// Sync the replica's file systems, then save that. Answered by `Checkpointed`. Applying may go on meanwhile.
    Checkpoint(Checkpoint),
    /// The journal may forget everything up to that position.
    DropJournal(Position),
    /// Everything in the journal belongs to a stream that will not go on: forget it. Comes before the first batch of a
    /// new stream.
    ResetJournal,
    /// Make the epoch durable. Answered by `EpochSaved`; the connection waits for it.
    SaveEpoch(Epoch),
    /// End the connection after what was to be sent. `Disconnected` is expected then.
    Close(Goodbye),
    /// Something happened.
    Event(TargetEvent),
}

/// Records to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the stream is after it.
    pub position: Position,
    /// First sequence that it covers.
    pub first: Sequence,
    /// Encoded records, checked; may be empty.
    pub records: Arc<[u8]>,
    /// Time of the consistent point at its end, if there is one.
    pub consistent: Option<u64>,
    /// It did not go through the journal.
    pub unjournaled: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetEvent {
    /// It cannot apply or journal (the reason), or it can again (`None`).
    Halted(Option<String>),
    /// A source was refused.
    Refused(Goodbye),
    /// The source is welcome.
    Welcomed {
        /// Under which epoch.
        epoch: Epoch,
        /// Where its stream goes on; `None`: from anew.
        resume: Option<Position>,
    },
    /// A daemon's message came.
    Control(Vec<u8>),
}

/// The target as `status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetView {
    /// Is a source connected and welcome?
    pub connected: bool,
    /// Why it is halted.
    pub halted: Option<String>,
    /// Last position that is durable here.
    pub journaled: Position,
    /// Last position applied.
    pub applied: Position,
    /// Time of the last consistent point applied; 0: none.
    pub consistent_time: u64,
    /// Bytes received and not applied.
    pub backlog_bytes: usize,
    /// A scan other than a comparison is running.
    pub mirroring: bool,
}

/// Why the target wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetTimer {
    /// To try again what failed.
    Retry,
    /// To make a checkpoint.
    Checkpoint,
    /// To find that the source is silent.
    Silence,
}
