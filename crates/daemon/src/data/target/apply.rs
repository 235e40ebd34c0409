//! Batches to the replica, and what the replica finds back into the words of replication.

use stead_disk::replica::{self, ApplyError, Outcome, Replica, What};
use stead_model::record;
use stead_replication::frame::{Difference, DifferenceKind, Need, NeedWhat, Range};
use stead_replication::target::Batch;

/// What applying a batch brought up.
#[derive(Default)]
pub(super) struct Found {
    pub(super) needs: Vec<Need>,
    pub(super) differences: Vec<Difference>,
}

/// Applies a batch.
pub(super) fn apply(replica: &mut Replica, batch: &Batch) -> Result<Found, String> {
    let mut found = Found::default();
    if let Some(time) = batch.consistent {
        replica.hear(time);
    }
    for record in record::records(&batch.records) {
        let record = record.map_err(|e| format!("a record cannot be read: {e}"))?;
        let outcome = replica.apply(&record).map_err(explain)?;
        found.add(outcome);
    }
    replica.settle().map_err(explain)?;
    Ok(found)
}

fn explain(error: ApplyError) -> String {
    error.to_string()
}

impl Found {
    fn add(&mut self, outcome: Outcome) {
        self.needs.extend(outcome.needs.into_iter().map(need));
        self.differences.extend(outcome.differs.into_iter().map(difference));
    }
}

fn need(need: replica::Need) -> Need {
    match need {
        replica::Need::Hash { file } => Need { file, what: NeedWhat::Hashes },
        replica::Need::Content { file, ranges } => {
            let ranges = ranges.into_iter().map(|(offset, len)| Range { offset, len }).collect();
            Need { file, what: NeedWhat::Content(ranges) }
        }
    }
}

fn difference(found: replica::Difference) -> Difference {
    let (kind, offset, len) = match found.what {
        What::Content { offset, len } => (DifferenceKind::Content, offset, len),
        What::Attributes(_) | What::Xattrs(_) => (DifferenceKind::Attributes, 0, 0),
        What::Missing => (DifferenceKind::Missing, 0, 0),
        What::Extra => (DifferenceKind::Extra, 0, 0),
    };
    Difference { kind, file: found.file, parent: found.parent, name: found.name, offset, len }
}
