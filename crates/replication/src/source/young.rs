//! Files that came lately. What lived only for a moment is no loss: a journal that a database makes and removes with every
//! transaction must not halt a connection.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use stead_model::{FileId, Kind, Record};

use super::dirty::lost;

/// Files that are remembered; beyond, the oldest count as old ones.
const FILES_MAX: usize = 1 << 16;

/// When each of them came.
#[derive(Debug)]
pub(super) struct Young {
    born: HashMap<FileId, u64>,
    order: VecDeque<FileId>,
    /// How long a file is young, ns.
    life: u64,
}

impl Young {
    pub(super) fn new(life: Duration) -> Young {
        let mut young = Young { born: HashMap::new(), order: VecDeque::new(), life: 0 };
        young.set_life(life);
        young
    }

    pub(super) fn set_life(&mut self, life: Duration) {
        self.life = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Takes note of who comes; is it a young file that goes?
    pub(super) fn loses(&mut self, record: &Record<'_>) -> bool {
        if record.kind == Kind::Create {
            self.comes(record.file, record.time);
        }
        let born = lost(record).and_then(|file| self.born.remove(&file));
        born.is_some_and(|born| record.time.saturating_sub(born) <= self.life)
    }

    fn comes(&mut self, file: FileId, time: u64) {
        self.born.insert(file, time);
        self.order.push_back(file);
        if self.order.len() > FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.born.remove(&oldest);
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
    fn memory_is_bounded() {
        let mut young = Young::new(Duration::from_secs(60));
        assert!((0..=FILES_MAX as u64).all(|ino| !young.loses(&record(Kind::Create, ino, 1))));
        assert_eq!((young.born.len(), young.order.len()), (FILES_MAX, FILES_MAX));
        assert!(!young.loses(&record(Kind::Unlink, 0, 2)) && young.loses(&record(Kind::Unlink, 1, 2)));
    }
}
