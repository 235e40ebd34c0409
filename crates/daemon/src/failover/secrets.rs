//! What heartbeats are signed with: each pair of nodes shares a secret, half of it made by either, exchanged over the
//! connection that proves who they are. And the number of each start of this daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_failover::ClusterId;
use stead_failover::heartbeat::Key;
use stead_model::NodeName;

use super::config::node_id;
use crate::peer::identity::{from_hex, to_hex};
use crate::state::{StateDir, files};

const SECRET_BYTES: usize = 32;

/// Every heartbeat of this build says that it is of this trust circle: circles are told apart by their keys.
pub(crate) const CLUSTER: ClusterId = ClusterId(*b"stead heartbeats");

/// The file `heartbeats.json`.
pub(crate) struct Secrets {
    file: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Number of the last start of this daemon.
    run: u32,
    #[serde(default)]
    peers: BTreeMap<NodeName, Shared>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    ours: String,
    #[serde(default)]
    theirs: Option<String>,
    /// The last start of its daemon that was seen.
    #[serde(default)]
    run: u64,
}

impl Secrets {
    /// Reads the file, and counts this start of the daemon.
    pub(crate) fn begin(state: &StateDir) -> Result<Secrets, Failure> {
        let file = state.file("heartbeats.json");
        let mut kept = match file.exists() {
            false => Kept::default(),
            true => serde_json::from_slice(&files::read(&file)?).map_err(|e| {
                let remedy = "Remove the file: nodes then exchange new secrets when they meet";
                Failure::new(format!("{} cannot be read", file.display()), e.to_string(), remedy)
            })?,
        };
        kept.run += 1;
        let secrets = Secrets { file, kept };
        secrets.save()?;
        Ok(secrets)
    }

    /// Number of this start of the daemon.
    pub(crate) fn run(&self) -> u32 {
        self.kept.run
    }

    /// This node's half for that peer.
    pub(crate) fn ours(&mut self, peer: &NodeName) -> Result<String, Failure> {
        if let Some(shared) = self.kept.peers.get(peer) {
            return Ok(shared.ours.clone());
        }
        let ours = random()?;
        self.kept.peers.insert(peer.clone(), Shared { ours: ours.clone(), theirs: None, run: 0 });
        self.save()?;
        Ok(ours)
    }

    /// The peer's half.
    pub(crate) fn learn(&mut self, peer: &NodeName, theirs: String) -> Result<(), Failure> {
        if from_hex(&theirs).is_none_or(|bytes| bytes.len() != SECRET_BYTES) {
            let why = format!("{peer} sent something else than {SECRET_BYTES} bytes in hexadecimal");
            return Err(Failure::new("no secret was exchanged", why, "Use releases that fit together"));
        }
        self.ours(peer)?;
        let shared = self.kept.peers.get_mut(peer).expect("made above");
        if shared.theirs.as_ref() == Some(&theirs) {
            return Ok(());
        }
        // Another half is another start in life of that node: its runs are counted anew.
        (shared.theirs, shared.run) = (Some(theirs), 0);
        self.save()
    }

    /// It is no longer trusted.
    pub(crate) fn forget(&mut self, peer: &NodeName) -> Result<(), Failure> {
        match self.kept.peers.remove(peer) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    /// That start of the peer's daemon was seen.
    pub(crate) fn seen(&mut self, peer: &NodeName, run: u64) -> Result<(), Failure> {
        match self.kept.peers.get_mut(peer) {
            Some(shared) if shared.run < run => shared.run = run,
            _ => return Ok(()),
        }
        self.save()
    }

    /// The key for heartbeats with that peer, and its last start that was seen; none: its half is not known yet.
    pub(crate) fn key(&self, me: &NodeName, peer: &NodeName) -> Option<(Key, u64)> {
        let shared = self.kept.peers.get(peer)?;
        let (ours, theirs) = (from_hex(&shared.ours)?, from_hex(shared.theirs.as_ref()?)?);
        let (one, other) = (node_id(me), node_id(peer));
        let secret = if one < other { [ours, theirs].concat() } else { [theirs, ours].concat() };
        Some((Key::derive(&secret, CLUSTER, one, other), shared.run))
    }

    fn save(&self) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(&self.kept).unwrap_or_default();
        files::write(&self.file, &bytes, 0o600)
    }
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::new("no secret was made", "the system gives no random numbers", ""))?;
    Ok(to_hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_derive_the_same_key_from_their_halves() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let states = dirs.each_ref().map(|dir| StateDir::open(dir.path()).unwrap());
        let [paris, lyon]: [NodeName; 2] = ["paris".parse().unwrap(), "lyon".parse().unwrap()];
        let mut at_paris = Secrets::begin(&states[0]).unwrap();
        let mut at_lyon = Secrets::begin(&states[1]).unwrap();
        assert!(at_paris.key(&paris, &lyon).is_none());
        at_lyon.learn(&paris, at_paris.ours(&lyon).unwrap()).unwrap();
        at_paris.learn(&lyon, at_lyon.ours(&paris).unwrap()).unwrap();
        let mut sender = stead_failover::Sender::new(CLUSTER, node_id(&paris), 1);
        sender.add(node_id(&lyon), at_paris.key(&paris, &lyon).unwrap().0);
        let datagram = sender.datagram(node_id(&lyon), 0, 0, &[]).unwrap();
        let mut receiver = stead_failover::Receiver::new(CLUSTER, node_id(&lyon));
        let (key, run) = at_lyon.key(&lyon, &paris).unwrap();
        receiver.add(node_id(&paris), key, run);
        assert_eq!(receiver.receive(&datagram).unwrap().from, node_id(&paris));
        assert!(at_lyon.learn(&paris, "xy".into()).is_err());
        assert_eq!((at_paris.run(), Secrets::begin(&states[0]).unwrap().run()), (1, 2));
    }
}
