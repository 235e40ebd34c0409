//! Takes what is genuine, new and meant for this node.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use super::layout::{self, HEAD_LEN, Head, LEAVING, MAC_LEN, MAGIC, NOTE_LEN, VERSION};
use super::window::Window;
use super::{Heartbeat, Key, NOTES_MAX};
use crate::ids::{ClusterId, NodeId};

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No heartbeat, or one whose length is wrong.
    #[error("it is no heartbeat")]
    Malformed,
    /// Of a version that this build does not speak.
    #[error("it is of version {0}")]
    Version(u8),
    /// Of another trust circle.
    #[error("it is of another cluster")]
    OtherCluster,
    /// Meant for another node.
    #[error("it is meant for another node")]
    OtherNode,
    /// From a node that is not known here.
    #[error("its sender is not known")]
    Unknown,
    /// Not signed with the key of its sender.
    #[error("it is forged")]
    Forged,
    /// Taken already, too late, or of an earlier run of its sender.
    #[error("it is a replay")]
    Replayed,
}

impl Refused {
    /// The fixed word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::Version(_) => "version",
            Refused::OtherCluster => "other-cluster",
            Refused::OtherNode => "other-node",
            Refused::Unknown => "unknown",
            Refused::Forged => "forged",
            Refused::Replayed => "replayed",
        }
    }
}

/// The receiving half of a node's heartbeats, from all its peers.
#[derive(Debug)]
pub struct Receiver {
    cluster: ClusterId,
    me: NodeId,
    peers: BTreeMap<NodeId, (Key, Window)>,
}

impl Receiver {
    /// Knows no node yet.
    pub fn new(cluster: ClusterId, me: NodeId) -> Receiver {
        Receiver { cluster, me, peers: BTreeMap::new() }
    }

    /// Knows a node from now on. `run` is the last run of it that was seen before this start (0 where none is
    /// remembered): what it sent in earlier ones is not taken. What was recorded of that very run could be taken once
    /// more; it shows nothing but presence, since answers are asked for by number.
    pub fn add(&mut self, node: NodeId, key: Key, run: u64) {
        self.peers.insert(node, (key, Window::new(run)));
    }

    /// Does not know it any more.
    pub fn remove(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// The newest run of a known node that was seen: to be remembered for [`Receiver::add`].
    pub fn run_of(&self, node: NodeId) -> Option<u64> {
        self.peers.get(&node).map(|(_, window)| window.run())
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Heartbeat, Refused> {
        let (head, notes, mac) = split(datagram)?;
        if head.cluster != self.cluster {
            return Err(Refused::OtherCluster);
        }
        if head.to != self.me {
            return Err(Refused::OtherNode);
        }
        let (key, window) = self.peers.get_mut(&head.from).ok_or(Refused::Unknown)?;
        // Compared in constant time.
        if key.mac(&datagram[..datagram.len() - MAC_LEN]) != mac {
            return Err(Refused::Forged);
        }
        if !window.take(head.run, head.counter) {
            return Err(Refused::Replayed);
        }
        Ok(Heartbeat {
            from: head.from,
            run: head.run,
            counter: head.counter,
            heard: head.heard,
            path: head.path,
            leaving: head.flags & LEAVING != 0,
            notes: layout::notes(notes),
        })
    }
}

fn split(datagram: &[u8]) -> Result<(Head, &[u8], [u8; MAC_LEN]), Refused> {
    let (head, rest) = Head::read_from_prefix(datagram).map_err(|_| Refused::Malformed)?;
    if head.magic != MAGIC {
        return Err(Refused::Malformed);
    }
    if head.version != VERSION {
        return Err(Refused::Version(head.version));
    }
    let (notes, mac) = rest.split_last_chunk::<MAC_LEN>().ok_or(Refused::Malformed)?;
    let count = usize::from(head.notes);
    if count > NOTES_MAX || datagram.len() != HEAD_LEN + count * NOTE_LEN + MAC_LEN {
        return Err(Refused::Malformed);
    }
    Ok((head, notes, *mac))
}
