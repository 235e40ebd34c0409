//! The nodes that this one trusts.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::NodeName;

use super::{StateDir, files};
use crate::peer::Fingerprint;

/// Addresses that are kept of a peer.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// How long a certificate is accepted beside the one that followed it; also where the clock was set back.
pub(crate) const OVERLAP_SECONDS: u64 = 3_600;
/// Peers that are trusted at most.
const PEERS_MAX: usize = 256;

/// A trusted node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) addresses: Vec<SocketAddr>,
    /// When it was first trusted, in seconds since 1970; releases that wrote version 1 did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<u64>,
    /// The certificate before a change of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) older: Option<Older>,
}

/// A certificate that is accepted for a while longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Older {
    pub(crate) fingerprint: Fingerprint,
    /// When the newer one was announced, in seconds since 1970.
    pub(crate) replaced: u64,
}

impl Peer {
    /// A node that is trusted from now on.
    pub(crate) fn new(name: NodeName, fingerprint: Fingerprint, addresses: Vec<SocketAddr>, now: u64) -> Peer {
        Peer { name, fingerprint, addresses, since: Some(now), older: None }
    }

    /// Is that one of its certificates? `now` is in seconds since 1970.
    pub(crate) fn accepts(&self, fingerprint: Fingerprint, now: u64) -> bool {
        let older = |older: &Older| older.fingerprint == fingerprint && now.abs_diff(older.replaced) < OVERLAP_SECONDS;
        self.fingerprint == fingerprint || self.older.as_ref().is_some_and(older)
    }
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

    pub(crate) fn get(&self, name: &NodeName) -> Option<&Peer> {
        self.list.iter().find(|peer| peer.name == *name)
    }

    /// With that peer added, or its addresses renewed; and whether it was there before. `own` is this node.
    pub(crate) fn with(&self, mut peer: Peer, own: &NodeName) -> Result<(Peers, bool), Failure> {
        let refused = |why: String, remedy: &str| Failure::new(format!("{} cannot be trusted", peer.name), why, remedy);
        let rename = "Give one of the two another name (stead daemon --name NAME, on a new state directory)";
        if peer.name == *own {
            return Err(refused(format!("both nodes are called {own}"), rename));
        }
        if self.list.iter().any(|p| p.name == peer.name && p.fingerprint != peer.fingerprint) {
            let remedy = format!("Where it took the other's place: stead node replace {}. {rename}", peer.name);
            return Err(refused(format!("{own} knows another node of that name already"), &remedy));
        }
        let mut list = self.list.clone();
        let before = list.iter().position(|p| p.fingerprint == peer.fingerprint).map(|at| list.remove(at));
        if list.len() >= PEERS_MAX {
            return Err(refused(
                format!("{own} trusts {PEERS_MAX} nodes already"),
                "Remove one: stead node remove NAME",
            ));
        }
        let again = before.is_some();
        if let Some(before) = before {
            (peer.since, peer.older) = (before.since, before.older);
        }
        peer.addresses.truncate(ADDRESSES_MAX);
        list.push(peer);
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Peers { list }, again))
    }

    /// Without that peer.
    pub(crate) fn without(&self, name: &NodeName) -> Peers {
        Peers { list: self.list.iter().filter(|peer| peer.name != *name).cloned().collect() }
    }

    /// With that peer at other addresses.
    pub(crate) fn moved(&self, name: &NodeName, addresses: &[SocketAddr]) -> Peers {
        let mut peers = self.clone();
        for peer in peers.list.iter_mut().filter(|peer| peer.name == *name) {
            peer.addresses = addresses.iter().copied().take(ADDRESSES_MAX).collect();
        }
        peers
    }

    /// With a peer's next certificate, which it announced by its present one `from`; none where that was done before.
    pub(crate) fn with_key(
        &self,
        name: &NodeName,
        from: Fingerprint,
        next: Fingerprint,
        now: u64,
    ) -> Result<Option<Peers>, Failure> {
        let refused = |why: &str| Failure::new(format!("the new certificate of {name} was refused"), why, "");
        let mut peers = self.clone();
        let taken = peers.list.iter().any(|p| p.name != *name && p.accepts(next, now));
        let peer = peers.list.iter_mut().find(|p| p.name == *name).ok_or_else(|| refused("it is not trusted"))?;
        if peer.fingerprint == next {
            return Ok(None);
        }
        if taken {
            return Err(refused("it is another node's"));
        }
        if peer.fingerprint != from {
            return Err(refused("it was announced by a certificate that was replaced already"));
        }
        peer.older = Some(Older { fingerprint: from, replaced: now });
        peer.fingerprint = next;
        Ok(Some(peers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, byte: u8) -> Peer {
        Peer::new(name.parse().unwrap(), Fingerprint([byte; 32]), vec![], 7)
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

    #[test]
    fn a_certificate_is_followed_by_the_one_that_it_announces_and_by_no_other() {
        let (own, lyon) = ("paris".parse().unwrap(), "lyon".parse().unwrap());
        let (one, two, three) = (Fingerprint([1; 32]), Fingerprint([2; 32]), Fingerprint([3; 32]));
        let (peers, _) = Peers::default().with(peer("lyon", 1), &own).unwrap();
        let (peers, _) = peers.with(peer("rome", 9), &own).unwrap();
        assert!(peers.with_key(&lyon, one, Fingerprint([9; 32]), 100).unwrap_err().why.contains("another node's"));
        let peers = peers.with_key(&lyon, one, two, 100).unwrap().unwrap();
        assert!(peers.with_key(&lyon, one, two, 101).unwrap().is_none(), "told twice");
        assert!(peers.with_key(&lyon, one, three, 101).unwrap_err().why.contains("replaced already"));
        let peer = peers.get(&lyon).unwrap();
        assert!(peer.accepts(two, 100) && peer.accepts(one, 100 + OVERLAP_SECONDS - 1));
        assert!(!peer.accepts(one, 100 + OVERLAP_SECONDS) && !peer.accepts(three, 100));
    }

    #[test]
    fn a_file_of_the_first_release_is_read() {
        let text = format!(
            "[[peer]]\nname = \"lyon\"\nfingerprint = \"{}\"\naddresses = [\"10.0.0.2:7130\"]\n",
            "ab".repeat(32)
        );
        let peers: Peers = toml::from_str(&text).unwrap();
        assert_eq!(peers.list()[0].since, None);
        assert_eq!(toml::to_string(&peers).unwrap(), text);
    }
}
