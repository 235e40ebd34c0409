//! Everything that makes the daemon act, in one place.

use std::sync::mpsc::SyncSender;

use stead_api::{Failure, Request};
use stead_failover::machine::{Action, Outcome};
use stead_model::{GroupName, NodeName, SetName};

use crate::api_server::Responder;
use crate::failover::Told;
use crate::job::JobDone;
use crate::metrics::Snapshot;
use crate::peer::PeerStream;
use crate::peer::listen::PeerAsk;
use crate::seam::DataEvent;

/// A cause of work for the loop.
pub(crate) enum Event {
    /// A command of the operator.
    Api(Request, Responder),
    /// A question of a peer, or a stranger who was invited.
    Peer(PeerAsk),
    /// A peer wants to send a set; may it?
    DataAsk { set: SetName, source: NodeName, reply: SyncSender<Result<(), Failure>> },
    /// It may, and here is its stream.
    DataStream { set: SetName, source: NodeName, stream: Box<PeerStream> },
    /// The data path has something to tell.
    Data(DataEvent),
    /// A group has something to tell, or to be done.
    Group(GroupEvent),
    /// Somebody reads the metrics.
    Scrape(SyncSender<Snapshot>),
    /// Work that was done beside the loop came to its end.
    Job(Box<JobDone>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// What the watcher and the hands of groups want of the loop.
pub(crate) enum GroupEvent {
    /// Something is so.
    Told(Told),
    /// What the data path has to do; the outcome goes back.
    Step { group: GroupName, action: Action, reply: SyncSender<Outcome> },
}
