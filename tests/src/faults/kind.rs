//! What can be broken.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::rng::Rng;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the words say what happens")]
pub enum Kind {
    SourceKilled,
    SourceRestarted,
    CaptureServerKilled,
    SourcePowerCut,
    SourceQueueFull,
    TargetKilled,
    TargetRestarted,
    TargetPowerCut,
    TargetFull,
    TargetReadOnly,
    LineReset,
    LineFlapping,
    LineHalfOpen,
    LineOneWay,
    LineSlow,
    LineUnplugged,
    WrongMachine,
    Paused,
    ReplicaTampered,
    Deletion,
    Storm,
}

/// What a fault happens to: one at a time for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The source's processes and power.
    Source,
    /// The target's processes and disk.
    Target,
    /// What is between them, and what waits for it.
    Line,
    /// What the operator wants.
    Plan,
    /// The protected tree itself.
    Tree,
}

/// All of them, in the order of the table that is printed.
pub const ALL: [Kind; 21] = [
    Kind::SourceKilled,
    Kind::SourceRestarted,
    Kind::CaptureServerKilled,
    Kind::SourcePowerCut,
    Kind::SourceQueueFull,
    Kind::TargetKilled,
    Kind::TargetRestarted,
    Kind::TargetPowerCut,
    Kind::TargetFull,
    Kind::TargetReadOnly,
    Kind::LineReset,
    Kind::LineFlapping,
    Kind::LineHalfOpen,
    Kind::LineOneWay,
    Kind::LineSlow,
    Kind::LineUnplugged,
    Kind::WrongMachine,
    Kind::Paused,
    Kind::ReplicaTampered,
    Kind::Deletion,
    Kind::Storm,
];

impl Kind {
    /// The kinds that the variable `STEAD_FAULT_KINDS` names, separated by commas; all, where it is not set.
    ///
    /// # Errors
    /// Where it names none.
    pub fn chosen() -> Result<Vec<Kind>> {
        let Ok(names) = std::env::var("STEAD_FAULT_KINDS") else { return Ok(ALL.to_vec()) };
        let find = |name: &str| ALL.into_iter().find(|kind| format!("{kind:?}") == name);
        names.split(',').map(|name| find(name).with_context(|| format!("{name} is none of {ALL:?}"))).collect()
    }

    /// What it happens to.
    pub fn place(self) -> Place {
        match self {
            Kind::SourceKilled | Kind::SourceRestarted | Kind::CaptureServerKilled | Kind::SourcePowerCut => {
                Place::Source
            }
            Kind::TargetKilled | Kind::TargetRestarted | Kind::TargetPowerCut | Kind::TargetFull => Place::Target,
            Kind::TargetReadOnly => Place::Target,
            Kind::LineReset | Kind::LineFlapping | Kind::LineHalfOpen | Kind::LineOneWay => Place::Line,
            Kind::LineSlow | Kind::LineUnplugged | Kind::WrongMachine => Place::Line,
            // Nothing is queued while the line is there.
            Kind::SourceQueueFull => Place::Line,
            Kind::Paused => Place::Plan,
            Kind::ReplicaTampered | Kind::Deletion | Kind::Storm => Place::Tree,
        }
    }

    /// How long it lasts.
    pub fn lasts(self, rng: &mut Rng) -> Duration {
        let milliseconds = match self {
            Kind::CaptureServerKilled | Kind::ReplicaTampered | Kind::Deletion | Kind::Storm => 0,
            Kind::LineReset | Kind::LineFlapping => 50 + rng.below(1_500),
            Kind::LineSlow | Kind::SourceQueueFull => 2_000 + rng.below(4_000),
            _ => 100 + rng.below(3_000),
        };
        Duration::from_millis(milliseconds)
    }

    /// Does it need both sides to be well, because it asks them something?
    pub fn needs_calm(self) -> bool {
        self == Kind::ReplicaTampered
    }

    /// May both not be at once?
    pub fn excludes(self, other: Kind) -> bool {
        let both = [self, other];
        let places = both.map(Kind::place);
        // Asking the source to pause needs it; its death in between is a fault of another test.
        let needs_source = places.contains(&Place::Source) && places.contains(&Place::Plan);
        let needs_power = places.contains(&Place::Tree) || both.contains(&Kind::SourceQueueFull);
        places[0] == places[1] || needs_source || (needs_power && both.contains(&Kind::SourcePowerCut))
    }
}
