//! What goes into the target half and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use stead_model::{Epoch, NodeName, Position, Sequence, SetName};

use crate::frame::{Changes, Difference, Encoded, Frame, Goodbye, HaltCode, Need};

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
    /// Objects that the end of one scan may remove without being asked; `None`: any number.
    pub removals_max: Option<u64>,
    /// Does the caller keep pre-images? Else a scan spoils the last good image, as where there is no room.
    pub keeps_images: bool,
    /// What to do where pre-images cannot be kept.
    pub on_no_room: OnNoRoom,
}

/// What to do where there is no room to keep the last good image while a scan runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNoRoom {
    /// Halt before anything of it is spoiled.
    #[default]
    Halt,
    /// Go on without: until the next consistent point the replica is the image of no moment.
    Spoil,
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
            removals_max: None,
            keeps_images: false,
            on_no_room: OnNoRoom::Halt,
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
    /// Time of the consistent point that the replica is at, or can be brought to; 0: none.
    pub consistent_time: u64,
    /// Every change up to `captured` of this run of the source's capture is contained; 0: of none.
    #[serde(default)]
    pub capture: u64,
    /// See `capture`.
    #[serde(default)]
    pub captured: u64,
    /// The replica stands in for the source: what the journal holds after the position is set aside.
    #[serde(default)]
    pub stood_in: bool,
}

/// A good image to which the replica can be brought back by pre-images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The place of its consistent point: a checkpoint of it is durable.
    pub position: Position,
    /// The time of that point.
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
    /// The image that pre-images lead back to, where [`TargetOutput::KeepPreImages`] was done and not undone.
    pub kept: Option<Kept>,
    /// The run of capture that the last entry of the journal names; 0: none.
    pub capture: u64,
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
    /// The batch after the last applied one cannot be applied, since what it overwrites cannot be kept; nothing of it
    /// that needs keeping was. What follows goes by [`TargetConfig::on_no_room`].
    NoRoom {
        /// For people.
        reason: String,
    },
    /// The batch after the last applied one ends a scan that would remove more than [`Batch::removals_max`]; nothing was
    /// removed. It is applied again once the source accepts it.
    Braked {
        /// Objects.
        removals: u64,
    },
    /// The checkpoint is durable; its position may lie before the one that was asked for.
    Checkpointed(Checkpoint),
    /// The checkpoint could not be made; why. It is tried again.
    CheckpointFailed {
        /// For people.
        reason: String,
    },
    /// Make the replica the image of one instant and follow no source any more. Ends with [`TargetEvent::StoodIn`], or
    /// goes on being tried while [`TargetEvent::Halted`] says why it cannot.
    StandIn,
    /// Answers [`TargetOutput::RollBack`] and [`TargetOutput::PutBack`].
    RolledBack(Result<(), String>),
    /// The epoch is durable.
    EpochSaved(Epoch),
    /// Send a daemon's message.
    Control(Vec<u8>),
    /// The source waits until everything up to that number of capture is durable. Once it says so it does not wait for
    /// the rest, which may gather for a moment.
    Wanted {
        /// Number of capture.
        captured: u64,
    },
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
        /// The run of capture that their numbers are of, to be stored with them; 0: none.
        capture: u64,
    },
    /// Apply these batches in order. Answered by `Applied` up to the last one, or by `ApplyFailed`, `NoRoom` or `Braked`
    /// (then what was not applied comes again).
    Apply(Vec<Batch>),
    /// The source may have lost what it had not synced: forget which files were proven equal since the last
    /// [`Kind::Sync`](stead_model::Kind::Sync) without a file (and since the one before it, for a sync says what was
    /// captured when it began). Comes before the first batch of such a stream, and before a checkpoint.
    Doubt,
    /// From now on keep what changes overwrite or remove, durably before it is overwritten, so that the replica can be
    /// brought back to this image: it is the present one, and a checkpoint of it is durable.
    KeepPreImages(Kept),
    /// Forget the pre-images.
    DropPreImages,
    /// Bring the replica back to this image; the pre-images stay until they are dropped. Answered by `RolledBack`.
    RollBack(Kept),
    /// Put back what was removed lately and is still kept. Answered by `RolledBack`.
    PutBack,
    /// Save that in place of the last checkpoint (nothing has to be synced), and only then forget the pre-images.
    Spoil(Checkpoint),
    /// Sync the replica's file systems, then save that. Answered by `Checkpointed`. Applying may go on meanwhile.
    Checkpoint(Checkpoint),
    /// The journal may forget everything up to that position.
    DropJournal(Position),
    /// Nothing in the journal is wanted any more: forget it.
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
    /// Does it repeat what the replica may have already?
    pub replay: Replay,
    /// End no scan that would remove more objects than that: answer `Braked`.
    pub removals_max: Option<u64>,
}

/// Does a batch repeat what the replica may have already? Then it may be about files that died later, and what loses its
/// name may get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// It goes on.
    #[default]
    No,
    /// It does, and so may what follows.
    Amid,
    /// The last one: what is left over goes.
    Last,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetEvent {
    /// It cannot apply or journal (the reason), or it can again (`None`).
    Halted(Option<String>),
    /// The replica is an image of one instant, or of none (time 0). The rest of the journal is set aside.
    StoodIn {
        /// The place of its consistent point.
        position: Position,
        /// The time of that point.
        consistent_time: u64,
    },
    /// There is no image to stand in with until the next consistent point; why.
    Spoiled(String),
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
    /// What can be done about it.
    pub halt_code: HaltCode,
    /// Last position that is durable here.
    pub journaled: Position,
    /// Last position applied.
    pub applied: Position,
    /// Time of the consistent point that the replica is at, or can be brought to; 0: none.
    pub consistent_time: u64,
    /// It is past that point, and kept pre-images lead back.
    pub kept: bool,
    /// There was such a point since the first mirror, and there is none now.
    pub spoiled: bool,
    /// Bytes received and not applied.
    pub backlog_bytes: usize,
    /// A scan other than a comparison is running.
    pub mirroring: bool,
    /// It is the source at the instant of `consistent_time`, and nothing waits to be applied.
    pub rests_at_point: bool,
}

/// Why the target wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetTimer {
    /// To try again what failed.
    Retry,
    /// To write the journal, after some gathered for it.
    Journal,
    /// To make a checkpoint.
    Checkpoint,
    /// To find that the source is silent.
    Silence,
    /// To say that it is there, while it reads nothing.
    KeepAlive,
}
