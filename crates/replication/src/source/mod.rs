//! The source half: makes one ordered stream of captured changes and scans, and sends it to each target.

mod api;

pub use api::*;

use std::collections::VecDeque;
use std::time::Instant;

/// The source half of a set.
#[derive(Debug)]
pub struct Source {
    outputs: VecDeque<SourceOutput>,
}

impl Source {
    /// A source with no targets. The stream begins at sequence 1.
    pub fn new(_config: SourceConfig, _now: Instant) -> Source {
        Source { outputs: VecDeque::new() }
    }

    /// Takes an input.
    pub fn handle(&mut self, _input: SourceInput, _now: Instant) {}

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SourceOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Source::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, SourceTimer)> {
        None
    }

    /// May captured records be handed in? Not while the queue is full.
    pub fn wants_captured(&self) -> bool {
        true
    }

    /// A connection as it is; `None` for an unknown target.
    pub fn view(&self, _target: TargetId) -> Option<ConnectionView> {
        None
    }
}
