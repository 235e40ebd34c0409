//! A bad line: a TCP relay on a test host whose delay, rate and faults are set while connections run through it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::host::Host;

/// How often a thread looks whether the line has changed.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longest piece that is forwarded at once, in bytes.
const PIECE: usize = 16 << 10;
/// Pieces that may be under way in one direction of one connection.
const UNDER_WAY_MAX: usize = 256;
/// Receive buffer of the relay's sockets, in bytes: a large one would hide the rate from the sender.
const BUFFER: usize = 64 << 10;

/// What the line does with what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// It arrives.
    #[default]
    Through,
    /// Connections are reset, and new ones as soon as they are made.
    Cut,
    /// Connections stand and are accepted, but nothing arrives in either direction.
    HalfOpen,
    /// Nothing arrives of what the side that connects sends.
    LoseForward,
    /// Nothing arrives of what the side that is connected to sends.
    LoseBack,
}

/// The relay. Dropped, it closes everything.
pub struct Relay {
    address: SocketAddr,
    line: Arc<Line>,
    acceptor: Option<JoinHandle<()>>,
}

struct Line {
    settings: Mutex<Settings>,
    /// Until when each direction is busy with what was sent before.
    busy: [Mutex<Instant>; 2],
    carried: [AtomicU64; 2],
    accepted: AtomicU64,
    ended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Settings {
    flow: Flow,
    delay: Duration,
    bytes_per_second: Option<u64>,
    to: SocketAddr,
    /// Raised to reset every connection.
    generation: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Back,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

impl Relay {
    /// Listens on a port of that host, and forwards to an address that can be reached from it.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn start(on: &Host, port: u16, to: &str) -> Result<Relay> {
        let address: SocketAddr = format!("{}:{port}", on.address()).parse()?;
        let to: SocketAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        let settings =
            Settings { flow: Flow::Through, delay: Duration::ZERO, bytes_per_second: None, to, generation: 0 };
        let line = Arc::new(Line {
            settings: Mutex::new(settings),
            busy: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
            carried: [AtomicU64::new(0), AtomicU64::new(0)],
            accepted: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let shared = line.clone();
        let start = move || -> io::Result<JoinHandle<()>> {
            let listener = TcpListener::bind(address)?;
            rustix::net::sockopt::set_socket_recv_buffer_size(&listener, BUFFER)?;
            listener.set_nonblocking(true)?;
            Ok(thread::spawn(move || accept(&listener, &shared)))
        };
        let acceptor = on.inside(start)?.with_context(|| format!("no relay on {address}"))?;
        Ok(Relay { address, line, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what the line does; connections that were only held up go on where they were.
    pub fn flow(&self, flow: Flow) {
        let mut settings = self.line.settings();
        settings.flow = flow;
        settings.generation += u64::from(flow == Flow::Cut);
    }

    /// How long each byte is under way, one way.
    pub fn delay(&self, delay: Duration) {
        self.line.settings().delay = delay;
    }

    /// Bytes a second in each direction; none: as many as go.
    pub fn rate(&self, bytes_per_second: Option<u64>) {
        self.line.settings().bytes_per_second = bytes_per_second;
    }

    /// From now on another machine answers here: connections are reset, new ones go there.
    ///
    /// # Errors
    /// Where that is no address.
    pub fn lead_to(&self, to: &str) -> Result<()> {
        let mut settings = self.line.settings();
        settings.to = to.parse()?;
        settings.generation += 1;
        Ok(())
    }

    /// Bytes that arrived so far: of the side that connects, of the other side.
    pub fn carried(&self) -> (u64, u64) {
        let [forward, back] = &self.line.carried;
        (forward.load(Ordering::Relaxed), back.load(Ordering::Relaxed))
    }

    /// Connections that were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.line.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.line.ended.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Line {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the line holds this direction up. None: the connection is over.
    fn open(&self, direction: Direction, generation: u64) -> Option<Settings> {
        loop {
            let now = *self.settings();
            if now.generation != generation || self.ended.load(Ordering::Relaxed) {
                return None;
            }
            let held = match now.flow {
                Flow::Through | Flow::Cut => false,
                Flow::HalfOpen => true,
                Flow::LoseForward => direction == Direction::Forward,
                Flow::LoseBack => direction == Direction::Back,
            };
            if !held {
                return Some(now);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Takes the time that so many bytes need at the line's rate; connections share it.
    fn take_time(&self, direction: Direction, len: usize, rate: Option<u64>) {
        let Some(rate) = rate else { return };
        let until = {
            let mut busy = self.busy[direction as usize].lock().unwrap_or_else(PoisonError::into_inner);
            *busy = (*busy).max(Instant::now()) + Duration::from_secs_f64(len as f64 / rate as f64);
            *busy
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

fn accept(listener: &TcpListener, line: &Arc<Line>) {
    while !line.ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((near, _)) => {
                line.accepted.fetch_add(1, Ordering::Relaxed);
                let line = line.clone();
                thread::spawn(move || join(near, &line));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Joins an accepted connection to one that is made for it.
fn join(near: TcpStream, line: &Arc<Line>) {
    let generation = line.settings().generation;
    if line.settings().flow == Flow::Cut || line.open(Direction::Forward, generation).is_none() {
        return;
    }
    let to = line.settings().to;
    let Ok(far) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else { return };
    for (from, to, direction) in [(&near, &far, Direction::Forward), (&far, &near, Direction::Back)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let ready = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(LOOK_EVERY)));
        if ready.and_then(|()| to.set_nodelay(true)).is_err() {
            return;
        }
        let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
        let (reading, writing) = (line.clone(), line.clone());
        thread::spawn(move || read(from, &reading, direction, generation, &sender));
        thread::spawn(move || write(to, &writing, direction, generation, &receiver));
    }
}

fn read(mut from: TcpStream, line: &Line, direction: Direction, generation: u64, under_way: &SyncSender<Piece>) {
    let mut buffer = vec![0; PIECE];
    while line.open(direction, generation).is_some() {
        let len = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        let settings = *line.settings();
        line.take_time(direction, len, settings.bytes_per_second);
        let piece = Piece { due: Instant::now() + settings.delay, bytes: buffer[..len].to_vec() };
        if under_way.send(piece).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn write(mut to: TcpStream, line: &Line, direction: Direction, generation: u64, under_way: &Receiver<Piece>) {
    for piece in under_way {
        thread::sleep(piece.due.saturating_duration_since(Instant::now()));
        if line.open(direction, generation).is_none() || to.write_all(&piece.bytes).is_err() {
            break;
        }
        line.carried[direction as usize].fetch_add(piece.bytes.len() as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Both);
}
