//! The nodes that this one trusts.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::NodeName;

use super::{StateDir, files};
use crate::peer::Fingerprint;

/// Addresses that are kept of a peer.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// Peers that are trusted at most.
const PEERS_MAX: usize = 256;

/// A trusted node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// All of them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peers {
    #[serde(default, rename = "peer")]
    list: Vec<Peer>,
}

impl Peers {
    pub(crate) fn load(state: &StateDir) -> Result<Peers, Failure> {
        Ok(files::read_toml(&state.file("peers.toml"))?.unwrap_or_default())
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), Failure> {
        files::write_toml(&state.file("peers.toml"), self)
    }

    pub(crate) fn list(&self) -> &[Peer] {
        &self.list
    }

    /// With that peer added, or its addresses renewed; and whether it was there before. `own` is this node.
    pub(crate) fn with(&self, mut peer: Peer, own: &NodeName) -> Result<(Peers, bool), Failure> {
        let refused = |why: String| {
            let remedy = "Give one of the two another name (stead daemon --name NAME, on a new state directory)";
            Failure::new(format!("{} cannot be trusted", peer.name), why, remedy)
        };
        if peer.name == *own {
            return Err(refused(format!("both nodes are called {own}")));
        }
        if self.list.iter().any(|p| p.name == peer.name && p.fingerprint != peer.fingerprint) {
            return Err(refused(format!("{own} knows another node of that name already")));
        }
        let mut list = self.list.clone();
        list.retain(|p| p.fingerprint != peer.fingerprint);
        let again = list.len() < self.list.len();
        if list.len() >= PEERS_MAX {
            return Err(refused(format!("{own} trusts {PEERS_MAX} nodes already")));
        }
        peer.addresses.truncate(ADDRESSES_MAX);
        list.push(peer);
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Peers { list }, again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, byte: u8) -> Peer {
        Peer { name: name.parse().unwrap(), fingerprint: Fingerprint([byte; 32]), addresses: vec![] }
    }

    #[test]
    fn names_are_unique_and_joining_again_renews() {
        let own = "paris".parse().unwrap();
        let (peers, again) = Peers::default().with(peer("lyon", 1), &own).unwrap();
        assert!(!again);
        let mut renewed = peer("lyon", 1);
        renewed.addresses = vec!["10.0.0.2:7130".parse().unwrap()];
        let (peers, again) = peers.with(renewed.clone(), &own).unwrap();
        assert!(again);
        assert_eq!(peers.list(), [renewed]);
        assert!(peers.with(peer("lyon", 2), &own).unwrap_err().why.contains("another node"));
        assert!(peers.with(peer("paris", 3), &own).unwrap_err().why.contains("both nodes"));
    }
}
