//! The seam between control (this crate's loop, trust, orchestration) and the data path (`data/`): sessions that move
//! the data of the sets.
//!
//! Rules of the seam:
//! 1. The loop owns the [`DataPlane`] and calls it from one thread. Every call returns soon (no network, no waiting for
//!    a thread of the data path); mounting the capture of a set is allowed to take its second.
//! 2. Sessions run on threads of their own with blocking streams. What they have to tell goes through [`Events`].
//! 3. [`Events::send`] may wait while the loop is busy, so no `DataPlane` call may wait for a thread that could be in it.
//! 4. The source dials ([`Dialer::dial`]); the target is handed the accepted stream by [`DataPlane::incoming`]. Dialing
//!    again after a lost session is the data path's business: [`Backoff`] says when, one attempt per target at a time.
//! 5. Trust is settled before the data path sees a stream: the peer's certificate is pinned and its name known. Whether
//!    the peer may speak for the set is settled too: `incoming` is only called for a set whose plan names that source.
//! 6. At start of the daemon everything in the plan is started again with `fresh = false`; what the data path needs to
//!    go on lies in the `state_dir` that it alone writes.

use std::path::PathBuf;

pub use stead_api::{Failure, FailureKind};
use stead_model::plan::{CaptureChoice, Feature, Mode, OnLeaseLost, Order, Settings};
use stead_model::status::Timestamp;
pub use stead_model::status::{ConnectionStatus, VerifyReport};
use stead_model::{Epoch, NodeName, RulesSpec, SetName, VolumeId};

pub use crate::peer::{Backoff, DialError, Dialer, PeerReader, PeerStream, PeerWriter};

/// Implemented by `data/`: starts and steers the sessions of this node.
pub trait DataPlane: Send {
    /// Attaches capture to the set's roots and begins to send to its targets: a mirror where a target is `fresh`, else
    /// whatever the state demands. Returns once capture is attached.
    ///
    /// # Errors
    /// Nothing is left attached then.
    fn start_source(&mut self, spec: SourceSpec) -> Result<(), Failure>;

    /// Ends the set's sessions.
    ///
    /// # Errors
    /// Where capture cannot be detached (a busy mount names who holds it); the set goes on then.
    fn stop_source(&mut self, set: &SetName, how: Stop) -> Result<(), Failure>;

    /// Makes a running source go on as the spec now says: rules, targets added and left out, and of each target mode,
    /// route, pause and settings. Roots, capture, order and epoch are as before. What did not change goes on untouched:
    /// no session is ended for it, and no mirror begins. A target that is new in it begins as in
    /// [`DataPlane::start_source`]; one that is gone is no longer sent to, and what was kept for it goes. Names that the
    /// rules take newly are scanned in; those that they leave out from now on stay on the replica as they are.
    ///
    /// # Errors
    /// Where the set goes on as it did; the caller then keeps its old plan.
    fn reconfigure_source(&mut self, spec: SourceSpec) -> Result<(), Failure> {
        Err(not_live(&spec.set))
    }

    /// The same for a running target: rules, mode and settings.
    ///
    /// # Errors
    /// Where it goes on as it did.
    fn reconfigure_target(&mut self, spec: TargetSpec) -> Result<(), Failure> {
        Err(not_live(&spec.set))
    }

    /// The operator's answer to a brake that halted connections of the set, or the one to `target`; its end is told as
    /// that of a command.
    ///
    /// # Errors
    /// Where nothing is halted by the brake; nothing is told then.
    fn answer_brake(
        &mut self,
        set: &SetName,
        target: Option<&NodeName>,
        id: CommandId,
        answer: BrakeAnswer,
    ) -> Result<(), Failure> {
        let _ = (target, id, answer);
        Err(not_live(set))
    }

    /// Gets ready to receive the set: opens the replica's roots (they exist), sets the guard, applies what the journal
    /// still holds.
    ///
    /// # Errors
    /// Nothing is left open then.
    fn start_target(&mut self, spec: TargetSpec) -> Result<(), Failure>;

    /// Ends the receiving of the set; with [`Stop::Unprotect`] after applying what is journaled, and lifting the guard.
    ///
    /// # Errors
    /// Where it cannot be ended.
    fn stop_target(&mut self, set: &SetName, how: Stop) -> Result<(), Failure>;

    /// Ends the receiving of the set for good, to make its replica the image of one instant, without a guard: the work
    /// that does so and tells that instant, for a thread that may wait. Where it fails, the target can be started again. `as_is`: also where it
    /// is the image of no instant.
    ///
    /// # Errors
    /// Where there is no such target.
    fn stand_in(&mut self, set: &SetName, as_is: bool) -> Result<StandIn, Failure>;

    /// Does the set's source run here?
    fn runs_source(&self, set: &SetName) -> bool;

    /// Makes the set's directories read-only for everyone, or writable again.
    ///
    /// # Errors
    /// Where somebody has a file open for writing, or the kernel refuses.
    fn freeze(&mut self, set: &SetName, frozen: bool) -> Result<(), Failure>;

    /// Past that lease nothing in the set's directories is changed from now on; none: everything is.
    ///
    /// # Errors
    /// Where no source runs here, or its capture knows no leases.
    fn lease(&mut self, set: &SetName, lease: Option<&SetLease>) -> Result<(), Failure>;

    /// A session that a source opened; it replaces an older one of the same set. `Purpose::Data` was read and answered;
    /// the next byte is the data path's own.
    fn incoming(&mut self, set: &SetName, source: &NodeName, stream: PeerStream);

    /// Begins to do that; the end is told by [`DataEvent::CommandDone`] with the same id, exactly once, also when the
    /// set is stopped meanwhile. Only for sets whose source this node is.
    fn command(&mut self, set: &SetName, id: CommandId, command: Command);

    /// The requester is gone: the result of that command is not awaited any more (a mirror or verify may go on).
    fn forget(&mut self, id: CommandId);

    /// How many bytes each second the connection to that target may send from now on; `None`: as fast as the line is.
    /// Holds until it is called again, also over reconnections. Nothing happens where the set has no such target here.
    fn limit(&mut self, set: &SetName, target: &NodeName, rate: Option<u64>);

    /// The connections of which this node is source or target, as this node sees them.
    fn status(&self) -> Vec<ConnectionStatus>;
}

/// Work that makes a replica the image of one instant, and tells it by the source's clock; 0: of no instant.
pub type StandIn = Box<dyn FnOnce() -> Result<Timestamp, Failure> + Send>;

fn not_live(set: &SetName) -> Failure {
    Failure::new(
        format!("set {set} was not changed"),
        "it cannot be changed while it runs",
        "Restart the daemon: it then runs as the plan says",
    )
}

/// A set whose source this node is.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// Its name.
    pub set: SetName,
    /// This node.
    pub node: NodeName,
    /// What is protected; places are the root numbers of the stream.
    pub roots: Vec<SourceRoot>,
    /// Which names beneath the roots.
    pub rules: RulesSpec,
    /// Which driver.
    pub capture: CaptureChoice,
    /// Which order is promised.
    pub order: Order,
    /// Under which epoch the set is written.
    pub epoch: Epoch,
    /// `sets/NAME/source`, which exists: incarnation, capture's sockets and shared memory, dirty map, queue segments.
    pub state_dir: PathBuf,
    /// The set whose replica on this node it hands on: nothing is captured, what is applied to that replica is handed on
    /// from consistent point to consistent point. That set's target was started before.
    pub from_replica: Option<SetName>,
    /// Past which lease nothing is changed.
    pub lease: Option<SetLease>,
    /// Where to.
    pub targets: Vec<TargetLink>,
}

/// The lease of a set's group, for its capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetLease {
    /// Its file.
    pub file: PathBuf,
    /// What becomes of changes past it.
    pub policy: OnLeaseLost,
}

/// One protected directory or file.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRoot {
    /// Absolute path.
    pub path: PathBuf,
    /// The file system that must be there; another one halts the set.
    pub volume: VolumeId,
    /// A directory (else a single file).
    pub is_dir: bool,
}

/// One target of a set, as its source sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetLink {
    /// Its name, for [`Dialer::dial`].
    pub node: NodeName,
    /// The address to use; none: any that the target listens on. For [`Dialer::dial`].
    pub route: Option<std::net::SocketAddr>,
    /// When a write of the application returns.
    pub mode: Mode,
    /// It was just made: the replica is empty, or to be made equal from nothing.
    pub fresh: bool,
    /// `fresh`, and the replica was filled from a carried copy: only what differs is to be sent.
    pub seeded: bool,
    /// Paused now, by hand or by the time of day; a change of it comes by [`DataPlane::reconfigure_source`].
    pub paused: bool,
    /// How the connection is run. The schedules in it are the loop's business: it calls [`DataPlane::limit`] and changes
    /// `paused` when their time comes, and starts the verifies.
    pub settings: Settings,
}

/// A set whose replica this node keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetSpec {
    /// Its name.
    pub set: SetName,
    /// This node.
    pub node: NodeName,
    /// Who sends it.
    pub source: NodeName,
    /// The highest epoch known here; frames of an older one are refused.
    pub epoch: Epoch,
    /// Where the replica is, one for each root of the source, in the same order.
    pub roots: Vec<TargetRoot>,
    /// Which names beneath the roots belong to the set: others are left alone.
    pub rules: RulesSpec,
    /// What the file system here cannot hold and is left out.
    pub without: Vec<Feature>,
    /// When a write of the application returns.
    pub mode: Mode,
    /// How the connection is run.
    pub settings: Settings,
    /// `sets/NAME/target`, which exists: journal, file-id map, proven-equal state.
    pub state_dir: PathBuf,
}

/// One root of a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetRoot {
    /// Absolute path; a directory that exists, or a file whose directory exists.
    pub path: PathBuf,
    /// A directory (else a single file).
    pub is_dir: bool,
}

/// Why sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The daemon ends: capture stays attached and remembers, the replica stays guarded.
    Daemon,
    /// The set is no longer protected: capture is detached, the guard lifted, nothing runs on.
    Unprotect,
    /// As `Unprotect`, although files are open beneath the mount (only for sources): the mount goes from its place at
    /// once, what is open works on through it, on the directory beneath, and the last close ends it.
    UnprotectOpen,
    /// As `Unprotect`, and only if the replica becomes the image of one instant, or `as_is` (only for targets).
    StandIn {
        /// Also where it is the image of none.
        as_is: bool,
    },
}

/// What an operator says to a brake that halted a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrakeAnswer {
    /// They are meant: go on with them.
    Accept,
    /// They are not: take back on the replica what was applied of them. The connection stays halted until the source is
    /// as it should be and the operator resumes it.
    Undo,
    /// What was to be taken back is: compare the replica with the source and go on. Other connections stay as they are.
    GoOn,
}

/// Number of a command, unique while the daemon runs.
pub type CommandId = u64;

/// What can be asked of the source of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Done when everything executed before now is applied on every target. Flushes order `flush` first. Fails at once
    /// where a connection is halted or paused (with the reason); waits through `disconnected`.
    Wait,
    /// A difference mirror of the whole set; done at its end.
    Mirror,
    /// Compare every replica with the source; done with [`Outcome::Verified`].
    Verify {
        /// Send what differs.
        repair: bool,
        /// Contents as well; else names, kinds, sizes, times, owners, permissions and xattrs alone.
        content: bool,
    },
    /// Stop sending; done at once. Going on follows as [`Command::Resume`].
    Pause,
    /// Go on sending; done at once.
    Resume,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was done, and this was found on all targets together.
    Verified(VerifyReport),
}

/// What the data path tells the loop.
#[derive(Debug)]
pub enum DataEvent {
    /// A command ended.
    CommandDone {
        /// Which.
        id: CommandId,
        /// How.
        result: Result<Outcome, Failure>,
    },
    /// The state word of a connection is another one now: whoever waits for it looks again.
    StateChanged(SetName),
    /// A session ended by itself (its capture is gone): to be started again.
    Ended(SetName, Failure),
    /// The source's plan for the set was refused by the stream itself (a higher epoch was met): for the log.
    EpochSeen(SetName, Epoch),
}

/// The data path's way to the loop. Cheap to clone.
#[derive(Clone)]
pub struct Events(pub(crate) std::sync::mpsc::SyncSender<crate::event::Event>);

impl Events {
    /// Tells the loop. Waits where it is busy; returns at once when the daemon is ending.
    pub fn send(&self, event: DataEvent) {
        let _ = self.0.send(crate::event::Event::Data(event));
    }
}

/// What the data path gets from control when it is made: `data::new(Context) -> Box<dyn DataPlane>`.
#[derive(Clone)]
pub struct Context {
    /// Opens sessions to peers.
    pub dialer: Dialer,
    /// The way to the loop.
    pub events: Events,
    /// The program that `stead capture …` is called with.
    pub executable: PathBuf,
}
