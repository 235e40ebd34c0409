//! Random graphs of resources that fail at random, and a few that are looked at closely.

use std::collections::BTreeMap;

use super::*;
use crate::planted::plant;
use crate::sim::Rng;

const SECOND: Duration = Duration::from_secs(1);

fn config(requires: &[&[usize]], looks: &[LookConfig]) -> ResourcesConfig {
    let of = |requires: &&[usize]| ResourceConfig {
        requires: requires.to_vec(),
        start: 10 * SECOND,
        stop: 10 * SECOND,
        looks: looks.to_vec(),
        restarts: 2,
        within: 60 * SECOND,
    };
    let resources = requires.iter().map(of).collect();
    ResourcesConfig { resources, at_once: 8, again: SECOND }
}

const LOOK: LookConfig = LookConfig { interval: SECOND, timeout: Duration::from_millis(500), failures: 2 };

/// What the resources are in truth, and what is being done with them.
struct World {
    mind: Resources,
    config: ResourcesConfig,
    runs: Vec<bool>,
    /// What ends when: its number, the resource, and what it was to be; none: a look.
    doing: BTreeMap<(Instant, u64), (usize, Option<Goal>)>,
    now: Instant,
    rng: Rng,
    /// One in so many fails; 0: none.
    faults: u64,
    told: Vec<Output>,
    wrong: Option<String>,
}

impl World {
    fn new(config: ResourcesConfig, seed: u64, faults: u64) -> World {
        let mut rng = Rng::new(seed);
        let runs = config.resources.iter().map(|_| faults > 0 && rng.one_in(3)).collect();
        let mind = Resources::new(config.clone()).unwrap();
        let (doing, now, told, wrong) = (BTreeMap::new(), Instant::now(), Vec::new(), None);
        World { mind, config, runs, doing, now, rng, faults, told, wrong }
    }

    fn give(&mut self, input: Input) {
        self.mind.handle(input, self.now);
        self.take();
    }

    fn take(&mut self) {
        while let Some(output) = self.mind.poll_output() {
            match output {
                Output::Do { id, resource, goal, limit } => self.begin(id, resource, goal, limit),
                Output::Look { id, resource, limit, .. } => {
                    let ends = self.ends(limit);
                    self.doing.insert((ends, id), (resource, None));
                }
                Output::Cancel { id } => self.cancel(id),
                other => self.told.push(other),
            }
        }
    }

    /// Mostly soon; a few hang beyond their limit.
    fn ends(&mut self, limit: Duration) -> Instant {
        let hangs = self.faults > 0 && self.rng.one_in(self.faults * 2);
        self.now + if hangs { limit * 2 } else { limit.mul_f64(self.rng.range(1, 50) as f64 / 100.0) }
    }

    fn begin(&mut self, id: u64, at: usize, goal: Goal, limit: Duration) {
        if self.doing.values().any(|(other, goal)| *other == at && goal.is_some()) {
            self.wrong.get_or_insert(format!("two things are done with {at} at once"));
        }
        let requires = |other: usize, at: usize| self.config.resources[other].requires.contains(&at);
        let all = 0..self.runs.len();
        let broken = match goal {
            Goal::Up => all.clone().find(|other| requires(at, *other) && !self.runs[*other]),
            Goal::Down => all.clone().find(|other| requires(*other, at) && self.runs[*other]),
        };
        if let Some(other) = broken {
            self.wrong.get_or_insert(format!("{at} goes {goal:?}, and {other} does not fit"));
        }
        let ends = self.ends(limit);
        self.doing.insert((ends, id), (at, Some(goal)));
    }

    /// What was begun may have come about, or not.
    fn cancel(&mut self, id: u64) {
        let Some(key) = self.doing.keys().find(|(_, doing)| *doing == id).copied() else { return };
        let (at, goal) = self.doing.remove(&key).unwrap();
        if let Some(goal) = goal.filter(|_| self.rng.one_in(2)) {
            self.runs[at] = goal == Goal::Up;
        }
    }

    fn fails(&mut self) -> bool {
        self.faults > 0 && self.rng.one_in(self.faults)
    }

    fn end(&mut self, id: u64, at: usize, goal: Option<Goal>) {
        let reach = if self.rng.one_in(8) { Reach::Node } else { Reach::Now };
        let fails = self.fails();
        match goal {
            Some(_) if fails => {
                // It may be so all the same.
                self.runs[at] = self.rng.one_in(2);
                self.give(Input::Done { id, ended: Ended::Bad("as told".into(), reach) });
            }
            Some(goal) => {
                self.runs[at] = goal == Goal::Up;
                self.give(Input::Done { id, ended: Ended::Good });
            }
            None => {
                let seen = match (self.runs[at] && !fails, self.rng.one_in(4)) {
                    (true, _) => Seen::Good,
                    (false, true) => Seen::Unknown("as told".into()),
                    (false, false) => Seen::Bad("as told".into(), reach),
                };
                self.give(Input::Looked { id, seen });
            }
        }
    }

    /// Goes on for so long; the next thing that happens comes first.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut steps = 0;
        loop {
            steps += 1;
            let ends = self.doing.first_key_value().map(|((at, _), _)| *at);
            let timer = self.mind.poll_timeout();
            let next = [ends, timer].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(next) = next else { break };
            if steps > 1_000_000 {
                self.wrong.get_or_insert("it does not come to rest".into());
                break;
            }
            self.now = self.now.max(next);
            match self.doing.first_key_value().filter(|((at, _), _)| *at <= self.now).map(|(key, doing)| (*key, *doing))
            {
                Some((key, (at, goal))) => {
                    self.doing.remove(&key);
                    self.end(key.1, at, goal);
                }
                None => {
                    self.mind.handle_timeout(self.now);
                    self.take();
                    if self.mind.poll_timeout().is_some_and(|at| at <= self.now) {
                        self.wrong.get_or_insert("a timer stays due".into());
                        break;
                    }
                }
            }
        }
        self.now = until;
    }

    fn has(&mut self, output: &Output) -> bool {
        let at = self.told.iter().position(|told| told == output);
        at.map(|at| self.told.drain(..=at)).is_some()
    }

    fn restarts(&self) -> usize {
        self.told.iter().filter(|told| matches!(told, Output::Restarts { .. })).count()
    }
}

/// Whoever comes later may require whoever came before.
fn graph(rng: &mut Rng) -> ResourcesConfig {
    let count = rng.range(1, 12) as usize;
    let requires: Vec<Vec<usize>> = (0..count).map(|at| (0..at).filter(|_| rng.one_in(3)).collect()).collect();
    let requires: Vec<&[usize]> = requires.iter().map(Vec::as_slice).collect();
    ResourcesConfig { at_once: rng.range(1, 5) as usize, ..config(&requires, &[LOOK]) }
}

/// Faults for a while, then none: what is wanted then comes about.
fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut world = World::new(graph(&mut rng), seed, rng.range(3, 30));
    for _ in 0..rng.range(1, 12) {
        let goal = if rng.one_in(3) { Goal::Down } else { Goal::Up };
        world.give(Input::Want(goal));
        if rng.one_in(8) {
            world.give(Input::Maintain(rng.one_in(2)));
        }
        world.pass(Duration::from_millis(rng.range(1, 40_000)));
    }
    world.faults = 0;
    world.give(Input::Maintain(false));
    for goal in [Goal::Up, Goal::Down] {
        // What hung before the faults ended may give it up once more.
        for _ in 0..3 {
            world.give(Input::Want(goal));
            world.pass(60 * SECOND);
        }
        let is_so = world.runs.iter().all(|runs| *runs == (goal == Goal::Up));
        if !is_so || world.mind.goal() != goal || !world.mind.reached {
            world.wrong.get_or_insert(format!("they do not become {goal:?}: {:?}", world.runs));
        }
    }
    world.wrong.map_or(Ok(()), Err)
}

#[test]
fn whatever_fails_the_order_is_kept_and_the_goal_is_reached() {
    for seed in 0..2_000 {
        run(seed).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [Planted::StartTooEarly, Planted::StopTooEarly] {
        plant(Some(bug));
        let found = (0..200).find(|seed| run(*seed).is_err());
        plant(None);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}

#[test]
fn independent_ones_take_no_longer_than_the_longest_chain() {
    // Ten chains of five.
    let requires: Vec<Vec<usize>> = (0..50).map(|at| if at % 5 == 0 { vec![] } else { vec![at - 1] }).collect();
    let requires: Vec<&[usize]> = requires.iter().map(Vec::as_slice).collect();
    let config = ResourcesConfig { at_once: 50, ..config(&requires, &[]) };
    let mut mind = Resources::new(config).unwrap();
    let begin = Instant::now();
    for goal in [Goal::Up, Goal::Down] {
        mind.handle(Input::Want(goal), begin);
        for round in 1..=5 {
            let begun: Vec<_> = std::iter::from_fn(|| mind.poll_output()).collect();
            assert_eq!(begun.len(), 10, "{begun:?}");
            for output in begun {
                let Output::Do { id, .. } = output else { panic!("{output:?}") };
                mind.handle(Input::Done { id, ended: Ended::Good }, begin + round * SECOND);
            }
        }
        assert_eq!(mind.poll_output(), Some(Output::Reached(goal)));
    }
}

#[test]
fn a_service_that_dies_is_restarted_with_what_requires_it_and_given_up_in_the_end() {
    let mut world = World::new(config(&[&[], &[0], &[]], &[LOOK]), 1, 0);
    world.give(Input::Want(Goal::Up));
    world.pass(20 * SECOND);
    assert!(world.has(&Output::Reached(Goal::Up)));
    for _ in 0..2 {
        world.runs[0] = false;
        world.pass(25 * SECOND);
        assert!(world.has(&Output::Restarts { resource: 0, why: "as told".into() }));
        assert!(world.has(&Output::Reached(Goal::Up)) && world.runs == [true; 3]);
    }
    world.runs[0] = false;
    world.pass(25 * SECOND);
    assert!(world.has(&Output::GivesUp { resource: 0, why: "as told".into(), reach: Reach::Now }));
    assert!(world.has(&Output::Reached(Goal::Down)) && world.runs == [false; 3], "undone cleanly");
}

#[test]
fn in_maintenance_nothing_is_done_about_what_is_seen() {
    let mut world = World::new(config(&[&[]], &[LOOK]), 2, 0);
    world.give(Input::Want(Goal::Up));
    world.give(Input::Maintain(true));
    world.pass(20 * SECOND);
    world.runs[0] = false;
    world.pass(60 * SECOND);
    assert!(world.restarts() == 0 && matches!(world.told.last(), Some(Output::Amiss { what: Some(_), .. })));
    world.give(Input::Maintain(false));
    world.pass(20 * SECOND);
    assert_eq!((world.restarts(), world.runs[0]), (1, true));
}

#[test]
fn it_is_well_again_when_all_of_its_looks_say_so() {
    let slow = LookConfig { interval: 3 * SECOND, failures: 9, ..LOOK };
    let mut mind = Resources::new(config(&[&[]], &[LOOK, slow])).unwrap();
    let (mut now, mut told) = (Instant::now(), Vec::new());
    mind.handle(Input::Want(Goal::Up), now);
    for second in 0..30 {
        now += SECOND;
        while let Some(output) = mind.poll_output() {
            match output {
                Output::Do { id, .. } => mind.handle(Input::Done { id, ended: Ended::Good }, now),
                Output::Look { id, look, .. } => {
                    let is_bad = look == 1 && second < 15;
                    let seen = if is_bad { Seen::Bad("as told".into(), Reach::Now) } else { Seen::Good };
                    mind.handle(Input::Looked { id, seen }, now);
                }
                other => told.push(other),
            }
        }
        mind.handle_timeout(now);
    }
    let amiss = |what: Option<&str>| Output::Amiss { resource: 0, what: what.map(Into::into) };
    assert_eq!(told, [Output::Reached(Goal::Up), amiss(Some("as told")), amiss(None)]);
}

/// What comes of looks that say that, one after the other, where two have to fail.
fn after_looks(seen: &[Seen]) -> Vec<Output> {
    let (mut mind, mut now) = (Resources::new(config(&[&[]], &[LOOK])).unwrap(), Instant::now());
    mind.handle(Input::Want(Goal::Up), now);
    mind.handle(Input::Done { id: 1, ended: Ended::Good }, now);
    let mut told = Vec::new();
    for seen in seen {
        now += SECOND;
        mind.handle_timeout(now);
        while let Some(output) = mind.poll_output() {
            match output {
                Output::Look { id, .. } => mind.handle(Input::Looked { id, seen: seen.clone() }, now),
                other => told.push(other),
            }
        }
    }
    told
}

#[test]
fn a_look_that_tells_nothing_ends_no_row_of_failures() {
    let (bad, unknown) = (Seen::Bad("as told".into(), Reach::Now), Seen::Unknown("?".into()));
    let restarts = |seen: &[Seen]| after_looks(seen).iter().any(|told| matches!(told, Output::Restarts { .. }));
    assert!(restarts(&[bad.clone(), unknown.clone(), unknown.clone(), bad.clone()]));
    assert!(!restarts(&[bad.clone(), Seen::Good, unknown.clone(), bad.clone()]));
    assert!(!restarts(&[bad, unknown.clone(), unknown]));
}

#[test]
fn what_is_not_known_never_acts() {
    let mut mind = Resources::new(config(&[&[]], &[LOOK])).unwrap();
    let mut now = Instant::now();
    mind.handle(Input::Want(Goal::Up), now);
    for _ in 0..100 {
        now += SECOND;
        while let Some(output) = mind.poll_output() {
            match output {
                Output::Do { id, goal: Goal::Up, .. } => mind.handle(Input::Done { id, ended: Ended::Good }, now),
                Output::Look { id, .. } => mind.handle(Input::Looked { id, seen: Seen::Unknown("?".into()) }, now),
                Output::Reached(Goal::Up) | Output::Amiss { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        mind.handle_timeout(now);
    }
    assert!(mind.is_up(0));
}
