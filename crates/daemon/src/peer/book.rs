//! The trusted peers as threads see them, and the streams that live by that trust.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use stead_model::NodeName;
use stead_model::status::Timestamp;

use super::Fingerprint;
use super::stream::{PeerStream, Tie, wall_nanoseconds};
use crate::state::peers::Peer;

/// The trusted peers; the loop writes it, nothing else. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Inner>);

#[derive(Default)]
struct Inner {
    peers: RwLock<Vec<Peer>>,
    contacts: Mutex<BTreeMap<NodeName, Contact>>,
    /// Taken after `peers`, so that no stream is added for a peer that is being removed.
    live: Mutex<Vec<(NodeName, Tie)>>,
}

/// When a peer was last heard, and how it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) heard: Timestamp,
    /// Of the protocol.
    pub(crate) version: u16,
}

impl Book {
    pub(crate) fn set(&self, peers: Vec<Peer>) {
        *self.0.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    pub(crate) fn by_name(&self, name: &NodeName) -> Option<Peer> {
        self.peers().iter().find(|p| p.name == *name).cloned()
    }

    pub(crate) fn by_fingerprint(&self, fingerprint: Fingerprint) -> Option<Peer> {
        let now = wall_nanoseconds() / 1_000_000_000;
        self.peers().iter().find(|p| p.accepts(fingerprint, now)).cloned()
    }

    /// Notes that a peer was heard.
    pub(super) fn heard(&self, node: &NodeName, version: u16) {
        let contact = Contact { heard: Timestamp(wall_nanoseconds()), version };
        lock(&self.0.contacts).insert(node.clone(), contact);
    }

    /// The last sign of life of a peer since the daemon was started.
    pub(crate) fn contact(&self, node: &NodeName) -> Option<Contact> {
        let contact = lock(&self.0.contacts).get(node).copied()?;
        let heard = self.ties(node).iter().filter_map(Tie::heard).max().unwrap_or(0);
        Some(Contact { heard: contact.heard.max(Timestamp(heard)), ..contact })
    }

    /// How many streams of sets stand with it.
    pub(crate) fn streams(&self, node: &NodeName) -> usize {
        self.ties(node).iter().filter(|tie| tie.heard().is_some()).count()
    }

    /// Lets a stream live for as long as the peer is trusted; false: it is not, and the stream was ended.
    pub(super) fn add(&self, node: &NodeName, stream: &PeerStream) -> bool {
        let peers = self.peers();
        let now = wall_nanoseconds() / 1_000_000_000;
        if !peers.iter().any(|p| p.name == *node && p.accepts(stream.fingerprint(), now)) {
            stream.tie().shutdown();
            return false;
        }
        let mut live = lock(&self.0.live);
        live.retain(|(_, tie)| tie.heard().is_some());
        live.push((node.clone(), stream.tie()));
        true
    }

    /// Ends all streams of a peer at once, and forgets what is known of it.
    pub(crate) fn end(&self, node: &NodeName) {
        self.ties(node).iter().for_each(Tie::shutdown);
        lock(&self.0.contacts).remove(node);
    }

    fn ties(&self, node: &NodeName) -> Vec<Tie> {
        lock(&self.0.live).iter().filter(|(of, _)| of == node).map(|(_, tie)| tie.clone()).collect()
    }

    fn peers(&self) -> RwLockReadGuard<'_, Vec<Peer>> {
        self.0.peers.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
