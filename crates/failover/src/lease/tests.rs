//! Times, both halves under drifting clocks, and what a witness answers.

use std::time::{Duration, Instant};

use stead_model::Epoch;

use super::*;
use crate::heartbeat::{No, Note, Say};
use crate::ids::{GroupId, NodeId};

const PARIS: NodeId = NodeId([1; 16]);
const LYON: NodeId = NodeId([2; 16]);
const ASK_VOTE: Say = Say::AskVote { planned: false };
const ASK: Say = Say::Ask { serves: true };
const MS: fn(u64) -> Duration = Duration::from_millis;

fn times() -> Times {
    Times::for_wait(MS(3_000), MS(1_000), MS(500)).unwrap()
}

#[test]
fn the_longest_lease_is_computed_and_a_longer_one_refused() {
    let times = times();
    assert!(times.lease > MS(1_800) && times.lease < MS(1_900), "{times:?}");
    let longer = Times { lease: times.lease + MS(5), ..times };
    let Err(BadTimes::TooLong { needed, .. }) = longer.check(MS(500)) else { panic!("{longer:?} passes") };
    assert!(needed > MS(3_000));
    let short = Times::for_wait(MS(1_500), MS(1_000), MS(500));
    assert!(matches!(short, Err(BadTimes::TooShort { .. })), "{short:?}");
    assert!(Times::for_wait(MS(60), Times::usual_stop_budget(MS(60)), MS(10)).is_ok());
}

#[test]
fn whoever_granted_waits_longer_than_the_holder_serves_whatever_the_clocks() {
    let (begin, times) = (Instant::now(), times());
    for (holder_rate, granter_rate) in [(0.99, 1.01), (1.01, 0.99), (0.99, 0.99), (1.0, 1.0)] {
        for delay in [0.0, 0.4, 1.5] {
            let (mut holder, mut granter) = (Holder::new(times), Granter::new(times, begin));
            let on = |rate: f64, seconds: f64| begin + Duration::from_secs_f64(seconds * rate);
            holder.ask(1, on(holder_rate, 100.0));
            let lease = granter.grant(1, true, on(granter_rate, 100.0 + delay)).unwrap();
            holder.granted(1, lease, on(holder_rate, 100.0 + delay * 2.0));
            let Some(until) = holder.until() else { continue };
            let real = |rate: f64, at: Instant| (at - begin).as_secs_f64() / rate;
            let quiet = real(holder_rate, until + times.stop_budget);
            let agrees = real(granter_rate, granter.lapsed_at());
            assert!(quiet < agrees, "{holder_rate} {granter_rate} {delay}: {quiet} {agrees}");
        }
    }
}

#[test]
fn only_an_answer_to_an_own_question_prolongs() {
    let begin = Instant::now();
    let mut holder = Holder::new(times());
    assert!(!holder.granted(1, 1_700, begin));
    holder.ask(1, begin);
    holder.ask(2, begin + MS(500));
    assert!(holder.granted(2, 1_700, begin + MS(600)));
    assert_eq!(holder.until(), Some(begin + MS(2_200)), "counted from when it was asked");
    assert!(!holder.granted(1, 1_700, begin + MS(700)), "an older one shortens nothing");
    assert!(holder.is_held(begin + MS(2_199)) && !holder.is_held(begin + MS(2_200)));
    holder.forget();
    assert!(!holder.granted(2, 1_700, begin + MS(700)));
}

struct Bench {
    begin: Instant,
    witness: Witness,
}

fn config() -> WitnessConfig {
    WitnessConfig { group: GroupId::of("notes"), nodes: [PARIS, LYON], times: times() }
}

fn epoch(number: u64, writer: NodeId) -> Epoch {
    Epoch { number, writer: writer.0, random: 0 }
}

impl Bench {
    /// A witness that runs for long, with the source at epoch 1 granted to just now.
    fn new() -> Bench {
        let begin = Instant::now();
        let ballot = Ballot { floor: epoch(1, PARIS), vote: None };
        let mut bench = Bench { begin, witness: Witness::new(config(), Some(ballot), begin) };
        assert_eq!(bench.say(2_999, PARIS, 1, epoch(1, PARIS), ASK), [Say::Refuse(No::Silent)]);
        assert!(matches!(bench.say(10_000, PARIS, 2, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
        bench
    }

    /// What it answers at once; what it saves is not durable until [`Bench::saved`].
    fn say(&mut self, at: u64, from: NodeId, number: u64, epoch: Epoch, say: Say) -> Vec<Say> {
        let note = Note { group: config().group, number, epoch, say };
        self.witness.handle(WitnessInput::Note { from, note }, self.begin + MS(at));
        self.answers()
    }

    fn saved(&mut self, at: u64) -> Vec<Say> {
        let number = self.witness.saving.expect("something is saved");
        self.witness.handle(WitnessInput::Saved { number }, self.begin + MS(at));
        self.answers()
    }

    fn answers(&mut self) -> Vec<Say> {
        let outputs = std::iter::from_fn(|| self.witness.poll_output());
        outputs
            .filter_map(|output| match output {
                WitnessOutput::Send { note, .. } => Some(note.say),
                WitnessOutput::Save { .. } => None,
            })
            .collect()
    }

    /// The target was voted for, at 14 s.
    fn voted() -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.say(14_000, LYON, 10, epoch(2, LYON), ASK_VOTE), []);
        assert!(matches!(bench.saved(14_001)[..], [Say::Vote(1..)]), "only once it is durable");
        bench
    }
}

#[test]
fn a_witness_that_sees_the_source_votes_for_nobody() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(11_400, LYON, 9, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Seen)]);
    assert!(matches!(bench.say(11_450, PARIS, 3, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
}

#[test]
fn it_stops_granting_and_lets_every_grant_lapse_before_it_votes() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(11_600, LYON, 9, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Waiting)]);
    assert_eq!(bench.say(11_700, PARIS, 3, epoch(1, PARIS), ASK), [Say::Refuse(No::Waiting)]);
    assert_eq!(bench.say(12_999, LYON, 10, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Waiting)]);
    assert_eq!(bench.say(13_000, LYON, 11, epoch(2, LYON), ASK_VOTE), []);
    assert!(matches!(bench.saved(13_001)[..], [Say::Vote(1..)]));
    assert_eq!(bench.say(20_000, PARIS, 4, epoch(1, PARIS), ASK), [Say::Refuse(No::Other)]);
}

#[test]
fn it_grants_again_when_the_candidate_asks_no_more() {
    let mut bench = Bench::new();
    bench.say(11_600, LYON, 9, epoch(2, LYON), ASK_VOTE);
    bench.say(11_700, LYON, 10, epoch(1, PARIS), Say::Standby);
    assert_eq!(bench.witness.poll_timeout(), None);
    assert!(matches!(bench.say(11_701, PARIS, 3, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
    bench.say(12_600, LYON, 11, epoch(5, LYON), ASK);
    let (at, timer) = bench.witness.poll_timeout().unwrap();
    assert_eq!((at, timer), (bench.begin + MS(15_600), WitnessTimer::ReOpen));
    bench.witness.handle_timeout(at);
    assert!(matches!(bench.say(15_601, PARIS, 4, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
}

#[test]
fn it_votes_by_itself_as_soon_as_it_may() {
    let mut bench = Bench::new();
    bench.say(12_600, LYON, 9, epoch(2, LYON), ASK_VOTE);
    let (at, timer) = bench.witness.poll_timeout().unwrap();
    assert_eq!((at, timer), (bench.begin + MS(13_000), WitnessTimer::Lapsed));
    bench.witness.handle_timeout(at);
    assert!(matches!(bench.saved(13_005)[..], [Say::Vote(1..)]));
}

#[test]
fn a_vote_holds_over_a_restart_and_is_given_once_for_each_epoch() {
    let mut bench = Bench::voted();
    let ballot = *bench.witness.ballot();
    bench.witness = Witness::new(config(), Some(ballot), bench.begin + MS(15_000));
    assert_eq!(bench.say(17_999, LYON, 11, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Silent)]);
    assert_eq!(bench.say(19_000, PARIS, 3, epoch(1, PARIS), ASK), [Say::Refuse(No::Other)]);
    assert_eq!(bench.say(19_000, PARIS, 4, epoch(2, PARIS), ASK_VOTE), [Say::NoVote(No::Other)]);
    assert_eq!(bench.say(19_000, LYON, 12, epoch(2, LYON), ASK_VOTE), []);
    assert!(matches!(bench.saved(19_001)[..], [Say::Vote(1..)]), "the same one again, whose answer was lost");
}

#[test]
fn a_vote_that_is_given_back_counts_no_more_and_late_words_change_nothing() {
    let mut bench = Bench::voted();
    bench.say(14_100, LYON, 9, epoch(1, PARIS), Say::Standby);
    assert!(bench.witness.ballot().vote.is_some(), "said before the vote was asked for");
    bench.say(14_200, LYON, 11, epoch(1, PARIS), Say::Standby);
    assert_eq!(bench.witness.ballot().vote, None);
    bench.saved(14_201);
    assert!(matches!(bench.say(14_300, PARIS, 3, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
}

/// Once in four hundred thousand seeds: a question of an earlier claim came after the vote, and a word from between the two
/// claims after that.
#[test]
fn a_late_question_does_not_make_a_vote_older() {
    let mut bench = Bench::voted();
    assert_eq!(bench.say(14_100, LYON, 5, epoch(2, LYON), ASK_VOTE), []);
    bench.say(14_200, LYON, 7, epoch(1, PARIS), Say::Standby);
    assert_eq!(bench.witness.ballot().vote.map(|vote| vote.number), Some(10));
    assert_eq!(bench.say(14_300, PARIS, 3, epoch(1, PARIS), ASK), [Say::Refuse(No::Other)]);
}

#[test]
fn a_vote_that_was_used_cannot_be_given_back() {
    let mut bench = Bench::voted();
    assert!(matches!(bench.say(14_500, LYON, 12, epoch(2, LYON), ASK)[..], [Say::Grant(1..)]));
    bench.saved(14_501);
    bench.say(14_600, LYON, 13, epoch(1, PARIS), Say::Standby);
    assert_eq!(bench.say(30_000, PARIS, 9, epoch(1, PARIS), ASK), [Say::Refuse(No::Other)]);
}

#[test]
fn a_slow_disk_does_not_cost_the_lease_of_who_uses_its_vote() {
    let mut bench = Bench::voted();
    for at in 0..10 {
        let granted = bench.say(14_500 + 500 * at, LYON, 12 + at, epoch(2, LYON), ASK);
        assert!(matches!(granted[..], [Say::Grant(1..)]), "{at}: {granted:?}");
    }
    assert_eq!(bench.say(19_600, LYON, 30, epoch(3, LYON), ASK), [], "another epoch is another thing");
    assert_eq!(bench.say(19_700, PARIS, 31, epoch(1, PARIS), ASK), []);
    bench.saved(19_800);
    assert!(matches!(bench.say(19_900, LYON, 32, epoch(2, LYON), ASK)[..], [Say::Grant(1..)]));
}

#[test]
fn a_source_that_yields_need_not_be_waited_for() {
    let mut bench = Bench::new();
    bench.say(10_050, PARIS, 1, epoch(1, PARIS), Say::Yield);
    assert_eq!(bench.say(10_060, LYON, 9, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Seen)], "it asked since");
    bench.say(10_070, PARIS, 3, epoch(1, PARIS), Say::Yield);
    assert_eq!(bench.say(10_075, PARIS, 3, epoch(1, PARIS), ASK), [Say::Refuse(No::Waiting)], "on its way too long");
    assert_eq!(bench.say(10_080, LYON, 10, epoch(2, LYON), ASK_VOTE), []);
    assert!(matches!(bench.saved(10_081)[..], [Say::Vote(1..)]));
}

#[test]
fn what_was_yielded_once_and_served_since_is_not_handed_over() {
    let planned = Say::AskVote { planned: true };
    let mut bench = Bench::new();
    bench.say(10_050, PARIS, 3, epoch(1, PARIS), Say::Yield);
    assert!(matches!(bench.say(10_060, PARIS, 4, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]));
    assert_eq!(bench.say(10_070, LYON, 9, epoch(2, LYON), planned), [Say::NoVote(No::Seen)]);
    assert_eq!(
        bench.say(20_000, LYON, 10, epoch(2, LYON), planned),
        [Say::NoVote(No::Seen)],
        "not even when it lapsed"
    );
    bench.say(20_010, PARIS, 5, epoch(1, PARIS), Say::Yield);
    assert_eq!(bench.say(20_020, LYON, 11, epoch(2, LYON), planned), []);
    assert!(matches!(bench.saved(20_021)[..], [Say::Vote(1..)]));
}

#[test]
fn what_a_person_forced_stands_once_the_other_lapsed() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(12_000, LYON, 9, epoch(5, LYON), ASK), [Say::Refuse(No::Waiting)]);
    assert_eq!(bench.say(12_100, PARIS, 3, epoch(1, PARIS), ASK), [Say::Refuse(No::Waiting)]);
    assert_eq!(bench.say(13_100, LYON, 10, epoch(5, LYON), ASK), []);
    bench.saved(13_101);
    assert!(matches!(bench.say(13_600, LYON, 11, epoch(5, LYON), ASK)[..], [Say::Grant(1..)]));
}

#[test]
fn a_node_that_asks_and_does_not_serve_is_no_active_side() {
    let mut bench = Bench::new();
    for at in 0..10 {
        bench.say(10_500 + at * 500, PARIS, 3 + at, epoch(1, PARIS), Say::Ask { serves: false });
    }
    assert_eq!(bench.say(15_100, LYON, 9, epoch(2, LYON), ASK_VOTE), [Say::NoVote(No::Waiting)]);
}

#[test]
fn nobody_asks_under_an_epoch_of_somebody_else() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(20_000, LYON, 9, epoch(1, PARIS), ASK), []);
    assert_eq!(bench.say(20_000, LYON, 10, epoch(7, PARIS), ASK_VOTE), []);
    assert_eq!(bench.say(20_000, NodeId([9; 16]), 10, epoch(7, NodeId([9; 16])), ASK), []);
}

#[test]
fn a_node_that_holds_nothing_is_replaced_without_a_pause() {
    const ROME: NodeId = NodeId([3; 16]);
    let mut bench = Bench::new();
    let other = |nodes| WitnessConfig { nodes, ..config() };
    assert!(!bench.witness.reconfigure(&other([ROME, LYON])), "the holder stays");
    assert!(bench.witness.reconfigure(&other([PARIS, ROME])));
    assert!(matches!(bench.say(10_100, PARIS, 3, epoch(1, PARIS), ASK)[..], [Say::Grant(1..)]), "it is not silent");
    assert_eq!(bench.say(20_000, LYON, 10, epoch(2, LYON), ASK_VOTE), [], "who is replaced is nobody");
    assert_eq!(bench.say(20_000, LYON, 11, epoch(2, LYON), ASK), []);
    assert_eq!(bench.say(20_000, ROME, 10, epoch(2, ROME), ASK_VOTE), []);
    assert!(!bench.witness.reconfigure(&config()), "while a vote is open");
    assert!(bench.witness.reconfigure(&other([PARIS, ROME])), "the same is the same");
}

/// The one that handed over says so until it hears of the new epoch; its numbers may be higher than those of the other.
#[test]
fn a_yield_that_is_said_again_takes_nothing_from_who_has_the_vote() {
    let mut bench = Bench::new();
    bench.say(10_100, PARIS, 100, epoch(1, PARIS), Say::Yield);
    bench.say(10_200, LYON, 3, epoch(2, LYON), Say::AskVote { planned: true });
    assert!(matches!(bench.saved(10_210)[..], [Say::Vote(1..)]));
    bench.say(10_300, PARIS, 100, epoch(1, PARIS), Say::Yield);
    assert!(matches!(bench.say(10_400, LYON, 4, epoch(2, LYON), ASK)[..], [Say::Grant(1..)]));
    bench.saved(10_410);
    bench.say(10_500, PARIS, 100, epoch(1, PARIS), Say::Yield);
    assert_eq!(bench.say(10_600, PARIS, 101, epoch(3, PARIS), ASK_VOTE), [Say::NoVote(No::Seen)]);
}
