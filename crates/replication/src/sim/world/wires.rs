//! Frames on their way, connections that come and go.

use super::{Event, Wire, World};
use crate::frame::{Decoder, Encoded, Frame};
use crate::source::{SourceInput, TargetId};
use crate::target::TargetInput;

impl World {
    pub(super) fn send_to_target(&mut self, target: TargetId, frame: Encoded) {
        let delay = self.rng.below(200);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        let delay = delay * node.slow;
        node.to_target.bytes.push_back(frame.to_vec());
        node.to_target.last = node.to_target.last.max(now + delay) + 1;
        let (at, connection) = (node.to_target.last, node.connection);
        self.after(at - now, Event::ToTarget(target, connection));
    }

    pub(super) fn send_to_source(&mut self, target: TargetId, frame: Encoded) {
        let delay = self.rng.below(200);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.to_source.bytes.push_back(frame.to_vec());
        node.to_source.last = node.to_source.last.max(now + delay) + 1;
        let (at, connection) = (node.to_source.last, node.connection);
        self.after(at - now, Event::ToSource(target, connection));
    }

    pub(super) fn deliver_to_target(&mut self, target: TargetId, connection: u64) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connection == connection) else { return };
        if !node.connected {
            return;
        }
        if !node.target.wants_frames() {
            return self.after(100, Event::ToTarget(target, connection));
        }
        let bytes = node.to_target.bytes.pop_front().expect("one event for each piece");
        node.decoder.push(&bytes);
        while let Some(frame) = node.decoder.next().expect("the source encodes frames") {
            let mut wanted = None;
            if let Frame::Changes(changes) = &frame {
                node.followed = changes.header.incarnation;
                wanted = changes.captured().filter(|captured| self.waits && captured % 3 == 0);
            }
            node.target.handle(TargetInput::Received(frame), now);
            if let Some(captured) = wanted {
                node.target.handle(TargetInput::Wanted { captured }, now);
            }
        }
    }

    pub(super) fn deliver_to_source(&mut self, target: TargetId, connection: u64) {
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connection == connection) else { return };
        if !node.connected {
            return;
        }
        let bytes = node.to_source.bytes.pop_front().expect("one event for each piece");
        node.source_decoder.push(&bytes);
        let mut frames = Vec::new();
        while let Some(frame) = node.source_decoder.next().expect("the target encodes frames") {
            frames.push(frame);
        }
        frames.into_iter().for_each(|frame| self.input(SourceInput::Received { target, frame }));
    }

    pub(super) fn connect(&mut self, target: TargetId) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| !node.connected) else { return };
        node.connection += 1;
        node.connected = true;
        (node.to_target, node.to_source) = (Wire::default(), Wire::default());
        (node.decoder, node.source_decoder) = (Decoder::new(), Decoder::new());
        node.target.handle(TargetInput::Connected, now);
        self.input(SourceInput::Connected { target });
    }

    /// The connection is gone, and only one side knows until the next one.
    pub(super) fn cut_half(&mut self, target: TargetId) {
        let now = self.now();
        let source_knows = self.rng.one_in(2);
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.connected = false;
        node.connection += 1;
        if source_knows {
            self.input(SourceInput::Disconnected { target, reason: "half cut".into() });
        } else {
            node.target.handle(TargetInput::Disconnected, now);
        }
        let delay = self.rng.below(8_000);
        self.after(delay, Event::Connect(target));
    }

    pub(super) fn cut(&mut self, target: TargetId, reason: &str) {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&target).filter(|node| node.connected) else { return };
        node.connected = false;
        node.connection += 1;
        node.target.handle(TargetInput::Disconnected, now);
        self.input(SourceInput::Disconnected { target, reason: reason.into() });
        let delay = self.rng.below(8_000);
        self.after(delay, Event::Connect(target));
    }
}
