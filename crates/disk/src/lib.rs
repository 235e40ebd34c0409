//! The hand for files: what is read from a source, what is written to a replica, and what must survive a crash.
//!
//! * [`volume`]: an open directory that files are reached from by file id, whatever they are called.
//! * [`read`]: listing, attributes, content and hashes of a source tree.
//! * [`replica`]: applies records to a target tree, right from any mixture of older and newer states.
//! * [`journal`]: records that were received and not yet covered by a sync of the replica.
//! * [`queue`]: batches that wait to be sent, for as long as a daemon lives.
//! * [`guard`]: a replica is read-only for everyone else; who holds a directory.
//! * [`aside`]: copies of what changed since an instant, before it is overwritten.
//! * [`inventory`]: listings of trees that are compared.
//! * [`check`]: probes before something is protected.
//!
//! Nothing here follows a path that a peer named: files are opened by handle, names are single components.

pub mod aside;
pub mod check;
mod error;
pub mod guard;
pub mod inventory;
pub mod journal;
mod mounts;
pub mod queue;
pub mod read;
pub mod replica;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
pub mod volume;
mod xattr;

pub use error::DiskError;

/// Directory at a replica's root that holds objects which have no name yet, or no longer. Never read from a source.
pub const HOLDING: &[u8] = b".stead-holding";

/// Xattr of each replica file: the source's file id, 16 bytes.
pub const ID_XATTR: &str = "trusted.stead.id";
