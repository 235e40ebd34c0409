//! Targets that are more than the queue behind: what changed is remembered instead of what it was changed to.

use std::time::Instant;

/// A target that is behind.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) since: Instant,
}
