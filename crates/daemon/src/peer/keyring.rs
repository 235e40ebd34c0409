//! The keys by which this node shows itself: one, and for a while after a change of keys also the one before.
//!
//! A peer that was not told of the new certificate expects the older one, says so in its first message, and gets it; to
//! such a peer this node shows the older one, too. Releases that do not say what they expect get the older one for as
//! long as anyone has to be told.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use stead_model::NodeName;

use super::{Fingerprint, Identity, tls};

/// The keys as threads see them; the loop changes them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keyring(Arc<RwLock<Keys>>);

struct Keys {
    now: Arc<Identity>,
    older: Option<Arc<Identity>>,
    /// Peers that know only the older one.
    untold: BTreeSet<NodeName>,
}

impl Keyring {
    pub(crate) fn new(now: Arc<Identity>) -> Keyring {
        Keyring(Arc::new(RwLock::new(Keys { now, older: None, untold: BTreeSet::new() })))
    }

    /// The key of this node.
    pub(crate) fn now(&self) -> Arc<Identity> {
        self.keys().now.clone()
    }

    /// The certificate of this node.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.keys().now.fingerprint
    }

    /// The key that the peer knows.
    pub(super) fn for_peer(&self, node: &NodeName) -> Arc<Identity> {
        let keys = self.keys();
        match &keys.older {
            Some(older) if keys.untold.contains(node) => older.clone(),
            _ => keys.now.clone(),
        }
    }

    /// From now on these keys; `untold` peers know only the older one.
    pub(crate) fn set(&self, now: Arc<Identity>, older: Option<Arc<Identity>>, untold: BTreeSet<NodeName>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Keys { now, older, untold };
    }

    /// That peer knows the newest key.
    pub(crate) fn tell(&self, node: &NodeName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).untold.remove(node);
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Keyring {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.keys();
        let fits = |identity: &Identity, name: &str| tls::label(identity.fingerprint) == name;
        let chosen = match (&keys.older, hello.server_name()) {
            (Some(older), Some(name)) if fits(older, name) => older,
            (Some(older), None) if !keys.untold.is_empty() => older,
            _ => &keys.now,
        };
        Some(chosen.certified.clone())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.fingerprint())
    }
}
