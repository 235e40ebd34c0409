//! Going on where the source before this one was: what it knew is written down as it changes, and taken up again.

use std::collections::BTreeSet;

use super::connection::{TargetMask, bit};
use super::memory::{Entry, image};
use super::{RootConfig, Source, SourceOutput, TargetId};
use crate::frame::Welcome;

/// Parts of one incarnation.
const PARTS_MAX: u64 = 1 << 20;
/// Bytes after which the memory is written anew, if they are also twice as many as the last time.
const ANEW_BYTES: usize = 16 << 20;

/// The memory as far as it was written.
#[derive(Debug)]
pub(super) struct Memory {
    /// The number of its scans and parts begin after this one.
    first: u64,
    part: u64,
    /// Bytes of the image that the part began with, and what was appended to it.
    image: usize,
    appended: usize,
    /// Since which number of capture the part is enough.
    enough_from: u64,
    /// Parts before it may still be needed.
    older: bool,
    /// Scans that ended and are not known to be durable everywhere.
    unsettled: Vec<(u64, u64, TargetMask)>,
    /// Nodes of whose scan by an earlier source that is not known, until one of this source is durable there.
    carried: BTreeSet<String>,
}

impl Memory {
    pub(super) fn new(incarnation: u64, carried: BTreeSet<String>) -> Memory {
        let part = incarnation.wrapping_mul(PARTS_MAX);
        Memory {
            first: part,
            part,
            image: 0,
            appended: 0,
            enough_from: 0,
            older: false,
            unsettled: Vec::new(),
            carried,
        }
    }
}

/// Tells roots with other rules from these.
pub(super) fn rules_check(roots: &[RootConfig]) -> u64 {
    let add = |sum: u64, root: &RootConfig| {
        let sum = (sum ^ u64::from(root.index)).wrapping_mul(0x0100_0000_01b3);
        (sum ^ root.rules.check()).wrapping_mul(0x0100_0000_01b3)
    };
    roots.iter().fold(0xcbf2_9ce4_8422_2325, add)
}

impl Source {
    /// Begins a new part with all that is known.
    pub(super) fn remember_all(&mut self) {
        if self.config.capture == 0 {
            return;
        }
        self.flush_memory();
        let bytes = image(self.captured_done, self.files.known());
        self.memory.part += 1;
        (self.memory.image, self.memory.appended) = (bytes.len(), 0);
        (self.memory.enough_from, self.memory.older) = (self.captured_done, true);
        self.outputs.push_back(SourceOutput::Remember { part: self.memory.part, bytes });
        self.remember_rules();
        if !self.memory.carried.is_empty() {
            let nodes = self.memory.carried.iter().cloned().collect();
            self.files.log.push(&Entry::Mirror(self.memory.first, nodes));
        }
        self.flush_memory();
    }

    pub(super) fn remember_rules(&mut self) {
        self.files.log.push(&Entry::Rules(rules_check(self.files.roots())));
    }

    /// Writes down what changed; before capture is told to let go of what changed it.
    pub(super) fn flush_memory(&mut self) {
        let bytes = self.files.log.take();
        if bytes.is_empty() || self.config.capture == 0 {
            return;
        }
        self.memory.appended += bytes.len();
        self.outputs.push_back(SourceOutput::Remember { part: self.memory.part, bytes });
        let much = self.memory.appended > ANEW_BYTES.max(2 * self.memory.image);
        if much && self.scan.is_none() && self.memory.unsettled.is_empty() && !self.stream.is_amid() {
            self.remember_all();
        }
    }

    /// Parts that are not needed any more are told.
    pub(super) fn forget_parts(&mut self) {
        if self.memory.older && self.confirmed >= self.memory.enough_from && self.memory.unsettled.is_empty() {
            self.memory.older = false;
            self.outputs.push_back(SourceOutput::ForgetBefore { part: self.memory.part });
        }
    }

    /// What the targets of a scan have is not known until its end is durable there.
    pub(super) fn remember_scan(&mut self, generation: u64, targets: TargetMask, whole: bool) {
        let of_scan = self.connections.iter().filter(|(id, _)| targets & bit(**id) != 0);
        let nodes = of_scan.filter_map(|(_, connection)| connection.node.as_ref().map(ToString::to_string)).collect();
        let generation = self.memory.first.wrapping_add(generation);
        self.files.log.push(&if whole { Entry::Mirror(generation, nodes) } else { Entry::Scan(generation, nodes) });
    }

    pub(super) fn remember_end(&mut self, generation: u64, targets: TargetMask) {
        self.memory.unsettled.push((self.memory.first.wrapping_add(generation), self.queue.last(), targets));
    }

    /// Writes down which scans are durable at all their targets.
    pub(super) fn settle_scans(&mut self) {
        let connections = &self.connections;
        let durable = |(_, at, targets): &(u64, u64, TargetMask)| {
            let mut of_it = connections.iter().filter(|(id, _)| targets & bit(**id) != 0);
            of_it.all(|(_, connection)| connection.following && connection.journaled >= *at)
        };
        let (settled, open) = std::mem::take(&mut self.memory.unsettled).into_iter().partition(durable);
        self.memory.unsettled = open;
        let settled: Vec<(u64, u64, TargetMask)> = settled;
        for (generation, _, targets) in settled {
            self.files.log.push(&Entry::Settled(generation));
            let of_scan = self.connections.iter().filter(|(id, _)| targets & bit(**id) != 0);
            for node in of_scan.filter_map(|(_, connection)| connection.node.as_ref()) {
                self.memory.carried.remove(node.as_str());
            }
        }
    }

    /// Has the target all that the source before this one confirmed, so that the stream can go on?
    pub(super) fn goes_on_warm(&self, target: TargetId, welcome: &Welcome) -> bool {
        let Some(recalled) = &self.config.recalled else { return false };
        let same = welcome.capture == self.config.capture && self.config.capture != 0;
        self.connections.get(&target).is_some_and(|connection| connection.expected)
            && same
            && welcome.captured >= recalled.captured()
            && !recalled.is_unsettled(&welcome.node)
    }

    /// Is what the targets may have seen of the source before this one still to come?
    pub(super) fn is_repeating(&self) -> bool {
        self.config.recalled.is_some() && self.captured_done < self.config.captured_now
    }

    pub(super) fn log_at(&mut self, captured: u64) {
        self.files.log.set_at(captured);
    }
}
