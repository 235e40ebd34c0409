//! Heartbeats: authenticated datagrams between two nodes, over every path of the plan. What the nodes have to say to each
//! other about their groups travels in them as [`Note`]s. Drawn in `docs/formats/heartbeat.md`.
//!
//! [`Sender`] numbers and signs them, [`Receiver`] takes what is genuine, new and meant for this node, once; [`Drops`]
//! counts the rest.

mod drops;
mod layout;
mod note;
mod receiver;
mod sender;
mod window;

pub use drops::{Came, Dropped, Drops, Flood};
pub use layout::DATAGRAM_LEN_MAX;
pub use note::{Event, Hold, No, Note, Role, Say};
pub use receiver::{Receiver, Refused};
pub use sender::Sender;

use crate::ids::{ClusterId, NodeId};

/// Most notes in one datagram.
pub const NOTES_MAX: usize = 16;

/// What two nodes share, to know each other's heartbeats by.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Derives the key of two nodes of a trust circle from a secret that both have; the order of the nodes does not
    /// matter.
    pub fn derive(secret: &[u8], cluster: ClusterId, one: NodeId, other: NodeId) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key("stead 2026 heartbeat");
        for part in [&cluster.0, &one.min(other).0, &one.max(other).0] {
            hasher.update(part);
        }
        Key(*hasher.update(secret).finalize().as_bytes())
    }

    fn mac(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// One heartbeat, genuine and new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who sent it.
    pub from: NodeId,
    /// The sender's run: rises with each start of its daemon.
    pub run: u64,
    /// Number of the datagram in that run, over all paths.
    pub counter: u64,
    /// The last counter of ours that the sender had heard on this path; 0: none. A path on which it stays behind loses
    /// what we send.
    pub heard: u64,
    /// Number of the path, as in the plan.
    pub path: u32,
    /// The sender's daemon goes down in order.
    pub leaving: bool,
    /// What it says of groups.
    pub notes: Vec<Note>,
}

#[cfg(test)]
mod tests;
