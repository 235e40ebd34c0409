//! The thread of the registrations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stead_api::{Failure, TimelineEntry};
use stead_failover::heartbeat::Event;
use stead_failover::outside::{Input, Output, Outside, Told};
use stead_model::NodeName;
use stead_model::plan::GroupPlan;
use stead_resource::Deadline;

use super::kit::Kit;
use super::{News, Say, Serves, Shared, Teller};
use crate::clock;
use crate::failover::crash::{self, Side};
use crate::failover::kept::GroupDir;
use crate::failover::words;

/// A disk that refused is asked again after that.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// The longest that nothing is looked at.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    mind: Outside,
    kit: Kit,
    me: NodeName,
    dir: GroupDir,
    say: Say,
    shared: Arc<Shared>,
    lease: Deadline,
    serves: Serves,
    /// What the disk did not take yet.
    unsaved: Option<(u64, Told)>,
    /// What is to be told next.
    next: Option<Telling>,
    /// What came of those that were told, in words.
    said: BTreeMap<usize, String>,
}

struct Telling {
    id: u64,
    at: usize,
    epoch: u64,
    event: Option<Event>,
    limit: Duration,
}

impl Worker {
    pub(super) fn new(
        plan: &GroupPlan,
        dir: &GroupDir,
        teller: &Teller,
        epoch: u64,
        shared: Arc<Shared>,
        lease: Deadline,
    ) -> Result<Worker, Failure> {
        let kit = Kit::new(plan, &teller.me);
        let registrations = kit.registrations();
        let told = match dir.told()? {
            Some(told) => told,
            None => {
                let told = Told::begin(epoch, &registrations);
                dir.keep_told(&told)?;
                told
            }
        };
        Ok(Worker {
            mind: Outside::new(&registrations, told, clock::now()),
            kit,
            me: teller.me.clone(),
            dir: dir.clone(),
            say: teller.say.clone(),
            shared,
            lease,
            serves: None,
            unsaved: None,
            next: None,
            said: BTreeMap::new(),
        })
    }

    /// Until it is all over.
    pub(super) fn work(mut self) {
        while let Some(news) = self.shared.next(self.wait()) {
            self.take(news);
            self.save_again();
            self.mind.handle_timeout(clock::now());
            self.settle();
            while self.tell_next() {
                self.settle();
            }
        }
    }

    fn wait(&self) -> Duration {
        let again = self.unsaved.as_ref().map(|_| SAVE_AGAIN);
        let due = self.mind.poll_timeout().map(|at| at.saturating_duration_since(clock::now()));
        [again, due].into_iter().flatten().min().unwrap_or(IDLE).min(IDLE)
    }

    fn take(&mut self, news: News) {
        let now = clock::now();
        if let Some(plan) = news.plan {
            self.kit = Kit::new(&plan, &self.me);
            self.mind.reconfigure(&self.kit.registrations(), now);
        }
        if news.serves != self.serves {
            self.serves = news.serves;
            let input = self.serves.map_or(Input::Ceases, |(epoch, event)| Input::Serves { epoch, event });
            self.mind.handle(input, now);
        }
    }

    /// Does what the mind wants, but for what takes long.
    fn settle(&mut self) {
        while let Some(output) = self.mind.poll_output() {
            match output {
                Output::Save { number, told } => {
                    self.unsaved = Some((number, told));
                    self.save_again();
                }
                Output::Tell { id, registration, epoch, event, limit } => {
                    self.next = Some(Telling { id, at: registration, epoch, event, limit });
                }
                Output::Cancel { id } => drop(self.next.take_if(|next| next.id == id)),
                Output::Did { registration, failed, after } => self.did(registration, failed, after),
                Output::Fails { registration, why, again } => self.fails(registration, &why, again),
            }
        }
        let failed = |(at, why): (usize, Option<&str>)| Some(format!("{}: {}", self.kit.items[at].name, why?));
        let pending = self.mind.pending().filter_map(failed);
        self.shared.show(pending.collect());
    }

    fn save_again(&mut self) {
        let Some((number, told)) = self.unsaved.take() else { return };
        match self.dir.keep_told(&told) {
            Ok(()) => self.mind.handle(Input::Saved { number }, clock::now()),
            Err(failure) => {
                tracing::error!("group {}: {failure}", self.kit.plan.name);
                self.unsaved = Some((number, told));
            }
        }
    }

    /// Is there something to tell, and was it tried?
    fn tell_next(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        let Some(stop) = self.shared.begin() else {
            self.next = Some(next);
            return false;
        };
        let point = || format!("tell {}", self.kit.items[next.at].name);
        crash::at(self.kit.plan.name.as_str(), point, Side::Before);
        let ended = match self.lease.has_come() {
            true => Err("the lease is over".to_owned()),
            false => {
                let stop = stop.or(&self.lease.stop());
                let told = self.kit.tell(next.at, next.epoch, next.event, next.limit, &stop);
                told.map(|said| drop(self.said.insert(next.at, said))).map_err(|why| why.to_string())
            }
        };
        crash::at(self.kit.plan.name.as_str(), point, Side::After);
        self.shared.end();
        self.mind.handle(Input::Done { id: next.id, ended }, clock::now());
        true
    }

    fn did(&self, at: usize, failed: u32, after: Duration) {
        let tries = if failed > 0 { format!(", after {failed} tries that failed") } else { String::new() };
        let said = self.said.get(&at).map_or("told", String::as_str);
        self.line(at, &format!("{said}{tries}"), false, Some(after));
    }

    fn fails(&self, at: usize, why: &str, again: Duration) {
        self.line(at, &format!("not told yet: {why}; again in {again:?}, then later and later"), true, None);
    }

    fn line(&self, at: usize, text: &str, failed: bool, took: Option<Duration>) {
        let name = &self.kit.items[at].name;
        let line = words::plain(&format!("{name}: {text}"), clock::wall_clock());
        let took_ms = took.map(|took| took.as_millis() as u64);
        (self.say)(TimelineEntry { step: Some(name.clone()), failed, took_ms, ..line });
    }
}
