//! When a synchronous connection is synchronous: from having caught up to falling back, so that the target never holds
//! itself for level while an fsync was answered that it does not have.
//!
//! ```text
//!            caught up            everything before          granted
//!   behind ───────────▸ entering ──────────────────▸ level ──────────▸ (renewed every third of the lease)
//!      ▴                   │ too long                   │ an fsync waits too long
//!      └───────────────────┴──────── revoking ◂─────────┘
//!                                    until the target has answered, or its lease is over
//! ```
//! From *entering* on an fsync waits for the target; in *behind* it does not. A *lease* is the target's right to call
//! itself level. It asks for one, and counts it from when it asked; the source counts it from when it granted it, which
//! is later: so the target's claim is over before the source answers an fsync alone, however slow the messages were.

mod message;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use message::SyncMessage;

/// Changes on their way, in bytes of capture, with which a target still counts as caught up.
const LEVEL_BYTES: u64 = 1 << 20;
/// How long it has to be caught up first, and how long at most after it fell back again and again.
const SETTLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How patient a synchronous connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// Longest time that an fsync waits before the connection falls back; more than 100 ms.
    pub timeout: Duration,
    /// It never falls back: fsyncs wait until the target answers.
    pub blocks: bool,
}

impl SyncConfig {
    /// How long a grant holds: half of the time-out, so that it is over, drift of a hundredth included, before the other
    /// half is.
    pub fn lease(&self) -> Duration {
        self.timeout * 49 / 100
    }
}

/// What goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncInput {
    /// The connection is up, replicates and is not amid a mirror; or not.
    Replicating(bool),
    /// Where things stand.
    Progress {
        /// Capture's number of the last change.
        captured: u64,
        /// Capture's number up to which the target has everything durably.
        durable: u64,
        /// Since when the fsync waits that waits longest.
        waiting_since: Option<Instant>,
    },
    /// The target asks for a lease.
    Asked {
        /// Number of the question; rises.
        number: u64,
        /// Number of the last grant that it took and saved, 0: none.
        held: u64,
    },
    /// The target has given up (and saved) every grant up to that number.
    Revoked(u64),
    /// Nobody extended the deadline of the answers: they were given without the target.
    FellBack,
    /// Other settings from now on.
    Configure(SyncConfig),
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncOutput {
    /// An fsync waits for this target from now on.
    Enter,
    /// It does so no more.
    Leave,
    /// Answer the target that it is level for the length of the lease.
    Grant {
        /// The question's.
        number: u64,
        /// From when the target asked.
        lease: Duration,
    },
    /// Tell the target that it is not.
    Revoke {
        /// This grant and all before.
        number: u64,
    },
    /// The target is level: what was answered is durable there.
    InSync,
    /// It fell back to asynchronous.
    FallenBack(Reason),
}

/// Why a connection fell back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The target did not answer in time.
    Late,
    /// The connection was lost, and did not come back in time.
    Disconnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Behind { caught_up_since: Option<Instant> },
    Entering { since: Instant, until: Option<u64> },
    Level { proved: bool },
    Revoking { until: Instant, reason: Reason },
}

/// The source's half of a synchronous connection.
#[derive(Debug)]
pub struct SyncSource {
    config: SyncConfig,
    step: Step,
    replicating: bool,
    /// Last question that was granted.
    granted: u64,
    /// When it was, since the target is level.
    granted_at: Option<Instant>,
    /// First question that was granted since then.
    first_grant: Option<u64>,
    settle: Duration,
    waiting_since: Option<Instant>,
    outputs: VecDeque<SyncOutput>,
}

impl SyncSource {
    /// It is behind at first.
    pub fn new(config: SyncConfig) -> SyncSource {
        SyncSource {
            config,
            step: Step::Behind { caught_up_since: None },
            replicating: false,
            granted: 0,
            granted_at: None,
            first_grant: None,
            settle: SETTLE.0,
            waiting_since: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: SyncInput, now: Instant) {
        match input {
            SyncInput::Replicating(replicating) => self.replicating = replicating,
            SyncInput::Progress { captured, durable, waiting_since } => {
                self.waiting_since = waiting_since;
                self.progress(captured, durable, now);
            }
            SyncInput::Asked { number, held } => self.asked(number, held, now),
            SyncInput::Revoked(number) if number >= self.granted => self.revoked(),
            SyncInput::Revoked(_) => {}
            SyncInput::FellBack if self.holds_back() => self.leave(Some(Reason::Late)),
            SyncInput::FellBack => {}
            SyncInput::Configure(config) => self.config = config,
        }
        self.handle_timeout(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.step {
            Step::Entering { since, .. } if now >= since + self.config.timeout / 2 => self.leave(None),
            Step::Level { .. } if self.is_too_late(now) => self.revoke(now),
            Step::Revoking { until, reason } if now >= until => self.leave(Some(reason)),
            _ => {}
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SyncOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`SyncSource::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Behind { .. } => None,
            Step::Entering { since, .. } => Some(since + self.config.timeout / 2),
            Step::Level { .. } => {
                self.waiting_since.filter(|_| !self.config.blocks).map(|at| at + self.config.timeout / 2)
            }
            Step::Revoking { until, .. } => Some(until),
        }
    }

    /// Does an fsync wait for this target?
    pub fn holds_back(&self) -> bool {
        !matches!(self.step, Step::Behind { .. })
    }

    /// Is the target level, and knows it?
    pub fn is_in_sync(&self) -> bool {
        self.step == Step::Level { proved: true }
    }

    fn progress(&mut self, captured: u64, durable: u64, now: Instant) {
        match self.step {
            Step::Behind { caught_up_since } => {
                let level = self.replicating && captured.saturating_sub(durable) <= LEVEL_BYTES;
                let since = caught_up_since.unwrap_or(now);
                if level && now >= since + self.settle {
                    self.step = Step::Entering { since: now, until: None };
                    self.outputs.push_back(SyncOutput::Enter);
                } else {
                    self.step = Step::Behind { caught_up_since: level.then_some(since) };
                }
            }
            // What was captured by the first look after entering: every fsync that did not wait lies before it.
            Step::Entering { since, until: None } => self.step = Step::Entering { since, until: Some(captured) },
            Step::Entering { until: Some(until), .. } if durable >= until && self.replicating => {
                self.step = Step::Level { proved: false };
                (self.first_grant, self.granted_at) = (None, None);
            }
            _ => {}
        }
    }

    fn asked(&mut self, number: u64, held: u64, now: Instant) {
        let Step::Level { proved } = self.step else { return };
        if !proved && self.first_grant.is_some_and(|first| held >= first) {
            self.step = Step::Level { proved: true };
            self.settle = SETTLE.0;
            self.outputs.push_back(SyncOutput::InSync);
        }
        if self.replicating && number > self.granted {
            (self.granted, self.granted_at) = (number, Some(now));
            self.first_grant = self.first_grant.or(Some(number));
            self.outputs.push_back(SyncOutput::Grant { number, lease: self.config.lease() });
        }
    }

    fn is_too_late(&self, now: Instant) -> bool {
        !self.config.blocks && self.waiting_since.is_some_and(|since| now >= since + self.config.timeout / 2)
    }

    fn revoke(&mut self, now: Instant) {
        let reason = if self.replicating { Reason::Late } else { Reason::Disconnected };
        let Some(granted_at) = self.granted_at else { return self.leave(Some(reason)) };
        let until = (granted_at + self.config.lease() * 101 / 100).max(now);
        self.step = Step::Revoking { until, reason };
        self.outputs.push_back(SyncOutput::Revoke { number: self.granted });
    }

    fn revoked(&mut self) {
        if let Step::Revoking { reason, .. } = self.step {
            self.leave(Some(reason));
        }
    }

    fn leave(&mut self, reason: Option<Reason>) {
        self.step = Step::Behind { caught_up_since: None };
        self.settle = (self.settle * 2).min(SETTLE.1);
        self.outputs.push_back(SyncOutput::Leave);
        self.outputs.extend(reason.map(SyncOutput::FallenBack));
    }
}

/// The target's half: what it may claim of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTarget {
    asked: Option<(u64, Instant)>,
    number: u64,
    held: u64,
    ask_at: Option<Instant>,
    level_until: Option<Instant>,
}

/// How often a target asks that holds no lease.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl SyncTarget {
    /// The source is there (again): the next [`SyncTarget::ask`] is due at once. Questions of before are forgotten.
    pub fn connected(&mut self, now: Instant) {
        (self.asked, self.ask_at) = (None, Some(now));
    }

    /// The source is gone: nothing is asked. A lease that is held is held on until it ends.
    pub fn disconnected(&mut self) {
        (self.asked, self.ask_at) = (None, None);
    }

    /// When to call [`SyncTarget::ask`].
    pub fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// A question, where one is due: its number and the last grant that was saved.
    pub fn ask(&mut self, now: Instant) -> Option<(u64, u64)> {
        self.ask_at.filter(|at| now >= *at)?;
        self.number += 1;
        (self.asked, self.ask_at) = (Some((self.number, now)), Some(now + ASK_EVERY));
        Some((self.number, self.held))
    }

    /// A grant came. Returns until when the target may call itself level: to be saved, then told to
    /// [`SyncTarget::saved`]. `None`: nobody asked, or it is over already.
    pub fn granted(&mut self, number: u64, lease: Duration, now: Instant) -> Option<Instant> {
        let (asked, at) = self.asked.filter(|(asked, _)| *asked == number)?;
        self.ask_at = Some(now.max(at + lease / 3));
        Some(at + lease).filter(|until| asked > self.held && *until > now)
    }

    /// That is durable.
    pub fn saved(&mut self, number: u64, until: Instant) {
        (self.held, self.level_until) = (number, Some(until));
    }

    /// The source takes back what it granted. To be saved before it is answered; a grant that is still on its way is not
    /// taken any more.
    pub fn revoked(&mut self, now: Instant) {
        (self.asked, self.level_until) = (None, None);
        self.ask_at = self.ask_at.map(|_| now + ASK_EVERY);
    }

    /// Is it certain that every fsync that was answered at the source is durable here?
    pub fn is_level(&self, now: Instant) -> bool {
        self.level_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests;
