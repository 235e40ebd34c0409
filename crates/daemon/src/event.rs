//! Everything that makes the daemon act, in one place.

use std::sync::mpsc::SyncSender;

use stead_api::{Failure, Request};
use stead_model::{NodeName, SetName};

use crate::api_server::Responder;
use crate::job::JobDone;
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
    /// Work that was done beside the loop came to its end.
    Job(Box<JobDone>),
    /// SIGTERM or SIGINT.
    Stop,
}
