//! Bugs that the simulation plants: each has to be caught by one of its checkers. In a build without it there are none.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The holder's lease is longer than those wait who granted it.
    LeaseTooLong,
    /// The holder counts a grant from when it came, not from when it asked.
    CountFromArrival,
    /// A witness answers with its vote before that is durable.
    VoteNotDurable,
    /// A witness grants at once after a restart.
    GrantAtOnce,
    /// A candidate does not wait for what it granted itself.
    NoWait,
    /// A candidate acts before its epoch is durable.
    EpochNotDurable,
    /// What is not known of the references counts as good.
    UnknownActs,
    /// It yields before the other node has the last changes.
    YieldEarly,
    /// After a restart it serves without being granted anything.
    ServeAtBoot,
    /// Nothing is done where resources cannot be kept up.
    FailsForEver,
    /// What a person took offline is taken over.
    OfflineIsTaken,
    /// Services are started before the role files are in place.
    FilesTooLate,
    /// Who falls leaves the role files of who serves.
    FilesStay,
    /// A resource is started before what it requires is up.
    StartTooEarly,
    /// A resource is stopped while another one requires it.
    StopTooEarly,
    /// Who cannot serve for a reason that is the same everywhere lets the other node try.
    MovesInVain,
    /// Taking over from a node that cannot serve is not counted.
    MovesForEver,
    /// Who hands over keeps its resources.
    ResourcesStay,
    /// What was up beside a resource that is given up stays so.
    NotUndone,
    /// In maintenance what fails is restarted.
    RestartsMaintained,
    /// A restart is not counted.
    EndlessRestarts,
    /// What does not do on this node is restarted on it.
    RestartsInVain,
    /// What does not end within its limit is waited for.
    NoLimit,
    /// A resource that is being started counts as up.
    UpTooEarly,
    /// A resource whose stop failed counts as down.
    DownAnyway,
    /// A look that tells nothing counts as one that failed.
    UnknownIsBad,
    /// What may fail soon counts as failed.
    DegradedIsBad,
    /// A registration counts as told before that is durable.
    ToldUnsaved,
    /// Who no longer serves goes on telling.
    ToldAfterwards,
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
