//! The resources of a group on the node that serves: started in the order of what they require and stopped in reverse, those
//! that do not depend on each other at once; looked at while they are up, restarted where they fail, given up in the end.
//!
//! ```text
//!              start                 done
//!   Down ────────────────▸ Starting ──────▸ Up ──┐ looks
//!    ▴                        │ failed      │ ◂──┘
//!    │ done                   ▾             │ failed often enough, or no longer wanted
//!    └──────── Stopping ◂── Unsure ◂────────┘
//!                 └──── failed: again, later
//! ```
//! A resource is unsure where nobody knows what it is: at the begin, after a start that failed, after a stop that failed.
//! It is stopped before it is started again, but for the begin, where what it shall be is tried at once.
//!
//! What is not known never acts: a look that told nothing changes nothing.

#[cfg(test)]
mod answers;
mod api;
mod budget;
mod config;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use api::{Ended, Goal, Input, Output, Reach, Seen};
pub use budget::Budget;
pub use config::{BadResources, LookConfig, RESOURCES_MAX, ResourceConfig, ResourcesConfig};

use crate::planted::{Planted, is_planted};

/// What is known of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody knows. `fresh`: nothing was tried yet.
    Unsure {
        fresh: bool,
        not_before: Option<Instant>,
    },
    Down,
    Starting(Act),
    Up,
    Stopping(Act),
}

/// A start or a stop that is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Act {
    id: u64,
    until: Instant,
}

#[derive(Debug)]
struct Resource {
    config: ResourceConfig,
    standing: Standing,
    /// It has to go down before it is up again.
    restarts: bool,
    budget: Budget,
    looks: Vec<Look>,
    /// Was it told that its start or stop, or one of its looks, is not as it should be?
    amiss: bool,
}

#[derive(Debug)]
struct Look {
    next: Instant,
    running: Option<Act>,
    failed: u32,
    /// It told last that something is not as it should be.
    amiss: bool,
}

/// Keeps the resources of one group. Duties of the caller as for [`Machine`](crate::Machine).
#[derive(Debug)]
pub struct Resources {
    resources: Vec<Resource>,
    /// Each after all that it requires.
    order: Vec<usize>,
    /// By whom each is required.
    required_by: Vec<Vec<usize>>,
    at_once: usize,
    again: Duration,
    goal: Goal,
    reached: bool,
    maintained: bool,
    ids: u64,
    outputs: VecDeque<Output>,
}

impl Resources {
    /// Nothing is known of any, and nothing is done before it is wanted.
    ///
    /// # Errors
    /// Where they could not be started in any order.
    pub fn new(config: ResourcesConfig) -> Result<Resources, BadResources> {
        config.check()?;
        let of = |config: &ResourceConfig| Resource {
            config: config.clone(),
            standing: Standing::Unsure { fresh: true, not_before: None },
            restarts: false,
            budget: Budget::new(config.restarts, config.within),
            looks: Vec::new(),
            amiss: false,
        };
        Ok(Resources {
            resources: config.resources.iter().map(of).collect(),
            order: config.order(),
            required_by: config.required_by(),
            at_once: config.at_once,
            again: config.again,
            goal: Goal::Down,
            reached: true,
            maintained: false,
            ids: 0,
            outputs: VecDeque::new(),
        })
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Want(goal) => self.want(goal),
            Input::Maintain(maintained) => self.maintained = maintained,
            Input::Done { id, ended } => self.done(id, ended, now),
            Input::Looked { id, seen } => self.looked(id, seen, now),
        }
        self.advance(now);
    }

    /// To be called when [`Resources::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let overdue = |act: Act| now >= act.until && !is_planted(Planted::NoLimit);
        for at in 0..self.resources.len() {
            if let Some(act) = self.resources[at].standing.act().filter(|act| overdue(*act)) {
                self.outputs.push_back(Output::Cancel { id: act.id });
                self.done(act.id, Ended::Bad("not done within its limit".into(), Reach::Now), now);
            }
            let hung = self.resources[at].looks.iter().filter_map(|look| look.running).find(|act| overdue(*act));
            if let Some(act) = hung {
                self.outputs.push_back(Output::Cancel { id: act.id });
                // What does not answer in time does not serve in time.
                self.looked(act.id, Seen::Bad("no answer within its limit".into(), Reach::Now), now);
            }
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Resources::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let acts = self.resources.iter().filter_map(|resource| resource.standing.act()).map(|act| act.until);
        let again = self.resources.iter().filter_map(|resource| resource.standing.not_before());
        let looks = self.resources.iter().zip(self.staying()).filter(|(resource, stays)| *stays && resource.is_up());
        let looks = looks.flat_map(|(resource, _)| resource.looks.iter());
        acts.chain(again).chain(looks.map(|look| look.running.map_or(look.next, |act| act.until))).min()
    }

    /// Is that one up, as far as is known?
    pub fn is_up(&self, resource: usize) -> bool {
        self.resources[resource].is_up()
    }

    /// What they shall be: [`Goal::Down`] also once one was given up.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Are all of them what they shall be, and is that this?
    pub fn has_reached(&self, goal: Goal) -> bool {
        self.goal == goal && self.reached
    }

    fn want(&mut self, goal: Goal) {
        if goal != self.goal {
            (self.goal, self.reached) = (goal, false);
        } else if goal == Goal::Down && self.resources.iter().any(|resource| resource.standing != Standing::Down) {
            self.reached = false;
        }
        if goal == Goal::Down {
            self.resources.iter_mut().for_each(|resource| resource.restarts = false);
        }
    }

    fn done(&mut self, id: u64, ended: Ended, now: Instant) {
        let Some(at) =
            self.resources.iter().position(|resource| resource.standing.act().is_some_and(|act| act.id == id))
        else {
            return;
        };
        let starts = matches!(self.resources[at].standing, Standing::Starting(_));
        match (ended, starts) {
            (Ended::Good, true) => self.came_up(at, now),
            (Ended::Good, false) => self.went_down(at),
            (Ended::Bad(why, reach), true) => {
                self.resources[at].standing = Standing::Unsure { fresh: false, not_before: None };
                self.fails(at, why, reach, now);
            }
            (Ended::Bad(..), false) if is_planted(Planted::DownAnyway) => self.went_down(at),
            (Ended::Bad(why, _), false) => {
                let not_before = Some(now + self.again);
                self.resources[at].standing = Standing::Unsure { fresh: false, not_before };
                self.amiss(at, format!("it does not stop: {why}"));
            }
        }
    }

    fn came_up(&mut self, at: usize, now: Instant) {
        let resource = &mut self.resources[at];
        resource.standing = Standing::Up;
        let look = |look: &LookConfig| Look { next: now + look.interval, running: None, failed: 0, amiss: false };
        resource.looks = resource.config.looks.iter().map(look).collect();
        self.is_well(at);
    }

    fn went_down(&mut self, at: usize) {
        (self.resources[at].standing, self.resources[at].restarts) = (Standing::Down, false);
        self.is_well(at);
    }

    fn looked(&mut self, id: u64, seen: Seen, now: Instant) {
        let seen = misread(seen);
        let is_it = |look: &Look| look.running.is_some_and(|act| act.id == id);
        let Some(at) = self.resources.iter().position(|resource| resource.looks.iter().any(is_it)) else { return };
        let resource = &mut self.resources[at];
        let Some(index) = resource.looks.iter().position(is_it) else { return };
        let (look, config) = (&mut resource.looks[index], resource.config.looks[index]);
        (look.running, look.next) = (None, now + config.interval);
        look.failed = match &seen {
            Seen::Good | Seen::Degraded(_) => 0,
            Seen::Bad(..) => look.failed + 1,
            // It is neither one more nor the end of them.
            Seen::Unknown(_) => look.failed,
        };
        look.amiss = seen != Seen::Good;
        let often_enough = look.failed >= config.failures;
        match seen {
            Seen::Good => self.is_well(at),
            Seen::Degraded(why) => self.amiss(at, format!("it may fail soon: {why}")),
            Seen::Unknown(why) => self.amiss(at, format!("nothing is known of it: {why}")),
            Seen::Bad(why, _) if self.maintained && !is_planted(Planted::RestartsMaintained) => {
                self.amiss(at, format!("left alone in maintenance: {why}"))
            }
            Seen::Bad(why, reach) if often_enough => self.fails(at, why, reach, now),
            Seen::Bad(why, _) => self.amiss(at, why),
        }
    }

    /// It does not serve: once more, or no more.
    fn fails(&mut self, at: usize, why: String, reach: Reach, now: Instant) {
        if self.goal == Goal::Down {
            return;
        }
        let may_do = reach == Reach::Now || is_planted(Planted::RestartsInVain);
        if may_do && self.resources[at].may_restart(now) {
            self.resources[at].restarts = true;
            self.reached = false;
            return self.outputs.push_back(Output::Restarts { resource: at, why });
        }
        self.outputs.push_back(Output::GivesUp { resource: at, why, reach });
        if !is_planted(Planted::NotUndone) {
            self.want(Goal::Down);
        }
    }

    fn amiss(&mut self, at: usize, what: String) {
        if !std::mem::replace(&mut self.resources[at].amiss, true) {
            self.outputs.push_back(Output::Amiss { resource: at, what: Some(what) });
        }
    }

    /// Where none of its looks says otherwise.
    fn is_well(&mut self, at: usize) {
        if self.resources[at].looks.iter().any(|look| look.amiss) {
            return;
        }
        if std::mem::take(&mut self.resources[at].amiss) {
            self.outputs.push_back(Output::Amiss { resource: at, what: None });
        }
    }

    /// Begins whatever can begin now.
    fn advance(&mut self, now: Instant) {
        let stays = self.staying();
        let order = std::mem::take(&mut self.order);
        order.iter().filter(|at| stays[**at]).for_each(|at| self.raise(*at, now));
        order.iter().rev().filter(|at| !stays[**at]).for_each(|at| self.take_down(*at, now));
        self.order = order;
        (0..stays.len()).filter(|at| stays[*at]).for_each(|at| self.look_at(at, now));
        self.tell_goal();
    }

    fn tell_goal(&mut self) {
        let is_so = |resource: &Resource| match self.goal {
            Goal::Up => (resource.is_up() || resource.starts_early()) && !resource.restarts,
            Goal::Down => resource.standing == Standing::Down,
        };
        if !self.reached && self.resources.iter().all(is_so) {
            self.reached = true;
            self.outputs.push_back(Output::Reached(self.goal));
        }
    }

    /// Which of them shall be up, with all that they require?
    fn staying(&self) -> Vec<bool> {
        let mut stays = vec![false; self.resources.len()];
        for at in &self.order {
            let resource = &self.resources[*at];
            let has_all = resource.config.requires.iter().all(|other| stays[*other]);
            stays[*at] = self.goal == Goal::Up && !resource.has_to_go_down() && has_all;
        }
        stays
    }

    fn raise(&mut self, at: usize, now: Instant) {
        match self.resources[at].standing {
            Standing::Down | Standing::Unsure { fresh: true, .. } if self.can_start(at) => {
                let limit = self.resources[at].config.start;
                let act = self.act(at, Goal::Up, limit, now);
                self.resources[at].standing = Standing::Starting(act);
            }
            _ => {}
        }
    }

    fn can_start(&self, at: usize) -> bool {
        let has_all = self.resources[at].config.requires.iter().all(|other| self.resources[*other].is_up());
        (has_all || is_planted(Planted::StartTooEarly)) && self.is_free()
    }

    fn take_down(&mut self, at: usize, now: Instant) {
        let resource = &mut self.resources[at];
        match resource.standing {
            Standing::Starting(act) => {
                self.outputs.push_back(Output::Cancel { id: act.id });
                resource.standing = Standing::Unsure { fresh: false, not_before: None };
            }
            Standing::Unsure { not_before: Some(then), fresh } if now >= then => {
                resource.standing = Standing::Unsure { fresh, not_before: None };
            }
            _ => {}
        }
        if self.can_stop(at) && self.is_free() {
            self.end_looks(at);
            let limit = self.resources[at].config.stop;
            let act = self.act(at, Goal::Down, limit, now);
            self.resources[at].standing = Standing::Stopping(act);
        }
    }

    fn can_stop(&self, at: usize) -> bool {
        let is_down = |other: &usize| self.resources[*other].standing == Standing::Down;
        let may = matches!(self.resources[at].standing, Standing::Up | Standing::Unsure { not_before: None, .. });
        may && (self.required_by[at].iter().all(is_down) || is_planted(Planted::StopTooEarly))
    }

    fn is_free(&self) -> bool {
        self.resources.iter().filter(|resource| resource.standing.act().is_some()).count() < self.at_once
    }

    fn act(&mut self, resource: usize, goal: Goal, limit: Duration, now: Instant) -> Act {
        self.ids += 1;
        self.outputs.push_back(Output::Do { id: self.ids, resource, goal, limit });
        Act { id: self.ids, until: now + limit }
    }

    fn end_looks(&mut self, at: usize) {
        for look in std::mem::take(&mut self.resources[at].looks) {
            self.outputs.extend(look.running.map(|act| Output::Cancel { id: act.id }));
        }
    }

    fn look_at(&mut self, at: usize, now: Instant) {
        let resource = &mut self.resources[at];
        let is_up = resource.is_up();
        for (index, look) in resource.looks.iter_mut().enumerate().filter(|_| is_up) {
            if look.running.is_none() && now >= look.next {
                self.ids += 1;
                let limit = resource.config.looks[index].timeout;
                look.running = Some(Act { id: self.ids, until: now + limit });
                self.outputs.push_back(Output::Look { id: self.ids, resource: at, look: index, limit });
            }
        }
    }
}

impl Resource {
    fn is_up(&self) -> bool {
        self.standing == Standing::Up
    }

    fn starts_early(&self) -> bool {
        is_planted(Planted::UpTooEarly) && matches!(self.standing, Standing::Starting(_))
    }

    fn may_restart(&mut self, now: Instant) -> bool {
        self.budget.take(now) || is_planted(Planted::EndlessRestarts)
    }

    /// Before it can be up, and all that require it too?
    fn has_to_go_down(&self) -> bool {
        self.restarts || matches!(self.standing, Standing::Unsure { fresh: false, .. })
    }
}

/// As planted bugs read it.
fn misread(seen: Seen) -> Seen {
    match seen {
        Seen::Unknown(why) if is_planted(Planted::UnknownIsBad) => Seen::Bad(why, Reach::Now),
        Seen::Degraded(why) if is_planted(Planted::DegradedIsBad) => Seen::Bad(why, Reach::Now),
        seen => seen,
    }
}

impl Standing {
    fn act(&self) -> Option<Act> {
        match self {
            Standing::Starting(act) | Standing::Stopping(act) => Some(*act),
            _ => None,
        }
    }

    fn not_before(&self) -> Option<Instant> {
        match self {
            Standing::Unsure { not_before, .. } => *not_before,
            _ => None,
        }
    }
}
