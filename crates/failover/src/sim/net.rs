//! The lines between the nodes: directed, each with its faults.

use std::rc::Rc;

use super::clock::Micros;
use super::node::id;
use super::rng::Rng;
use crate::heartbeat::{Heartbeat, Key, Note, Receiver, Sender};
use crate::ids::ClusterId;

/// Paths between the two nodes of the group; the witness has one to each.
pub(super) const PATHS: usize = 2;

/// What travels. Most seeds spare themselves the bytes.
#[derive(Clone, Debug)]
pub(super) enum Datagram {
    Plain { from: usize, path: u32, leaving: bool, notes: Rc<[Note]> },
    Bytes(Rc<[u8]>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    cut: bool,
    /// Lost, of a thousand.
    loss: u64,
    /// Longest delay.
    delay: Micros,
}

#[derive(Debug)]
pub(super) struct Net {
    lines: [[[Line; PATHS]; 3]; 3],
    doubled: u64,
}

impl Net {
    pub fn new() -> Net {
        let line = Line { cut: false, loss: 0, delay: 2_000 };
        Net { lines: [[[line; PATHS]; 3]; 3], doubled: 0 }
    }

    /// How many paths there are.
    pub fn paths(from: usize, to: usize) -> usize {
        if from == 2 || to == 2 { 1 } else { PATHS }
    }

    pub fn cut(&mut self, from: usize, to: usize, path: usize, cut: bool) {
        self.lines[from][to][path].cut = cut;
    }

    pub fn worsen(&mut self, from: usize, to: usize, path: usize, loss: u64, delay: Micros) {
        let line = &mut self.lines[from][to][path];
        (line.loss, line.delay) = (loss, delay);
    }

    pub fn double(&mut self, of_a_thousand: u64) {
        self.doubled = of_a_thousand;
    }

    /// Does anything pass, both ways?
    pub fn is_joined(&self, one: usize, other: usize) -> bool {
        let passes = |from: usize, to: usize| (0..Net::paths(from, to)).any(|path| !self.lines[from][to][path].cut);
        passes(one, other) && passes(other, one)
    }

    /// After how long it arrives, none or more times.
    pub fn delays(&self, from: usize, to: usize, path: usize, rng: &mut Rng) -> Vec<Micros> {
        let line = self.lines[from][to][path];
        if line.cut || rng.below(1_000) < line.loss {
            return Vec::new();
        }
        let times = if rng.below(1_000) < self.doubled { 2 } else { 1 };
        (0..times).map(|_| 100 + rng.below(line.delay)).collect()
    }
}

/// The shipped codec of one run of a node.
#[derive(Debug)]
pub(super) struct Codec {
    sender: Sender,
    receiver: Receiver,
}

impl Codec {
    pub fn new(me: usize, boot: u32) -> Codec {
        let cluster = ClusterId([7; 16]);
        let mut sender = Sender::new(cluster, id(me), boot.into());
        let mut receiver = Receiver::new(cluster, id(me));
        for other in (0..3).filter(|other| *other != me) {
            let key = Key::derive(b"simulated", cluster, id(me), id(other));
            sender.add(id(other), key.clone());
            receiver.add(id(other), key, 0);
        }
        Codec { sender, receiver }
    }

    pub fn encode(&mut self, to: usize, path: u32, notes: &[Note]) -> Datagram {
        Datagram::Bytes(self.sender.datagram(id(to), path, 0, notes).expect("all are known").into())
    }

    pub fn leave(&mut self) {
        self.sender.leave();
    }

    pub fn decode(&mut self, bytes: &[u8]) -> Option<Heartbeat> {
        self.receiver.receive(bytes).ok()
    }
}
