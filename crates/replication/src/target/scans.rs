//! What the target half has to know of scans: whether one is running, and what it asked for.

use std::collections::BTreeMap;

use stead_model::record::records;
use stead_model::{FileId, Kind};

use super::backlog::Item;
use super::runs::At;
use crate::frame::{Need, NeedWhat, Range};

/// Ranges of one need; more are joined to larger ones.
const RANGES_MAX: usize = 50_000;

/// Scans that make the replica equal.
#[derive(Debug, Default)]
pub(super) struct Scans {
    open: bool,
    last_begin: At,
    first_end: bool,
    /// What was asked for and not received yet.
    needs: BTreeMap<FileId, NeedWhat>,
}

impl Scans {
    pub(super) fn new(open: bool) -> Scans {
        Scans { open, ..Scans::default() }
    }

    /// Was the begin of one received, and its end not applied?
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The stream ends: a scan of it that has not ended never will.
    pub(super) fn cut(&mut self) {
        self.open = false;
        self.needs.clear();
    }

    pub(super) fn received(&mut self, item: &Item) {
        if let Some(begin) = item.signs.begins {
            (self.open, self.last_begin) = (true, item.at_of(begin));
        }
        if self.needs.is_empty() {
            return;
        }
        for record in records(&item.records).flatten() {
            match record.kind {
                Kind::NodeEnd => self.answered(record.file, false),
                Kind::Hash if record.data.is_empty() => self.answered(record.file, true),
                _ => {}
            }
        }
    }

    pub(super) fn applied(&mut self, item: &Item) {
        if let Some((end, whole)) = item.signs.ends {
            self.open &= self.last_begin > item.at_of(end);
            self.first_end |= item.unjournaled && whole;
            self.needs.clear();
        }
    }

    /// Did the first mirror end since this was asked last?
    pub(super) fn take_first_end(&mut self) -> bool {
        std::mem::take(&mut self.first_end)
    }

    pub(super) fn asked(&mut self, needs: &mut [Need]) {
        for need in needs {
            if let NeedWhat::Content(ranges) = &mut need.what {
                join_ranges(ranges);
            }
            self.needs.insert(need.file, need.what.clone());
        }
    }

    /// What was asked for and did not come.
    pub(super) fn unanswered(&self) -> Vec<Need> {
        self.needs.iter().map(|(file, what)| Need { file: *file, what: what.clone() }).collect()
    }

    fn answered(&mut self, file: FileId, hashes: bool) {
        if self.needs.get(&file).is_some_and(|what| (*what == NeedWhat::Hashes) == hashes) {
            self.needs.remove(&file);
        }
    }
}

/// Joins the closest ranges until there are few enough.
fn join_ranges(ranges: &mut Vec<Range>) {
    let mut gap = 4096;
    while ranges.len() > RANGES_MAX {
        let mut joined: Vec<Range> = Vec::new();
        for range in ranges.iter() {
            match joined.last_mut().filter(|last| range.offset <= last.end().saturating_add(gap)) {
                Some(last) => last.len = range.end().max(last.end()) - last.offset,
                None => joined.push(*range),
            }
        }
        *ranges = joined;
        gap = gap.saturating_mul(2);
    }
}
