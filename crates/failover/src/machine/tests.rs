//! Inputs of any kind, in any order.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::heartbeat::{Event, Hold, No};
use crate::ids::GroupId;
use crate::lease::Times;
use crate::monitor::MonitorConfig;

const NODES: [NodeId; 3] = [NodeId([1; 16]), NodeId([2; 16]), NodeId([3; 16])];

fn config(me: usize) -> Config {
    let second = Duration::from_secs(1);
    Config {
        group: GroupId::of("notes"),
        me: NODES[me],
        peer: NODES[1 - me],
        home: NODES[0],
        witness: Some(NODES[2]),
        monitor: MonitorConfig::default(),
        times: Times::for_wait(second * 3, second, second / 2).unwrap(),
        policy: Policy::Automatic,
        resources: Resources { fence: true, references: true, addresses: 2, services: 1, ..Resources::default() },
        limits: Limits::default(),
        synchronous: false,
        run: 1,
    }
}

#[test]
fn what_cannot_be_safe_is_refused() {
    let good = config(0);
    assert_eq!(good.check(), Ok(()));
    let itself = Config { witness: Some(NODES[1]), ..good };
    assert_eq!(itself.check(), Err(BadConfig::Nodes));
    let longer = Times { lease: good.times.wait, ..good.times };
    assert!(matches!(Config { times: longer, ..good }.check(), Err(BadConfig::Times(_))));
    let short = Limits { confirm: Duration::from_secs(2), ..good.limits };
    assert!(matches!(Config { limits: short, ..good }.check(), Err(BadConfig::Confirm { .. })));
    let away = Config { home: NODES[2], ..good };
    assert_eq!(away.check(), Err(BadConfig::Nodes));
    assert!(good.is_automatic() && !Config { witness: None, ..good }.is_automatic());
}

fn hold() -> impl Strategy<Value = Hold> {
    prop::sample::select(vec![Hold::None, Hold::Maintenance, Hold::Offline])
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        prop::sample::select(vec![
            Role::Down,
            Role::Moving,
            Role::Active,
            Role::Standby,
            Role::RestoreRequired,
            Role::Failing
        ])
        .prop_flat_map(|role| hold().prop_map(move |hold| Say::Role(role, hold))),
        any::<bool>().prop_map(|serves| Say::Ask { serves }),
        (0u32..5_000).prop_map(Say::Grant),
        (0u32..5_000).prop_map(Say::Vote),
        prop::sample::select(vec![No::Seen, No::Waiting, No::Silent, No::Other, No::Unable]).prop_map(Say::NoVote),
        Just(Say::Refuse(No::Other)),
        Just(Say::Yield),
        Just(Say::AskYield(Event::Failback)),
        Just(Say::Yielded),
        Just(Say::NotYielded(No::Unable)),
    ]
}

fn want() -> impl Strategy<Value = Want> {
    let all = [
        Want::Failover { force: false },
        Want::Failover { force: true },
        Want::Switchover,
        Want::Failback,
        Want::Approve,
        Want::Suspend,
        Want::Resume,
    ];
    prop::sample::select(all.to_vec())
}

/// One thing that happens; numbers, actions and saves are often the last ones that the machine named.
#[derive(Clone, Debug)]
enum Happens {
    Heard(bool),
    Note { from: usize, back: u64, epoch: u64, writer: usize, say: Say },
    Fit(bool),
    Done(u8),
    Saved,
    Want(Want),
    Pass(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => any::<bool>().prop_map(Happens::Heard),
        8 => (1..3usize, 0..4u64, 1..4u64, 0..2usize, say())
            .prop_map(|(from, back, epoch, writer, say)| Happens::Note { from, back, epoch, writer, say }),
        2 => any::<bool>().prop_map(Happens::Fit),
        8 => (0..6u8).prop_map(Happens::Done),
        8 => Just(Happens::Saved),
        2 => want().prop_map(Happens::Want),
        8 => (1..4_000u64).prop_map(Happens::Pass),
    ]
}

struct Bench {
    machine: Machine,
    now: Instant,
    action: Option<Action>,
    saved: u64,
    requests: u64,
    open: std::collections::BTreeSet<u64>,
}

impl Bench {
    fn new(me: usize) -> Bench {
        let now = Instant::now();
        let machine = Machine::new(config(me), Record::new(NODES[0]), now);
        Bench { machine, now, action: None, saved: 0, requests: 0, open: Default::default() }
    }

    fn happen(&mut self, what: &Happens, me: usize) {
        let input = match *what {
            Happens::Heard(leaving) => Input::Heard { path: 0, leaving },
            Happens::Note { from, back, epoch, writer, say } => {
                let number = (1u64 << 32 | self.machine.number & 0xffff_ffff).saturating_sub(back);
                let epoch = Epoch { number: epoch, writer: NODES[writer].0, random: 0 };
                let from = if from == 2 { NODES[2] } else { NODES[1 - me] };
                Input::Note { from, note: Note { group: self.machine.config.group, number, epoch, say } }
            }
            Happens::Fit(fit) => {
                let epoch = self.machine.record.epoch.number;
                Input::Replica(Fitness { epoch, mirrored: true, consistent: fit, ..Fitness::default() })
            }
            Happens::Done(how) => {
                let Some(action) = self.action.take() else { return };
                let outcome = match how {
                    0 => Outcome::Failed(String::new()),
                    1 => Outcome::Unknown(String::new()),
                    _ => Outcome::Done,
                };
                Input::Done { id: action.id, outcome }
            }
            Happens::Saved => Input::Saved { number: self.saved },
            Happens::Want(want) => {
                self.requests += 1;
                self.open.insert(self.requests);
                let expires = self.now + Duration::from_secs(1);
                Input::Request(Request { id: self.requests, want, expires })
            }
            Happens::Pass(millis) => return self.pass(millis),
        };
        self.machine.handle(input, self.now);
        self.drain();
    }

    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        for turn in 0.. {
            let Some((at, timer)) = self.machine.poll_timeout().filter(|(at, _)| *at <= until) else { break };
            assert!(turn < 1_000, "{timer:?} stays due in {:?}", self.machine.state);
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        for turn in 0.. {
            let Some(output) = self.machine.poll_output() else { break };
            assert!(turn < 200, "it does not stop: {output:?}");
            match output {
                Output::Do(action) => assert_eq!(self.action.replace(action), None, "one action at a time"),
                Output::Cancel { id } => assert_eq!(self.action.take().map(|action| action.id), Some(id)),
                Output::Save { number, .. } => self.saved = number,
                Output::Answer { answer: Answer::Accepted, .. } => {}
                Output::Answer { request, .. } => assert!(self.open.remove(&request), "{request} is answered twice"),
                _ => {}
            }
        }
        let serves = self.machine.state.needs_lease();
        assert!(!serves || self.machine.record.is_writer(self.machine.config.me), "it serves under its own epoch");
    }
}

#[test]
fn a_replica_that_is_fit_before_everything_is_down_needs_no_restore() {
    let mut bench = Bench::new(0);
    bench.machine.record.restore = true;
    bench.machine.state = State::Falling(Then::Standby);
    let epoch = bench.machine.record.epoch.number;
    let fit = Fitness { epoch, mirrored: true, consistent: true, ..Fitness::default() };
    bench.machine.handle(Input::Replica(fit), bench.now);
    bench.machine.stand_by(bench.now);
    assert_eq!((bench.machine.state, bench.machine.record.restore), (State::Standby, false));
}

/// The second node serves under epoch 2; there is no witness.
fn stands_in() -> Bench {
    let mut bench = Bench::new(1);
    let record = Record { epoch: Epoch { number: 2, writer: NODES[1].0, random: 0 }, ..Record::new(NODES[0]) };
    bench.machine = Machine::new(Config { witness: None, ..config(1) }, record, bench.now);
    bench.drain();
    bench.happen(&Happens::Want(Want::Failover { force: true }), 1);
    for _ in 0..20 {
        bench.happen(&Happens::Saved, 1);
        bench.happen(&Happens::Done(2), 1);
        bench.pass(100);
    }
    assert_eq!(bench.machine.state, State::Active);
    bench
}

/// A database may need longer to end than a lease lasts, and writes until then.
#[test]
fn who_goes_offline_keeps_its_lease_until_everything_is_down() {
    let mut bench = stands_in();
    bench.happen(&Happens::Want(Want::Offline), 1);
    let mut undone = Vec::new();
    while let Some(action) = bench.action {
        assert_eq!((bench.machine.lease(), action.turn), (Lease::Unlimited, Turn::Undo));
        undone.push(action.step);
        bench.happen(&Happens::Done(2), 1);
    }
    assert_eq!(undone, [Step::Service(0), Step::Address(1), Step::Address(0)]);
    assert_eq!((bench.machine.state, bench.machine.lease()), (State::Down { retry: None, unsure: None }, Lease::None));
}

#[test]
fn who_is_asked_to_come_back_while_it_goes_offline_serves_again() {
    let mut bench = stands_in();
    bench.happen(&Happens::Want(Want::Offline), 1);
    bench.happen(&Happens::Want(Want::Online), 1);
    for _ in 0..20 {
        bench.happen(&Happens::Saved, 1);
        bench.happen(&Happens::Done(2), 1);
    }
    assert!(matches!(bench.machine.state, State::Down { retry: Some(_), .. }), "{:?}", bench.machine.state);
}

#[test]
fn another_node_takes_the_place_of_the_other_one_while_this_one_serves() {
    let rome = NodeId([4; 16]);
    let mut bench = stands_in();
    let config = Config { witness: None, ..config(1) };
    let other = Config { peer: rome, home: rome, ..config };
    assert!(bench.machine.reconfigure(other, bench.now));
    let told: Vec<_> = std::iter::from_fn(|| bench.machine.poll_output()).collect();
    assert!(told.contains(&Output::Tell(Entry::PeerReplaced)), "{told:?}");
    assert!(!told.iter().any(|output| matches!(output, Output::Cancel { .. } | Output::Lease(_))), "{told:?}");
    assert_eq!((bench.machine.record.epoch.number, bench.machine.word()), (2, "failed-over"));
    // Who was replaced has a higher epoch, and nobody listens.
    bench.happen(&Happens::Note { from: 0, back: 0, epoch: 9, writer: 0, say: Say::Role(Role::Active, Hold::None) }, 1);
    assert_eq!(bench.machine.record.epoch.number, 2);
    let number = bench.machine.number;
    let epoch = Epoch { number: 2, writer: NODES[1].0, random: 0 };
    let note = Note { group: config.group, number, epoch, say: Say::Role(Role::RestoreRequired, Hold::None) };
    bench.machine.handle(Input::Note { from: rome, note }, bench.now);
    assert_eq!(bench.machine.peer_role(), Some(Role::RestoreRequired));
}

#[test]
fn who_does_not_serve_begins_anew_with_another_node() {
    let rome = NodeId([4; 16]);
    let mut bench = Bench::new(1);
    bench.drain();
    assert!(!bench.machine.reconfigure(Config { peer: rome, home: rome, ..config(1) }, bench.now));
    let mut serves = stands_in();
    let away = Config { witness: None, peer: rome, ..config(1) };
    assert!(!serves.machine.reconfigure(away, serves.now), "the source is one of the two");
}

#[test]
fn who_stands_by_has_its_files_put_in_place_by_another_plan() {
    let mut bench = Bench::new(1);
    bench.drain();
    for _ in 0..20 {
        bench.happen(&Happens::Done(2), 1);
        bench.pass(100);
    }
    assert_eq!(bench.machine.state, State::Standby);
    let resources = Resources { role_files: true, ..config(1).resources };
    assert!(bench.machine.reconfigure(Config { resources, ..config(1) }, bench.now));
    let done: Vec<_> = std::iter::from_fn(|| bench.machine.poll_output()).collect();
    let is_it = |output: &Output| matches!(output, Output::Do(Action { id, step: Step::RoleFiles, turn: Turn::Undo, .. }) if *id > 0);
    assert!(done.iter().any(is_it), "{done:?}");
}

proptest! {
    #[test]
    fn whatever_comes_it_goes_on_and_every_request_is_answered(
        me in 0..2usize,
        all in prop::collection::vec(happens(), 1..300),
    ) {
        let mut bench = Bench::new(me);
        bench.drain();
        all.iter().for_each(|what| bench.happen(what, me));
        for _ in 0..600 {
            bench.happen(&Happens::Saved, me);
            bench.happen(&Happens::Done(2), me);
            bench.pass(1_000);
        }
        prop_assert!(bench.open.is_empty(), "{:?} in {:?}", bench.open, bench.machine.state);
    }
}
