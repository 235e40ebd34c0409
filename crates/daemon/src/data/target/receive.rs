//! The connection from the source: a thread that reads frames, and a writer for what goes back.

use std::io::{Read, Write};

use crossbeam_channel::{Receiver, Sender};
use stead_model::SetName;
use stead_replication::{Decoder, Encoded, Frame};

use super::session::Event;
use crate::peer::{PeerReader, PeerStream, PeerWriter};
use crate::seam::Failure;
use crate::threads::spawn;

/// Frames that were read and wait for the session: each has at most 4 MiB, most are small.
const FRAMES_MAX: usize = 16;
/// Answers that wait for the kernel: they are few and small.
const ANSWERS_MAX: usize = 4096;
const READ_BYTES: usize = 256 << 10;

/// A connection that stands. Dropped: it ends.
pub(super) struct Wire {
    pub(super) generation: u64,
    pub(super) frames: Receiver<Frame>,
    answers: Sender<Encoded>,
    writer: PeerWriter,
}

impl Wire {
    /// Starts the threads of a connection.
    pub(super) fn start(
        set: &SetName,
        generation: u64,
        stream: PeerStream,
        events: Sender<Event>,
    ) -> Result<Wire, Failure> {
        let (reader, writer) = stream.split();
        let (frames, frames_out) = crossbeam_channel::bounded(FRAMES_MAX);
        let (answers, answers_in) = crossbeam_channel::bounded::<Encoded>(ANSWERS_MAX);
        spawn(&format!("{set}-receive"), move || {
            let reason = receive(reader, &frames);
            drop(frames);
            let _ = events.send(Event::Lost { generation, reason });
        })?;
        let mut answer = writer.clone();
        spawn(&format!("{set}-answer"), move || {
            for frame in answers_in {
                if answer.write_all(&frame.to_vec()).is_err() {
                    break;
                }
            }
            answer.shutdown();
        })?;
        Ok(Wire { generation, frames: frames_out, answers, writer })
    }

    /// Sends an answer. A source that does not take its answers loses the connection.
    pub(super) fn answer(&self, frame: Encoded) {
        if self.answers.try_send(frame).is_err() {
            self.writer.shutdown();
        }
    }
}

/// Reads frames until the connection ends; returns why it did.
fn receive(mut reader: PeerReader, frames: &Sender<Frame>) -> String {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let reason = loop {
        match decoder.next() {
            Ok(Some(frame)) => match frames.send(frame) {
                Ok(()) => continue,
                Err(_) => break "it was replaced or ended here".into(),
            },
            Ok(None) => {}
            Err(e) => break e.to_string(),
        }
        match reader.read(&mut buffer) {
            Ok(0) => break "the source ended it".into(),
            Ok(bytes) => decoder.push(&buffer[..bytes]),
            Err(e) => break e.to_string(),
        }
    };
    reader.shutdown();
    reason
}
