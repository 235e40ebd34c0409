//! Secrets for heartbeats are exchanged with every node of every group.

use std::time::{Duration, Instant};

use stead_api::Failure;
use stead_model::NodeName;
use tracing::warn;

use super::Node;
use crate::failover::Order;
use crate::job::{self, JobDone};
use crate::peer::ask;
use crate::peer::messages::{Ask, Tell};

/// How often nodes whose half of a secret is not known are asked for it.
const EXCHANGE_AGAIN: Duration = Duration::from_secs(10);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// Asks nodes for their half of a secret where it is not known yet.
    pub(super) fn exchange_secrets(&mut self) {
        if Instant::now() < self.groups.exchange_at {
            return;
        }
        self.groups.exchange_at = Instant::now() + EXCHANGE_AGAIN;
        let unknown = |peer: &NodeName| self.groups.secrets.key(&self.name, peer).is_none();
        let peers: Vec<_> = self.partners().into_iter().filter(unknown).collect();
        for peer in peers {
            if self.groups.exchanging.insert(peer.clone()) {
                self.exchange_with(peer);
            }
        }
    }

    fn exchange_with(&mut self, peer: NodeName) {
        let ours = match self.groups.secrets.ours(&peer) {
            Ok(ours) => ours,
            Err(failure) => return warn!("{failure}"),
        };
        let dialer = self.dialer.clone();
        job::spawn(&self.events, move || {
            let told = ask(&dialer, &peer, &Ask::Secret { secret: ours }, EXCHANGE_TIMEOUT);
            Some(JobDone::Exchanged { peer, told })
        });
    }

    pub(in super::super) fn exchanged(&mut self, peer: &NodeName, told: Result<Tell, Failure>) {
        self.groups.exchanging.remove(peer);
        let learnt = told.and_then(|told| match told {
            Tell::Secret(theirs) => self.learn_secret(peer, theirs),
            other => Err(Failure::new("no secret was exchanged", format!("{peer} answered {other:?}"), "")),
        });
        learnt.unwrap_or_else(|failure| warn!("no heartbeats with {peer} yet: {failure}"));
    }

    /// Knows a peer's half from now on.
    pub(super) fn learn_secret(&mut self, peer: &NodeName, theirs: String) -> Result<(), Failure> {
        self.groups.secrets.learn(peer, theirs)?;
        if let Some((key, run)) = self.groups.secrets.key(&self.name, peer) {
            self.groups.failover.give(Order::Know { node: peer.clone(), key, run });
        }
        Ok(())
    }

    /// A peer tells its half, and asks for ours.
    pub(in super::super) fn tell_secret(&mut self, peer: &NodeName, theirs: String) -> Result<Tell, Failure> {
        self.learn_secret(peer, theirs)?;
        self.groups.secrets.ours(peer).map(Tell::Secret)
    }
}
