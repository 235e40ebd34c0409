//! Connections to peers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};
use stead_api::Failure;
use stead_model::NodeName;

use super::hello::{self, FRAME_BYTES_MAX, HelloError};
use super::messages::{Ask, Tell};
use super::stream::PeerStream;
use super::{Fingerprint, Identity, Purpose, tls};
use crate::state::peers::Peer;

/// Longest attempt on one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest attempt on all addresses, with the greeting.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens connections to trusted peers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Dialer {
    identity: Arc<Identity>,
    book: Book,
}

/// The trusted peers as dialers see them; the loop writes it, nothing else.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<RwLock<Vec<Peer>>>);

impl Book {
    pub(crate) fn set(&self, peers: Vec<Peer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    pub(crate) fn by_name(&self, name: &NodeName) -> Option<Peer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().find(|p| p.name == *name).cloned()
    }

    pub(crate) fn by_fingerprint(&self, fingerprint: Fingerprint) -> Option<Peer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().find(|p| p.fingerprint == fingerprint).cloned()
    }
}

/// Who is to be at the other end.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No peer has that name.
    #[error("{0} is not a node that this one trusts")]
    UnknownNode(NodeName),
    /// None of its addresses answers.
    #[error("{name} does not answer: {reasons}")]
    Unreachable {
        /// The node.
        name: String,
        /// Each address with its error.
        reasons: String,
    },
    /// Something else answers at the address.
    #[error("{address} answers with another certificate than {name}'s")]
    WrongCertificate {
        /// The node.
        name: String,
        /// The address.
        address: SocketAddr,
    },
    /// The greeting failed.
    #[error("{name} at {address} cannot be talked to: {why}")]
    Greeting {
        /// The node.
        name: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// The peer refuses this connection.
    #[error("{name} refuses: {failure}")]
    Refused {
        /// The node.
        name: String,
        /// Its reason.
        failure: Failure,
    },
}

impl DialError {
    /// As the operator is told of it.
    pub fn failure(self, what: &str) -> Failure {
        let remedy = match &self {
            DialError::UnknownNode(_) => {
                "List the nodes with: stead nodes; make them known with: stead invite, stead join"
            }
            DialError::Unreachable { .. } => "Check that its daemon runs and that no firewall is between",
            DialError::WrongCertificate { .. } => {
                "Check the address; where the node was installed anew, join it again with a fresh invitation"
            }
            DialError::Greeting { .. } => "Check that both nodes run releases that fit together",
            DialError::Refused { failure, .. } => return failure.clone(),
        };
        Failure::new(what, self.to_string(), remedy)
    }
}

impl Dialer {
    pub(crate) fn new(identity: Arc<Identity>, book: Book) -> Dialer {
        Dialer { identity, book }
    }

    /// Is that a trusted peer?
    pub(crate) fn knows(&self, node: &NodeName) -> bool {
        self.book.by_name(node).is_some()
    }

    /// Connects to that peer for that purpose: one attempt on each of its addresses (only `route` where given), 15 s at
    /// most for all of it. The stream blocks, without time-out; the greeting is done.
    ///
    /// # Errors
    /// Why not.
    pub fn dial(&self, node: &NodeName, route: Option<SocketAddr>, purpose: &Purpose) -> Result<PeerStream, DialError> {
        self.dial_within(node, route, purpose, DIAL_TIMEOUT)
    }

    fn dial_within(
        &self,
        node: &NodeName,
        route: Option<SocketAddr>,
        purpose: &Purpose,
        timeout: Duration,
    ) -> Result<PeerStream, DialError> {
        let peer = self.book.by_name(node).ok_or_else(|| DialError::UnknownNode(node.clone()))?;
        let addresses = route.map_or(peer.addresses, |route| vec![route]);
        self.dial_target(&Target { name: node.to_string(), fingerprint: peer.fingerprint, addresses }, purpose, timeout)
    }

    fn dial_target(&self, target: &Target, purpose: &Purpose, timeout: Duration) -> Result<PeerStream, DialError> {
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut reasons = Vec::new();
        for address in &target.addresses {
            match TcpStream::connect_timeout(address, left().min(CONNECT_TIMEOUT)) {
                Ok(tcp) => return self.greet(target, *address, tcp, purpose, left()),
                Err(e) => reasons.push(format!("{address}: {e}")),
            }
        }
        if reasons.is_empty() {
            reasons.push("no address is known".into());
        }
        Err(DialError::Unreachable { name: target.name.clone(), reasons: reasons.join(", ") })
    }

    fn greet(
        &self,
        target: &Target,
        address: SocketAddr,
        tcp: TcpStream,
        purpose: &Purpose,
        timeout: Duration,
    ) -> Result<PeerStream, DialError> {
        let name = target.name.clone();
        let greeting = |why: String| DialError::Greeting { name: name.clone(), address, why };
        let config = tls::client(&self.identity, target.fingerprint).map_err(|e| greeting(e.to_string()))?;
        let server = ServerName::from(address.ip());
        let tls = ClientConnection::new(config, server).map_err(|e| greeting(e.to_string()))?;
        let mut stream = PeerStream::handshake(tcp, Connection::Client(tls), timeout).map_err(|e| {
            let wrong = e.get_ref().and_then(|e| e.downcast_ref()).is_some_and(tls::is_wrong_certificate);
            if wrong { DialError::WrongCertificate { name: name.clone(), address } } else { greeting(e.to_string()) }
        })?;
        let untimed = |e: io::Error| greeting(e.to_string());
        stream.set_timeout(Some(timeout)).map_err(untimed)?;
        hello::greet(&mut stream, purpose).map_err(|e| match e {
            HelloError::Refused(failure) => DialError::Refused { name: name.clone(), failure },
            other => greeting(other.to_string()),
        })?;
        stream.set_timeout(None).map_err(untimed)?;
        Ok(stream)
    }
}

/// Asks a peer one question.
pub(crate) fn ask(dialer: &Dialer, node: &NodeName, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let what = format!("{node} could not be asked");
    let dialed = dialer.dial_within(node, None, &Purpose::Prepare, timeout.min(DIAL_TIMEOUT));
    let stream = dialed.map_err(|e| e.failure(&what))?;
    exchange(stream, node.as_str(), ask, timeout)
}

/// Asks whoever has that certificate at that address, to be trusted.
pub(crate) fn ask_address(dialer: &Dialer, target: &Target, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let dialed = dialer.dial_target(target, &Purpose::Join, timeout.min(DIAL_TIMEOUT));
    let stream = dialed.map_err(|e| e.failure("the invitation was not accepted"))?;
    exchange(stream, &target.name, ask, timeout)
}

fn exchange(mut stream: PeerStream, name: &str, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let mut run = || {
        stream.set_timeout(Some(timeout))?;
        hello::write_frame(&mut stream, ask)?;
        hello::read_frame::<Result<Tell, Failure>>(&mut stream, FRAME_BYTES_MAX)
    };
    run().unwrap_or_else(|e| {
        let why = match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("there was no answer within {} s", timeout.as_secs())
            }
            _ => e.to_string(),
        };
        Err(Failure::new(format!("{name} did not answer"), why, "Look at its daemon's log"))
    })
}
