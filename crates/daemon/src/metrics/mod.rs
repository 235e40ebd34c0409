//! `/metrics` for Prometheus: one thread that answers one reader at a time, from what the loop says at that moment.

mod families;
mod text;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use stead_model::alert::Wrong;
use stead_model::status::Status;
use tracing::{info, warn};

use crate::event::Event;

/// How long one reader may take.
const READER_MAX: Duration = Duration::from_secs(5);
/// How long the loop may take to answer.
const LOOP_MAX: Duration = Duration::from_secs(3);
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How soon an address that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// The text format that every version of Prometheus reads.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is measured, as it is at one moment.
pub(crate) struct Snapshot {
    /// Of this node alone.
    pub(crate) status: Status,
    /// What is wrong.
    pub(crate) alerts: Vec<Wrong>,
    /// Receivers of alerts: name, events that wait, events that were held back.
    pub(crate) receivers: Vec<(String, u64, u64)>,
}

/// Listens where the plan says.
pub(crate) struct Metrics {
    events: SyncSender<Event>,
    began: Instant,
    server: Option<Server>,
    again_at: Option<Instant>,
}

struct Server {
    listen: SocketAddr,
    /// Where it really listens.
    at: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl Metrics {
    /// Nowhere yet.
    pub(crate) fn new(events: SyncSender<Event>) -> Metrics {
        Metrics { events, began: Instant::now(), server: None, again_at: None }
    }

    /// Listens there from now on, and nowhere else.
    pub(crate) fn listen(&mut self, wanted: Option<SocketAddr>) {
        if self.server.as_ref().map(|server| server.listen) == wanted {
            return;
        }
        self.server = None;
        let Some(listen) = wanted else { return };
        if self.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.again_at = None;
        match Server::start(listen, self.events.clone(), self.began) {
            Ok(server) => self.server = Some(server),
            Err(e) => {
                warn!("metrics cannot be read at {listen}, it is tried again: {e}");
                self.again_at = Some(Instant::now() + AGAIN);
            }
        }
    }
}

impl Server {
    fn start(listen: SocketAddr, events: SyncSender<Event>, began: Instant) -> io::Result<Server> {
        let listener = TcpListener::bind(listen)?;
        let (at, ends) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let is_over = ends.clone();
        let serve = move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.and_then(|stream| answer(stream, &events, began));
            }
        };
        thread::Builder::new().name("stead-metrics".into()).spawn(serve)?;
        info!("metrics are read at http://{at}/metrics");
        Ok(Server { listen, at, ends })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // The thread waits for the next reader: here is one. It may be answering another, for which it needs the loop,
        // so nobody waits for its end.
        let _ = TcpStream::connect_timeout(&self.at, Duration::from_millis(200));
    }
}

fn answer(mut stream: TcpStream, events: &SyncSender<Event>, began: Instant) -> io::Result<()> {
    let moment = Instant::now() + READER_MAX;
    stream.set_write_timeout(Some(READER_MAX))?;
    let request = request(&mut stream, moment)?;
    let mut words = request.split(' ');
    let (code, body) = match (words.next(), words.next().map(|path| path.split('?').next().unwrap_or(path))) {
        (Some("GET"), Some("/metrics")) => match read(events) {
            Some(snapshot) => ("200 OK", families::all(&snapshot, began.elapsed())),
            None => ("503 Service Unavailable", "the daemon does not answer\n".into()),
        },
        (Some("GET"), _) => ("404 Not Found", "there is /metrics\n".into()),
        _ => ("405 Method Not Allowed", "only GET\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The first line of a request whose head has come whole.
fn request(stream: &mut TcpStream, moment: Instant) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < REQUEST_BYTES_MAX {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes)? {
            0 => break,
            len => head.extend_from_slice(&bytes[..len]),
        }
    }
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
}

fn read(events: &SyncSender<Event>) -> Option<Snapshot> {
    let (reply, snapshot) = sync_channel(1);
    events.try_send(Event::Scrape(reply)).ok()?;
    snapshot.recv_timeout(LOOP_MAX).ok()
}
