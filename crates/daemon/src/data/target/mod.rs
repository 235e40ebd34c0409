//! The target end of a set: journal, replica, guard and the connection from the source, around one
//! [`Target`](stead_replication::Target).

mod apply;
mod journal;
mod level;
mod policy;
mod receive;
mod saved;
mod session;
mod start;
mod view;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use stead_model::SetName;
use stead_model::status::{ConnectionStatus, Timestamp};

use super::relay::Relay;
use crate::peer::PeerStream;
use crate::seam::{Context, Failure, Stop, TargetSpec};
use crate::threads::lock;

use session::Event;

/// How long a set that is no longer protected may take to apply what its journal holds.
const LEAVE: Duration = Duration::from_secs(60);

/// A running target of a set.
pub(super) struct TargetSession {
    set: SetName,
    spec: TargetSpec,
    events: Sender<Event>,
    /// What became of the session: comes once, when it ended.
    ended: Receiver<Result<(), Failure>>,
    status: Arc<Mutex<ConnectionStatus>>,
}

impl TargetSession {
    /// Opens the replica, sets the guard and starts the threads.
    pub(super) fn start(spec: TargetSpec, relay: Arc<Relay>, context: &Context) -> Result<TargetSession, Failure> {
        start::start(spec, relay, context)
    }

    /// What it was started with.
    pub(super) fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    /// Takes the source's connection in place of the one before.
    pub(super) fn incoming(&self, stream: PeerStream) {
        let _ = self.events.try_send(Event::Incoming(Box::new(stream)));
    }

    /// Ends the session.
    pub(super) fn stop(self, how: Stop) -> Result<(), Failure> {
        let _ = self.events.send_timeout(Event::Stop(how), LEAVE);
        self.ended.recv_timeout(LEAVE).unwrap_or_else(|_| {
            let what = format!("the replica of set {} is still busy", self.set);
            Err(Failure::new(
                what,
                "its file system does not come to an end",
                "Look at the daemon's log, then try again",
            ))
        })
    }

    /// Ends the session with the replica as the image of one instant, however long what is journaled takes to be applied;
    /// tells the instant.
    pub(super) fn stand_in(self, as_is: bool) -> Result<Timestamp, Failure> {
        let gone =
            || Failure::new(format!("the replica of set {} was not drained", self.set), "its session is gone", "");
        self.events.send(Event::Stop(Stop::StandIn { as_is })).map_err(|_| gone())?;
        self.ended.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(self.status().consistent_at.unwrap_or(Timestamp(0)))
    }

    /// The connection, as this end sees it.
    pub(super) fn status(&self) -> ConnectionStatus {
        lock(&self.status).clone()
    }
}
