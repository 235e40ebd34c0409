//! The disk itself: what is durable, what is only in its cache, and what a power cut leaves.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::rng::Rng;

/// Smallest piece that a disk writes as one, in bytes.
pub const SECTOR: usize = 512;
/// Most bytes that the cache holds back; beyond, the oldest writes become durable unasked, as in any disk.
const HELD_BYTES_MAX: usize = 256 << 20;

/// A disk with a volatile cache. `seen` is what reads return, `durable` what outlives a cut.
pub(crate) struct Cache {
    seen: File,
    durable: File,
    held: Vec<Write>,
    held_bytes: usize,
    bytes: u64,
    has_power: bool,
    counts: Counts,
}

struct Write {
    at: u64,
    data: Vec<u8>,
}

/// What was asked of a disk since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub writes: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Flushes.
    pub flushes: u64,
}

/// What a cut did to the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The seed that decided.
    pub seed: u64,
    /// Writes that reached the medium whole.
    pub kept: u64,
    /// Writes of which only some sectors did.
    pub torn: u64,
    /// Writes that are gone.
    pub dropped: u64,
}

/// How a cut chooses.
enum Choice {
    /// Nothing that was not flushed reached the medium.
    Nothing,
    /// All that came before some moment did.
    Until(usize),
    /// Each write by itself, so many in 16.
    Each(u64),
}

impl Cache {
    /// A disk of zeroes; its two files are made in `dir`.
    pub(crate) fn create(dir: &Path, bytes: u64) -> io::Result<Cache> {
        let make = |name: &str| -> io::Result<File> {
            let file = File::options().read(true).write(true).create_new(true).open(dir.join(name))?;
            file.set_len(bytes)?;
            Ok(file)
        };
        let (seen, durable) = (make("seen")?, make("durable")?);
        Ok(Cache { seen, durable, held: Vec::new(), held_bytes: 0, bytes, has_power: true, counts: Counts::default() })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        self.need_power()?;
        let len = len.min(self.bytes.saturating_sub(at) as usize);
        let mut data = vec![0; len];
        self.seen.read_exact_at(&mut data, at)?;
        Ok(data)
    }

    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> io::Result<()> {
        self.need_power()?;
        if at.checked_add(data.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.seen.write_all_at(data, at)?;
        self.held.push(Write { at, data: data.to_vec() });
        self.held_bytes += data.len();
        self.counts.writes += 1;
        self.counts.bytes += data.len() as u64;
        if self.held_bytes > HELD_BYTES_MAX {
            let half = self.held.len().div_ceil(2);
            self.make_durable(half)?;
        }
        Ok(())
    }

    /// Everything written before is durable afterwards.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.need_power()?;
        self.counts.flushes += 1;
        self.make_durable(self.held.len())
    }

    /// The power goes: of what was not flushed a subset that the seed chooses reached the medium, in any order but for
    /// writes of the same place. Until [`Cache::power_on`] everything fails.
    pub(crate) fn cut(&mut self, seed: u64) -> io::Result<Cut> {
        let mut rng = Rng::new(seed);
        let choice = Choice::new(&mut rng, self.held.len());
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let mut cut = Cut { seed, ..Cut::default() };
        for (number, write) in held.iter().enumerate() {
            self.settle(write, choice.fate(&mut rng, number), &mut rng, &mut cut)?;
        }
        for write in &held {
            let mut data = vec![0; write.data.len()];
            self.durable.read_exact_at(&mut data, write.at)?;
            self.seen.write_all_at(&data, write.at)?;
        }
        self.has_power = false;
        Ok(cut)
    }

    pub(crate) fn power_on(&mut self) {
        self.has_power = true;
    }

    fn settle(&self, write: &Write, fate: Fate, rng: &mut Rng, cut: &mut Cut) -> io::Result<()> {
        match fate {
            Fate::Dropped => cut.dropped += 1,
            Fate::Torn if write.data.len() > SECTOR => {
                cut.torn += 1;
                for (number, sector) in write.data.chunks(SECTOR).enumerate() {
                    if rng.below(2) == 0 {
                        self.durable.write_all_at(sector, write.at + (number * SECTOR) as u64)?;
                    }
                }
            }
            Fate::Kept | Fate::Torn => {
                cut.kept += 1;
                self.durable.write_all_at(&write.data, write.at)?;
            }
        }
        Ok(())
    }

    fn make_durable(&mut self, count: usize) -> io::Result<()> {
        for write in self.held.drain(..count) {
            self.durable.write_all_at(&write.data, write.at)?;
            self.held_bytes -= write.data.len();
        }
        Ok(())
    }

    fn need_power(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

enum Fate {
    Kept,
    Torn,
    Dropped,
}

impl Choice {
    fn new(rng: &mut Rng, writes: usize) -> Choice {
        match rng.below(4) {
            0 => Choice::Nothing,
            1 => Choice::Until(rng.below(writes as u64 + 1) as usize),
            2 => Choice::Each(15),
            _ => Choice::Each(1 + rng.below(14)),
        }
    }

    fn fate(&self, rng: &mut Rng, number: usize) -> Fate {
        let (reached, torn) = match *self {
            Choice::Nothing => (false, false),
            Choice::Until(end) => (number <= end, number == end),
            Choice::Each(of_16) => (rng.below(16) < of_16, rng.below(4) == 0),
        };
        match (reached, torn) {
            (false, _) => Fate::Dropped,
            (true, true) => Fate::Torn,
            (true, false) => Fate::Kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 8 * SECTOR;

    fn disk() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::create(dir.path(), 1 << 20).unwrap();
        (dir, cache)
    }

    #[test]
    fn what_was_flushed_outlives_every_cut_and_what_was_not_is_a_subset() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let (_dir, mut disk) = disk();
            let place = |number: u64| number * PIECE as u64;
            for number in 0..20 {
                disk.write(place(number), &[1; PIECE]).unwrap();
            }
            disk.flush().unwrap();
            for number in 10..30 {
                disk.write(place(number), &[2; PIECE]).unwrap();
            }
            let cut = disk.cut(seed).unwrap();
            assert!(disk.read(0, 1).is_err() && disk.write(0, &[0]).is_err() && disk.flush().is_err());
            assert_eq!(cut.kept + cut.torn + cut.dropped, 20, "{cut:?}");
            disk.power_on();
            for number in 0..30 {
                let data = disk.read(place(number), PIECE).unwrap();
                let before = if number < 20 { 1 } else { 0 };
                let may = if number < 10 { [1, 1] } else { [before, 2] };
                for sector in data.chunks(SECTOR) {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: a sector is torn");
                    assert!(may.contains(&sector[0]), "seed {seed}: piece {number} holds {}", sector[0]);
                }
            }
            (lost, kept, torn) = (lost + cut.dropped, kept + cut.kept, torn + cut.torn);
        }
        assert!(lost > 500 && kept > 500 && torn > 100, "{lost} lost, {kept} kept, {torn} torn");
    }

    #[test]
    fn the_same_seed_cuts_the_same() {
        let image = |seed: u64| {
            let (_dir, mut disk) = disk();
            for number in 0..40 {
                disk.write(number * SECTOR as u64, &[number as u8 + 1; PIECE]).unwrap();
            }
            disk.cut(seed).unwrap();
            disk.power_on();
            disk.read(0, 1 << 20).unwrap()
        };
        assert_eq!(image(7), image(7));
        assert!((0..10).any(|seed| image(seed) != image(7)));
    }

    #[test]
    fn reads_see_what_was_written_and_the_end_is_the_end() {
        let (_dir, mut disk) = disk();
        disk.write(4096, b"hello").unwrap();
        assert_eq!(disk.read(4096, 5).unwrap(), b"hello");
        assert_eq!(disk.read((1 << 20) - 2, 10).unwrap(), [0, 0]);
        assert!(disk.write((1 << 20) - 2, b"hello").is_err());
        assert_eq!(disk.counts(), Counts { writes: 1, bytes: 5, flushes: 0 });
    }
}
