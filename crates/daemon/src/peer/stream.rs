//! A TLS stream for blocking threads: one may read while another writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::Connection;
use socket2::{SockRef, TcpKeepalive};

use super::Fingerprint;

/// Plaintext that is encrypted at once; larger writes are cut.
const WRITE_BYTES_MAX: usize = 256 << 10;
const RAW_BYTES: usize = 64 << 10;

/// A dead peer is found after this many seconds, whether something is on its way to it or not.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// An encrypted stream to a pinned peer, after the handshake.
///
/// Reads and writes block; [`PeerStream::split`] gives two halves for two threads. Either half can end both
/// ([`PeerWriter::shutdown`]), which wakes a thread that blocks in the other.
pub struct PeerStream {
    reader: PeerReader,
    writer: PeerWriter,
}

/// The receiving half.
pub struct PeerReader {
    shared: Arc<Shared>,
    raw: Vec<u8>,
    raw_at: usize,
    deadline: Option<Instant>,
}

/// The sending half. Each write is encrypted and handed to the kernel before it returns, so there is nothing to flush:
/// write in large pieces.
#[derive(Clone)]
pub struct PeerWriter {
    shared: Arc<Shared>,
}

/// Whoever may end a stream, or ask when it was last heard, without keeping it alive.
#[derive(Clone)]
pub(crate) struct Tie(Weak<Shared>);

struct Shared {
    tcp: TcpStream,
    peer: Fingerprint,
    /// Of the protocol, as the greeting settled it; 0 before that.
    version: AtomicU16,
    /// When something came from the peer, in nanoseconds since 1970.
    heard: AtomicU64,
    tls: Mutex<Connection>,
    /// Taken before `tls` by whoever sends: what was encrypted first is sent first.
    out: Mutex<Vec<u8>>,
}

impl PeerStream {
    /// Shakes hands; fails where that takes longer than `timeout`.
    pub(super) fn handshake(tcp: TcpStream, mut tls: Connection, timeout: Duration) -> io::Result<PeerStream> {
        tune(&tcp)?;
        tls.set_buffer_limit(None);
        let deadline = Instant::now() + timeout;
        while tls.is_handshaking() || tls.wants_write() {
            tcp.set_write_timeout(Some(left(deadline)?))?;
            if tls.wants_write() {
                tls.write_tls(&mut &tcp)?;
            } else {
                tcp.set_read_timeout(Some(left(deadline)?))?;
                shake(&mut tls, &tcp)?;
            }
        }
        tcp.set_read_timeout(None)?;
        tcp.set_write_timeout(None)?;
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.map(Fingerprint::of).ok_or(io::ErrorKind::PermissionDenied)?;
        let (version, heard) = (AtomicU16::new(0), AtomicU64::new(wall_nanoseconds()));
        let shared = Arc::new(Shared { tcp, peer, version, heard, tls: Mutex::new(tls), out: Mutex::new(Vec::new()) });
        let reader = PeerReader { shared: shared.clone(), raw: Vec::new(), raw_at: 0, deadline: None };
        Ok(PeerStream { reader, writer: PeerWriter { shared } })
    }

    /// Two halves for two threads.
    pub fn split(self) -> (PeerReader, PeerWriter) {
        (self.reader, self.writer)
    }

    /// The peer's certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.reader.shared.peer
    }

    /// The peer's address.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.reader.shared.tcp.peer_addr()
    }

    /// The version of the protocol that both ends speak.
    pub fn version(&self) -> u16 {
        self.reader.shared.version.load(Ordering::Relaxed)
    }

    pub(super) fn set_version(&self, version: u16) {
        self.reader.shared.version.store(version, Ordering::Relaxed);
    }

    /// Everything that is read from now on is there before the deadline, or the read fails with `TimedOut`: also where
    /// the peer sends a byte from time to time.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.reader.deadline = deadline;
        let timeout = deadline.map(left).transpose()?;
        self.set_timeout(timeout)
    }

    /// What was not sent yet goes with this process, where it is killed: the one after it sends all of that again.
    pub(crate) fn die_with_process(&self) -> io::Result<()> {
        SockRef::from(&self.reader.shared.tcp).set_linger(Some(Duration::ZERO))
    }

    /// A way to end it from elsewhere.
    pub(crate) fn tie(&self) -> Tie {
        Tie(Arc::downgrade(&self.reader.shared))
    }

    /// As [`PeerReader::set_timeout`], for both directions.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.set_timeout(timeout)?;
        self.writer.set_timeout(timeout)
    }
}

impl Read for PeerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Write for PeerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PeerReader {
    /// How long a read may take at most; then it fails with `WouldBlock` or `TimedOut`, and may be tried again.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.tcp.set_read_timeout(timeout)
    }

    /// Ends both directions at once; whoever blocks in a half returns.
    pub fn shutdown(&self) {
        self.shared.shutdown();
    }

    fn decrypt(&mut self) -> io::Result<()> {
        let answers = {
            let mut tls = self.shared.tls();
            let mut raw = &self.raw[self.raw_at..];
            let before = raw.len();
            tls.read_tls(&mut raw)?;
            self.raw_at += before - raw.len();
            tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            tls.wants_write()
        };
        if answers { self.shared.send() } else { Ok(()) }
    }
}

impl Read for PeerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.shared.tls().reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.raw_at == self.raw.len() {
                self.raw.resize(RAW_BYTES, 0);
                self.raw_at = RAW_BYTES;
                if let Some(deadline) = self.deadline {
                    self.shared.tcp.set_read_timeout(Some(left(deadline)?))?;
                }
                let got = (&self.shared.tcp).read(&mut self.raw)?;
                self.raw.truncate(got);
                self.raw_at = 0;
                if got == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.shared.heard.store(wall_nanoseconds(), Ordering::Relaxed);
            }
            self.decrypt()?;
        }
    }
}

impl PeerWriter {
    /// How long a write may take at most before it fails; what was written by then is unknown.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.tcp.set_write_timeout(timeout)
    }

    /// Ends both directions at once; whoever blocks in a half returns.
    pub fn shutdown(&self) {
        self.shared.shutdown();
    }
}

impl Write for PeerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let mut out = self.shared.out();
        let mut tls = self.shared.tls();
        tls.writer().write_all(bytes)?;
        Shared::drain(&mut tls, &mut out)?;
        drop(tls);
        self.shared.flush(&mut out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tie {
    /// Ends the stream, if it is still there.
    pub(super) fn shutdown(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.shutdown();
        }
    }

    /// When something came over it, in nanoseconds since 1970; none: it is gone.
    pub(super) fn heard(&self) -> Option<u64> {
        self.0.upgrade().map(|shared| shared.heard.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn tls(&self) -> MutexGuard<'_, Connection> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self) -> MutexGuard<'_, Vec<u8>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what TLS itself has to say.
    fn send(&self) -> io::Result<()> {
        let mut out = self.out();
        Shared::drain(&mut self.tls(), &mut out)?;
        self.flush(&mut out)
    }

    fn drain(tls: &mut Connection, out: &mut Vec<u8>) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(out)?;
        }
        Ok(())
    }

    fn flush(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let sent = (&self.tcp).write_all(out);
        out.clear();
        if sent.is_err() {
            self.shutdown();
        }
        sent
    }

    fn shutdown(&self) {
        end_in_order(&self.tcp);
    }
}

/// Ends both directions; what was sent before goes out still.
fn end_in_order(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_linger(None);
    let _ = tcp.shutdown(Shutdown::Both);
}

/// One step of a handshake, after which the time is looked at again.
fn shake(tls: &mut Connection, tcp: &TcpStream) -> io::Result<()> {
    if tls.read_tls(&mut &*tcp)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let processed = tls.process_new_packets();
    if processed.is_err() {
        let _ = tls.write_tls(&mut &*tcp);
    }
    processed.map(drop).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// The time until then; an error when it is over.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

pub(super) fn wall_nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let (idle, between) = (Duration::from_secs(5), Duration::from_secs(3));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(between).with_retries(3))?;
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_nobody_ends_takes_what_is_unsent_with_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let end = |in_order: bool| {
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (other, _) = listener.accept().unwrap();
            SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
            if in_order {
                end_in_order(&tcp);
            }
            drop(tcp);
            (&other).read(&mut [0]).map_err(|e| e.kind())
        };
        assert_eq!(end(true), Ok(0));
        assert_eq!(end(false), Err(io::ErrorKind::ConnectionReset));
    }

    /// Silence of a peer that is gone ends a stream within 15 s, whether something is on its way (user time-out) or not
    /// (keep-alive).
    #[test]
    fn a_dead_line_is_found_in_bounded_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(&tcp).unwrap();
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        let silence = socket.tcp_keepalive_time().unwrap();
        let asked = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert!(silence + asked <= DEAD_AFTER, "{silence:?} + {asked:?}");
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEAD_AFTER));
    }
}
