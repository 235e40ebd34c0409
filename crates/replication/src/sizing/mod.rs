//! Line sizing: how much a set changes, and which line would carry it. Captured records and the time since the start go
//! in, an [`Estimate`] comes out.
//!
//! ```text
//!   records ─▸ second ─▸ batch ─▸ packed as for the wire ─▸ bytes of each second ─▸ leaky bucket for each line
//!                          └────▸ written again within the queue's reach ─▸ coalesced
//! ```
//! What waits together is packed together: up to a second, up to a mebibyte. That is what a line does that is well used;
//! an idle one carries each change alone, and needs more bytes for it, but has them to spare.

mod line;
mod report;
mod rewrites;
mod series;
#[cfg(test)]
mod tests;

use std::time::Duration;

use stead_model::record::{RecordError, records, set_sequence};
use stead_model::{Kind, Record};

use crate::frame::HEADER_BYTES;
use crate::frame::body::Packer;
pub use line::LineReport;
pub use report::{Amounts, Estimate, KeepsUp, Lost, Slot};
use rewrites::Rewrites;
use series::Series;

/// A batch is closed once it has this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Longest time that is watched: it bounds what is remembered by minute.
pub const LASTS_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// Bytes of a TLS record that are not content, and the content that it has at most.
const TLS_BYTES: usize = 22;
const TLS_CONTENT_MAX: usize = 16 << 10;
/// Bytes of a packet that are not content (Ethernet, IPv4, TCP with time stamps), and the content that it has at most.
const PACKET_BYTES: usize = 66;
const PACKET_CONTENT_MAX: usize = 1448;

/// What is asked.
#[derive(Clone, Debug)]
pub struct SizingConfig {
    /// Lines to judge, in bytes each second.
    pub lines: Vec<u64>,
    /// A line keeps up while the replica is behind by no more than this.
    pub within: Duration,
    /// Bytes that the queue holds: what is written again before that much was written is sent once by a connection that
    /// is behind.
    pub reach_bytes: u64,
}

impl SizingConfig {
    /// The reach of a queue in memory.
    pub const REACH_BYTES: u64 = 256 << 20;
    /// As far behind as anyone would call level.
    pub const WITHIN: Duration = Duration::from_secs(1);
}

/// The mind of `stead estimate`.
#[derive(Debug)]
pub struct Sizing {
    config: SizingConfig,
    packer: Packer,
    /// Records of one second, not packed yet.
    open: Vec<u8>,
    open_second: u64,
    sequence: u64,
    rewrites: Rewrites,
    seconds: Series,
    minutes: Vec<Amounts>,
    total: Amounts,
    lost: Lost,
}

impl Sizing {
    /// Begins to count.
    ///
    /// # Panics
    /// Where there is no memory for zstd.
    pub fn new(config: SizingConfig) -> Sizing {
        Sizing {
            rewrites: Rewrites::new(config.reach_bytes),
            config,
            packer: Packer::new(),
            open: Vec::new(),
            open_second: 0,
            sequence: 0,
            seconds: Series::new(),
            minutes: Vec::new(),
            total: Amounts::default(),
            lost: Lost::default(),
        }
    }

    /// Takes captured records, in order, and when they came, counted from the start. Times do not go back.
    ///
    /// # Errors
    /// Where the bytes are no records: nothing of them is counted.
    pub fn captured(&mut self, captured: &[u8], since_start: Duration) -> Result<(), RecordError> {
        records(captured).try_for_each(|record| record.map(drop))?;
        let second = since_start.min(LASTS_MAX).as_secs();
        if second > self.open_second {
            self.pack();
            self.open_second = second;
        }
        let mut rest = captured;
        while let Ok((record, after)) = Record::parse(rest) {
            self.take(&record, &rest[..rest.len() - after.len()]);
            rest = after;
        }
        if self.open.len() >= BATCH_BYTES {
            self.pack();
        }
        Ok(())
    }

    /// Changes that capture had to drop: these many records with these many bytes, since the start.
    pub fn dropped(&mut self, records: u64, bytes: u64) {
        (self.lost.records, self.lost.bytes) = (records, bytes);
    }

    /// All in all so far.
    pub fn total(&self) -> Amounts {
        self.total
    }

    /// What was found in that time.
    pub fn report(&mut self, lasted: Duration) -> Estimate {
        self.pack();
        let (values, grain) = self.seconds.until(lasted);
        let keeps_up = |share| line::smallest(&values, grain, self.config.within, share);
        Estimate {
            lasted_seconds: lasted.as_secs_f64(),
            total: self.total,
            minutes: report::slots(&self.minutes, 1),
            hours: report::slots(&self.minutes, 60),
            keeps_up: KeepsUp {
                within_seconds: self.config.within.as_secs_f64(),
                usually_bytes_per_second: keeps_up(KeepsUp::USUALLY),
                always_bytes_per_second: keeps_up(1.0),
            },
            lines: self
                .config
                .lines
                .iter()
                .map(|rate| line::judge(&values, grain, *rate, self.config.within))
                .collect(),
            lost: self.lost,
            grain_seconds: grain.as_secs(),
            reach_bytes: self.config.reach_bytes,
        }
    }

    fn take(&mut self, record: &Record<'_>, bytes: &[u8]) {
        if record.kind == Kind::Lost {
            self.lost.files += 1;
            return;
        }
        self.sequence += 1;
        let at = self.open.len();
        self.open.extend_from_slice(bytes);
        set_sequence(&mut self.open[at..], self.sequence);
    }

    /// Packs what is open, and counts it.
    fn pack(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut self.open);
        let sent = on_the_line(self.packer.pack(raw.clone()).body.len());
        let share = sent as f64 / raw.len() as f64;
        self.seconds.add(self.open_second, sent);
        self.book(self.open_second / 60, |minute| minute.sent_bytes += sent);
        self.book(self.open_second / 60, |minute| minute.sent_coalesced_bytes += sent);
        for record in records(&raw).flatten() {
            self.count(&record, share);
        }
    }

    fn count(&mut self, record: &Record<'_>, share: f64) {
        let minute = self.open_second / 60;
        let written = record.data.len() as u64;
        self.book(minute, |minute| {
            minute.changes += u64::from(record.kind != Kind::Sync);
            minute.written_bytes += written;
            minute.coalesced_bytes += written;
        });
        match record.kind {
            Kind::Write => {
                for spared in self.rewrites.write(record.file, record.a, written, minute, share) {
                    self.book(spared.minute, |minute| {
                        minute.coalesced_bytes -= spared.bytes;
                        minute.sent_coalesced_bytes -= spared.sent.min(minute.sent_coalesced_bytes);
                    });
                }
            }
            Kind::Unlink if record.attr.nlink == 0 => self.rewrites.forget(record.file),
            _ => {}
        }
    }

    /// In that minute, and in all.
    fn book(&mut self, minute: u64, entry: impl Fn(&mut Amounts)) {
        let at = minute as usize;
        if self.minutes.len() <= at {
            self.minutes.resize(at + 1, Amounts::default());
        }
        entry(&mut self.minutes[at]);
        entry(&mut self.total);
    }
}

/// Bytes on the line for a frame with a body of that many.
fn on_the_line(body: usize) -> u64 {
    let frame = HEADER_BYTES + body;
    let stream = frame + frame.div_ceil(TLS_CONTENT_MAX) * TLS_BYTES;
    (stream + stream.div_ceil(PACKET_CONTENT_MAX) * PACKET_BYTES) as u64
}
