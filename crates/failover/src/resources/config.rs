//! What a group's resources are, and what they need.

use std::time::Duration;

/// Resources of one group.
pub const RESOURCES_MAX: usize = 1_000;

/// A resource: an address, a unit, an agent's instance …
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceConfig {
    /// Which others have to be up before it is started, and are stopped after it.
    pub requires: Vec<usize>,
    /// How long its start may take.
    pub start: Duration,
    /// How long its stop may take.
    pub stop: Duration,
    /// How it is looked at while it is up.
    pub looks: Vec<LookConfig>,
    /// So often it is restarted …
    pub restarts: u32,
    /// … within that time; then it is given up.
    pub within: Duration,
}

/// One way of looking at a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookConfig {
    /// From the end of one look to the begin of the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many have to fail, one after the other.
    pub failures: u32,
}

/// How a group's resources are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// All of them.
    pub resources: Vec<ResourceConfig>,
    /// So many are started and stopped at once.
    pub at_once: usize,
    /// Until a stop that failed is tried again.
    pub again: Duration,
}

/// Why resources cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResources {
    /// Of that resource, something is required that is none.
    #[error("resource {0} requires one that there is not")]
    Unknown(usize),
    /// Those can never be started: some require each other, in a ring.
    #[error("resources {0:?} can never be started: some of them require each other")]
    Never(Vec<usize>),
    /// More than [`RESOURCES_MAX`], or none may be started.
    #[error("too many resources, or none at once")]
    Amount,
}

impl ResourcesConfig {
    /// Can they be started in some order?
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), BadResources> {
        let count = self.resources.len();
        if count > RESOURCES_MAX || self.at_once == 0 {
            return Err(BadResources::Amount);
        }
        let is_known = |resource: &ResourceConfig| resource.requires.iter().all(|other| *other < count);
        if let Some(at) = self.resources.iter().position(|resource| !is_known(resource)) {
            return Err(BadResources::Unknown(at));
        }
        let order = self.order();
        let left: Vec<usize> = (0..count).filter(|at| !order.contains(at)).collect();
        if left.is_empty() { Ok(()) } else { Err(BadResources::Never(left)) }
    }

    /// Each after all that it requires; those that would never be started are not among them.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        loop {
            let is_next = |at: &usize| {
                !order.contains(at) && self.resources[*at].requires.iter().all(|other| order.contains(other))
            };
            let next: Vec<usize> = (0..self.resources.len()).filter(is_next).collect();
            if next.is_empty() {
                return order;
            }
            order.extend(next);
        }
    }

    /// By whom each is required.
    pub(super) fn required_by(&self) -> Vec<Vec<usize>> {
        let by =
            |at: usize| (0..self.resources.len()).filter(move |other| self.resources[*other].requires.contains(&at));
        (0..self.resources.len()).map(|at| by(at).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(requires: &[&[usize]]) -> Result<(), BadResources> {
        let of = |requires: &&[usize]| ResourceConfig { requires: requires.to_vec(), ..ResourceConfig::default() };
        ResourcesConfig { resources: requires.iter().map(of).collect(), at_once: 1, again: Duration::ZERO }.check()
    }

    #[test]
    fn what_can_never_be_started_is_named() {
        assert_eq!(check(&[&[], &[0], &[0, 1]]), Ok(()));
        assert_eq!(check(&[&[], &[7]]), Err(BadResources::Unknown(1)));
        assert_eq!(check(&[&[0]]), Err(BadResources::Never(vec![0])));
        assert_eq!(check(&[&[1], &[2], &[3], &[1], &[]]), Err(BadResources::Never(vec![0, 1, 2, 3])));
    }
}
