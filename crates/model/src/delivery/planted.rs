//! Bugs that the tests plant: each has to be caught by one of their checkers. In a build without them there are none.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// Clears that are left out are forgotten.
    ClearsAreForgotten,
    /// What is left out is not counted.
    NotCounted,
    /// There is no limit.
    NoLimit,
    /// An event that is left out counts as told.
    LeftOutIsTold,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for this thread, or removes it.
#[cfg(test)]
pub(super) fn plant(planted: Option<Planted>) {
    PLANTED.set(planted);
}

/// Is it planted?
pub(super) fn is(planted: Planted) -> bool {
    #[cfg(test)]
    let found = PLANTED.get() == Some(planted);
    #[cfg(not(test))]
    let found = {
        let _ = planted;
        false
    };
    found
}
