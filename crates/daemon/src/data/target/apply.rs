//! Batches to the replica, and what the replica finds back into the words of replication.

use stead_disk::replica::{self, ApplyError, Class, Outcome, Replica, What};
use stead_model::{Kind, record};
use stead_replication::frame::{Difference, DifferenceKind, Need, NeedWhat, Range};
use stead_replication::target::Batch;

/// What applying a batch brought up.
#[derive(Default)]
pub(super) struct Found {
    pub(super) needs: Vec<Need>,
    pub(super) differences: Vec<Difference>,
}

/// Why a batch was not applied.
pub(super) enum Failed {
    /// What it overwrites cannot be kept.
    NoRoom(String),
    /// It ends a scan that would remove that many objects.
    Braked(u64),
    /// The target's disk is full; why.
    Full(String),
    /// Anything else.
    Other(String),
}

/// What [`Kind::Sync`] says where the source's file systems completed a sync.
const SOURCE_SYNCED: u32 = 3;

/// Applies a batch. What its records bring up is added to `found`, also of those before one that fails: they may bring
/// it up only once.
pub(super) fn apply(replica: &mut Replica, batch: &Batch, found: &mut Found) -> Result<(), Failed> {
    replica.set_place(batch.position);
    replica.foresee(&batch.records).map_err(Failed::from)?;
    if let Some(time) = batch.consistent {
        replica.hear(time);
    }
    for record in record::records(&batch.records) {
        let record = record.map_err(|e| Failed::Other(format!("a record cannot be read: {e}")))?;
        let outcome = replica.apply(&record)?;
        if let Some(removals) = outcome.would_remove {
            return Err(Failed::Braked(removals));
        }
        if record.kind == Kind::Sync && record.file.is_none() && record.c == SOURCE_SYNCED {
            replica.source_synced();
        }
        found.add(outcome);
    }
    Ok(replica.settle()?)
}

impl From<ApplyError> for Failed {
    fn from(error: ApplyError) -> Self {
        let remedy = error.remedy().map_or(String::new(), |remedy| format!(". {remedy}"));
        let reason = format!("{error}{remedy}");
        match (&error, error.class()) {
            (ApplyError::NoRoom { .. }, _) => Failed::NoRoom(reason),
            (_, Some(Class::NoSpace | Class::Quota)) => Failed::Full(reason),
            _ => Failed::Other(reason),
        }
    }
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
