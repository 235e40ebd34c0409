//! What is written again while it would still wait in a queue that holds so many bytes.

use std::collections::{BTreeMap, HashMap};

use stead_model::FileId;

/// Pieces remembered at most; beyond that the oldest half is forgotten, and less counts as written again.
const PIECES_MAX: usize = 1 << 18;
/// Appended bytes extend the piece before them while no more than this was written in between.
const EXTEND_BYTES: u64 = 1 << 20;

/// Which bytes of which files were written lately, and when.
#[derive(Debug)]
pub(super) struct Rewrites {
    reach: u64,
    /// Bytes written so far.
    written: u64,
    files: HashMap<FileId, BTreeMap<u64, Piece>>,
    pieces: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    /// Bytes written until it was.
    at: u64,
    minute: u64,
    /// Bytes on the line for each of its bytes.
    share: f64,
}

/// Bytes that need not have been sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spared {
    /// The minute in which they were written first.
    pub(super) minute: u64,
    pub(super) bytes: u64,
    /// What they took on the line.
    pub(super) sent: u64,
}

impl Rewrites {
    pub(super) fn new(reach: u64) -> Rewrites {
        Rewrites { reach, written: 0, files: HashMap::new(), pieces: 0 }
    }

    /// Bytes of a file are written in that minute, each of which takes `share` on the line. Returns what they replace.
    pub(super) fn write(&mut self, file: FileId, start: u64, len: u64, minute: u64, share: f64) -> Vec<Spared> {
        let end = start.saturating_add(len);
        self.written += len;
        let (at, reach) = (self.written, self.reach);
        let pieces = self.files.entry(file).or_default();
        let before = pieces.len();
        let mut spared = Vec::new();
        for (piece_start, piece) in cut(pieces, start, end) {
            if at - piece.at <= reach {
                let bytes = piece.end - piece_start;
                spared.push(Spared { minute: piece.minute, bytes, sent: (bytes as f64 * piece.share) as u64 });
            }
        }
        let new = Piece { end, at, minute, share };
        match pieces.range_mut(..start).next_back() {
            Some((_, last)) if last.end == start && last.minute == minute && at - last.at <= EXTEND_BYTES + len => {
                *last = new;
            }
            _ => {
                pieces.insert(start, new);
            }
        }
        self.pieces = self.pieces + pieces.len() - before;
        if self.pieces > PIECES_MAX {
            self.thin_out();
        }
        spared
    }

    /// The file is gone.
    pub(super) fn forget(&mut self, file: FileId) {
        self.pieces -= self.files.remove(&file).map_or(0, |pieces| pieces.len());
    }

    fn thin_out(&mut self) {
        let mut reach = self.reach.min(self.written);
        loop {
            let since = self.written - reach;
            for pieces in self.files.values_mut() {
                pieces.retain(|_, piece| piece.at > since);
            }
            self.files.retain(|_, pieces| !pieces.is_empty());
            self.pieces = self.files.values().map(BTreeMap::len).sum();
            if self.pieces <= PIECES_MAX / 2 || reach == 0 {
                return;
            }
            reach /= 2;
        }
    }
}

/// Takes out what lies between `start` and `end`; what sticks out on either side stays.
fn cut(pieces: &mut BTreeMap<u64, Piece>, start: u64, end: u64) -> Vec<(u64, Piece)> {
    let first = pieces.range(..start).next_back().filter(|(_, piece)| piece.end > start).map(|(at, _)| *at);
    let touched: Vec<u64> = first.into_iter().chain(pieces.range(start..end).map(|(at, _)| *at)).collect();
    let mut taken = Vec::new();
    for at in touched {
        let Some(piece) = pieces.remove(&at) else { continue };
        if at < start {
            pieces.insert(at, Piece { end: start, ..piece });
        }
        if piece.end > end {
            pieces.insert(end, piece);
        }
        taken.push((at.max(start), Piece { end: piece.end.min(end), ..piece }));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { ino: 1, generation: 0, volume: 0 };

    fn bytes(spared: &[Spared]) -> u64 {
        spared.iter().map(|spared| spared.bytes).sum()
    }

    #[test]
    fn only_what_is_written_twice_is_spared() {
        let mut rewrites = Rewrites::new(1 << 20);
        let mut write = |start, len| bytes(&rewrites.write(FILE, start, len, 0, 1.0));
        assert_eq!(write(0, 100), 0);
        assert_eq!(write(100, 100), 0, "appended");
        assert_eq!(write(50, 100), 100, "across both");
        assert_eq!(write(0, 10), 10);
        assert_eq!(write(195, 100), 5, "sticks out at the end");
        assert_eq!(write(0, 1000), 295, "over everything");
        assert_eq!(write(5000, 1), 0);
    }

    #[test]
    fn beyond_the_queue_nothing_is_spared() {
        let mut rewrites = Rewrites::new(1000);
        rewrites.write(FILE, 0, 100, 3, 0.5);
        rewrites.write(FileId { ino: 2, ..FILE }, 0, 900, 3, 0.5);
        assert_eq!(rewrites.write(FILE, 0, 60, 4, 0.5), [Spared { minute: 3, bytes: 60, sent: 30 }]);
        rewrites.write(FileId { ino: 3, ..FILE }, 0, 2000, 5, 0.5);
        assert_eq!(rewrites.write(FILE, 0, 100, 6, 0.5), []);
    }

    #[test]
    fn it_agrees_with_a_list_of_all_bytes() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for reach in [50, 1_000, 100_000] {
            let mut rewrites = Rewrites::new(reach);
            let mut model: HashMap<u64, u64> = HashMap::new();
            let mut written = 0;
            for step in 0..3_000_u64 {
                let (start, len) = (random(500), random(40) + 1);
                written += len;
                // Pieces never grow together here: each write has a minute of its own.
                let got = bytes(&rewrites.write(FILE, start, len, step, 1.0));
                let fresh = |at: u64| model.get(&at).is_some_and(|then| written - then <= reach);
                let want = (start..start + len).filter(|at| fresh(*at)).count() as u64;
                assert_eq!(got, want, "step {step}, reach {reach}");
                model.extend((start..start + len).map(|at| (at, written)));
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut rewrites = Rewrites::new(u64::MAX);
        for n in 0..PIECES_MAX as u64 + 10 {
            rewrites.write(FILE, n * 10, 1, 0, 1.0);
            rewrites.write(FileId { ino: 2 + n % 100, ..FILE }, n * 10, 1, 0, 1.0);
        }
        assert!(rewrites.pieces <= PIECES_MAX);
        assert_eq!(rewrites.pieces, rewrites.files.values().map(BTreeMap::len).sum::<usize>());
        assert_eq!(bytes(&rewrites.write(FILE, (PIECES_MAX as u64 + 9) * 10, 1, 0, 1.0)), 1, "the last is remembered");
        rewrites.forget(FILE);
        assert_eq!(rewrites.pieces, rewrites.files.values().map(BTreeMap::len).sum::<usize>());
    }
}
