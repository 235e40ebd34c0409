//! What the command line and the daemon say to each other, over the daemon's Unix socket (`<state>/api.sock`).
//!
//! One connection is one request: the client writes an [`Envelope`] as one line of JSON, the daemon answers with lines
//! of [`Event`], the last of which is [`Event::Done`] or [`Event::Failed`]. A client that goes away ends its request,
//! except for what was already decided (a `protect` that has begun its mirror goes on).

mod checklist;
mod event;
mod failure;
mod fork;
mod moves;
mod request;
mod wire;

pub use checklist::{Alike, ChecklistItem};
pub use event::{Answer, CheckFinding, Event, NodeInfo, TestedReceiver, Timeline, TimelineEntry};
pub use failure::{Failure, FailureKind};
pub use fork::{Fork, ForkEntry, ForkState};
pub use moves::{Amount, Compared, Failback, Level, Preview, PreviewChange, Restore, Then};
pub use request::{MapArg, Monitor, Protect, Request, Want};
pub use wire::{Client, Envelope, LINE_BYTES_MAX, read_line, write_line};

/// Version of the protocol; the daemon refuses any other.
pub const VERSION: u32 = 1;

/// File name of the socket in the state directory.
pub const SOCKET: &str = "api.sock";
