//! Two nodes that serve in turn, crash and come back, with receivers that are often away; and a few things looked at
//! closely.

use std::collections::BTreeMap;

use super::*;
use crate::planted::plant;
use crate::sim::Rng;

const SECOND: Duration = Duration::from_secs(1);

fn registrations(count: u64) -> Vec<Registration> {
    (0..count).map(|key| Registration { key, holds: key % 2 == 0, limit: 10 * SECOND }).collect()
}

/// A node: what it runs and what its disk holds.
struct Node {
    mind: Option<Outside>,
    disk: Told,
    /// Saves that are on their way, with when they are durable.
    saving: VecDeque<(Instant, u64, Told)>,
    /// What is being told: when it ends, its number, which one, under which epoch.
    telling: Option<(Instant, u64, usize, u64)>,
    /// The epoch under which it serves.
    epoch: Option<(u64, Option<Event>)>,
}

/// Everything, and what was heard.
struct World {
    nodes: [Node; 2],
    registrations: Vec<Registration>,
    now: Instant,
    rng: Rng,
    epoch: u64,
    /// One of so many tries fails; 0: none.
    faults: u64,
    /// By registration, the last epoch that was heard.
    heard: BTreeMap<usize, u64>,
    /// What a node said to be done, by node, registration and epoch.
    said: Vec<(usize, usize, u64)>,
    heard_often: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let (registrations, now) = (registrations(rng.range(1, 5)), Instant::now());
        let node = || {
            let told = Told::begin(1, &registrations);
            let mind = Some(Outside::new(&registrations, told.clone(), now));
            Node { mind, disk: told, saving: VecDeque::new(), telling: None, epoch: None }
        };
        let (nodes, faults) = ([node(), node()], rng.below(4));
        let (heard, said) = (BTreeMap::new(), Vec::new());
        World { nodes, registrations, now, rng, epoch: 0, faults, heard, said, heard_often: 0 }
    }

    fn give(&mut self, at: usize, input: Input) -> Result<(), String> {
        if let Some(mind) = &mut self.nodes[at].mind {
            mind.handle(input, self.now);
        }
        self.take(at)
    }

    fn take(&mut self, at: usize) -> Result<(), String> {
        while let Some(output) = self.nodes[at].mind.as_mut().and_then(Outside::poll_output) {
            match output {
                Output::Save { number, told } => {
                    let durable = self.now + Duration::from_millis(self.rng.range(1, 50));
                    self.nodes[at].saving.push_back((durable, number, told));
                }
                Output::Tell { id, registration, epoch, limit, .. } => {
                    let hangs = self.faults > 0 && self.rng.one_in(8);
                    let ends = self.now + if hangs { limit * 2 } else { Duration::from_millis(self.rng.range(1, 800)) };
                    self.nodes[at].telling = Some((ends, id, registration, epoch));
                }
                Output::Cancel { id } => {
                    let told = self.nodes[at].telling.take_if(|told| told.1 == id);
                    self.perhaps(at, told)?;
                }
                Output::Did { registration, .. } => {
                    let epoch = self.nodes[at].mind.as_ref().map_or(0, |mind| mind.told.epoch);
                    self.said.push((at, registration, epoch));
                }
                Output::Fails { .. } => {}
            }
        }
        Ok(())
    }

    /// Whoever is called off may have been heard before that.
    fn perhaps(&mut self, at: usize, told: Option<(Instant, u64, usize, u64)>) -> Result<(), String> {
        match told {
            Some((_, _, registration, epoch)) if self.rng.one_in(2) => self.hear(at, registration, epoch),
            _ => Ok(()),
        }
    }

    fn hear(&mut self, at: usize, registration: usize, epoch: u64) -> Result<(), String> {
        let before = self.heard.insert(registration, epoch).unwrap_or(0);
        self.heard_often += 1;
        if epoch < before {
            return Err(format!("{registration} heard of epoch {epoch} after {before}"));
        }
        if self.said.contains(&(at, registration, epoch)) {
            return Err(format!("{registration} heard of epoch {epoch} again, after {at} said that it was done"));
        }
        Ok(())
    }

    /// The next thing that is to happen on a node.
    fn due(&self, at: usize) -> Option<Instant> {
        let node = &self.nodes[at];
        let saved = node.saving.front().map(|saving| saving.0);
        let told = node.telling.map(|telling| telling.0);
        let mind = node.mind.as_ref().and_then(Outside::poll_timeout);
        [saved, told, mind].into_iter().flatten().min()
    }

    fn step(&mut self, until: Instant) -> Result<bool, String> {
        let next = (0..2).filter_map(|at| Some((self.due(at)?, at))).min().filter(|(due, _)| *due <= until);
        let Some((due, at)) = next else {
            self.now = until;
            return Ok(false);
        };
        self.now = self.now.max(due);
        let (now, node) = (self.now, &mut self.nodes[at]);
        if let Some((_, number, told)) = node.saving.pop_front_if(|saving| saving.0 <= now) {
            node.disk = told;
            self.give(at, Input::Saved { number })?;
        } else if let Some((_, id, registration, epoch)) = node.telling.take_if(|telling| telling.0 <= now) {
            let fails = self.faults > 0 && self.rng.one_in(self.faults + 1);
            if !fails || self.rng.one_in(8) {
                self.hear(at, registration, epoch)?;
            }
            let ended = if fails { Err(format!("no {}", self.rng.below(2))) } else { Ok(()) };
            self.give(at, Input::Done { id, ended })?;
        } else if let Some(mind) = &mut node.mind {
            mind.handle_timeout(now);
            self.take(at)?;
        }
        Ok(true)
    }

    fn run(&mut self, time: Duration) -> Result<(), String> {
        let until = self.now + time;
        while self.step(until)? {}
        Ok(())
    }

    fn crash(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        (node.mind, node.epoch) = (None, None);
        // What is on its way to the disk gets there in its order, or not.
        while self.rng.one_in(2)
            && let Some((_, _, told)) = node.saving.pop_front()
        {
            node.disk = told;
        }
        node.saving.clear();
        let told = node.telling.take();
        self.perhaps(at, told)
    }

    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.mind.is_none() {
            node.mind = Some(Outside::new(&self.registrations, node.disk.clone(), self.now));
        }
    }

    /// Nobody serves under an older epoch by then.
    fn move_to(&mut self, at: usize, event: Option<Event>) -> Result<(), String> {
        self.cease(1 - at)?;
        self.start(at);
        self.epoch += 1;
        self.serve(at, event)
    }

    fn serve(&mut self, at: usize, event: Option<Event>) -> Result<(), String> {
        self.nodes[at].epoch = Some((self.epoch, event));
        self.give(at, Input::Serves { epoch: self.epoch, event })
    }

    fn cease(&mut self, at: usize) -> Result<(), String> {
        self.nodes[at].epoch = None;
        self.give(at, Input::Ceases)
    }

    /// Where it serves, its daemon crashes and goes on; or it ceases and serves again.
    fn hiccup(&mut self) -> Result<(), String> {
        let serving = (0..2).find_map(|at| Some((at, self.nodes[at].epoch?)));
        let Some((at, (_, event))) = serving else { return Ok(()) };
        if self.rng.one_in(2) {
            self.crash(at)?;
            self.start(at);
        } else {
            self.cease(at)?;
        }
        let time = Duration::from_millis(self.rng.below(3_000));
        self.run(time)?;
        self.serve(at, event)
    }

    fn live(&mut self) -> Result<(), String> {
        self.move_to(0, None)?;
        for _ in 0..self.rng.range(5, 30) {
            let time = Duration::from_millis(self.rng.below(30_000));
            self.run(time)?;
            let at = self.rng.below(2) as usize;
            match self.rng.below(4) {
                0 => self.move_to(at, None)?,
                1 => {
                    self.crash(1 - at)?;
                    self.move_to(at, Some(Event::Failover))?;
                }
                _ => self.hiccup()?,
            }
        }
        self.faults = 0;
        self.run(400 * SECOND)?;
        self.run(400 * SECOND)
    }

    /// All that there is to tell was heard, from whoever serves last.
    fn end(&self) -> Result<(), String> {
        for (at, registration) in self.registrations.iter().enumerate() {
            let heard = self.heard.get(&at).copied().unwrap_or(0);
            if (registration.holds || self.epoch > 1) && heard != self.epoch {
                return Err(format!("{at} heard of epoch {heard} at last, and not of {}", self.epoch));
            }
        }
        Ok(())
    }
}

fn run(seed: u64) -> Result<u64, String> {
    let mut world = World::new(seed);
    world.live().and_then(|()| world.end())?;
    Ok(world.heard_often)
}

#[test]
fn every_seed_tells_what_is_and_nothing_twice() {
    let heard: u64 = (0..3_000).map(|seed| run(seed).unwrap_or_else(|found| panic!("seed {seed}: {found}"))).sum();
    assert!(heard > 10_000, "{heard}");
}

#[test]
fn every_planted_bug_is_caught() {
    for planted in [Planted::ToldUnsaved, Planted::ToldAfterwards] {
        plant(Some(planted));
        let caught = (0..1_000).find(|seed| run(*seed).is_err());
        plant(None);
        assert!(caught.is_some(), "{planted:?} was not caught");
    }
}

fn outputs(mind: &mut Outside) -> Vec<Output> {
    std::iter::from_fn(|| mind.poll_output()).collect()
}

fn serving(count: u64, now: Instant) -> Outside {
    let mut mind = Outside::new(&registrations(count), Told::default(), now);
    mind.handle(Input::Serves { epoch: 3, event: Some(Event::Failover) }, now);
    assert!(matches!(outputs(&mut mind)[..], [Output::Save { number: 1, .. }]), "nothing is told before it is durable");
    mind.handle(Input::Saved { number: 1 }, now);
    mind
}

#[test]
fn it_is_tried_later_and_later_until_it_is_done() {
    let mut now = Instant::now();
    let mut mind = serving(1, now);
    for (id, seconds) in (1..).zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
        assert!(matches!(outputs(&mut mind)[..], [Output::Tell { id: told, epoch: 3, .. }] if told == id));
        assert_eq!(mind.poll_timeout(), Some(now + 10 * SECOND));
        mind.handle(Input::Done { id, ended: Err("away".into()) }, now);
        let said = outputs(&mut mind);
        assert_eq!(said.len(), usize::from(id == 1), "a reason is said once: {said:?}");
        assert_eq!(mind.pending().collect::<Vec<_>>(), [(0, Some("away"))]);
        now += seconds * SECOND;
        assert_eq!(mind.poll_timeout(), Some(now));
        mind.handle_timeout(now);
    }
    mind.handle(Input::Done { id: 12, ended: Ok(()) }, now);
    assert!(matches!(&outputs(&mut mind)[1..], [Output::Save { told, .. }] if told.done.len() == 1));
    mind.handle(Input::Saved { number: 2 }, now);
    assert!(matches!(outputs(&mut mind)[..], [Output::Did { registration: 0, failed: 11, .. }]));
    assert_eq!((mind.poll_timeout(), mind.pending().count()), (None, 0));
}

#[test]
fn one_that_hangs_is_called_off_and_the_others_follow() {
    let now = Instant::now();
    let mut mind = serving(2, now);
    assert!(matches!(outputs(&mut mind)[..], [Output::Tell { id: 1, registration: 0, .. }]));
    mind.handle_timeout(now + 10 * SECOND);
    let told = outputs(&mut mind);
    assert!(matches!(
        told[..],
        [Output::Cancel { id: 1 }, Output::Fails { .. }, Output::Tell { id: 2, registration: 1, .. }]
    ));
    mind.handle(Input::Done { id: 1, ended: Ok(()) }, now + 10 * SECOND);
    assert!(outputs(&mut mind).is_empty(), "nobody waits for it");
}

#[test]
fn where_nothing_moved_only_what_holds_is_told() {
    let now = Instant::now();
    let mut mind = Outside::new(&registrations(2), Told::begin(3, &registrations(2)), now);
    mind.handle(Input::Serves { epoch: 3, event: None }, now);
    assert!(matches!(outputs(&mut mind)[..], [Output::Tell { registration: 0, .. }]));
    assert_eq!(mind.pending().count(), 1);
    let more = registrations(4);
    mind.reconfigure(&more, now);
    let told = outputs(&mut mind);
    assert!(matches!(told[..], [Output::Cancel { id: 1 }, Output::Save { .. }, Output::Tell { registration: 0, .. }]));
    assert_eq!(mind.pending().map(|(at, _)| at).collect::<Vec<_>>(), [0, 2], "the new hook tells of the next move");
}
