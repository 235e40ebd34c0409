//! What has to hold: at consistent points, when a wait ends, and at rest.

use super::{EVENTS_MAX, World};
use crate::source::{Command, SourceInput, TargetId};

impl World {
    /// The application works, faults come.
    pub(super) fn live(&mut self) -> Result<(), String> {
        while self.operations_left > 0 {
            self.step()?;
        }
        Ok(())
    }

    /// No more faults: everything has to become equal.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        self.quiet = true;
        let targets: Vec<TargetId> = self.nodes.keys().copied().collect();
        targets.into_iter().for_each(|target| self.input(SourceInput::Command(Command::Resume { target })));
        self.ask_mark();
        for _ in 0..EVENTS_MAX {
            if self.is_at_rest() {
                return self.check_rest();
            }
            self.step()?;
        }
        Err(format!("it does not come to rest: {}", self.describe()))
    }

    /// At rest a verify finds nothing, or what was changed, which is then put right.
    pub(super) fn verify(&mut self) -> Result<(), String> {
        let choice = self.rng.below(1000);
        let image = self.tree.image();
        let corrupted = self.rng.one_in(2)
            && self.nodes.get_mut(&0).is_some_and(|node| node.replica.corrupt(choice))
            && image.difference(&self.nodes[&0].replica.image()).is_some();
        let found = self.verify_once(corrupted)?;
        if corrupted && found == 0 {
            let difference = self.tree.image().difference(&self.nodes[&0].replica.image());
            return Err(format!("a verify does not find what was changed behind its back: {difference:?}"));
        }
        if !corrupted && found > 0 {
            return Err(format!("a verify at rest finds {found} differences: {:?}", self.verified));
        }
        if corrupted && self.verify_once(false)? > 0 {
            return Err(format!("a repair did not put it right: {:?}", self.verified));
        }
        self.check_rest()
    }

    /// Everything up to the mark is on every replica: it is the source at that change or a later one.
    pub(super) fn check_mark(&self, captured: u64) -> Result<(), String> {
        for (target, node) in &self.nodes {
            let short = |at: &u64| *at < captured && self.tree.history[at] != self.tree.history[&captured];
            if let Some(at) = node.at_point.filter(short) {
                return Err(format!("a wait for {captured} ended, but target {target} is at {at}"));
            }
        }
        Ok(())
    }

    /// The replica is the source at exactly that change.
    pub(super) fn check_point(&mut self, target: TargetId, time: u64) -> Result<(), String> {
        self.report.points += 1;
        let Some(then) = self.tree.history.get(&time) else { return Err(format!("there is no change {time}")) };
        let image = self.nodes[&target].replica.image();
        match then.difference(&image) {
            Some(difference) if !self.quiet || self.verified.is_empty() => {
                Err(format!("target {target} is not the source at its consistent point {time}:\n  {difference}"))
            }
            _ => Ok(()),
        }
    }

    fn check_rest(&mut self) -> Result<(), String> {
        let image = self.tree.image();
        for (target, node) in &self.nodes {
            if !self.corrupted
                && let Some(difference) = image.difference(&node.replica.image())
            {
                return Err(format!("target {target} differs at rest:\n  {difference}"));
            }
        }
        Ok(())
    }

    fn verify_once(&mut self, repair: bool) -> Result<u64, String> {
        self.verified.clear();
        let id = self.ask_verify(repair);
        for _ in 0..EVENTS_MAX {
            if let Some(Ok(found)) = self.verified.get(&id) {
                let different = found.different;
                return if self.is_at_rest() { Ok(different) } else { self.settle().map(|()| different) };
            }
            self.step()?;
        }
        Err(format!("a verify does not end: {}", self.describe()))
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..EVENTS_MAX {
            if self.is_at_rest() {
                return Ok(());
            }
            self.step()?;
        }
        Err(format!("it does not come to rest after a verify: {}", self.describe()))
    }

    fn is_at_rest(&self) -> bool {
        let still = |target: &TargetId| {
            self.source.view(*target).is_some_and(|view| {
                view.state == stead_model::status::State::Replicating && view.applied == view.captured
            })
        };
        let serves = |node: &super::Node| node.standing.is_some();
        let standing = self.nodes.values().any(serves);
        !standing
            && self.tree.ring.is_empty()
            && self.retained.again.is_empty()
            && self.marks.is_empty()
            && self.nodes.keys().all(still)
            && !self.verify_runs()
    }

    fn verify_runs(&self) -> bool {
        self.verified.values().any(|result| result == &Err("running".into()))
    }

    pub(super) fn describe(&self) -> String {
        let views: Vec<_> = self.nodes.keys().map(|target| self.source.view(*target)).collect();
        let targets: Vec<_> = self.nodes.values().map(|node| node.target.view()).collect();
        let source = format!("{:?}", self.source);
        let scan = source.find("jobs: ").map_or("", |at| &source[at..source.len().min(at + 3_000)]);
        for node in self.nodes.values().filter(|_| self.trace) {
            println!("{:?}", node.target);
        }
        format!("{views:?} {targets:?} marks {:?} ring {} {scan}", self.marks, self.tree.ring.len())
    }
}
