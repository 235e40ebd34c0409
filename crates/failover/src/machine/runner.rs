//! One action at a time: the steps of what is being done, each with a limit and an outcome.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::step::{Step, Turn};

/// The step that is being done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub id: u64,
    pub step: Step,
    pub turn: Turn,
    pub since: Instant,
    pub until: Instant,
}

/// Steps in their order.
#[derive(Debug, Default)]
pub(super) struct Runner {
    todo: VecDeque<(Step, Turn)>,
    current: Option<Current>,
    tries: u32,
    not_before: Option<Instant>,
    held: bool,
    running: bool,
    ids: u64,
}

impl Runner {
    /// Begins; `held`: not before [`Runner::release`].
    pub fn start(&mut self, steps: Vec<(Step, Turn)>, held: bool) {
        debug_assert!(self.current.is_none(), "one action at a time");
        (self.todo, self.tries, self.not_before) = (steps.into(), 0, None);
        (self.held, self.running) = (held, true);
    }

    pub fn release(&mut self) {
        self.held = false;
    }

    /// Is there anything that it does or is to do?
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Ends. Returns the action that is to be cancelled.
    pub fn stop(&mut self) -> Option<u64> {
        self.todo.clear();
        (self.running, self.held, self.not_before) = (false, false, None);
        self.current.take().map(|current| current.id)
    }

    /// The next step, where one may begin now.
    pub fn next(&mut self, limit: impl Fn(Step) -> Duration, now: Instant) -> Option<Current> {
        if self.held || self.current.is_some() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let (step, turn) = self.todo.pop_front()?;
        self.ids += 1;
        self.current = Some(Current { id: self.ids, step, turn, since: now, until: now + limit(step) });
        self.current
    }

    /// Did everything come to its end? Told once.
    pub fn finished(&mut self) -> bool {
        let all = self.running && !self.held && self.current.is_none() && self.todo.is_empty();
        self.running &= !all;
        all
    }

    /// The outcome of that action came, or its limit has passed.
    pub fn end(&mut self, id: u64) -> Option<Current> {
        self.current.take_if(|current| current.id == id)
    }

    /// The action whose limit has passed.
    pub fn overdue(&self, now: Instant) -> Option<Current> {
        self.current.filter(|current| now >= current.until)
    }

    pub fn succeeded(&mut self) {
        self.tries = 0;
    }

    /// Was the step, which has just failed, tried that often? Then the next one is begun as if it had succeeded.
    pub fn gives_up(&mut self, tries: u32) -> bool {
        let is_last = self.tries + 1 >= tries;
        self.tries = if is_last { 0 } else { self.tries };
        is_last
    }

    /// The same step again, at that time. Returns how often it was tried.
    pub fn again(&mut self, step: Step, turn: Turn, at: Instant) -> u32 {
        self.todo.push_front((step, turn));
        self.not_before = Some(at);
        self.tries += 1;
        self.tries
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let begins = self.not_before.filter(|_| self.current.is_none() && !self.todo.is_empty());
        self.current.map(|current| current.until).or(begins)
    }
}
