//! The targets of a running source: which number each has, what the plan says of it, since when it does what it does.

use std::collections::BTreeMap;

use stead_model::NodeName;
use stead_replication::source::TargetId;

use super::lag::Lag;
use super::view::{LastLevel, Since};
use crate::seam::TargetLink;

/// Numbers that a source has for its targets.
const IDS: std::ops::Range<TargetId> = 0..31;

/// A target.
pub(super) struct Tracked {
    pub(super) link: TargetLink,
    pub(super) since: Since,
    pub(super) level: LastLevel,
    pub(super) lag: Lag,
}

/// All targets of a source.
#[derive(Default)]
pub(super) struct Targets(pub(super) BTreeMap<TargetId, Tracked>);

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Turn {
    Added(TargetId),
    Removed(TargetId),
    Paused(TargetId, bool),
}

impl Targets {
    /// Takes what the plan says now; returns what that changes. Targets keep their numbers.
    pub(super) fn take(&mut self, links: &[TargetLink]) -> Vec<Turn> {
        let gone = |tracked: &Tracked| !links.iter().any(|link| link.node == tracked.link.node);
        let removed: Vec<_> = self.0.iter().filter(|(_, tracked)| gone(tracked)).map(|(id, _)| *id).collect();
        removed.iter().for_each(|id| drop(self.0.remove(id)));
        let mut turns: Vec<_> = removed.into_iter().map(Turn::Removed).collect();
        for link in links {
            match self.0.iter_mut().find(|(_, tracked)| tracked.link.node == link.node) {
                Some((id, tracked)) => {
                    turns.extend((tracked.link.paused != link.paused).then_some(Turn::Paused(*id, link.paused)));
                    tracked.link = link.clone();
                }
                None => turns.extend(self.add(link)),
            }
        }
        turns
    }

    /// The number of a target.
    pub(super) fn id(&self, node: &NodeName) -> Option<TargetId> {
        self.0.iter().find(|(_, tracked)| tracked.link.node == *node).map(|(id, _)| *id)
    }

    /// The name of a target; empty for one that is gone.
    pub(super) fn name(&self, target: TargetId) -> &str {
        self.0.get(&target).map_or("", |tracked| tracked.link.node.as_str())
    }

    /// All numbers.
    pub(super) fn ids(&self) -> Vec<TargetId> {
        self.0.keys().copied().collect()
    }

    /// What the plan says of them, with their numbers.
    pub(super) fn links(&self) -> impl Iterator<Item = (TargetId, &TargetLink)> {
        self.0.iter().map(|(id, tracked)| (*id, &tracked.link))
    }

    fn add(&mut self, link: &TargetLink) -> Vec<Turn> {
        let Some(id) = IDS.clone().find(|id| !self.0.contains_key(id)) else { return Vec::new() };
        self.0.insert(
            id,
            Tracked { link: link.clone(), since: Since::new(), level: LastLevel::default(), lag: Lag::default() },
        );
        let paused = link.paused.then_some(Turn::Paused(id, true));
        [Turn::Added(id)].into_iter().chain(paused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::plan::{Mode, SettingsSpec};

    fn link(node: &str, paused: bool) -> TargetLink {
        let settings = SettingsSpec::default().settings();
        TargetLink {
            node: node.parse().unwrap(),
            route: None,
            mode: Mode::Async,
            fresh: false,
            seeded: false,
            paused,
            settings,
        }
    }

    #[test]
    fn who_stays_keeps_its_number_and_a_free_one_is_used_again() {
        let mut targets = Targets::default();
        let all = [link("lyon", false), link("nice", true), link("metz", false)];
        let turns = targets.take(&all);
        assert_eq!(turns, [Turn::Added(0), Turn::Added(1), Turn::Paused(1, true), Turn::Added(2)]);
        assert_eq!(targets.take(&all), []);
        let turns = targets.take(&[link("metz", true), link("nice", true), link("brest", false)]);
        assert_eq!(turns, [Turn::Removed(0), Turn::Paused(2, true), Turn::Added(0)]);
        assert_eq!(targets.id(&"metz".parse().unwrap()), Some(2));
        assert_eq!((targets.name(0), targets.name(7)), ("brest", ""));
    }
}
