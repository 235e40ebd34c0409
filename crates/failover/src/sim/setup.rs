//! What one run is made of.

use std::time::Duration;

use super::clock::Micros;
use super::node::id;
use super::rng::Rng;
use super::world::MS;
use crate::ids::GroupId;
use crate::lease::{Times, WitnessConfig};
use crate::machine::{Action, Config, Limits, OnFailure, Outcome, Policy, Resources, Step, Turn};
use crate::monitor::MonitorConfig;

/// Nodes, policies and how actions go.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub witness: bool,
    pub policy: Policy,
    /// Persons insist: then two may serve for a while, and no checker says that they must not.
    pub forces: bool,
    /// One fault at a time, of whoever serves: then nobody serves for a bounded time only.
    pub calm: bool,
    /// Every word takes up to 3 s, and most claims come to nothing.
    pub murky: bool,
    pub fence: bool,
    pub scripts: bool,
    /// Has it resources that depend on each other? Of a few seeds, so that the others go as they always went.
    pub resources: bool,
    /// Has it files that are others while a node serves? Likewise.
    pub role_files: bool,
    /// The seed of the dice of the agents of its resources, of a few of those that have any: `None`: they are one step.
    pub agents: Option<u64>,
    pub slow_disk: bool,
    pub timeout: Duration,
    /// Heartbeats at 20 ms, a time-out of 60 ms, and an address alone.
    pub fast: bool,
    /// The shipped codec between the nodes.
    pub with_bytes: bool,
    /// Whoever is asked says yes.
    pub person_answers: bool,
    /// Nothing is random but what the script says.
    pub scripted: bool,
    /// Outcome of that step from now on, in a script.
    pub goes: Option<(Step, Outcome)>,
    /// How long that step takes from now on, in a script.
    pub takes: Option<(Step, Micros)>,
}

impl Setup {
    pub fn random(seed: u64, rng: &mut Rng) -> Setup {
        let calm = rng.one_in(6);
        let witness = calm || !rng.one_in(4);
        let policy = match rng.below(6) {
            _ if calm => Policy::Automatic,
            0 => Policy::Approve,
            1 if !witness => Policy::UnsafeTwoNode,
            _ => Policy::Automatic,
        };
        Setup {
            witness,
            policy,
            forces: !calm && rng.one_in(8),
            calm,
            murky: !calm && rng.one_in(5),
            fence: rng.one_in(4),
            scripts: rng.one_in(2),
            resources: seed % 4 == 3,
            role_files: seed % 4 == 1,
            agents: (seed % 8 == 7 && !calm).then_some(seed),
            slow_disk: rng.one_in(5),
            fast: false,
            timeout: Duration::from_millis([3_000, 3_000, 1_500, 5_000][rng.below(4) as usize]),
            with_bytes: seed.is_multiple_of(8),
            person_answers: true,
            scripted: false,
            goes: None,
            takes: None,
        }
    }

    /// Three nodes, all that a plan can have, nothing random.
    #[cfg(test)]
    pub fn scripted() -> Setup {
        Setup {
            witness: true,
            policy: Policy::Automatic,
            forces: false,
            calm: false,
            murky: false,
            fence: false,
            scripts: true,
            resources: false,
            role_files: false,
            agents: None,
            slow_disk: false,
            fast: false,
            timeout: Duration::from_secs(3),
            with_bytes: true,
            person_answers: false,
            scripted: true,
            goes: None,
            takes: None,
        }
    }

    pub fn times(&self) -> Times {
        if self.fast {
            return Times::without_witness(Duration::from_millis(60));
        }
        let wait = Duration::from_secs(3);
        Times::for_wait(wait, Times::usual_stop_budget(wait), Duration::from_millis(500)).expect("the usual ones fit")
    }

    pub fn witness(&self) -> WitnessConfig {
        WitnessConfig { group: GroupId::of("notes"), nodes: [id(0), id(1)], times: self.times() }
    }

    pub fn config(&self, at: usize, boot: u32) -> Config {
        let seconds = Duration::from_secs;
        let script = self.scripts.then_some(OnFailure::GoOn);
        let resources = Resources {
            fence: self.fence,
            references: true,
            capture: true,
            addresses: 1,
            services: 1,
            resources: self.resources,
            role_files: self.role_files,
            pre_failover: script,
            post_failover: script,
            pre_failback: script,
            post_failback: script,
        };
        let limits = Limits {
            references: seconds(2),
            fence: seconds(10),
            drain: seconds(4),
            script: seconds(4),
            resource: seconds(2),
            service: seconds(4),
            resources: seconds(4),
            hand_over: seconds(4),
            tell: seconds(2),
            confirm: seconds(8),
            planned: seconds(20),
            tries: 3,
            again: Duration::from_millis(500),
        };
        let ms = Duration::from_millis;
        let (interval, timeout) = if self.fast { (ms(20), ms(60)) } else { (ms(500), self.timeout) };
        let resources = if self.fast { Resources { addresses: 1, ..Resources::default() } } else { resources };
        let config = Config {
            group: GroupId::of("notes"),
            me: id(at),
            peer: id(1 - at),
            home: id(0),
            witness: self.witness.then(|| id(2)),
            monitor: MonitorConfig { paths: 2, interval, timeout, leave_grace: seconds(10) },
            times: self.times(),
            policy: self.policy,
            resources,
            limits,
            synchronous: false,
            run: boot,
        };
        assert_eq!(config.check(), Ok(()));
        config
    }

    /// How an action goes, and how long it takes; `None`: it never ends.
    pub fn outcome(&self, action: &Action, faulty: bool, rng: &mut Rng) -> (Outcome, Option<Micros>) {
        if self.scripted {
            // Where they cannot be started, they can be stopped.
            let is_meant = action.step != Step::Resources || action.turn == Turn::Do;
            let outcome =
                self.goes.clone().filter(|(step, _)| *step == action.step && is_meant).map(|(_, outcome)| outcome);
            let takes = self.takes.filter(|(step, _)| *step == action.step).map(|(_, takes)| takes);
            return (outcome.unwrap_or(Outcome::Done), Some(takes.unwrap_or(usual(action.step))));
        }
        let slow = if action.step == Step::Fence && !self.calm { 9_000 * MS } else { 1_500 * MS };
        let longest = if rng.one_in(10) { slow } else { 40 * MS };
        let takes = Some(1 + rng.below(longest));
        if faulty && self.murky && action.step == Step::References && !rng.one_in(3) {
            return (Outcome::Unknown("who knows".into()), takes);
        }
        match rng.below(if faulty { 40 } else { 2 }) {
            0 => (Outcome::Already, takes),
            2 => (Outcome::Failed("it does not".into()), takes),
            3 => (Outcome::Unknown("who knows".into()), takes),
            4 => (Outcome::Done, None),
            _ => (Outcome::Done, takes),
        }
    }
}

fn usual(step: Step) -> Micros {
    MS * match step {
        Step::Service(_) | Step::Resources => 120,
        Step::Script(_) => 40,
        Step::HandOver => 60,
        Step::Fence => 800,
        _ => 2,
    }
}
