//! The operator's door: a Unix socket in the state directory, for root alone.

use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use stead_api::{Answer, Envelope, Failure, read_line, write_line};
use stead_model::status::Status;
use tracing::{debug, warn};

use crate::event::Event;

/// Requests that are being answered at the same time.
const CLIENTS_MAX: usize = 128;
/// Events that wait for a slow client; progress beyond that is dropped, and so is a client that cannot take its end.
const EVENTS_MAX: usize = 64;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The way back to a client. Events to a client that is gone go nowhere.
#[derive(Clone)]
pub(crate) struct Responder {
    events: SyncSender<stead_api::Event>,
    gone: Arc<AtomicBool>,
}

impl Responder {
    pub(crate) fn notice(&self, text: impl Into<String>) {
        self.send(stead_api::Event::Notice(text.into()));
    }
    pub(crate) fn progress(&self, status: Status) {
        self.send(stead_api::Event::Progress(status));
    }
    pub(crate) fn done(&self, answer: Answer) {
        self.send(stead_api::Event::Done(answer));
    }
    pub(crate) fn failed(&self, failure: Failure) {
        self.send(stead_api::Event::Failed(failure));
    }
    pub(crate) fn end(&self, result: Result<Answer, Failure>) {
        match result {
            Ok(answer) => self.done(answer),
            Err(failure) => self.failed(failure),
        }
    }
    /// Did the client go away?
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, event: stead_api::Event) {
        let last = matches!(event, stead_api::Event::Done(_) | stead_api::Event::Failed(_));
        match self.events.try_send(event) {
            Err(TrySendError::Full(_)) if last => self.gone.store(true, Ordering::Relaxed),
            Err(TrySendError::Disconnected(_)) => self.gone.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// The clients that are being answered.
pub(crate) struct Clients(Arc<AtomicUsize>);

impl Clients {
    /// Waits until everyone has the last event that was sent to them, but not for long.
    pub(crate) fn finish(&self) {
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while self.0.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Listens on the socket; what an older daemon left there goes first (the state directory is locked).
pub(crate) fn serve(path: &Path, events: SyncSender<Event>) -> Result<Clients, Failure> {
    let failed = |e: io::Error| {
        let remedy = "Paths of sockets may have 107 characters; choose a shorter state directory with --state";
        Failure::new(format!("cannot listen on {}", path.display()), e.to_string(), remedy)
    };
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let clients = Arc::new(AtomicUsize::new(0));
    let answered = Clients(clients.clone());
    let accept = move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => admit(stream, &clients, &events),
                Err(e) => {
                    warn!("a command could not be accepted: {e}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    thread::Builder::new().name("stead-api".into()).spawn(accept).map(|_| answered).map_err(failed)
}

fn admit(stream: UnixStream, clients: &Arc<AtomicUsize>, events: &SyncSender<Event>) {
    if clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
        clients.fetch_sub(1, Ordering::SeqCst);
        let failure = Failure::new("the request was refused", "too many commands are running", "Try again later");
        let _ = write_line(&mut &stream, &stead_api::Event::Failed(failure));
        return;
    }
    let (place, events) = (Place(clients.clone()), events.clone());
    let work = move || {
        let _place = place;
        if let Err(e) = answer(stream, &events) {
            debug!("a command went away: {e}");
        }
    };
    let _ = thread::Builder::new().name("stead-client".into()).stack_size(256 << 10).spawn(work);
}

/// One of the clients that are answered at the same time.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(stream: UnixStream, events: &SyncSender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let Some(envelope) = read_line::<Envelope>(&mut BufReader::new(&stream))? else { return Ok(()) };
    let request = match envelope.open() {
        Ok(request) => request,
        Err(failure) => return write_line(&mut &stream, &stead_api::Event::Failed(failure)),
    };
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    let gone = Arc::new(AtomicBool::new(false));
    let responder = Responder { events: sender, gone: gone.clone() };
    if events.send(Event::Api(request, responder)).is_err() {
        return Ok(());
    }
    let ended = forward(&stream, &receiver, &gone);
    gone.store(true, Ordering::Relaxed);
    ended
}

fn forward(stream: &UnixStream, events: &Receiver<stead_api::Event>, gone: &AtomicBool) -> io::Result<()> {
    loop {
        match events.recv_timeout(Duration::from_secs(1)) {
            Ok(event) => {
                write_line(&mut &*stream, &event)?;
                if matches!(event, stead_api::Event::Done(_) | stead_api::Event::Failed(_)) {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) if gone.load(Ordering::Relaxed) || hung_up(stream) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// A client says nothing after its request, so an end of stream is all there is to read.
fn hung_up(stream: &UnixStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut byte = [0u8; 1];
    matches!(recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, 0)))
}
