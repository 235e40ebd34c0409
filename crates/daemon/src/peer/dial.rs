//! Connections to peers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, Connection};
use stead_api::{Failure, FailureKind};
use stead_model::NodeName;

use super::gate::Gates;
use super::hello::{self, FRAME_BYTES_MAX, HelloError};
use super::messages::{Ask, Tell};
use super::stream::PeerStream;
use super::{Book, Fingerprint, Identity, Keyring, Purpose, tls};

/// Longest attempt on one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest attempt on all addresses, with the greeting.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens connections to trusted peers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Dialer {
    keys: Keyring,
    book: Book,
    gates: Gates,
}

/// Who is to be at the other end.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) addresses: Vec<SocketAddr>,
    /// As whom this node shows itself.
    pub(crate) own: Arc<Identity>,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error(
        "{address} answers with another certificate than {name}'s: another machine has the address, or {name} was \
             installed anew"
    )]
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
                "List the nodes with: stead node list; make them known with: stead invite, stead join"
            }
            DialError::Unreachable { .. } => "Check that its daemon runs and that no firewall is between",
            DialError::WrongCertificate { .. } => {
                "Check the address (stead node address); where the node was installed anew: stead node replace"
            }
            DialError::Greeting { .. } => "Check that both nodes run releases that fit together",
            DialError::Refused { failure, .. } => return failure.clone(),
        };
        Failure::new(what, self.to_string(), remedy)
    }

    /// Does it stay so until a person does something?
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            DialError::WrongCertificate { .. } => true,
            DialError::Refused { failure, .. } => failure.kind == FailureKind::No,
            _ => false,
        }
    }

    /// Is it the same for whatever the connection was for?
    pub(super) fn is_of_the_line(&self) -> bool {
        !matches!(self, DialError::Refused { .. })
    }
}

impl Dialer {
    pub(crate) fn new(keys: Keyring, book: Book) -> Dialer {
        Dialer { keys, book, gates: Gates::default() }
    }

    /// The version of the protocol that was spoken with that peer last, since the daemon was started.
    pub(crate) fn version_of(&self, node: &NodeName) -> Option<u16> {
        self.book.contact(node).map(|contact| contact.version)
    }

    /// Is that a trusted peer?
    pub(crate) fn knows(&self, node: &NodeName) -> bool {
        self.book.by_name(node).is_some()
    }

    /// Connects to that peer for that purpose: one attempt on each of its addresses (only `route` where given), 15 s at
    /// most for all of it. The stream blocks, without time-out; the greeting is done. Streams of sets are dialed one at
    /// a time for each peer; a certificate that is not the peer's is asked for again after half a minute at the soonest.
    /// The stream ends when the peer is no longer trusted.
    ///
    /// # Errors
    /// Why not.
    pub fn dial(&self, node: &NodeName, route: Option<SocketAddr>, purpose: &Purpose) -> Result<PeerStream, DialError> {
        let target = self.target(node, route)?;
        if !matches!(purpose, Purpose::Data { .. }) {
            return self.dial_target(&target, purpose, DIAL_TIMEOUT);
        }
        let what = format!("{} at {:?}", target.fingerprint, target.addresses);
        let stream = self.gates.pass(node, what, || self.dial_target(&target, purpose, DIAL_TIMEOUT))?;
        if !self.book.add(node, &stream) {
            return Err(DialError::UnknownNode(node.clone()));
        }
        self.book.heard(node, stream.version());
        Ok(stream)
    }

    /// Why no stream of a set to that node stands, as the last attempt found; none where it has one, or is at it.
    pub(crate) fn trouble(&self, node: &NodeName) -> Option<String> {
        self.gates.trouble(node)
    }

    fn target(&self, node: &NodeName, route: Option<SocketAddr>) -> Result<Target, DialError> {
        let peer = self.book.by_name(node).ok_or_else(|| DialError::UnknownNode(node.clone()))?;
        let addresses = route.map_or(peer.addresses, |route| vec![route]);
        Ok(Target { name: node.to_string(), fingerprint: peer.fingerprint, addresses, own: self.keys.for_peer(node) })
    }

    /// A node that is known by an invitation only.
    pub(crate) fn invited(&self, name: String, fingerprint: Fingerprint, addresses: Vec<SocketAddr>) -> Target {
        let own = name.parse().map_or_else(|_| self.keys.now(), |node| self.keys.for_peer(&node));
        Target { name, fingerprint, addresses, own }
    }

    fn dial_target(&self, target: &Target, purpose: &Purpose, timeout: Duration) -> Result<PeerStream, DialError> {
        let deadline = Instant::now() + timeout;
        let mut unreached = Vec::new();
        let mut refused = None;
        for address in &target.addresses {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(address, left.min(CONNECT_TIMEOUT)) {
                Ok(tcp) => match greet(target, *address, tcp, purpose, deadline) {
                    Ok(stream) => return Ok(stream),
                    Err(e @ DialError::Refused { .. }) => return Err(e),
                    Err(e) => refused = refused.or(Some(e)),
                },
                Err(e) => unreached.push(format!("{address}: {e}")),
            }
        }
        if unreached.is_empty() {
            unreached.push("no address is known".into());
        }
        let reasons = unreached.join(", ");
        Err(refused.unwrap_or(DialError::Unreachable { name: target.name.clone(), reasons }))
    }
}

fn greet(
    target: &Target,
    address: SocketAddr,
    tcp: TcpStream,
    purpose: &Purpose,
    deadline: Instant,
) -> Result<PeerStream, DialError> {
    let name = target.name.clone();
    let greeting = |why: String| DialError::Greeting { name: name.clone(), address, why };
    let config = tls::client(&target.own, target.fingerprint).map_err(|e| greeting(e.to_string()))?;
    let server = tls::expected(target.fingerprint).map_err(|e| greeting(e.to_string()))?;
    let tls = ClientConnection::new(config, server).map_err(|e| greeting(e.to_string()))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let mut stream = PeerStream::handshake(tcp, Connection::Client(tls), left).map_err(|e| {
        let wrong = e.get_ref().and_then(|e| e.downcast_ref()).is_some_and(tls::is_wrong_certificate);
        if wrong { DialError::WrongCertificate { name: name.clone(), address } } else { greeting(said(&e)) }
    })?;
    let untimed = |e: io::Error| greeting(said(&e));
    stream.set_deadline(Some(deadline)).map_err(untimed)?;
    let version = hello::greet(&mut stream, purpose).map_err(|e| match e {
        HelloError::Refused(failure) => DialError::Refused { name: name.clone(), failure },
        HelloError::Io(e) => greeting(said(&e)),
        other => greeting(other.to_string()),
    })?;
    stream.set_deadline(None).map_err(untimed)?;
    stream.set_version(version);
    Ok(stream)
}

/// The error in words; what the kernel calls "temporarily unavailable" is the time that was up.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it did not answer in time".into(),
        io::ErrorKind::UnexpectedEof => "it closed the connection".into(),
        _ => error.to_string(),
    }
}

/// Asks a peer one question.
pub(crate) fn ask(dialer: &Dialer, node: &NodeName, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let what = format!("{node} could not be asked");
    let dialed = dialer
        .target(node, None)
        .and_then(|target| dialer.dial_target(&target, &Purpose::Prepare, timeout.min(DIAL_TIMEOUT)));
    let stream = dialed.map_err(|e| e.failure(&what))?;
    dialer.book.heard(node, stream.version());
    if stream.version() < ask.version() {
        let why = format!("its release is older and speaks version {} of the protocol", stream.version());
        return Err(Failure::new(what, why, format!("Upgrade Stead on {node} first")));
    }
    exchange(stream, node.as_str(), ask, timeout)
}

/// Asks whoever has that certificate at that address, to be trusted.
pub(crate) fn ask_address(dialer: &Dialer, target: &Target, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let dialed = dialer.dial_target(target, &Purpose::Join, timeout.min(DIAL_TIMEOUT));
    let stream = dialed.map_err(|e| e.failure("the invitation was not accepted"))?;
    exchange(stream, &target.name, ask, timeout)
}

/// Asks a node that trusts this one already one question, whether this one trusts it yet or not.
pub(crate) fn ask_target(dialer: &Dialer, target: &Target, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let dialed = dialer.dial_target(target, &Purpose::Prepare, timeout.min(DIAL_TIMEOUT));
    let stream = dialed.map_err(|e| e.failure(&format!("{} could not be asked", target.name)))?;
    exchange(stream, &target.name, ask, timeout)
}

fn exchange(mut stream: PeerStream, name: &str, ask: &Ask, timeout: Duration) -> Result<Tell, Failure> {
    let mut run = || {
        stream.set_deadline(Some(Instant::now() + timeout))?;
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
