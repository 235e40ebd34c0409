//! Several small batches in one frame: where a target is sent what gathered while it could not be sent anything, each
//! batch for itself would cost more of the line than it has to, and its own turn of the target's journal.

use super::connection::bit;
use super::queue::{Batch, SEAL_BYTES};
use super::{Source, TargetId};

/// Batches from this size on travel alone.
const SMALL_BYTES: usize = SEAL_BYTES / 8;

impl Source {
    /// The batch that is next for a target, and small ones after it, as one; `None`: it goes alone. Those after it count
    /// for the brake, which may halt at one of them.
    pub(super) fn gathered(&mut self, target: TargetId) -> Option<Batch> {
        let (brake, now) = (self.config.settings.brake, self.now);
        let connection = self.connections.get_mut(&target)?;
        if connection.sent < connection.skip_until {
            return None;
        }
        let mut following = self.queue.batches_after(connection.sent);
        let first = following.next().filter(|batch| is_small(batch, target))?;
        let (mut bytes, mut end) = (first.raw_len, first);
        for next in following.take_while(|next| is_small(next, target)) {
            bytes += next.raw_len;
            let fits = bytes <= SEAL_BYTES && goes_with(end, next, target);
            if !fits || !connection.brake.passes(&brake, next.into(), now) {
                break;
            }
            end = next;
        }
        let range = first.first..=end.first;
        (first.first < end.first).then(|| self.queue.joined(range)).flatten()
    }
}

fn is_small(batch: &Batch, target: TargetId) -> bool {
    batch.targets & bit(target) != 0 && batch.raw_len < SMALL_BYTES && !batch.body.is_empty()
}

/// A consistent point is passed over only for a later one.
fn goes_with(batch: &Batch, next: &Batch, target: TargetId) -> bool {
    let (stands, next_stands) = (batch.consistent & bit(target), next.consistent & bit(target));
    next.first == batch.last + 1 && next_stands >= stands && batch.first_mirror == next.first_mirror
}
