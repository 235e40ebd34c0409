//! One group on one of its two nodes: who serves, and how that changes.
//!
//! The caller's duties, beyond those of the crate:
//! 1. hand in what was saved last, exactly; save in order, and say [`Input::Saved`] only of what is durable;
//! 2. put [`Output::Lease`] where a watchdog acts on it that does not depend on this process: past it, changes are blocked,
//!    addresses removed and processes killed within the stop budget; and nothing is brought up past it, also by an action that
//!    began before;
//! 3. do one [`Action`] at a time; kill it at its limit and at [`Output::Cancel`]; whatever is so already is success, and
//!    what is not known is told as unknown; end first what an earlier process of this node had left running;
//! 4. tell [`Input::Replica`] after each start and whenever it changes;
//! 5. put the request of a person to the node that is to serve, and a time to each [`Entry`] when it is taken.

mod config;
pub(crate) mod failing;
mod hold;
mod notes;
mod record;
mod requests;
mod runner;
mod serve;
mod state;
mod step;
mod takeover;
mod work;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stead_model::Epoch;

pub use config::{BadConfig, Config, Limits, OnFailure, Policy, Resources};
pub use record::{Record, Work, WorkKind};
pub use requests::{Answer, Refusal, Request, Want};
use runner::Runner;
pub use state::{Await, Claim, State, Then};
pub use step::{Action, Hook, Outcome, Step, Turn};

use crate::heartbeat::{Event, Hold, Note, Role, Say};
use crate::ids::NodeId;
use crate::lease::{Granter, Holder};
use crate::monitor::{Monitor, MonitorInput, MonitorOutput, Presence, Watch};
use crate::resources::{Budget, Reach};
use crate::timeline::Entry;

/// How good the replica on this node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Number of the epoch that it follows.
    pub epoch: u64,
    /// Is the first mirror, or the restore, complete?
    pub mirrored: bool,
    /// Is there a consistent point to go to?
    pub consistent: bool,
    /// Is the connection halted?
    pub halted: bool,
    /// Was the last good image given up for want of room?
    pub spoiled: bool,
    /// Of a synchronous set: does the target hold a live lease that says it has everything?
    pub in_sync: bool,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A heartbeat of the other node was taken.
    Heard {
        /// Number of its path.
        path: u32,
        /// Does it say that its daemon goes down in order?
        leaving: bool,
    },
    /// A note about this group in a heartbeat that was taken.
    Note {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        note: Note,
    },
    /// The replica is like that from now on.
    Replica(Fitness),
    /// An action has ended.
    Done {
        /// Its number.
        id: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// This record and all before are durable.
    Saved {
        /// Number of [`Output::Save`].
        number: u64,
    },
    /// What [`Step::Resources`] had brought up is down, and cannot be kept up: here, or nowhere.
    ResourcesFailed(Reach),
    /// A person asks for something.
    Request(Request),
}

/// Until when this node may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It may not. What is up is taken down by the machine itself; the watchdog acts when the lease before this ends.
    None,
    /// Until then; past it the watchdog acts.
    Until(Instant),
    /// Without end: there is no witness, or a person said so.
    Unlimited,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send it now, over every path to that node.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        note: Note,
    },
    /// Make it durable, then say [`Input::Saved`].
    Save {
        /// Rises.
        number: u64,
        /// All of it.
        record: Record,
    },
    /// Until when this node may serve: for the watchdog.
    Lease(Lease),
    /// Do it, then say [`Input::Done`].
    Do(Action),
    /// Kill the action of that number; its outcome is not waited for.
    Cancel {
        /// Its number.
        id: u64,
    },
    /// Answer a person. The last answer to a request is not [`Answer::Accepted`].
    Answer {
        /// Number of the request.
        request: u64,
        /// What.
        answer: Answer,
    },
    /// For the timeline.
    Tell(Entry),
}

/// Why [`Machine::handle_timeout`] is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The next notes are due.
    Beat,
    /// The monitor's.
    Watch,
    /// The lease ends.
    Lease,
    /// The limit of a step, or its next try.
    Step,
    /// The limit of what is waited for.
    Wait,
}

/// What is to follow when a record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    Nothing,
    Committed,
    Released,
    HandedOver,
}

/// What the other node said of itself last.
#[derive(Clone, Copy, Debug)]
struct Peer {
    role: Role,
    /// Since when it says that it does not serve.
    idle_since: Option<Instant>,
}

/// One group on one node. Duties of the caller: see the module.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    state: State,
    record: Record,
    saves: u64,
    saving: VecDeque<(u64, Saved, Epoch)>,
    /// The epoch of the record that is durable.
    durable: Epoch,
    monitor: Monitor,
    peer: Option<Peer>,
    granter: Granter,
    holder: Holder,
    lease: Lease,
    unleased: bool,
    runner: Runner,
    work_since: Instant,
    /// It has the group, and its resources cannot be kept up.
    failing: Option<failing::Failing>,
    /// Number of the note by which the other node said last how the group is held.
    held_by: u64,
    /// Takeovers from a node that could not serve.
    moves: Budget,
    /// Of a takeover that is being finished: since when nobody serves.
    outage_since: Option<Instant>,
    fitness: Fitness,
    pending: requests::Pending,
    suspended_until: Option<Instant>,
    consider_at: Instant,
    /// Why no takeover is begun, while its reason lasts.
    refused: Option<Refusal>,
    /// Why the last one did not come about.
    failed: Option<Refusal>,
    /// It is tried once more: what was told before is not told again.
    quiet: bool,
    no_vote: Option<crate::heartbeat::No>,
    highest: u64,
    beat_at: Instant,
    number: u64,
    now: Instant,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// Begins with what was saved last. Nothing is started before the newest epoch is known to be this node's and another
    /// node has granted a lease for it.
    pub fn new(config: Config, record: Record, now: Instant) -> Machine {
        let mut machine = Machine {
            state: State::Down { retry: Some(now).filter(|_| record.hold != Hold::Offline), unsure: Some(now) },
            saves: 0,
            saving: VecDeque::new(),
            durable: record.epoch,
            monitor: Monitor::new(config.monitor, record.heard, now),
            peer: None,
            granter: Granter::new(config.times, now),
            holder: Holder::new(config.times),
            lease: Lease::None,
            unleased: false,
            runner: Runner::default(),
            work_since: now,
            outage_since: None,
            failing: None,
            held_by: 0,
            moves: Budget::new(failing::MOVES_MAX, failing::MOVES_WITHIN),
            fitness: Fitness::default(),
            pending: requests::Pending::default(),
            suspended_until: None,
            consider_at: now,
            refused: None,
            failed: None,
            quiet: false,
            no_vote: None,
            highest: record.epoch.number,
            beat_at: now,
            number: u64::from(config.run) << 32,
            now,
            outputs: VecDeque::new(),
            config,
            record,
        };
        machine.recover(now);
        machine
    }

    /// The group was just made: nobody granted anything in it before, so that this node need not be silent for a wait.
    pub fn is_new(&mut self, now: Instant) {
        self.granter.open_at_once(now);
    }

    /// Goes on by another plan of the same group; `false`: it cannot, since its nodes or the times of its leases are others.
    /// What is served is brought up once more, with what is new in it; what is no longer in it stays as it is. The files of
    /// who stands by are put in place by the new plan. While it
    /// serves, another node may take the place of the other one.
    pub fn reconfigure(&mut self, config: Config, now: Instant) -> bool {
        let nodes = |config: &Config| (config.group, config.me, config.peer, config.home, config.witness);
        if self.may_change_peer(&config) {
            self.change_peer(&config, now);
        }
        if nodes(&config) != nodes(&self.config) || config.times != self.config.times {
            return false;
        }
        if config.monitor != self.config.monitor {
            self.monitor = Monitor::new(config.monitor, self.record.heard, now);
        }
        self.config = Config { run: self.config.run, ..config };
        if matches!(self.state, State::Active | State::Raising) {
            self.raise(now);
        } else if matches!(self.state, State::Standby | State::RestoreRequired) && self.config.resources.role_files {
            self.put_files_back(now);
        }
        self.settle(now);
        true
    }

    /// The other node grants and hands over: who it is does not change while anything of that is open.
    fn may_change_peer(&self, config: &Config) -> bool {
        let rest = |config: &Config| (config.group, config.me, config.witness);
        let is_another = config.peer != self.config.peer && config.home == config.peer;
        let serves = self.state == State::Active && self.record.is_writer(self.config.me);
        is_another && serves && self.pending.until().is_none() && rest(config) == rest(&self.config)
    }

    /// Nothing is known of the new one, which was granted nothing.
    fn change_peer(&mut self, config: &Config, now: Instant) {
        (self.config.peer, self.config.home) = (config.peer, config.home);
        (self.peer, self.record.heard, self.suspended_until, self.held_by) = (None, false, None, 0);
        self.monitor = Monitor::new(config.monitor, false, now);
        self.granter = Granter::new(self.config.times, now);
        self.granter.open_at_once(now);
        self.save(Saved::Nothing);
        self.tell(Entry::PeerReplaced);
        self.beat_at = now;
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.wake(now);
        if !matches!(input, Input::Heard { .. }) {
            self.look(now);
        }
        match input {
            Input::Heard { path, leaving } => self.heard(path, leaving, now),
            Input::Note { from, note } => self.note(from, note, now),
            Input::Replica(fitness) => self.replica(fitness, now),
            Input::Done { id, outcome } => self.done(id, outcome, now),
            Input::Saved { number } => self.saved(number, now),
            Input::ResourcesFailed(reach) => self.resources_failed(reach, now),
            Input::Request(request) => self.request(request, now),
        }
        self.settle(now);
    }

    /// To be called when [`Machine::poll_timeout`] has come. Much later than that is an own stall.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.wake(now);
        self.look(now);
        self.time_out_step(now);
        self.time_out_wait(now);
        self.try_resources(now);
        if now >= self.beat_at {
            self.beat(now);
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Machine::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let watch = self.monitor.poll_timeout().map(|(at, _)| (at, Timer::Watch));
        let lease = self.lapses_at().map(|at| (at, Timer::Lease));
        let step = self.runner.poll_timeout().map(|at| (at, Timer::Step));
        let wait = self.waits_until().map(|at| (at, Timer::Wait));
        let again = self.tries_again_at().map(|at| (at, Timer::Step));
        let all = [Some((self.beat_at, Timer::Beat)), watch, lease, step, again, wait];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What it is doing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The newest epoch that it knows, and what it remembers besides.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The fixed word of `stead status` for the other node: `online`, `late`, `failed`, or `failed-over` where this node
    /// serves in place of the source.
    pub fn word(&self) -> &'static str {
        let away = self.config.me != self.config.home;
        if away && self.state.needs_lease() { "failed-over" } else { self.monitor.watch().as_str() }
    }

    /// Is the other node there?
    pub fn presence(&self) -> Presence {
        self.monitor.presence()
    }

    /// What the other node said last that it is.
    pub fn peer_role(&self) -> Option<Role> {
        self.peer.map(|peer| peer.role)
    }

    /// How long until the other node counts as failed; `None`: it does not.
    pub fn time_to_fail(&self, now: Instant) -> Option<Duration> {
        self.monitor.time_to_fail(now)
    }

    /// Is that heartbeat path silent while others live?
    pub fn is_path_down(&self, path: u32) -> bool {
        self.monitor.is_path_down(path)
    }

    /// Why it does not take over although the other node does not serve, or why it last did not.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refused.or(self.failed)
    }

    /// Until when it may serve, as it was told to the watchdog.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Until when a person suspended takeovers.
    pub fn suspended_until(&self) -> Option<Instant> {
        self.suspended_until
    }

    /// First of all: what may not be any more, is not.
    fn wake(&mut self, now: Instant) {
        self.now = now;
        self.lapse(now);
    }

    /// An own stall is noticed before anything is concluded from what came meanwhile.
    fn look(&mut self, now: Instant) {
        if self.monitor.poll_timeout().is_some_and(|(at, _)| now >= at) {
            self.monitor.handle_timeout(now);
            self.seen(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        self.consider(now);
        self.press_on(now);
        // Whoever does an action has to know of the lease that it is done under.
        self.publish();
        self.advance(now);
        self.publish();
    }

    fn heard(&mut self, path: u32, leaving: bool, now: Instant) {
        self.monitor.handle(MonitorInput::Heard { path, leaving }, now);
        if !self.record.heard {
            self.record.heard = true;
            self.save(Saved::Nothing);
        }
        self.seen(now);
    }

    /// Takes over into the timeline what the monitor has seen.
    fn seen(&mut self, now: Instant) {
        while let Some(output) = self.monitor.poll_output() {
            if let MonitorOutput::Stalled(_) = output {
                self.peer.iter_mut().for_each(|peer| peer.idle_since = peer.idle_since.map(|_| now));
            }
            let entry = match output {
                MonitorOutput::Became(Watch::Online) => Entry::Heard,
                MonitorOutput::Became(Watch::Late) => Entry::Late,
                MonitorOutput::Became(Watch::Failed) => Entry::Silent(self.config.monitor.timeout),
                MonitorOutput::Became(Watch::Unknown) => Entry::Unknown,
                MonitorOutput::PathDown(path) => Entry::Path { path, down: true },
                MonitorOutput::PathUp(path) => Entry::Path { path, down: false },
                MonitorOutput::Stalled(by) => Entry::Stalled(by),
                MonitorOutput::Leaves => Entry::Leaves,
            };
            self.tell(entry);
        }
    }

    fn save(&mut self, then: Saved) {
        self.saves += 1;
        self.saving.push_back((self.saves, then, self.record.epoch));
        self.outputs.push_back(Output::Save { number: self.saves, record: self.record.clone() });
    }

    fn saved(&mut self, number: u64, now: Instant) {
        while let Some((_, then, epoch)) = self.saving.pop_front_if(|(saved, ..)| *saved <= number) {
            self.durable = epoch;
            match then {
                Saved::Nothing => {}
                Saved::Committed => self.committed(now),
                Saved::Released => self.runner.release(),
                Saved::HandedOver => self.handed_over(now),
            }
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn say(&mut self, to: NodeId, number: u64, epoch: Epoch, say: Say) {
        let note = Note { group: self.config.group, number, epoch, say };
        self.outputs.push_back(Output::Send { to, note });
    }

    fn tell(&mut self, entry: Entry) {
        let known = matches!(
            entry,
            Entry::Confirming { .. }
                | Entry::NoVote(_)
                | Entry::NotTaken(_)
                | Entry::Standby
                | Entry::Step { step: Step::References, .. }
        );
        if self.quiet && known {
            return;
        }
        self.outputs.push_back(Output::Tell(entry));
    }

    /// Tells the watchdog, where it is something new.
    fn publish(&mut self) {
        let lease = match self.state.needs_lease() {
            false => Lease::None,
            true if !self.is_leased() => Lease::Unlimited,
            true => self.holder.until().map_or(Lease::None, Lease::Until),
        };
        if lease != self.lease {
            self.lease = lease;
            self.outputs.push_back(Output::Lease(lease));
        }
    }
}

#[cfg(test)]
mod tests;
