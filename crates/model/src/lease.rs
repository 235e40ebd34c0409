//! Until when a group may be served, as a node's processes tell each other: eight little-endian numbers in a file that all of
//! them have mapped. The daemon writes it; whoever acts past the deadline only reads.
//!
//! ```text
//!    0  magic     "steadlse"
//!    8  version   1
//!   16  boot      id of the boot that it holds for, two numbers
//!   32  deadline  nanoseconds of CLOCK_BOOTTIME; 0: none; all ones: without end
//!   40  beats     rises with the daemon's beats
//!   48  0  0      not used
//! ```
//! The first four never change.

/// How many numbers there are.
pub const WORDS: usize = 8;
/// Their bytes.
pub const BYTES: usize = WORDS * 8;

/// The first number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"steadlse");
/// The second one, of this layout.
pub const VERSION: u64 = 1;

/// Place of the version.
pub const VERSION_AT: usize = 1;
/// Place of the boot's id.
pub const BOOT_AT: usize = 2;
/// Place of the deadline.
pub const DEADLINE_AT: usize = 4;
/// Place of the beats.
pub const BEATS_AT: usize = 5;

/// No deadline: nothing is served.
pub const NONE: u64 = 0;
/// A deadline that never comes.
pub const UNLIMITED: u64 = u64::MAX;
