//! The thread that writes and reads what of the queue is on disk. A disk that hangs stops nothing but itself.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use stead_disk::queue::QueueFiles;
use stead_model::{Sequence, SetName};

use super::pump::Event;
use crate::seam::Failure;
use crate::threads;

/// Requests on their way to the thread.
const REQUESTS_MAX: usize = 64;

/// The pump's end. What the thread does not take yet waits here: the mind asks for so many bodies at most, and forgets
/// each only once.
pub(super) struct QueueDisk {
    requests: Sender<Request>,
    waiting: VecDeque<Request>,
}

enum Request {
    Spill { first: Sequence, body: Arc<Vec<u8>> },
    Fetch { first: Sequence },
    Forget { firsts: Vec<Sequence> },
}

impl QueueDisk {
    /// Starts the thread; it ends when the pump does. What an earlier daemon left goes.
    pub(super) fn spawn(set: &SetName, state_dir: &Path, events: Sender<Event>) -> Result<QueueDisk, Failure> {
        let (requests, requests_in) = crossbeam_channel::bounded(REQUESTS_MAX);
        let dir = state_dir.join("queue");
        threads::spawn(&format!("{set}-queue"), move || Hand { files: None, dir }.run(&requests_in, &events))?;
        Ok(QueueDisk { requests, waiting: VecDeque::new() })
    }

    pub(super) fn spill(&mut self, first: Sequence, body: Arc<Vec<u8>>) {
        self.ask(Request::Spill { first, body });
    }

    pub(super) fn fetch(&mut self, first: Sequence) {
        self.ask(Request::Fetch { first });
    }

    pub(super) fn forget(&mut self, firsts: Vec<Sequence>) {
        self.ask(Request::Forget { firsts });
    }

    /// Hands over what waits, as far as it is taken.
    pub(super) fn flush(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            if let Err(refused) = self.requests.try_send(request) {
                return self.waiting.push_front(refused.into_inner());
            }
        }
    }

    fn ask(&mut self, request: Request) {
        self.waiting.push_back(request);
        self.flush();
    }
}

struct Hand {
    dir: PathBuf,
    files: Option<QueueFiles>,
}

impl Hand {
    fn run(mut self, requests: &Receiver<Request>, events: &Sender<Event>) {
        if let Err(error) = self.files() {
            tracing::warn!(%error, dir = %self.dir.display(), "the queue cannot be on disk");
        }
        for request in requests {
            let told = match request {
                Request::Spill { first, body } => {
                    let result = self.files().and_then(|files| files.write(first, &body)).map_err(why);
                    events.send(Event::Spilled { first, result })
                }
                Request::Fetch { first } => {
                    let result = self.files().and_then(|files| files.read(first)).map_err(why);
                    events.send(Event::Fetched { first, result })
                }
                Request::Forget { firsts } => {
                    self.forget(&firsts);
                    Ok(())
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn forget(&mut self, firsts: &[Sequence]) {
        for first in firsts {
            let forgotten = self.files.as_mut().map_or(Ok(()), |files| files.forget(*first));
            if let Err(error) = forgotten {
                tracing::warn!(%error, dir = %self.dir.display(), "a file of the queue cannot be removed");
            }
        }
    }

    fn files(&mut self) -> io::Result<&mut QueueFiles> {
        match &mut self.files {
            Some(files) => Ok(files),
            none => Ok(none.insert(QueueFiles::create(&self.dir)?)),
        }
    }
}

fn why(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("the queue's disk is full: {error}"),
        _ => format!("the queue's disk fails: {error}"),
    }
}
