//! The side that stands by: when it takes over, and what may stand against it.

use std::time::Instant;

use stead_model::Epoch;

use super::requests::Refusal;
use super::{Await, Claim, Fitness, Machine, Saved, State, Then, Turn, Work, WorkKind};
use crate::heartbeat::{Event, Hold, No, Note, Say};
use crate::monitor::{Presence, Watch};
use crate::planted::{Planted, is_planted};
use crate::timeline::Entry;

use super::step::Step;

impl Machine {
    pub(super) fn replica(&mut self, fitness: Fitness, now: Instant) {
        if self.fitness != fitness {
            (self.fitness, self.refused, self.failed) = (fitness, None, None);
            self.consider_at = now;
        }
        if self.state == State::RestoreRequired && self.unfit().is_none() {
            self.stand_by(now);
        }
    }

    /// What is wrong with the replica here.
    pub(super) fn unfit(&self) -> Option<Refusal> {
        let fitness = self.fitness;
        match () {
            () if fitness.epoch != self.record.epoch.number => Some(Refusal::OtherEpoch),
            () if !fitness.mirrored => Some(Refusal::Mirroring),
            () if fitness.halted => Some(Refusal::Halted),
            () if fitness.spoiled || !fitness.consistent => Some(Refusal::NoConsistentPoint),
            () => None,
        }
    }

    /// What speaks against a takeover that nobody asked for.
    pub(super) fn objection(&self) -> Option<Refusal> {
        if self.suspended_until.is_some() {
            return Some(Refusal::Suspended);
        }
        if let Some(refusal) = self.held() {
            return Some(refusal);
        }
        let in_sync = !self.config.synchronous || self.fitness.in_sync;
        self.unfit().or((!in_sync).then_some(Refusal::NotInSync))
    }

    /// Does the other node not serve, for all of the time-out? Unknown is no reason.
    pub(super) fn suspicion(&self, now: Instant) -> Option<Entry> {
        let timeout = self.config.monitor.timeout;
        // Whoever is heard is given the time that it may take until it is granted to again.
        let patience = timeout + self.config.times.wait;
        match self.monitor.watch() {
            Watch::Failed => Some(Entry::Silent(timeout)),
            Watch::Online | Watch::Late => {
                let since = self.peer.and_then(|peer| peer.idle_since)?;
                let idle = now.saturating_duration_since(since);
                (idle >= patience).then_some(Entry::NotServing(idle))
            }
            Watch::Unknown => None,
        }
    }

    /// Does the other node serve, as far as it says?
    pub(super) fn peer_serves(&self) -> bool {
        self.monitor.presence() == Presence::Present && self.peer.is_some_and(|peer| peer.role.serves())
    }

    /// Should it take over?
    pub(super) fn consider(&mut self, now: Instant) {
        let suspicion = self.suspicion(now);
        if self.state == State::Approval && suspicion.is_none() && !self.peer_fails() {
            self.stand_by(now);
        }
        if self.state != State::Standby || now < self.consider_at {
            return;
        }
        if self.peer_fails() {
            return self.relieve(now);
        }
        let Some(why) = suspicion else {
            (self.refused, self.failed) = (None, None);
            return;
        };
        self.consider_at = now + self.config.monitor.timeout;
        if let Some(refusal) = self.objection() {
            return self.not_taken(refusal);
        }
        if matches!(why, Entry::NotServing(_)) && self.failed.is_none() {
            self.tell(why);
        }
        if self.config.is_automatic() {
            self.claim_for(Event::Failover, false, false, now);
        } else {
            self.state = State::Approval;
            self.tell(Entry::AsksPerson);
        }
    }

    /// Told once for as long as it stays the same.
    pub(super) fn not_taken(&mut self, refusal: Refusal) {
        if self.refused != Some(refusal) {
            self.refused = Some(refusal);
            self.tell(Entry::NotTaken(refusal));
        }
    }

    /// Begins to confirm that it may take over.
    pub(super) fn claim_for(&mut self, event: Event, asked: bool, force: bool, now: Instant) {
        let mut claim = self.new_claim(event, asked, force, now);
        claim.until = now + self.config.limits.confirm;
        claim.vote = force || self.config.witness.is_none();
        claim.references = force || !self.config.resources.references;
        self.begin(claim);
        if !claim.references {
            self.runner.start(vec![(Step::References, Turn::Do)], false);
        }
        self.confirm(claim, now);
    }

    /// Asks the other node to hand over; `asked`: a person wants it.
    pub(super) fn ask_to_yield(&mut self, event: Event, asked: bool, now: Instant) {
        let mut claim = self.new_claim(event, asked, false, now);
        claim.until = now + self.config.limits.planned;
        claim.number = self.next_number();
        self.begin(claim);
        self.state = State::Asking(claim);
        self.beat(now);
    }

    /// It did.
    pub(super) fn yielded(&mut self, note: Note, now: Instant) {
        let State::Asking(mut claim) = self.state else { return };
        // Granted to since, it may have gone on and written.
        let stands = self.granter.is_void() && note.epoch == self.record.epoch;
        if claim.number != note.number || !stands {
            return;
        }
        (claim.yielded, claim.references) = (true, true);
        claim.vote = self.config.witness.is_none();
        claim.until = now + self.config.limits.confirm / 2;
        self.confirm(claim, now);
    }

    fn new_claim(&mut self, event: Event, asked: bool, force: bool, now: Instant) -> Claim {
        let number = self.record.epoch.number.max(self.highest) + 1;
        let salt = [self.config.me.0, u128::from(self.next_number()).to_le_bytes()].concat();
        let random = blake3::derive_key("stead 2026 epoch", &salt);
        let random = u64::from_le_bytes(random[..8].try_into().expect("a hash is longer"));
        let epoch = Epoch { number, writer: self.config.me.0, random };
        Claim {
            event,
            epoch,
            asked,
            force,
            yielded: false,
            vote: false,
            references: false,
            since: now,
            outage_since: if event == Event::Failover { self.monitor.counts_from() } else { now },
            until: now,
            number: 0,
        }
    }

    fn begin(&mut self, claim: Claim) {
        self.cancel();
        self.no_vote = None;
        self.quiet = !claim.asked && self.failed.is_some();
        self.record.work = Some(Work { kind: WorkKind::Claim, event: claim.event, done: Vec::new() });
        self.save(Saved::Nothing);
        self.tell(Entry::Confirming { event: claim.event, epoch: claim.epoch.number });
    }

    /// Grants nothing any more, and asks the witness.
    fn confirm(&mut self, claim: Claim, now: Instant) {
        self.granter.close();
        self.holder.forget();
        self.state = State::Confirming(claim);
        self.beat(now);
    }

    /// A person insists while it is being confirmed: nothing is asked any more.
    pub(super) fn insist(&mut self) {
        if let State::Confirming(claim) = &mut self.state {
            (claim.asked, claim.force, claim.vote, claim.references) = (true, true, true, true);
            self.quiet = false;
            self.cancel();
        }
    }

    pub(super) fn voted(&mut self, note: Note, millis: u32, now: Instant) {
        let (State::Confirming(claim) | State::Fencing(claim)) = &mut self.state else { return };
        if claim.force || note.epoch != claim.epoch || !self.holder.has_asked(note.number) {
            return;
        }
        let is_first = !std::mem::replace(&mut claim.vote, true);
        self.holder.granted(note.number, millis, now);
        if is_first {
            self.quiet = false;
            self.tell(Entry::Vote);
        }
    }

    pub(super) fn not_voted(&mut self, note: Note, no: No, now: Instant) {
        self.highest = self.highest.max(note.epoch.number);
        let State::Confirming(claim) = self.state else { return };
        if claim.vote || !self.holder.has_asked(note.number) {
            return;
        }
        if self.no_vote != Some(no) {
            self.no_vote = Some(no);
            self.tell(Entry::NoVote(no));
        }
        match no {
            // That the other node yields is still on its way to the witness.
            No::Seen | No::Waiting if claim.yielded => self.beat_at = now + self.config.monitor.interval / 16,
            No::Seen => self.give_up(Refusal::WitnessSees, now),
            No::Other | No::Unable => self.give_up(Refusal::OtherVote, now),
            No::Waiting | No::Silent => {}
        }
    }

    /// Goes on with a takeover as soon as nothing stands against it.
    pub(super) fn press_on(&mut self, now: Instant) {
        if matches!(self.state, State::Asking(_)) && self.monitor.watch() == Watch::Failed {
            self.give_up(Refusal::SourceDoesNotServe, now);
            self.consider_at = now;
            return self.consider(now);
        }
        let State::Confirming(claim) = self.state else { return };
        if let Some(refusal) = self.change_of_mind(&claim) {
            return self.give_up(refusal, now);
        }
        let lapsed = now >= self.granter.lapsed_at() || is_planted(Planted::NoWait);
        if !(claim.references && claim.vote && lapsed) {
            return;
        }
        if self.config.resources.fence && !claim.yielded {
            self.cancel();
            self.state = State::Fencing(claim);
            self.runner.start(vec![(Step::Fence, Turn::Do)], false);
        } else {
            self.commit(claim, now);
        }
    }

    /// What it still waits for before it takes over, or serves again.
    pub fn awaits(&self, now: Instant) -> Option<Await> {
        let claim = match self.state {
            State::Down { .. } => return Some(Await::Grant).filter(|_| !self.may_serve(now)),
            State::Confirming(claim) => claim,
            _ => return None,
        };
        match claim {
            _ if !claim.references => Some(Await::References),
            _ if !claim.vote => Some(Await::Vote),
            _ if now < self.granter.lapsed_at() => Some(Await::Lapse),
            _ => None,
        }
    }

    /// What came up against it meanwhile.
    fn change_of_mind(&self, claim: &Claim) -> Option<Refusal> {
        if claim.force {
            return None;
        }
        if claim.event == Event::Failover && self.peer_serves() {
            return Some(Refusal::SourceServes);
        }
        let unknown = self.monitor.presence() == Presence::Unknown && !claim.asked && !claim.yielded;
        if unknown { Some(Refusal::NotKnown) } else { self.unfit() }
    }

    /// The point of no return, once it is durable.
    pub(super) fn commit(&mut self, claim: Claim, now: Instant) {
        self.cancel();
        self.record.epoch = claim.epoch;
        (self.record.clean, self.record.restore, self.record.hold) = (false, false, Hold::None);
        self.record.work = Some(Work { kind: WorkKind::Takeover, event: claim.event, done: Vec::new() });
        self.state = State::Committing(claim);
        self.save(Saved::Committed);
        if is_planted(Planted::EpochNotDurable) {
            self.durable = claim.epoch;
            self.committed(now);
        }
    }

    pub(super) fn committed(&mut self, now: Instant) {
        let State::Committing(claim) = self.state else { return };
        self.tell(Entry::Committed(claim.epoch.number));
        (self.state, self.work_since, self.unleased) = (State::Raising, claim.since, claim.force);
        self.outage_since = Some(claim.outage_since);
        self.runner.start(self.config.resources.takeover(claim.event), false);
        self.beat(now);
    }

    /// Not now: whatever was begun is taken back.
    pub(super) fn give_up(&mut self, refusal: Refusal, now: Instant) {
        let Some(claim) = self.state.claim().copied() else { return };
        self.cancel();
        self.holder.forget();
        self.record.work = None;
        self.save(Saved::Nothing);
        if claim.number != 0 {
            self.say(self.config.peer, claim.number, self.durable, Say::NotYielded(No::Unable));
        }
        self.quiet &= self.failed == Some(refusal);
        if !claim.asked {
            self.failed = Some(refusal);
        }
        self.tell(Entry::NotTaken(refusal));
        self.pending_failed(refusal);
        self.stand_by(now);
        self.quiet = false;
        self.consider_at = now + self.config.monitor.timeout;
        self.beat(now);
    }

    pub(super) fn waits_until(&self) -> Option<Instant> {
        let state = match self.state {
            State::Down { unsure: Some(since), .. } if self.is_leased() => Some(since + self.config.times.lease),
            State::Yielded { until, .. } => Some(until),
            _ => self.claim_until(),
        };
        let confirms = matches!(self.state, State::Confirming(_));
        let lapsed = Some(self.granter.lapsed_at()).filter(|at| confirms && *at > self.now);
        [state, lapsed, self.suspended_until, self.pending.until()].into_iter().flatten().min()
    }

    /// When the agreement of others is waited for no more; fencing has a limit of its own.
    fn claim_until(&self) -> Option<Instant> {
        match self.state {
            State::Asking(claim) | State::Confirming(claim) => Some(claim.until),
            _ => None,
        }
    }

    pub(super) fn time_out_wait(&mut self, now: Instant) {
        self.pending_overdue(now);
        self.suspended_until = self.suspended_until.filter(|until| now < *until);
        match self.state {
            State::Down { retry, unsure: Some(since) }
                if self.is_leased() && now >= since + self.config.times.lease =>
            {
                self.fall(Then::Down(retry), now);
            }
            State::Yielded { until, .. } if now >= until => self.go_on(now),
            _ if self.claim_until().is_some_and(|until| now >= until) => self.give_up(Refusal::TimedOut, now),
            _ => {}
        }
    }
}
