//! Bugs that are planted on request: each has to be caught by a checker of the simulation.

use std::cell::Cell;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A read takes its place in the stream when it ends, not when it begins.
    PlaceAfterRead,
    /// Consistent points do not wait for what a read may have seen of the future.
    ConsistentTooEarly,
    /// A file that comes into the set by a rename is not read.
    NoMoveIn,
    /// The end of a file's scan carries the attributes of its begin.
    StaleAttributes,
    /// The target acknowledges what is not durable.
    AcknowledgeEarly,
    /// A mark ends when its changes were sent.
    MarkEarly,
    /// Differences count when they are seen once.
    VerifyOnce,
    /// What failed is not tried again.
    NoRetry,
    /// A resent frame is taken twice, a lost one is not missed.
    NoContinuity,
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Plants a bug for this thread, or removes it.
pub fn plant(planted: Option<Planted>) {
    PLANTED.set(planted);
}

/// Is that bug planted?
pub fn is_planted(planted: Planted) -> bool {
    PLANTED.get() == Some(planted)
}
