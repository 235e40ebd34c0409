//! The mind of replication: what the source sends when, and what the target does with it. Values and `now` in, values
//! out: no input or output, no clock, no runtime.
//!
//! [`Source`] takes captured records and the results of reads and makes one ordered stream of them, which each target
//! follows with a cursor of its own. [`Target`] checks that the stream continues, has it journaled, acknowledged,
//! applied. Both have the same four calls: `handle`, `handle_timeout`, `poll_output`, `poll_timeout`.
//!
//! The caller's duties, for both:
//! 1. after each `handle` or `handle_timeout`, take outputs until there are none, and do them in that order;
//! 2. ask `poll_timeout` then, and call `handle_timeout` when that instant has come;
//! 3. of the source: read with [`SourceInput::Captured`] only while [`Source::wants_captured`]; hand in captured records
//!    in ring order;
//! 4. of the target: read frames from the connection only while [`Target::wants_frames`].

pub mod frame;
#[cfg_attr(not(any(test, feature = "sim")), allow(dead_code, reason = "bugs are planted by the simulation only"))]
mod planted;
pub mod read;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod sizing;
pub mod source;
pub mod sync;
pub mod target;

pub use frame::{Decoder, Encoded, Frame, FrameError};
pub use read::{ReadRequest, ReadResult, Ticket};
pub use source::{Recalled, Settings, Source, SourceConfig, SourceEvent, SourceInput, SourceOutput};
pub use target::{Target, TargetConfig, TargetEvent, TargetInput, TargetOutput};
