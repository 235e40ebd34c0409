//! Asking the daemon, and telling the operator what it says meanwhile.

use std::path::Path;

use stead_api::{Answer, Client, Event, Failure, Request};
use stead_model::status::Status;

/// Asks and waits for the answer. Notices go to standard error, progress to `on_progress`.
pub fn ask(state: &Path, request: &Request, mut on_progress: impl FnMut(Status)) -> Result<Answer, Failure> {
    let mut client = Client::send(state, request)?;
    loop {
        match client.next_event()? {
            Event::Notice(text) => eprintln!("note: {text}"),
            Event::Progress(status) => on_progress(status),
            Event::Done(answer) => return Ok(answer),
            Event::Failed(failure) => return Err(failure),
        }
    }
}

/// As [`ask`], where there is nothing to tell meanwhile.
pub fn ask_quietly(state: &Path, request: &Request) -> Result<Answer, Failure> {
    ask(state, request, |_| {})
}

/// What is said where the daemon answers something else than what was asked for.
pub fn misunderstood(answer: &Answer) -> Failure {
    let why = format!("it answered something else: {answer:?}");
    Failure::new("the daemon was not understood", why, "Use the stead command of the same release as the daemon")
}
