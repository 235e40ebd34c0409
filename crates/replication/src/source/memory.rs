//! What a source remembers for the one after it: see [`Recalled`].

/// What the source before this one knew when everything up to a number of capture was done.
#[derive(Clone, Debug)]
pub struct Recalled {
    captured: u64,
}

impl Recalled {
    /// Reads the parts of the memory, oldest first, as of `captured_from`: the number from which on capture hands in its
    /// records again. `None` where it cannot be known what was known then. A part that is cut off at its end is taken as
    /// far as it goes.
    pub fn read(parts: &[Vec<u8>], captured_from: u64) -> Option<Recalled> {
        let _ = (parts, captured_from);
        None
    }

    /// Capture's number as of which it is.
    pub fn captured(&self) -> u64 {
        self.captured
    }
}
