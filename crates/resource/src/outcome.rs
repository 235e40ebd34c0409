//! What came of a call.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use stead_model::outcome::{Done, Failure, State};

use crate::Stop;

/// Something that is started on the node that serves, and stopped everywhere else.
pub trait Resource {
    /// Starts it, unless it is called off: that is looked at right before anything is changed. Done already is done.
    fn start_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>>;

    /// Stops it, unless it is called off. Done already is done.
    fn stop_until(&self, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>>;

    /// Looks what it is. Changes nothing.
    fn status(&self, limit: Duration) -> Outcome<State>;

    /// Starts it. Done already is done.
    fn start(&self, limit: Duration) -> Outcome<Result<Done, Failure>> {
        self.start_until(limit, &Stop::never())
    }

    /// Stops it. Done already is done.
    fn stop(&self, limit: Duration) -> Outcome<Result<Done, Failure>> {
        self.stop_until(limit, &Stop::never())
    }
}

/// What a call came to, how long it took, and what was written meanwhile.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What it came to.
    pub value: T,
    /// From the call to the return.
    pub took: Duration,
    /// What programs wrote, as far as it was kept.
    pub output: Output,
}

impl<T> Outcome<T> {
    /// Measures a call that runs no program.
    pub(crate) fn of(work: impl FnOnce() -> T) -> Outcome<T> {
        Outcome::with_output(|_| work())
    }

    /// Measures a call that adds what programs wrote.
    pub(crate) fn with_output(work: impl FnOnce(&mut Output) -> T) -> Outcome<T> {
        let began = Instant::now();
        let mut output = Output::default();
        let value = work(&mut output);
        Outcome { value, took: began.elapsed(), output }
    }
}

/// Most bytes kept of the beginning of an output, and as many of its end.
const HALF_BYTES_MAX: usize = 32 << 10;

/// What programs wrote to standard output and standard error, in the order in which it came: the beginning and the end,
/// at most 64 KiB, and how much was left out between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    omitted: u64,
}

impl Output {
    /// Bytes that were written but not kept.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Was nothing written?
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The kept text; a line of its own says how many bytes are left out.
    pub fn text(&self) -> String {
        let (first, second) = self.tail.as_slices();
        let mut bytes = self.head.clone();
        if self.omitted > 0 {
            bytes.extend_from_slice(format!("\n[{} bytes left out]\n", self.omitted).as_bytes());
        }
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HALF_BYTES_MAX - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(HALF_BYTES_MAX);
        self.tail.drain(..excess);
        self.omitted += excess as u64;
    }

    /// Adds what another program wrote.
    pub(crate) fn append(&mut self, other: Output) {
        self.add(&other.head);
        self.omitted += other.omitted;
        let (first, second) = other.tail.as_slices();
        self.add(first);
        self.add(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_its_two_ends_and_counts_the_middle() {
        let mut output = Output::default();
        output.add(b"first ");
        for _ in 0..100 {
            output.add(&[b'x'; 4096]);
        }
        output.add(b" last");
        let kept = 2 * HALF_BYTES_MAX as u64;
        assert_eq!(output.omitted(), 6 + 409_600 + 5 - kept);
        let text = output.text();
        assert!(text.starts_with("first x") && text.ends_with("x last"), "{text}");
        assert!(text.contains("bytes left out"));
    }

    #[test]
    fn a_short_output_is_kept_whole() {
        let mut output = Output::default();
        output.add(b"one\n");
        output.append(output.clone());
        assert_eq!((output.text().as_str(), output.omitted()), ("one\none\n", 0));
    }
}
