//! Files that came or were written over lately. What lived only for a moment is no loss, and what is written again and
//! again is no mass change: a database and its journal must not halt a connection.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use stead_model::{FileId, Kind, Record};

use super::dirty::lost;

/// Files that are remembered; beyond, the oldest count as old ones.
const FILES_MAX: usize = 1 << 16;

/// When each of them came, and was written over.
#[derive(Debug)]
pub(super) struct Young {
    born: Lately,
    over: Lately,
    /// How long a file is young, ns.
    life: u64,
}

/// When something happened last to each of some files.
#[derive(Debug, Default)]
struct Lately {
    times: HashMap<FileId, u64>,
    order: VecDeque<FileId>,
}

impl Young {
    pub(super) fn new(life: Duration) -> Young {
        let mut young = Young { born: Lately::default(), over: Lately::default(), life: 0 };
        young.set_life(life);
        young
    }

    pub(super) fn set_life(&mut self, life: Duration) {
        self.life = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Takes note of who comes; is it a young file that goes?
    pub(super) fn loses(&mut self, record: &Record<'_>) -> bool {
        if record.kind == Kind::Create {
            self.born.note(record.file, record.time);
        }
        let born = lost(record).and_then(|file| self.born.times.remove(&file));
        self.is_lately(born, record.time)
    }

    /// Takes note of a file that is written over; is it a young one, or was it written over lately already?
    pub(super) fn writes_again(&mut self, record: &Record<'_>) -> bool {
        let (file, now) = (record.file, record.time);
        let [born, over] = [&self.born, &self.over].map(|lately| lately.times.get(&file).copied());
        let again = self.is_lately(born, now) || self.is_lately(over, now);
        if !again {
            self.over.note(file, now);
        }
        again
    }

    /// Where the clock was set in between, it was not.
    fn is_lately(&self, then: Option<u64>, now: u64) -> bool {
        then.is_some_and(|then| now.abs_diff(then) <= self.life)
    }
}

impl Lately {
    fn note(&mut self, file: FileId, time: u64) {
        if self.times.insert(file, time).is_none() {
            self.order.push_back(file);
        }
        if self.order.len() > FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, ino: u64, time: u64) -> Record<'static> {
        Record { time, ..Record::new(kind, FileId { ino, generation: 1, volume: 0 }) }
    }

    #[test]
    fn only_what_came_within_the_window_is_young() {
        let mut young = Young::new(Duration::from_nanos(10));
        assert!(!young.loses(&record(Kind::Unlink, 1, 5)), "it was there before");
        assert!(!young.loses(&record(Kind::Create, 2, 5)) && young.loses(&record(Kind::Unlink, 2, 15)));
        assert!(!young.loses(&record(Kind::Unlink, 2, 15)), "it went already");
        assert!(!young.loses(&record(Kind::Create, 3, 5)) && !young.loses(&record(Kind::Unlink, 3, 16)));
        let mut one_of_two = record(Kind::Unlink, 4, 7);
        one_of_two.attr.nlink = 1;
        young.loses(&record(Kind::Create, 4, 6));
        assert!(!young.loses(&one_of_two) && young.loses(&record(Kind::Unlink, 4, 8)));
    }

    #[test]
    fn a_file_is_written_over_once_within_the_window() {
        let mut young = Young::new(Duration::from_nanos(10));
        let mut again = |ino, time| young.writes_again(&record(Kind::Write, ino, time));
        assert!(!again(1, 5) && again(1, 15) && !again(1, 16) && !again(2, 16));
        young.loses(&record(Kind::Create, 3, 20));
        assert!(young.writes_again(&record(Kind::Write, 3, 30)) && !young.writes_again(&record(Kind::Write, 3, 31)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_young() {
        let mut young = Young::new(Duration::from_nanos(10));
        assert!(!young.loses(&record(Kind::Create, 1, 500)) && !young.loses(&record(Kind::Unlink, 1, 5)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut young = Young::new(Duration::from_secs(60));
        assert!((0..=FILES_MAX as u64).all(|ino| !young.loses(&record(Kind::Create, ino, 1))));
        assert_eq!((young.born.times.len(), young.born.order.len()), (FILES_MAX, FILES_MAX));
        assert!(!young.loses(&record(Kind::Unlink, 0, 2)) && young.loses(&record(Kind::Unlink, 1, 2)));
    }
}
