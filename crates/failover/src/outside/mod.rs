//! What others know of where a group is: records of the DNS, and whoever wants to be told. Each registration is told once
//! for each move, by who serves, and again and again until it is done. Nothing of it delays the group.
//!
//! ```text
//!   serves under a newer epoch ─▸ Due ──▸ Running ──▸ Unsaved ──▸ Done
//!                                  ▴         │ failed    saved
//!                                  └─────────┘ later and later
//! ```
//! Which epoch is told, and what of it is done, is durable: after a crash the rest follows, and nothing that was said to be
//! done is told again. What was told right before a crash may be told twice: the receiver sees by the epoch that it is the
//! same. A newer epoch takes the place of an older one, whose rest nobody hears of any more.
//!
//! An older epoch is never told after a newer one as long as whoever calls it off is obeyed: nothing may act beyond a
//! [`Output::Cancel`] or the end of the lease.

mod api;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use api::{Input, Output, Registration, Told};

use crate::heartbeat::Event;
use crate::planted::{Planted, is_planted};

/// After a first failure it is tried again so much later, then after twice that, and so on up to the other one.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(300);

/// Keeps the registrations of one group on one node. Duties of the caller as for [`Machine`](crate::Machine).
#[derive(Debug)]
pub struct Outside {
    items: Vec<Item>,
    told: Told,
    serves: bool,
    /// Numbers of saves: the last, the last that is durable, and the one that has to be before anything is told.
    last: u64,
    durable: u64,
    begun: u64,
    ids: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Item {
    registration: Registration,
    standing: Standing,
    since: Instant,
    failed: u32,
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Due(Instant),
    Running {
        id: u64,
        until: Instant,
    },
    /// Told, and that save says so.
    Unsaved(u64),
    Done,
}

impl Outside {
    /// Goes on after what was saved; nothing is told before this node serves.
    pub fn new(registrations: &[Registration], told: Told, now: Instant) -> Outside {
        let items = registrations.iter().map(|registration| Item::new(*registration, &told, now)).collect();
        let outputs = VecDeque::new();
        Outside { items, told, serves: false, last: 0, durable: 0, begun: 0, ids: 0, outputs }
    }

    /// Goes on with other registrations. Of those that are new, the ones that hold have to be told.
    pub fn reconfigure(&mut self, registrations: &[Registration], now: Instant) {
        self.stop(now);
        let known: Vec<_> = self.items.iter().map(|item| item.registration.key).collect();
        let is_moot = |registration: &&Registration| !registration.holds && !known.contains(&registration.key);
        let moot: Vec<_> = registrations.iter().filter(is_moot).map(|registration| registration.key).collect();
        self.told.done.retain(|key| registrations.iter().any(|registration| registration.key == *key));
        self.told.done.extend(moot);
        self.items = registrations.iter().map(|registration| Item::new(*registration, &self.told, now)).collect();
        self.save();
        self.advance(now);
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Serves { epoch, event } => self.serves(epoch, event, now),
            Input::Ceases if is_planted(Planted::ToldAfterwards) => {}
            Input::Ceases => {
                self.serves = false;
                self.stop(now);
            }
            Input::Saved { number } => self.saved(number, now),
            Input::Done { id, ended } => self.done(id, ended, now),
        }
        self.advance(now);
    }

    /// To be called when [`Outside::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((id, _)) = self.running().filter(|(_, until)| now >= *until) {
            self.outputs.push_back(Output::Cancel { id });
            self.done(id, Err("not done within its limit".into()), now);
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Outside::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.running() {
            Some((_, until)) => Some(until),
            None if self.can_tell() => self.items.iter().filter_map(Item::due).min(),
            None => None,
        }
    }

    /// What is not told yet, and why where it was tried.
    pub fn pending(&self) -> impl Iterator<Item = (usize, Option<&str>)> {
        let pending = self.items.iter().enumerate().filter(|(_, item)| self.serves && !item.is_told());
        pending.map(|(at, item)| (at, item.why.as_deref()))
    }

    fn serves(&mut self, epoch: u64, event: Option<Event>, now: Instant) {
        if epoch < self.told.epoch {
            return;
        }
        self.serves = true;
        if epoch > self.told.epoch {
            self.stop(now);
            self.told = Told { epoch, event, ..Told::default() };
            self.begun = self.save();
            self.items.iter_mut().for_each(|item| *item = Item::new(item.registration, &self.told, now));
        }
    }

    /// What is being told is called off.
    fn stop(&mut self, now: Instant) {
        for item in &mut self.items {
            if let Standing::Running { id, .. } = item.standing {
                self.outputs.push_back(Output::Cancel { id });
                item.standing = Standing::Due(now);
            }
        }
    }

    fn save(&mut self) -> u64 {
        self.last += 1;
        self.outputs.push_back(Output::Save { number: self.last, told: self.told.clone() });
        self.last
    }

    fn saved(&mut self, number: u64, now: Instant) {
        self.durable = self.durable.max(number);
        for (at, item) in self.items.iter_mut().enumerate() {
            if matches!(item.standing, Standing::Unsaved(save) if save <= self.durable) {
                self.outputs.push_back(item.is_done(at, now));
            }
        }
    }

    fn done(&mut self, id: u64, ended: Result<(), String>, now: Instant) {
        let is_it = |item: &Item| matches!(item.standing, Standing::Running { id: running, .. } if running == id);
        let Some(at) = self.items.iter().position(is_it) else { return };
        match ended {
            Ok(()) if is_planted(Planted::ToldUnsaved) => self.outputs.push_back(self.items[at].is_done(at, now)),
            Ok(()) => {
                self.told.done.insert(self.items[at].registration.key);
                self.items[at].standing = Standing::Unsaved(self.save());
            }
            Err(why) => self.outputs.extend(self.items[at].fails(at, why, now)),
        }
    }

    /// Begins with what is due for longest: one at a time.
    fn advance(&mut self, now: Instant) {
        if !self.can_tell() || self.running().is_some() {
            return;
        }
        let due = self.items.iter().enumerate().filter_map(|(at, item)| Some((item.due()?, at)));
        if let Some((_, at)) = due.filter(|(due, _)| *due <= now).min() {
            self.tell(at, now);
        }
    }

    fn tell(&mut self, at: usize, now: Instant) {
        self.ids += 1;
        let (id, limit) = (self.ids, self.items[at].registration.limit);
        self.items[at].standing = Standing::Running { id, until: now + limit };
        let (epoch, event) = (self.told.epoch, self.told.event);
        self.outputs.push_back(Output::Tell { id, registration: at, epoch, event, limit });
    }

    fn can_tell(&self) -> bool {
        self.serves && self.durable >= self.begun
    }

    fn running(&self) -> Option<(u64, Instant)> {
        self.items.iter().find_map(|item| match item.standing {
            Standing::Running { id, until } => Some((id, until)),
            _ => None,
        })
    }
}

impl Item {
    fn new(registration: Registration, told: &Told, now: Instant) -> Item {
        let is_done = told.done.contains(&registration.key);
        let standing = if is_done { Standing::Done } else { Standing::Due(now) };
        Item { registration, standing, since: now, failed: 0, why: None }
    }

    fn due(&self) -> Option<Instant> {
        match self.standing {
            Standing::Due(at) => Some(at),
            _ => None,
        }
    }

    fn is_told(&self) -> bool {
        matches!(self.standing, Standing::Unsaved(_) | Standing::Done)
    }

    fn is_done(&mut self, at: usize, now: Instant) -> Output {
        self.standing = Standing::Done;
        let after = now.saturating_duration_since(self.since);
        Output::Did { registration: at, failed: self.failed, after }
    }

    fn fails(&mut self, at: usize, why: String, now: Instant) -> Option<Output> {
        let again = AGAIN_FIRST.saturating_mul(1 << self.failed.min(20)).min(AGAIN_MOST);
        self.failed += 1;
        self.standing = Standing::Due(now + again);
        let is_news = self.why.as_ref() != Some(&why);
        self.why = Some(why.clone());
        is_news.then_some(Output::Fails { registration: at, why, again })
    }
}
