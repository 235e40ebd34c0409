//! Bugs that the simulation plants: each has to be caught by one of its checkers. In a build without it there are none.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A read takes its place in the stream when it ends, not when it is asked for.
    PlaceAfterRead,
    /// Consistent points do not wait for what a read may have seen of the future.
    ConsistentTooEarly,
    /// A file that comes into the set by a rename is not read.
    NoMoveIn,
    /// The end of a file's scan carries the attributes of its begin.
    StaleAttributes,
    /// Lost changes are not made up for.
    ForgetLost,
    /// The target acknowledges what is not durable.
    AcknowledgeEarly,
    /// A mark ends when its changes were sent.
    MarkEarly,
    /// Differences count when they are seen once.
    VerifyOnce,
    /// What a target that is behind was not told is not remembered.
    BehindForgets,
    /// What was written down after the last image is not recalled.
    RecallTooLittle,
    /// What failed is not tried again.
    NoRetry,
    /// A timer stays due while there is nothing to be done about it.
    NoRest,
    /// A new stream throws the journal of the one before away.
    ForgetJournal,
    /// The way back to the last good image is not kept while a scan spoils it.
    NoPreImages,
    /// What is read from the queue's disk is not checked.
    TrustDisk,
    /// What the source may have lost of itself counts as equal.
    NoDoubt,
}

#[cfg(any(test, feature = "sim"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for this thread, or removes it.
#[cfg(any(test, feature = "sim"))]
pub fn plant(planted: Option<Planted>) {
    PLANTED.set(planted);
}

/// Is that bug planted?
#[cfg(any(test, feature = "sim"))]
pub(crate) fn is_planted(planted: Planted) -> bool {
    PLANTED.get() == Some(planted)
}

#[cfg(not(any(test, feature = "sim")))]
pub(crate) const fn is_planted(_planted: Planted) -> bool {
    false
}
