//! What every capture driver offers to the daemon.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_model::{FileId, Incarnation, Sequence};

use crate::{Resumed, SyncStatus};

/// A running capture driver of one set, seen from the daemon.
///
/// The number of a change is the byte offset of the end of its record in the stream since capture started: it rises
/// with every record, and is not consecutive.
///
/// One reader drains. What it takes stays in the ring until it releases it; where it dies before, the next reader takes
/// it again.
///
/// ```text
///   resume ─▸ ( wait ─▸ drain ─▸ … deliver … ─▸ release )*
/// ```
pub trait Capture: Send {
    /// Becomes the reader: the stream begins after what was released last. An earlier reader gets
    /// [`CaptureError::Superseded`] from then on. The first [`Capture::drain`] does it where the caller did not.
    fn resume(&mut self) -> Resumed;

    /// Appends committed records, in order, to `out`, until `bytes_max` would be exceeded or none is left; at least one
    /// record is taken if there is one. Returns the number of the last record taken so far (before the first:
    /// [`Resumed::tail`]).
    ///
    /// # Errors
    /// Where the shared memory does not hold what it should: capture has to start anew. Where another reader has begun.
    fn drain(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Sequence, CaptureError>;

    /// Frees room: everything up to `confirmed` is durable on all targets. Where less than `keep_free` bytes are free
    /// then, records that were taken but not confirmed are let go too, the oldest first; their files are remembered, and
    /// [`Resumed::unconfirmed`] names them to the next reader until a number beyond them is confirmed. (Where writers
    /// find no room at all, they let go by themselves.)
    ///
    /// Cheap where there is nothing to do; to be called often, also without anything new.
    fn release(&mut self, confirmed: Sequence, keep_free: u64);

    /// Upper bound of the numbers of all changes that were executed before this call. Records that [`Capture::drain`]
    /// has returned up to this number contain all of them. Waits for operations that are just being executed, at most
    /// one second: one that takes longer (a stalled disk) may get a higher number.
    fn captured(&self) -> Sequence;

    /// Everything captured before this time (ns since 1970) is in what was drained, where that is not the reader's own
    /// now: 0 where no such time is known.
    fn covered(&self) -> Option<u64> {
        None
    }

    /// Blocks until there is something to drain, or until `timeout` is over. True: there is something.
    fn wait(&mut self, timeout: Duration) -> bool;

    /// Pushes what the kernel still holds back (stores through shared mappings, write-back caches) into the stream;
    /// returns when it is there.
    ///
    /// # Errors
    /// Where the driver is gone, or the file system beneath refuses the data.
    fn flush(&mut self) -> Result<(), CaptureError>;

    /// Which start of capture this is: never the same number twice.
    fn incarnation(&self) -> Incarnation;

    /// How it is doing.
    fn status(&self) -> DriverStatus;
}

/// In which order writes enter the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Every write in the order in which it was made; stores through a shared mapping at write-back or msync.
    #[default]
    Strict,
    /// As write-back brings them, every 20 ms and at every fsync: what was fsynced is there before anything after it.
    Flush,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Strict => "strict",
            Order::Flush => "flush",
        })
    }
}

impl FromStr for Order {
    type Err = String;
    fn from_str(text: &str) -> Result<Order, String> {
        match text {
            "strict" => Ok(Order::Strict),
            "flush" => Ok(Order::Flush),
            _ => Err(format!("order {text:?} is neither strict nor flush")),
        }
    }
}

/// How a driver is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverStatus {
    /// Name of the driver: `mount`, `watch`.
    pub driver: String,
    /// Order of writes.
    pub order: Order,
    /// Capacity of the ring in bytes.
    pub ring_bytes: u64,
    /// Bytes in the ring that are not drained yet.
    pub ring_used_bytes: u64,
    /// Bytes in the ring that are drained and not released.
    pub retained_bytes: u64,
    /// Files that were let go and never confirmed; 1 may mean the whole set.
    pub unconfirmed_files: u64,
    /// Number of the last change that was reserved a place, without waiting for anything.
    pub head: Sequence,
    /// Records dropped because the ring was full, since the start.
    pub dropped_records: u64,
    /// Bytes of those records.
    pub dropped_bytes: u64,
    /// Files in the dirty map that the stream has not named as lost yet.
    pub dirty_files: u64,
    /// Does the process that serves still live?
    pub alive: bool,
    /// Process id of the supervisor, 0 where there is none.
    pub pid: u32,
    /// Process id of the server, 0 where there is none.
    pub server_pid: u32,
    /// How often the server was replaced after it died.
    pub restarts: u32,
    /// Files that the kernel holds references to.
    pub nodes: u64,
    /// How synchronous operation goes; `None`: the driver cannot do it.
    pub sync: Option<SyncStatus>,
    /// Modifications beneath the mount that did not come through it, since the start.
    pub bypassed: u64,
    /// The last files that were modified so, the last one last.
    pub bypassed_files: Vec<FileId>,
    /// Is the directory beneath watched for such modifications?
    pub watches_beneath: bool,
}

/// Why a driver cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what they are")]
pub enum CaptureError {
    #[error("capture could not be started: {0}")]
    Start(String),
    #[error("no capture process answers at {socket}: {source}")]
    Unreachable { socket: String, source: std::io::Error },
    #[error("the capture process refused: {0}")]
    Refused(String),
    #[error(
        "the capture process speaks version {theirs}, this program version {ours}; update this program, or stop the \
         set's capture with the program that started it"
    )]
    Version { theirs: u32, ours: u32 },
    #[error(
        "the capture process was started by an earlier version, which cannot be synchronous; start the set's capture anew"
    )]
    TooOld,
    #[error("another reader has taken over the stream of this capture")]
    Superseded,
    #[error("the capture ring is damaged at {at}: {why}")]
    Damaged { at: Sequence, why: String },
    #[error("{path} cannot be unmounted, it is in use; stop what uses it, or detach it lazily")]
    Busy { path: String },
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}
