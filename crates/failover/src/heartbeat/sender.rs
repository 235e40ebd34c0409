//! Numbers and signs what this node sends.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;

use super::layout::{Head, LEAVING, MAGIC, VERSION};
use super::{Key, NOTES_MAX, Note};
use crate::ids::{ClusterId, NodeId};

/// The sending half of a node's heartbeats, to all its peers.
#[derive(Debug)]
pub struct Sender {
    cluster: ClusterId,
    me: NodeId,
    run: u64,
    counter: u64,
    leaving: bool,
    keys: BTreeMap<NodeId, Key>,
}

impl Sender {
    /// `run` has to be higher at each start of the daemon, durably.
    pub fn new(cluster: ClusterId, me: NodeId, run: u64) -> Sender {
        Sender { cluster, me, run, counter: 0, leaving: false, keys: BTreeMap::new() }
    }

    /// Knows a node from now on, or by another key.
    pub fn add(&mut self, node: NodeId, key: Key) {
        self.keys.insert(node, key);
    }

    /// From now on every heartbeat says that this daemon goes down in order.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// A datagram to that node over that path, with at most [`NOTES_MAX`] notes; `heard` is the last counter that was
    /// heard of it there. `None`: the node is not known.
    ///
    /// # Panics
    /// With more notes.
    pub fn datagram(&mut self, to: NodeId, path: u32, heard: u64, notes: &[Note]) -> Option<Vec<u8>> {
        assert!(notes.len() <= NOTES_MAX, "{} notes in one datagram", notes.len());
        let key = self.keys.get(&to)?;
        self.counter += 1;
        let head = Head {
            magic: MAGIC,
            version: VERSION,
            flags: if self.leaving { LEAVING } else { 0 },
            notes: notes.len() as u16,
            cluster: self.cluster,
            from: self.me,
            to,
            run: self.run,
            counter: self.counter,
            heard,
            path,
            zero: 0,
        };
        let mut bytes = head.as_bytes().to_vec();
        notes.iter().for_each(|note| bytes.extend_from_slice(note.to_raw().as_bytes()));
        let mac = key.mac(&bytes);
        bytes.extend_from_slice(mac.as_bytes());
        Some(bytes)
    }
}
