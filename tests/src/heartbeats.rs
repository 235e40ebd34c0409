//! Heartbeats as whoever listens on a line sees them: recorded, and sent again or changed by somebody else.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

use crate::host::Host;

const LIMIT: Duration = Duration::from_secs(20);
const MAGIC: &[u8] = b"STHB";
const UDP: u8 = 17;

/// One that was seen.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Where it went.
    pub to: SocketAddr,
    /// As in `docs/formats/heartbeat.md`.
    pub bytes: Vec<u8>,
}

impl Recorded {
    /// The same with another byte there.
    pub fn changed(&self, at: usize) -> Recorded {
        let mut bytes = self.bytes.clone();
        bytes[at] ^= 0x80;
        Recorded { to: self.to, bytes }
    }
}

/// Records that many that come to a host.
///
/// # Errors
/// Where they do not come in time.
pub fn record(host: &Host, count: usize) -> Result<Vec<Recorded>> {
    let line = host.inside(|| {
        let kind = (AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC);
        socket_with(kind.0, kind.1, kind.2, Some(eth::IP))
    })??;
    set_socket_timeout(&line, Timeout::Recv, Some(Duration::from_secs(1)))?;
    let (mut recorded, deadline) = (Vec::new(), Instant::now() + LIMIT);
    while recorded.len() < count {
        ensure!(Instant::now() < deadline, "{} of {count} heartbeats came to {}", recorded.len(), host.name());
        recorded.extend(next(&line));
    }
    Ok(recorded)
}

fn next(line: &OwnedFd) -> Option<Recorded> {
    let mut packet = [0; 2048];
    let (len, _) = recv(line, &mut packet, RecvFlags::empty()).ok()?;
    let packet = &packet[..len];
    let ip_header = usize::from(packet.first()? & 15) * 4;
    let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
    let (udp, payload) = packet.get(ip_header..)?.split_at_checked(8)?;
    let is_heartbeat = packet[9] == UDP && payload.starts_with(MAGIC);
    let port = u16::from_be_bytes([udp[2], udp[3]]);
    is_heartbeat.then(|| Recorded { to: SocketAddr::new(to.into(), port), bytes: payload.to_vec() })
}

/// Sends datagrams from a host, once.
///
/// # Errors
/// Where one cannot be sent.
pub fn send(host: &Host, all: &[Recorded]) -> Result<()> {
    let socket = socket(host)?;
    all.iter().try_for_each(|one| socket.send_to(&one.bytes, one.to).map(drop)).context("a datagram is not sent")
}

/// Somebody who sends the same over and over, about 200 each second, until it is dropped.
pub struct Replay {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Replay {
    /// Begins on that host.
    ///
    /// # Errors
    /// Where the host's network cannot be entered.
    pub fn start(host: &Host, all: Vec<Recorded>) -> Result<Replay> {
        let (socket, ends) = (socket(host)?, Arc::<AtomicBool>::default());
        let ended = ends.clone();
        let work = move || {
            for one in all.iter().cycle().take_while(|_| !ended.load(Ordering::SeqCst)) {
                let _ = socket.send_to(&one.bytes, one.to);
                thread::sleep(Duration::from_millis(5));
            }
        };
        Ok(Replay { ends, thread: Some(thread::spawn(work)) })
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn socket(host: &Host) -> Result<UdpSocket> {
    host.inside(|| UdpSocket::bind((host.address(), 0)))?.context("no socket for datagrams")
}
