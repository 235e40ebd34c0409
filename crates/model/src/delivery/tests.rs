use std::panic::{AssertUnwindSafe, catch_unwind};

use super::pace::{ATTEMPTS_MAX, TRIED_FOR_MAX};
use super::planted::{Planted, plant};
use super::*;
use crate::alert::{Alert, Edge, Wrong};
use crate::status::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const EACH: Policy = Policy { gather: Duration::ZERO, batch_max: 1, per_minute: 60 };
const MAIL: Policy = Policy { gather: Duration::from_secs(5), batch_max: 100, per_minute: 4 };

fn notice(number: u64, event: Edge, alarm: u64) -> Notice {
    let alert = Alert {
        wrong: Wrong::Behind,
        set: format!("set{alarm}").parse().unwrap(),
        source: "paris".parse().unwrap(),
        target: "lyon".parse().unwrap(),
        since: Timestamp(0),
        text: "late".into(),
    };
    Notice { number, event, at: Timestamp(number), node: "paris".parse().unwrap(), alert }
}

fn policies(all: &[(&str, Policy)]) -> BTreeMap<String, Policy> {
    all.iter().map(|(name, policy)| ((*name).to_owned(), *policy)).collect()
}

/// With one receiver, and the time at which it begins.
fn one(policy: Policy) -> (Deliveries, Instant) {
    let (mut deliveries, now) = (Deliveries::default(), Instant::now());
    deliveries.set_receivers(&policies(&[("noc", policy)]), now);
    (deliveries, now)
}

#[test]
fn what_begins_together_is_one_message() {
    let (mut mail, now) = one(MAIL);
    (1..=3).for_each(|n| mail.tell(&notice(n, Edge::Raise, n), now));
    assert_eq!(mail.poll_message(now), None, "it is gathered first");
    assert_eq!(mail.poll_timeout(), Some(now + MAIL.gather));
    let message = mail.poll_message(now + MAIL.gather).unwrap();
    assert_eq!((message.notices.len(), message.held_back), (3, 0));
    assert_eq!(mail.poll_message(now + MAIL.gather), None, "one at a time");
    mail.arrived("noc", now + MAIL.gather);
    assert_eq!((mail.poll_timeout(), mail.backlog("noc")), (None, (0, 0)));
}

#[test]
fn what_fails_is_tried_again_later_and_later_and_not_for_ever() {
    let (mut noc, mut now) = one(EACH);
    noc.tell(&notice(1, Edge::Raise, 1), now);
    let (begin, mut waits) = (now, Vec::new());
    loop {
        assert_eq!(noc.poll_message(now).unwrap().notices.len(), 1);
        match noc.failed("noc", now) {
            Some(Fate::Again(wait)) => waits.push(wait),
            fate => break assert_eq!(fate, Some(Fate::GivenUp(1))),
        }
        now = noc.poll_timeout().unwrap();
    }
    assert!(waits.is_sorted() && waits[..3] == [SECOND, 2 * SECOND, 4 * SECOND], "{waits:?}");
    assert!(waits.len() < ATTEMPTS_MAX as usize && now - begin <= TRIED_FOR_MAX);
    assert_eq!(noc.poll_timeout(), None, "nothing more until something happens");
    noc.tell(&notice(2, Edge::Raise, 2), now);
    let message = noc.poll_message(now).unwrap();
    assert_eq!((message.notices[0].number, message.held_back), (1, 0), "what it missed lasts, and comes first");
}

#[test]
fn a_storm_is_condensed_and_its_size_told() {
    let (mut noc, mut now) = one(EACH);
    for n in 0..501 {
        noc.tell(&notice(n, if n % 2 == 0 { Edge::Raise } else { Edge::Clear }, 1), now);
    }
    let (mut events, mut held_back) = (Vec::new(), 0);
    while noc.poll_timeout().is_some_and(|at| at < now + 600 * SECOND) {
        now = now.max(noc.poll_timeout().unwrap());
        while let Some(message) = noc.poll_message(now) {
            noc.arrived("noc", now);
            held_back += message.held_back;
            events.extend(message.notices.into_iter().map(|notice| notice.event));
        }
        noc.poll_message(now);
    }
    assert!(events.len() <= 61, "{}", events.len());
    assert_eq!((events.len() as u64 + held_back, events.last()), (501, Some(&Edge::Raise)));
}

#[test]
fn who_is_new_is_told_what_is_wrong_and_who_is_gone_is_forgotten() {
    let (mut noc, now) = one(EACH);
    noc.tell(&notice(1, Edge::Raise, 1), now);
    assert!(noc.set_receivers(&policies(&[("mail", MAIL)]), now));
    assert!(!noc.set_receivers(&policies(&[("mail", MAIL)]), now), "nothing is else");
    let message = noc.poll_message(now + MAIL.gather).unwrap();
    assert_eq!((message.receiver.as_str(), message.notices.len()), ("mail", 1));
    assert_eq!((noc.failed("noc", now), noc.backlog("noc")), (None, (0, 0)));
}

#[test]
fn the_json_has_its_shape() {
    let message = Message { receiver: "noc".into(), notices: vec![notice(7, Edge::Clear, 1)], held_back: 2 };
    let json = message.to_json(&"paris".parse().unwrap());
    let expected = serde_json::json!({
        "version": 1, "node": "paris", "held_back": 2,
        "alarms": [{
            "id": "paris/behind/set1/lyon", "number": 7, "event": "clear", "at": "1970-01-01T00:00:00.000Z",
            "kind": "behind", "severity": "warning", "set": "set1", "source": "paris", "target": "lyon",
            "since": "1970-01-01T00:00:00.000Z", "text": "late",
        }],
    });
    assert_eq!(json, expected);
}

/// Alarms that come and go, receivers that come and go, a process that is started again and again.
struct World {
    deliveries: Deliveries,
    receivers: Vec<Receiver>,
    raised: BTreeMap<u64, bool>,
    told: u64,
    now: Instant,
    random: u64,
}

struct Receiver {
    name: &'static str,
    policy: Policy,
    is_up: bool,
    /// What it takes for wrong, as the messages that arrived say.
    believes: BTreeMap<String, ()>,
    events: u64,
    held_back: u64,
    messages: Vec<Instant>,
}

impl World {
    fn new(seed: u64) -> World {
        let receiver = |name, policy| Receiver {
            name,
            policy,
            is_up: true,
            believes: BTreeMap::new(),
            events: 0,
            held_back: 0,
            messages: Vec::new(),
        };
        let receivers = vec![receiver("mail", MAIL), receiver("noc", EACH)];
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let deliveries = Deliveries::default();
        let mut world = World { deliveries, receivers, raised: BTreeMap::new(), told: 0, now: Instant::now(), random };
        world.restart();
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % limit
    }

    fn restart(&mut self) {
        let kept = serde_json::to_vec(&self.deliveries).unwrap();
        self.deliveries = serde_json::from_slice(&kept).unwrap();
        let all: Vec<_> = self.receivers.iter().map(|receiver| (receiver.name, receiver.policy)).collect();
        self.deliveries.set_receivers(&policies(&all), self.now);
        // What goes by the clock begins anew: the limit, too.
        self.receivers.iter_mut().for_each(|receiver| receiver.messages.clear());
    }

    fn flip(&mut self, alarm: u64) {
        let is_raised = self.raised.entry(alarm).or_default();
        *is_raised = !*is_raised;
        let event = if *is_raised { Edge::Raise } else { Edge::Clear };
        self.told += 1;
        self.deliveries.tell(&notice(self.told, event, alarm), self.now);
    }

    fn step(&mut self) {
        match self.below(100) {
            0..50 => {
                let alarm = self.below(6);
                self.flip(alarm);
            }
            50..54 => (0..200).for_each(|n| self.flip(n % 3)),
            54..58 => {
                let at = self.below(2) as usize;
                self.receivers[at].is_up = !self.receivers[at].is_up;
            }
            58..60 => self.restart(),
            60..62 => self.pass(10 * 3600 * SECOND),
            _ => {
                let seconds = self.below(30) as u32;
                self.pass(seconds * SECOND);
            }
        }
    }

    /// Lets time pass; messages go and arrive meanwhile, or not.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(message) = self.deliveries.poll_message(self.now) {
                self.deliver(&message);
            }
            match self.deliveries.poll_timeout().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, message: &Message) {
        let now = self.now;
        let receiver = self.receivers.iter_mut().find(|receiver| receiver.name == message.receiver).unwrap();
        if !receiver.is_up {
            self.deliveries.failed(&message.receiver, now);
            return;
        }
        self.deliveries.arrived(&message.receiver, now);
        receiver.get(message, now);
    }

    /// It is quiet and everything works: everyone knows how it is, and every event was told, or told to be held back.
    fn settle(&mut self) {
        self.receivers.iter_mut().for_each(|receiver| receiver.is_up = true);
        (0..2).for_each(|_| self.flip(9));
        self.pass(10 * 3600 * SECOND);
        let wrong: Vec<String> = self
            .raised
            .iter()
            .filter(|(_, is)| **is)
            .map(|(alarm, _)| format!("paris/behind/set{alarm}/lyon"))
            .collect();
        for receiver in &self.receivers {
            let believes: Vec<_> = receiver.believes.keys().cloned().collect();
            assert_eq!(believes, wrong, "{} is wrong about what is wrong", receiver.name);
            assert_eq!(receiver.events + receiver.held_back, self.told, "{} was not told of all", receiver.name);
        }
    }
}

impl Receiver {
    fn get(&mut self, message: &Message, now: Instant) {
        assert!(message.notices.len() <= self.policy.batch_max);
        self.messages.retain(|at| now - *at < 60 * SECOND);
        self.messages.push(now);
        assert!(self.messages.len() as u32 <= 2 * self.policy.per_minute, "{} is flooded", self.name);
        for notice in &message.notices {
            let known = self.believes.contains_key(&notice.id());
            assert_eq!(known, notice.event == Edge::Clear, "{} is told {notice:?} once more", self.name);
            match notice.event {
                Edge::Raise => self.believes.insert(notice.id(), ()),
                Edge::Clear => self.believes.remove(&notice.id()),
            };
        }
        self.events += message.notices.len() as u64;
        self.held_back += message.held_back;
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    (0..200).for_each(|_| world.step());
    world.settle();
}

#[test]
fn everyone_knows_in_the_end_what_is_wrong_and_nobody_is_flooded() {
    for seed in 1..100 {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn planted_bugs_are_caught() {
    for bug in [Planted::ClearsAreForgotten, Planted::NotCounted, Planted::NoLimit, Planted::LeftOutIsTold] {
        plant(Some(bug));
        let is_caught = (1..300).any(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).is_err());
        plant(None);
        assert!(is_caught, "{bug:?}");
    }
}
