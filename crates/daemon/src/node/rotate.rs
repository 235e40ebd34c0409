//! A new key for this node. The announcement travels by connections that the older key opened; whoever is away is told
//! when it comes back, by the older key, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure};
use stead_model::NodeName;
use tracing::{info, warn};

use super::{Node, unix_seconds};
use crate::api_server::Responder;
use crate::job::{self, JobDone};
use crate::peer::messages::{Ask, Tell};
use crate::peer::{Dialer, Fingerprint, Identity, ask};
use crate::state::invites::Invites;
use crate::state::rotation::Rotation;

/// How often peers that were away are told again.
const TELL_EVERY: Duration = Duration::from_secs(20);
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Peers that are told at the same time.
const TOLD_AT_ONCE: usize = 16;

impl Node {
    pub(super) fn rotate_key(&mut self, responder: Responder) {
        match self.begin_rotation() {
            Ok(()) => self.tell_key(Some(responder)),
            Err(failure) => responder.failed(failure),
        }
    }

    fn begin_rotation(&mut self) -> Result<(), Failure> {
        if let Some(name) = self.rotation.as_ref().and_then(|rotation| rotation.untold.first()) {
            let why = format!("the last change is not over: {name} was not told of it");
            let remedy = format!("Wait until {name} is back, or remove it: stead node remove {name}");
            return Err(Failure::new("the key was not changed", why, remedy));
        }
        let (older, newer) = (self.keys.now(), Arc::new(Identity::make()?));
        let untold: BTreeSet<_> = self.peers.list().iter().map(|peer| peer.name.clone()).collect();
        // An open invitation names the older certificate.
        let invites = Invites::default();
        invites.save(&self.state)?;
        self.invites = invites;
        let rotation = Rotation::begin(&older, &newer, untold.clone(), unix_seconds());
        rotation.save(&self.state)?;
        self.keys.set(newer.clone(), Some(older), untold);
        self.rotation = Some(rotation);
        info!("this node has a new certificate: {}", newer.fingerprint);
        newer.save(self.state.path())
    }

    /// Tells everyone who does not know the new certificate, beside the loop.
    fn tell_key(&mut self, responder: Option<Responder>) {
        let Some(rotation) = &self.rotation else { return };
        self.tell_at = None;
        let (peers, dialer) = (rotation.untold.iter().cloned().collect::<Vec<_>>(), self.dialer.clone());
        let fingerprint = self.keys.fingerprint();
        job::spawn(&self.events, move || {
            let told = peers.chunks(TOLD_AT_ONCE).flat_map(|some| tell(some, &dialer, fingerprint)).collect();
            Some(JobDone::KeyTold { told, responder })
        });
    }

    pub(super) fn key_told(&mut self, told: Vec<(NodeName, Result<(), Failure>)>, responder: Option<Responder>) {
        let (mut know, mut untold) = (Vec::new(), Vec::new());
        for (name, result) in told {
            match result {
                Ok(()) => know.push(name),
                Err(failure) => untold.push((name, failure.why)),
            }
        }
        for name in &know {
            info!("{name} knows the new certificate");
            self.told(name).unwrap_or_else(|failure| warn!("{failure}"));
        }
        self.tell_at = self.rotation.is_some().then(|| Instant::now() + TELL_EVERY);
        if let Some(responder) = responder {
            let fingerprint = self.keys.fingerprint().to_string();
            responder.done(Answer::Rotated { fingerprint, told: know, untold });
        }
    }

    /// A peer knows the new certificate, or is no longer one.
    pub(super) fn told(&mut self, name: &NodeName) -> Result<(), Failure> {
        let Some(rotation) = &mut self.rotation else { return Ok(()) };
        if rotation.untold.remove(name) {
            rotation.save(&self.state)?;
            self.keys.tell(name);
        }
        Ok(())
    }

    /// From time to time: tells those who were away, and ends a change that is over.
    pub(super) fn go_on_rotating(&mut self) {
        let Some(rotation) = &self.rotation else { return };
        if rotation.is_over(unix_seconds()) {
            let untold: Vec<_> = rotation.untold.iter().map(NodeName::as_str).collect();
            if !untold.is_empty() {
                warn!("these nodes were not told of the new certificate and have to join again: {}", untold.join(", "));
            }
            match Rotation::end(&self.state) {
                Ok(()) => {
                    self.keys.set(self.keys.now(), None, BTreeSet::new());
                    self.rotation = None;
                }
                Err(failure) => {
                    warn!("{failure}");
                    self.tell_at = Some(Instant::now() + TELL_EVERY);
                }
            }
        } else if rotation.untold.is_empty() {
            self.tell_at = Some(Instant::now() + TELL_EVERY);
        } else {
            self.tell_key(None);
        }
    }

    /// A peer has a new key.
    pub(super) fn take_key(&mut self, node: &NodeName, from: Fingerprint, next: Fingerprint) -> Result<Tell, Failure> {
        if next == self.keys.fingerprint() {
            return Err(Failure::new(
                format!("the new certificate of {node} was refused"),
                "it is this node's own",
                "",
            ));
        }
        if let Some(peers) = self.peers.with_key(node, from, next, unix_seconds())? {
            self.adopt_peers(peers)?;
            info!("{node} has a new certificate: {next}");
        }
        Ok(Tell::Done)
    }
}

fn tell(peers: &[NodeName], dialer: &Dialer, fingerprint: Fingerprint) -> Vec<(NodeName, Result<(), Failure>)> {
    let announcement = Ask::NewKey { fingerprint };
    let told = |peer: &NodeName| ask(dialer, peer, &announcement, TELL_TIMEOUT).map(drop);
    std::thread::scope(|scope| {
        let asked: Vec<_> = peers.iter().map(|peer| (peer, scope.spawn(|| told(peer)))).collect();
        let panicked = |_| Err(Failure::new("it was not told", "the daemon ran into a fault of its own", ""));
        asked.into_iter().map(|(peer, thread)| (peer.clone(), thread.join().unwrap_or_else(panicked))).collect()
    })
}
