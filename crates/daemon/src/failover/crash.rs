//! A daemon that dies at a chosen point of a takeover, so that tests see what becomes of it. Only in builds for tests: elsewhere
//! nothing of it is there.
//!
//! `STEAD_CRASH=GROUP/POINT/before` or `…/after`. A point is a step as the timeline writes it without the plan's names
//! (`drain the journal`, `address 0`, `undo capture`), or `epoch N`: the record with that epoch becomes durable.

/// On which side of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// Dies where that is the chosen point.
#[cfg(not(debug_assertions))]
pub(super) fn at(_group: &str, _point: impl FnOnce() -> String, _side: Side) {}

/// Dies where that is the chosen point, as by a loss of power: nothing is told or tidied up.
#[cfg(debug_assertions)]
pub(super) fn at(group: &str, point: impl FnOnce() -> String, side: Side) {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    if let Some(chosen) = CHOSEN.get_or_init(|| std::env::var("STEAD_CRASH").ok())
        && is_chosen(chosen, group, &point(), side)
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Nothing follows, however long the signal takes.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(debug_assertions)]
fn is_chosen(chosen: &str, group: &str, point: &str, side: Side) -> bool {
    let side = if side == Side::Before { "before" } else { "after" };
    chosen == format!("{group}/{point}/{side}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_point_of_one_group_is_chosen() {
        let chosen = "notes/undo address 0/after";
        assert!(is_chosen(chosen, "notes", "undo address 0", Side::After));
        for (group, point, side) in [
            ("mail", "undo address 0", Side::After),
            ("notes", "address 0", Side::After),
            ("notes", "undo address 0", Side::Before),
        ] {
            assert!(!is_chosen(chosen, group, point, side));
        }
    }
}
