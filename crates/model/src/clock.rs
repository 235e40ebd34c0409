//! Wall clocks, which may be set while they are gone by.

/// So far back two times that follow each other never lie, unless the clock was set in between, in nanoseconds.
const SET_BACK_NS: u64 = 10_000_000_000;

/// The later of two times (nanoseconds since 1970) of which `time` was told last; where the clock was set back in between,
/// what was told last.
pub fn later(before: u64, time: u64) -> u64 {
    if time.saturating_add(SET_BACK_NS) < before { time } else { before.max(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_goes_back() {
        let second = 1_000_000_000;
        assert_eq!(later(50 * second, 51 * second), 51 * second);
        assert_eq!(later(50 * second, 49 * second), 50 * second);
        assert_eq!(later(50 * second, 39 * second), 39 * second);
        assert_eq!(later(u64::MAX, u64::MAX - 1), u64::MAX);
    }
}
