//! A change of this node's key: until it is over, both keys and who was told (`rotation.toml`).
//!
//! The file is the point of no return: once it is there, its newer key is this node's. `node.key` and `node.crt` follow.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::NodeName;

use super::peers::OVERLAP_SECONDS;
use super::{StateDir, files};
use crate::peer::{Identity, from_hex, to_hex};

const FILE: &str = "rotation.toml";
/// How long a peer may stay away and still learn the new certificate when it comes back.
pub(crate) const UNTOLD_SECONDS: u64 = 30 * 86_400;

/// A change of keys that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Seconds since 1970.
    pub(crate) begun: u64,
    /// Peers that know only the older certificate.
    pub(crate) untold: BTreeSet<NodeName>,
    older: Pair,
    newer: Pair,
}

/// Key (PKCS#8) and certificate (DER), in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    key: String,
    certificate: String,
}

impl Rotation {
    /// A change from one key to another that begins now.
    pub(crate) fn begin(older: &Identity, newer: &Identity, untold: BTreeSet<NodeName>, now: u64) -> Rotation {
        Rotation { begun: now, untold, older: Pair::of(older), newer: Pair::of(newer) }
    }

    /// The one that is not over; where a power cut came between, `node.key` and `node.crt` are brought in line.
    pub(crate) fn load(state: &StateDir) -> Result<Option<(Rotation, Identity, Identity)>, Failure> {
        let Some(rotation) = files::read_toml::<Rotation>(&state.file(FILE))? else { return Ok(None) };
        let (older, newer) = (rotation.older.identity(state)?, rotation.newer.identity(state)?);
        let differs = Identity::load_or_make(state.path()).map_or(true, |kept| kept.fingerprint != newer.fingerprint);
        if differs {
            newer.save(state.path())?;
        }
        Ok(Some((rotation, older, newer)))
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), Failure> {
        files::write_toml(&state.file(FILE), self)
    }

    /// The older key is no longer needed.
    pub(crate) fn end(state: &StateDir) -> Result<(), Failure> {
        files::remove(&state.file(FILE))
    }

    /// Is it over? Peers that were not told by now have to join again.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        let age = now.abs_diff(self.begun);
        age >= UNTOLD_SECONDS || self.untold.is_empty() && age >= OVERLAP_SECONDS
    }
}

impl Pair {
    fn of(identity: &Identity) -> Pair {
        Pair { key: to_hex(identity.key.secret_der()), certificate: to_hex(&identity.certificate) }
    }

    fn identity(&self, state: &StateDir) -> Result<Identity, Failure> {
        let unusable = |why: String| {
            let remedy = "Restore the file from a backup of the state (stead state restore)";
            Failure::new(format!("{} cannot be used", state.file(FILE).display()), why, remedy)
        };
        let bytes = |text: &str| from_hex(text).ok_or_else(|| unusable("a key is not hexadecimal".into()));
        Identity::from_der(bytes(&self.key)?, bytes(&self.certificate)?).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_in_the_middle_ends_with_the_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let older = Identity::load_or_make(dir.path()).unwrap();
        let newer = Identity::make().unwrap();
        let untold = BTreeSet::from(["lyon".parse().unwrap()]);
        let rotation = Rotation::begin(&older, &newer, untold, 1_000);
        rotation.save(&state).unwrap();
        let (loaded, was, is) = Rotation::load(&state).unwrap().unwrap();
        assert_eq!((loaded, was.fingerprint, is.fingerprint), (rotation, older.fingerprint, newer.fingerprint));
        assert_eq!(Identity::load_or_make(dir.path()).unwrap().fingerprint, newer.fingerprint);
        // The certificate was replaced, the key not.
        older.save(dir.path()).unwrap();
        std::fs::write(state.file("node.crt"), &newer.certificate).unwrap();
        assert!(Identity::load_or_make(dir.path()).is_err());
        Rotation::load(&state).unwrap().unwrap();
        Rotation::end(&state).unwrap();
        assert!(Rotation::load(&state).unwrap().is_none());
        assert_eq!(Identity::load_or_make(dir.path()).unwrap().fingerprint, newer.fingerprint);
    }

    #[test]
    fn it_ends_when_all_were_told_or_nobody_waits_longer() {
        let identity = Identity::make().unwrap();
        let mut rotation = Rotation::begin(&identity, &identity, BTreeSet::from(["lyon".parse().unwrap()]), 1_000);
        assert!(!rotation.is_over(1_000 + OVERLAP_SECONDS));
        assert!(rotation.is_over(1_000 + UNTOLD_SECONDS));
        rotation.untold.clear();
        assert!(!rotation.is_over(1_001));
        assert!(rotation.is_over(1_000 + OVERLAP_SECONDS));
    }
}
