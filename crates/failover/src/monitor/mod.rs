//! One node watched over one or more heartbeat paths.
//!
//! ```text
//!              heartbeat            a quarter of the time-out gone     all of it gone
//!   Unknown ───────────────▸ Online ─────────────────────────▸ Late ─────────────────▸ Failed
//!    ▴   │                     ▴                                 │                        │
//!    │   │ silent for          └──────────── heartbeat on any path ──────────────────────┘
//!    │   └ all of it ──▸ Failed, where it was ever heard
//!    └── own stall, or the node said that it leaves: counts anew
//! ```
//! *Unknown* is neither present nor absent, and nothing follows from it. A node that was never heard stays unknown. A
//! path that is silent while others live is told, and no more.

mod config;
mod replay;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use config::{BadMonitor, MonitorConfig};
pub use replay::replay;

/// Three things: what is not known counts neither for the one nor for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was heard within the time-out.
    Present,
    /// It was silent for all of the time-out, and would have been heard.
    Absent,
    /// Neither is known.
    Unknown,
}

/// How a watched node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing is known yet, or not any more.
    Unknown,
    /// Heard lately.
    Online,
    /// A quarter of the time-out is gone.
    Late,
    /// All of it is gone.
    Failed,
}

impl Watch {
    /// The fixed word for it; what is not known is shown as late.
    pub fn as_str(self) -> &'static str {
        match self {
            Watch::Online => "online",
            Watch::Unknown | Watch::Late => "late",
            Watch::Failed => "failed",
        }
    }
}

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorInput {
    /// A heartbeat that was taken.
    Heard {
        /// Number of the path, from 0; others than those of the plan count for the node alone.
        path: u32,
        /// Does the node say that it goes down in order?
        leaving: bool,
    },
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorOutput {
    /// The node is something else now.
    Became(Watch),
    /// A path is silent for all of the time-out while another one lives.
    PathDown(u32),
    /// It lives again.
    PathUp(u32),
    /// This process did not run for so long beyond what was due: the count begins anew.
    Stalled(Duration),
    /// The node said that it goes down in order: the count begins anew, with the grace for that.
    Leaves,
}

/// Why [`Monitor::handle_timeout`] is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorTimer {
    /// To notice an own stall; nothing else is due.
    Tick,
    /// The node becomes late.
    Late,
    /// The node fails.
    Fail,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    heard: Instant,
    down: bool,
}

/// Watches one node.
#[derive(Debug)]
pub struct Monitor {
    config: MonitorConfig,
    watch: Watch,
    known: bool,
    leaving: bool,
    counts_from: Instant,
    patience: Duration,
    paths: Vec<Path>,
    due: Option<(Instant, MonitorTimer)>,
    outputs: VecDeque<MonitorOutput>,
}

impl Monitor {
    /// Begins to watch. `known`: was the node ever heard before, durably? Of one that never was, silence tells nothing.
    pub fn new(config: MonitorConfig, known: bool, now: Instant) -> Monitor {
        let paths = vec![Path { heard: now, down: false }; config.paths as usize];
        let mut monitor = Monitor {
            watch: Watch::Unknown,
            known,
            leaving: false,
            counts_from: now,
            patience: config.timeout,
            paths,
            due: None,
            outputs: VecDeque::new(),
            config,
        };
        monitor.plan(now);
        monitor
    }

    /// Takes an input.
    pub fn handle(&mut self, input: MonitorInput, now: Instant) {
        self.notice_stall(now);
        let MonitorInput::Heard { path, leaving } = input;
        self.heard_on(path, now);
        if leaving && !self.leaving {
            self.outputs.push_back(MonitorOutput::Leaves);
        }
        (self.known, self.leaving, self.counts_from) = (true, leaving, now);
        if leaving {
            self.patience = self.config.leave_grace;
            self.turn(Watch::Unknown);
        } else {
            self.patience = self.config.timeout;
            self.turn(Watch::Online);
        }
        self.plan(now);
    }

    /// To be called when [`Monitor::poll_timeout`] has come. Much later than that is an own stall.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_stall(now);
        let silent = now.saturating_duration_since(self.counts_from);
        if silent >= self.patience && self.known {
            self.turn(Watch::Failed);
        } else if silent >= self.config.late_after() && self.watch == Watch::Online {
            self.turn(Watch::Late);
        }
        self.look_at_paths(now);
        self.plan(now);
    }

    /// The next thing to tell.
    pub fn poll_output(&mut self) -> Option<MonitorOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Monitor::handle_timeout`], and why. There is always such a time: a stall shows in that it is missed.
    pub fn poll_timeout(&self) -> Option<(Instant, MonitorTimer)> {
        self.due
    }

    /// When it was heard last, or when its count began.
    pub fn counts_from(&self) -> Instant {
        self.counts_from
    }

    /// How the node is.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Is it there?
    pub fn presence(&self) -> Presence {
        match self.watch {
            Watch::Unknown => Presence::Unknown,
            Watch::Online | Watch::Late => Presence::Present,
            Watch::Failed => Presence::Absent,
        }
    }

    /// How long until it fails; zero once it did. `None`: it does not, since it was never heard.
    pub fn time_to_fail(&self, now: Instant) -> Option<Duration> {
        self.known.then(|| self.fails_at().saturating_duration_since(now))
    }

    /// Is that path silent while others live?
    pub fn is_path_down(&self, path: u32) -> bool {
        self.paths.get(path as usize).is_some_and(|path| path.down)
    }

    fn fails_at(&self) -> Instant {
        self.counts_from + self.patience
    }

    fn notice_stall(&mut self, now: Instant) {
        let Some((due, _)) = self.due else { return };
        let beyond = now.saturating_duration_since(due);
        if beyond <= self.config.stall_max() {
            return;
        }
        self.outputs.push_back(MonitorOutput::Stalled(beyond));
        self.counts_from = now;
        self.paths.iter_mut().for_each(|path| path.heard = now);
        self.turn(Watch::Unknown);
    }

    fn heard_on(&mut self, number: u32, now: Instant) {
        let Some(path) = self.paths.get_mut(number as usize) else { return };
        path.heard = now;
        if std::mem::take(&mut path.down) {
            self.outputs.push_back(MonitorOutput::PathUp(number));
        }
    }

    /// A path is judged only while the node is heard on another.
    fn look_at_paths(&mut self, now: Instant) {
        if self.watch != Watch::Online {
            return;
        }
        for (path, number) in self.paths.iter_mut().zip(0..) {
            let silent = now.saturating_duration_since(path.heard) >= self.config.timeout;
            if silent && !path.down {
                path.down = true;
                self.outputs.push_back(MonitorOutput::PathDown(number));
            }
        }
    }

    fn turn(&mut self, watch: Watch) {
        if self.watch != watch {
            self.watch = watch;
            self.outputs.push_back(MonitorOutput::Became(watch));
        }
    }

    fn plan(&mut self, now: Instant) {
        let tick = (now + self.config.interval, MonitorTimer::Tick);
        let late =
            (self.watch == Watch::Online).then(|| (self.counts_from + self.config.late_after(), MonitorTimer::Late));
        let fail = (self.watch != Watch::Failed && self.known).then(|| (self.fails_at(), MonitorTimer::Fail));
        self.due = [Some(tick), late, fail].into_iter().flatten().min_by_key(|(at, _)| *at);
    }
}

#[cfg(test)]
mod tests;
