//! Connections from peers: one thread for each listener, one for each connection, bounded in number.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{Connection, ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};
use stead_api::{Failure, FailureKind};
use stead_model::NodeName;
use tracing::{debug, info, warn};

use super::hello::{self, FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use super::messages::{Ask, Tell};
use super::stream::PeerStream;
use super::{Book, Fingerprint, Keyring, Purpose, tls};
use crate::event::Event;
use crate::state::peers::ADDRESSES_MAX;

/// Connections that are being served at the same time, data streams apart; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// A question of a peer on its way to the loop.
pub(crate) struct PeerAsk {
    pub(crate) from: Caller,
    pub(crate) ask: Ask,
    pub(crate) reply: SyncSender<Result<Tell, Failure>>,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) fingerprint: Fingerprint,
    /// None for a stranger, who may only ask to join.
    pub(crate) name: Option<NodeName>,
    pub(crate) address: SocketAddr,
}

/// Binds an address, also one that the machine does not have yet: at boot the network comes later.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        bind_freely(&socket, address)?;
        socket.listen(128)?;
        Ok(TcpListener::from(socket))
    };
    bound().map_err(|e: std::io::Error| {
        let remedy = "Choose another address and port with --listen, or end whoever listens there (ss -ltnp)";
        Failure::new(format!("cannot listen on {address}"), e.to_string(), remedy)
    })
}

/// Binds an address, also one that is not up yet.
pub(crate) fn bind_freely(socket: &Socket, address: SocketAddr) -> std::io::Result<()> {
    if address.is_ipv6() {
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())
}

/// Is that no address of this machine, as far as can be told?
pub(crate) fn is_elsewhere(ip: IpAddr) -> bool {
    let is_here = ip.is_unspecified() || ip.is_loopback();
    !is_here && if_addrs::get_if_addrs().is_ok_and(|own| own.iter().all(|interface| interface.ip() != ip))
}

/// The addresses under which other nodes reach what listens there, as they are now. An unspecified address stands for all of
/// this machine. Loopback ones lead nowhere from elsewhere, and those that go with groups lead elsewhere tomorrow: they are told
/// where there are no others.
pub(crate) fn reached_at(listens: &[SocketAddr], moving: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    let own: Vec<_> = own.iter().map(|interface| interface.ip()).collect();
    reached_of(listens, &own, moving)
}

fn reached_of(listens: &[SocketAddr], own: &[IpAddr], moving: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let of = |listen: &SocketAddr| -> Vec<SocketAddr> {
        let same = |ip: &&IpAddr| ip.is_ipv4() == listen.is_ipv4() && !is_link_local(ip);
        match listen.ip().is_unspecified() {
            true => own.iter().filter(same).map(|ip| SocketAddr::new(*ip, listen.port())).collect(),
            false => vec![*listen],
        }
    };
    let mut all: Vec<_> = listens.iter().flat_map(of).collect();
    prefer(&mut all, |ip| !ip.is_loopback());
    prefer(&mut all, |ip| !moving.contains(&ip));
    all.truncate(ADDRESSES_MAX);
    all
}

/// Only those, where there are some.
fn prefer(all: &mut Vec<SocketAddr>, is_better: impl Fn(IpAddr) -> bool) {
    if all.iter().any(|address| is_better(address.ip())) {
        all.retain(|address| is_better(address.ip()));
    }
}

/// Serves a listener until the process ends.
pub(crate) fn serve(
    listener: TcpListener,
    keys: &Keyring,
    book: Book,
    events: SyncSender<Event>,
) -> Result<(), Failure> {
    let tls =
        tls::server(Arc::new(keys.clone())).map_err(|e| Failure::new("TLS cannot be set up", e.to_string(), ""))?;
    let server = Arc::new(Server { tls, book, events, busy: AtomicUsize::new(0) });
    spawn("listen", move || server.accept(&listener));
    Ok(())
}

struct Server {
    tls: Arc<ServerConfig>,
    book: Book,
    events: SyncSender<Event>,
    busy: AtomicUsize,
}

impl Server {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((tcp, address)) => self.admit(tcp, address),
                Err(e) => {
                    warn!("a connection could not be accepted: {e}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, tcp: TcpStream, address: SocketAddr) {
        if self.busy.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            self.busy.fetch_sub(1, Ordering::SeqCst);
            warn!("{address} was turned away: {CONNECTIONS_MAX} connections are being served");
            return;
        }
        let place = Place(self.clone());
        spawn("peer", move || {
            if let Err(why) = place.0.serve(tcp, address) {
                info!("connection from {address}: {why}");
            }
        });
    }

    fn serve(&self, tcp: TcpStream, address: SocketAddr) -> Result<(), String> {
        let tls = ServerConnection::new(self.tls.clone()).map_err(|e| e.to_string())?;
        let mut stream =
            PeerStream::handshake(tcp, Connection::Server(tls), HELLO_TIMEOUT).map_err(|e| e.to_string())?;
        stream.set_deadline(Some(Instant::now() + HELLO_TIMEOUT)).map_err(|e| e.to_string())?;
        let (purpose, version) = hello::receive(&mut stream).map_err(|e| e.to_string())?;
        stream.set_version(version);
        let fingerprint = stream.fingerprint();
        let name = self.book.by_fingerprint(fingerprint).map(|peer| peer.name);
        if let Some(name) = &name {
            self.book.heard(name, version);
        }
        let caller = Caller { fingerprint, name, address };
        debug!("{caller:?} greets for {purpose:?}");
        match (purpose, &caller.name) {
            (Purpose::Join, _) => self.question(stream, caller, HELLO_BYTES_MAX),
            (_, None) => {
                let refusal = stranger(fingerprint);
                let why = refusal.to_string();
                let _ = hello::admit(&mut stream, &Err(refusal));
                Err(why)
            }
            (Purpose::Prepare, Some(_)) => self.question(stream, caller, FRAME_BYTES_MAX),
            (Purpose::Data { set }, Some(name)) => {
                let (reply, verdict) = sync_channel(1);
                self.tell(Event::DataAsk { set: set.clone(), source: name.clone(), reply })?;
                let verdict = verdict.recv_timeout(ANSWER_TIMEOUT).map_err(|e| e.to_string())?;
                hello::admit(&mut stream, &verdict).map_err(|e| e.to_string())?;
                verdict.map_err(|refusal| refusal.to_string())?;
                stream.set_deadline(None).map_err(|e| e.to_string())?;
                if !self.book.add(name, &stream) {
                    return Err(format!("{name} is no longer trusted"));
                }
                self.tell(Event::DataStream { set, source: name.clone(), stream: Box::new(stream) })
            }
        }
    }

    fn question(&self, mut stream: PeerStream, from: Caller, frame_bytes_max: usize) -> Result<(), String> {
        hello::admit(&mut stream, &Ok(())).map_err(|e| e.to_string())?;
        let ask: Ask = hello::read_frame(&mut stream, frame_bytes_max).map_err(|e| e.to_string())?;
        if from.name.is_none() && !matches!(ask, Ask::Join(_)) {
            return Err("a stranger asked for something else than to join".into());
        }
        let (reply, answer) = sync_channel(1);
        self.tell(Event::Peer(PeerAsk { from, ask, reply }))?;
        let answer = answer.recv_timeout(ANSWER_TIMEOUT).map_err(|e| e.to_string())?;
        hello::write_frame(&mut stream, &answer).map_err(|e| e.to_string())
    }

    fn tell(&self, event: Event) -> Result<(), String> {
        self.events.send(event).map_err(|_| "the daemon is ending".to_string())
    }
}

/// One of the connections that are served at the same time.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

fn stranger(fingerprint: Fingerprint) -> Failure {
    let why = format!("this node does not trust the certificate {fingerprint}");
    let remedy = "Join the nodes again: stead invite there, stead join here";
    Failure::new("the connection was refused", why, remedy).kind(FailureKind::No)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(e) = thread::Builder::new().name(format!("stead-{name}")).stack_size(512 << 10).spawn(work) {
        warn!("no thread for {name}: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_addresses_that_lead_here_from_elsewhere() {
        let own: Vec<IpAddr> =
            ["127.0.0.1", "10.0.0.3", "fe80::1", "10.1.0.3", "10.2.0.3", "::1"].map(|ip| ip.parse().unwrap()).into();
        let told = |listens: &[&str], own: &[IpAddr]| {
            let listens: Vec<_> = listens.iter().map(|listen| listen.parse().unwrap()).collect();
            let moving = ["10.1.0.3", "10.9.0.9"].map(|ip| ip.parse().unwrap()).into();
            reached_of(&listens, own, &moving).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(&["0.0.0.0:7130"], &own), ["10.0.0.3:7130", "10.2.0.3:7130"]);
        assert_eq!(told(&["0.0.0.0:7130"], &own[2..4]), ["10.1.0.3:7130"], "it has taken the place of the host's own");
        assert_eq!(told(&["0.0.0.0:7130"], &own[..1]), ["127.0.0.1:7130"], "there is no other");
        assert_eq!(told(&["[::]:7130"], &own), ["[::1]:7130"]);
        assert_eq!(told(&["127.0.0.1:7130", "10.0.0.9:7131"], &own), ["10.0.0.9:7131"]);
        assert_eq!(told(&["127.77.0.1:7130"], &own), ["127.77.0.1:7130"]);
    }
}
