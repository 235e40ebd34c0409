//! The connection to a target: dialed again for as long as the set lives, one attempt at a time.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use stead_model::{NodeName, SetName};
use stead_replication::source::TargetId;
use stead_replication::{Decoder, Encoded};

use super::pump::Event;
use super::rate::{Bucket, Limit};
use crate::peer::{Backoff, Dialer, PeerReader, PeerStream, PeerWriter, Purpose};
use crate::seam::Failure;
use crate::threads;

/// Frames on their way to the kernel. The window of the source bounds their bytes.
const FRAMES_MAX: usize = 1 << 16;
/// Small frames are written together up to this size.
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 64 << 10;
/// A connection that lived this long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);

/// Numbers connections, over all links.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// A link to be kept up.
pub(super) struct Link {
    pub(super) target: TargetId,
    pub(super) node: NodeName,
    pub(super) route: Option<SocketAddr>,
    pub(super) set: SetName,
    pub(super) dialer: Dialer,
    pub(super) limit: Arc<Limit>,
    pub(super) events: Sender<Event>,
    pub(super) stopped: Receiver<Infallible>,
}

/// The pump's end of a connection that stands. Dropped: it ends when what was sent is written.
pub(super) struct Wire {
    /// Tells this connection from the ones before it.
    pub(super) generation: u64,
    pub(super) frames: Sender<Encoded>,
}

impl Link {
    /// Starts the thread; it ends when the session does.
    pub(super) fn spawn(self) -> Result<(), Failure> {
        threads::spawn(&format!("{}-link", self.set), move || self.keep_up())
    }

    fn keep_up(self) {
        let mut backoff = Backoff::default();
        let purpose = Purpose::Data { set: self.set.clone() };
        loop {
            let generation = GENERATION.fetch_add(1, Relaxed);
            let reason = match self.dialer.dial(&self.node, self.route, &purpose) {
                Ok(stream) => {
                    let begun = Instant::now();
                    let reason = self.session(generation, stream);
                    if begun.elapsed() > GOOD {
                        backoff.reset();
                    }
                    reason
                }
                Err(e) => e.to_string(),
            };
            let told = self.events.send(Event::Disconnected { target: self.target, generation, reason });
            if told.is_err() || self.rest(backoff.next_wait()) {
                return;
            }
        }
    }

    /// Waits; true: the session ended meanwhile.
    fn rest(&self, wait: Duration) -> bool {
        matches!(self.stopped.recv_timeout(wait), Err(RecvTimeoutError::Disconnected))
    }

    /// Serves one connection; returns why it ended.
    fn session(&self, generation: u64, stream: PeerStream) -> String {
        if let Err(e) = stream.die_with_process() {
            return e.to_string();
        }
        let (reader, writer) = stream.split();
        let (frames, frames_in) = crossbeam_channel::bounded(FRAMES_MAX);
        if self.events.send(Event::Connected { target: self.target, wire: Wire { generation, frames } }).is_err() {
            return String::new();
        }
        let (events, target) = (self.events.clone(), self.target);
        let reading = thread::spawn(move || receive(reader, target, generation, &events));
        let written = self.send(writer.clone(), &frames_in);
        writer.shutdown();
        let read = reading.join().unwrap_or_else(|_| "the receiving thread ended".into());
        match written {
            Ok(()) if read.is_empty() => "the connection was ended here".into(),
            Ok(()) => read,
            Err(e) => e.to_string(),
        }
    }

    /// Writes frames until the pump drops its end.
    fn send(&self, mut writer: PeerWriter, frames: &Receiver<Encoded>) -> std::io::Result<()> {
        let mut buffer = Vec::with_capacity(WRITE_BYTES);
        let mut bucket = Bucket::new(Instant::now());
        for first in frames {
            buffer.clear();
            put(&mut buffer, &first);
            while buffer.len() < WRITE_BYTES {
                match frames.try_recv() {
                    Ok(next) => put(&mut buffer, &next),
                    Err(_) => break,
                }
            }
            self.write(&mut writer, &mut bucket, &buffer)?;
        }
        Ok(())
    }

    /// Writes as fast as the limit of the moment lets it.
    fn write(&self, writer: &mut PeerWriter, bucket: &mut Bucket, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match bucket.take(bytes.len(), self.limit.get(), Instant::now()) {
                Ok(now) => {
                    writer.write_all(&bytes[..now])?;
                    bytes = &bytes[now..];
                }
                Err(wait) if self.rest(wait) => return Err(std::io::ErrorKind::Interrupted.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn put(buffer: &mut Vec<u8>, frame: &Encoded) {
    buffer.extend_from_slice(&frame.header);
    buffer.extend_from_slice(&frame.body);
}

/// Reads frames until the connection ends; returns why it did. Its end makes the pump drop the sending end.
fn receive(mut reader: PeerReader, target: TargetId, generation: u64, events: &Sender<Event>) -> String {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let reason = loop {
        match decoder.next() {
            Ok(Some(frame)) => match events.send(Event::Frame { target, generation, frame }) {
                Ok(()) => continue,
                Err(_) => break String::new(),
            },
            Ok(None) => {}
            Err(e) => break e.to_string(),
        }
        match reader.read(&mut buffer) {
            Ok(0) => break "the target ended the connection".into(),
            Ok(bytes) => decoder.push(&buffer[..bytes]),
            Err(e) => break e.to_string(),
        }
    };
    reader.shutdown();
    let _ = events.send(Event::Lost { target, generation });
    reason
}
