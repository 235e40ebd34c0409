//! What goes into the source half and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use stead_model::status::{MirrorStatus, QueueStatus, State};
use stead_model::{Epoch, FileId, NodeName, Position, Rules, Sequence, SetName};

use crate::frame::{Difference, Encoded, Frame, Goodbye};
use crate::read::{ReadRequest, ReadResult, Ticket};

pub use super::memory::Recalled;

/// A target of the set, below 31: a number that the caller gives.
pub type TargetId = u32;

/// One protected directory or file.
#[derive(Clone, Debug)]
pub struct RootConfig {
    /// The directory or file.
    pub file: FileId,
    /// What beneath it belongs to the set.
    pub rules: Rules,
    /// Its number in the set: the name of its [`Node`](stead_model::Kind::Node), in decimal.
    pub index: u32,
}

/// How records are packed for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Never compressed.
    Off,
    /// Heads, and data where a sample of it shrinks.
    Adaptive,
}

/// Limits that can be changed while a source runs: [`Command::Configure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of the queue in memory; beyond, it goes to disk, and where that is full the slowest target goes behind, alone.
    pub queue_bytes_max: usize,
    /// Bytes of the queue on disk; 0: none.
    pub queue_disk_bytes_max: u64,
    /// Bytes sent to one target and not yet acknowledged as journaled.
    pub window_bytes_max: usize,
    /// Files and directories that are remembered one by one for a target that is behind; beyond, it is the whole set.
    pub dirty_max: usize,
    /// The mass-change brake.
    pub brake: Brake,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            queue_bytes_max: 256 << 20,
            queue_disk_bytes_max: 0,
            window_bytes_max: 32 << 20,
            dirty_max: 100_000,
            brake: Brake::default(),
        }
    }
}

/// How much may go, or be written over, before a connection halts and asks. Counted for each target on what is sent to
/// it, by the time at which it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// Names that go with their last file, within the window, without files that came within it; 0: no limit.
    pub deletions_max: u64,
    /// Files that are cut to nothing or written over from their begin, within the window; `None`: no limit.
    pub rewrites_max: Option<u64>,
    /// The window.
    pub window: Duration,
}

impl Default for Brake {
    fn default() -> Self {
        Brake { deletions_max: 10_000, rewrites_max: None, window: Duration::from_secs(60) }
    }
}

/// What a source is made of.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The set.
    pub set: SetName,
    /// This node.
    pub node: NodeName,
    /// What is protected.
    pub roots: Vec<RootConfig>,
    /// Under which epoch it writes.
    pub epoch: Epoch,
    /// The epochs of the set and where each began, oldest first.
    pub lineage: Vec<(Epoch, Position)>,
    /// Number of this stream: one that this epoch never had before, so a new one for each [`Source`](super::Source).
    pub incarnation: u64,
    /// Number of the run of capture that numbers the changes, never reused; 0: its numbers mean nothing after a restart.
    pub capture: u64,
    /// The machine went down and may have lost what was not synced since the last completed sync.
    pub unclean: bool,
    /// Capture's number when this source was made: with `recalled`, no consistent point lies before it, for the targets
    /// may have seen as much from the source before this one.
    pub captured_now: u64,
    /// What the source before this one knew, of the same run of capture. Capture hands in its records from
    /// [`Recalled::captured`] on then; all targets are added before the first of them. `None`: targets get a difference
    /// mirror.
    pub recalled: Option<Recalled>,
    /// How batches are packed.
    pub compression: Compression,
    /// What can be changed while it runs.
    pub settings: Settings,
    /// Largest content read: at most 1 MiB.
    pub chunk_bytes_max: u64,
    /// Content of files up to this size is wanted with the listing.
    pub small_bytes_max: u64,
    /// Entries of one page of a listing.
    pub entries_max: usize,
    /// Reads that may be outstanding.
    pub reads_max: usize,
    /// Block of hashes in a difference mirror, a power of two.
    pub difference_block: u32,
    /// Block of hashes in a verify, a power of two.
    pub verify_block: u32,
    /// Silence after which a ping is sent; three times as long ends the connection.
    pub keep_alive: Duration,
}

impl SourceConfig {
    /// The usual sizes.
    pub fn new(set: SetName, node: NodeName, roots: Vec<RootConfig>, epoch: Epoch, incarnation: u64) -> Self {
        SourceConfig {
            set,
            node,
            roots,
            epoch,
            lineage: Vec::new(),
            incarnation,
            capture: 0,
            unclean: false,
            captured_now: 0,
            recalled: None,
            compression: Compression::Adaptive,
            settings: Settings::default(),
            chunk_bytes_max: 1 << 20,
            small_bytes_max: 64 << 10,
            entries_max: 256,
            reads_max: 8,
            difference_block: 4096,
            verify_block: 64 << 10,
            keep_alive: Duration::from_secs(5),
        }
    }
}

/// What goes in.
#[derive(Clone, Debug)]
pub enum SourceInput {
    /// Records drained from capture, in order.
    Captured {
        /// Whole records: at most 3 MiB of a capture, 16 MiB of a relay. Their end is an instant of the source.
        records: Vec<u8>,
        /// Capture's number after the last of them. May come without records.
        captured: u64,
        /// Everything captured before this time (ns since 1970) is covered.
        time: u64,
    },
    /// A read ended.
    Read {
        /// Which.
        ticket: Ticket,
        /// What it brought.
        result: ReadResult,
        /// Capture's number of the last change that had taken effect when the read ended, or a later one: no change
        /// whose effect the read may have seen has a higher number.
        captured: u64,
    },
    /// A target shall get the stream. It is disconnected at first.
    AddTarget {
        /// Which number it has.
        target: TargetId,
    },
    /// A target gets the stream no more.
    RemoveTarget {
        /// Which.
        target: TargetId,
    },
    /// A connection to the target stands; a Hello is sent.
    Connected {
        /// Which.
        target: TargetId,
    },
    /// It is gone.
    Disconnected {
        /// Which.
        target: TargetId,
        /// Why, for people.
        reason: String,
    },
    /// A frame came from a target.
    Received {
        /// From which.
        target: TargetId,
        /// What.
        frame: Frame,
    },
    /// Send a daemon's message, where the target is connected.
    Control {
        /// To which target.
        target: TargetId,
        /// What.
        bytes: Vec<u8>,
    },
    /// The source's file systems completed a sync that began when capture was at that number.
    Synced {
        /// Capture's number.
        captured: u64,
    },
    /// A body was written to the queue's disk, or why not.
    Spilled {
        /// Which.
        first: Sequence,
        /// Why not, for people.
        result: Result<(), String>,
    },
    /// A body was read from the queue's disk.
    Fetched {
        /// Which.
        first: Sequence,
        /// What was read, or why nothing, for people.
        result: Result<Vec<u8>, String>,
    },
    /// Something is asked for.
    Command(Command),
}

/// What can be asked for.
#[derive(Clone, Debug)]
pub enum Command {
    /// A difference mirror (a first mirror where the target holds nothing).
    Mirror {
        /// Which target.
        target: TargetId,
    },
    /// Compare everything on all connected targets. Ends with [`SourceEvent::Verified`].
    Verify {
        /// Send what differs.
        repair: bool,
        /// Contents as well; else names, kinds, sizes, times, owners, permissions and xattrs alone.
        content: bool,
        /// Handed back with the event.
        id: u64,
    },
    /// Stop sending to a target.
    Pause {
        /// Which.
        target: TargetId,
    },
    /// Go on sending.
    Resume {
        /// Which.
        target: TargetId,
    },
    /// Tell when everything captured up to `captured` is applied on every target: [`SourceEvent::Marked`].
    Mark {
        /// Handed back with the event.
        id: u64,
        /// Capture's number.
        captured: u64,
    },
    /// Forget that mark.
    Unmark {
        /// Which.
        id: u64,
    },
    /// A count of what will be mirrored, where the caller knows it before the scan does.
    Expect {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The mass-change brake halted that target, here or there: go on with what it halted at.
    AcceptDeletions {
        /// Which.
        target: TargetId,
    },
    /// The target takes back what was applied in the brake's window; it stays halted until it is resumed, with a
    /// difference mirror. Ends with [`SourceEvent::Undone`].
    Undo {
        /// Which.
        target: TargetId,
    },
    /// Other limits from now on.
    Configure(Settings),
    /// Other rules from now on, for the same roots: what they take in comes, by a difference mirror. What they leave out is
    /// named no more; where the target has the same rules, it stays there as it is.
    Rules {
        /// The roots with their rules.
        roots: Vec<RootConfig>,
    },
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceOutput {
    /// Read that. All reads may run at the same time, and end in any order.
    Read(Ticket, ReadRequest),
    /// Send that.
    Send {
        /// To which target.
        target: TargetId,
        /// What.
        frame: Encoded,
    },
    /// End the connection (after what was to be sent). `Disconnected` is expected then.
    Close {
        /// To which target.
        target: TargetId,
        /// Why.
        reason: Goodbye,
    },
    /// Append that to the file of that part of the source's memory; parts are numbered upwards, a new one begins a new
    /// file. It need not be durable: it counts only while capture lives. Written before any later
    /// [`SourceEvent::Confirmed`] is acted upon. [`Recalled::read`] takes all parts back.
    Remember {
        /// Which part.
        part: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// The parts of the memory before that one are needed no more.
    ForgetBefore {
        /// The first part that is still needed.
        part: u64,
    },
    /// Write that body to the queue's disk, and answer with [`SourceInput::Spilled`]. It need not be durable.
    Spill {
        /// First sequence of the batch: its name.
        first: Sequence,
        /// What.
        body: Arc<Vec<u8>>,
    },
    /// Read that body, and answer with [`SourceInput::Fetched`].
    Fetch {
        /// Which.
        first: Sequence,
    },
    /// These bodies are needed no more, nor is an answer about them.
    ForgetSpilled {
        /// Which.
        firsts: Vec<Sequence>,
    },
    /// Something happened.
    Event(SourceEvent),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// The state word of a connection changed.
    State {
        /// Which.
        target: TargetId,
        /// What it is now.
        state: State,
        /// Why it is halted, disconnected or behind.
        reason: Option<String>,
    },
    /// A mirror or difference mirror of the whole set or a part of it ended; it is applied.
    Mirrored {
        /// To which targets: bit n for target n.
        targets: u32,
        /// Of the whole set?
        whole: bool,
        /// What was looked at and sent.
        counts: Counts,
    },
    /// A scan was broken off; why. It is repeated where it is still needed.
    ScanEnded(String),
    /// A verify ended.
    Verified {
        /// The command's.
        id: u64,
        /// What it found.
        result: Result<Verified, String>,
    },
    /// A mark was reached.
    Marked {
        /// Which.
        id: u64,
    },
    /// A file could not be read; the replica lacks it until a later scan.
    Unreadable {
        /// Which.
        file: FileId,
        /// Why.
        reason: String,
    },
    /// The target knows a newer epoch, or one that forked from this: this source must stop.
    Superseded {
        /// By which.
        epoch: Epoch,
    },
    /// Capture may let go of its records up to that number: see [`Source::confirmed`](super::Source::confirmed).
    Confirmed {
        /// Capture's number.
        captured: u64,
    },
    /// The target took back what was applied in the brake's window, or could not.
    Undone {
        /// Which.
        target: TargetId,
        /// The time of the consistent point that it went back to, or why it could not.
        result: Result<u64, String>,
    },
    /// A daemon's message.
    Control {
        /// From which target.
        target: TargetId,
        /// What.
        bytes: Vec<u8>,
    },
}

/// What a scan did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Names looked at.
    pub files: u64,
    /// Bytes of content looked at.
    pub bytes: u64,
    /// Bytes of content sent.
    pub sent: u64,
}

/// What a verify found: differences that stayed when they were looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Names and bytes compared.
    pub counts: Counts,
    /// How many differences.
    pub different: u64,
    /// The first 1,000 of them, each with the target that has it, and whether it was put right.
    pub differences: Vec<(TargetId, Difference, bool)>,
    /// Files that changed so often that they could not be compared.
    pub unsettled: u64,
}

/// A connection as the source sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionView {
    /// What it is doing.
    pub state: State,
    /// Why, for halted, disconnected, behind.
    pub reason: Option<String>,
    /// Progress of the last or running mirror.
    pub mirror: MirrorStatus,
    /// What is not applied yet.
    pub queue: QueueStatus,
    /// It takes the stream from where it is; else what it lacks is found when it greets.
    pub following: bool,
    /// A scan has to come by before it has all that came before the stream.
    pub awaits_scan: bool,
    /// Time of the oldest change that the target has not applied, ns since 1970 by the source's clock; `None`: all is.
    pub oldest_time: Option<u64>,
    /// Time of the last consistent point that the target applied; 0: none.
    pub consistent_time: u64,
    /// Last sequence of the stream.
    pub captured: Sequence,
    /// Last one sent.
    pub sent: Sequence,
    /// Last one journaled by the target.
    pub journaled: Sequence,
    /// Last one applied by the target.
    pub applied: Sequence,
    /// Capture's number up to which everything is durable there, with all that it brought about.
    pub durable: u64,
    /// It is more than the queue behind.
    pub behind: Option<BehindView>,
    /// The mass-change brake halted it, here or there.
    pub braked: Option<Braked>,
}

/// So much would go or be written over within the window of the mass-change brake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Braked {
    /// Files and directories that would go.
    pub deletions: u64,
    /// Files that would be written over.
    pub rewrites: u64,
}

/// What is remembered for a target that is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BehindView {
    /// Since when.
    pub since: std::time::Instant,
    /// Files and directories that have to be looked at; `None`: the whole set.
    pub dirty: Option<u64>,
}

/// Why the source wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceTimer {
    /// To say that it is there, or to find that a target is not.
    KeepAlive,
    /// To begin a scan that was put off.
    Scan,
    /// To let a target catch up.
    CatchUp,
    /// To try the queue's disk again, or to give it up.
    Disk,
}
