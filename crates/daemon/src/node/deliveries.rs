//! Tells receivers what begins and what ends to be wrong: what the mind of deliveries says is sent by a job, one for each
//! receiver at a time.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stead_api::{Answer, Failure, TestedReceiver};
use stead_model::alert::{Alert, Edge, Wrong};
use stead_model::delivery::{Fate, Message, Notice};
use stead_model::plan::Receiver;
use stead_resource::notify::Teller;
use tracing::{info, warn};

use super::Node;
use super::alerts::{Told, tell};
use crate::api_server::Responder;
use crate::clock::wall_clock;
use crate::job::{self, JobDone};

/// How long one attempt may last.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
const WHAT: &str = "nobody was told";

impl Node {
    /// Has those told that the plan names.
    pub(super) fn keep_receivers(&mut self) {
        let policies = self.plan.alerts.receivers().policies();
        if self.pulse.alerts.kept.deliveries.set_receivers(&policies, Instant::now()) {
            self.pulse.alerts.save();
        }
    }

    /// Sends all messages whose time has come.
    pub(super) fn deliver(&mut self) {
        while let Some(message) = self.pulse.alerts.kept.deliveries.poll_message(Instant::now()) {
            match self.plan.alerts.receivers().named(&message.receiver) {
                Some(receiver) => self.send(receiver, message),
                None => _ = self.pulse.alerts.kept.deliveries.failed(&message.receiver, Instant::now()),
            }
        }
    }

    fn send(&self, receiver: Receiver, message: Message) {
        let teller = self.teller.clone();
        job::spawn(&self.events, move || {
            let result = attempt(&teller, &receiver, &message);
            Some(JobDone::Delivered { receiver: message.receiver, result })
        });
    }

    /// A receiver was told, or not.
    pub(super) fn delivered(&mut self, receiver: &str, result: Result<(), String>) {
        let (deliveries, now) = (&mut self.pulse.alerts.kept.deliveries, Instant::now());
        match result {
            Ok(()) => deliveries.arrived(receiver, now),
            Err(why) => match deliveries.failed(receiver, now) {
                Some(Fate::Again(wait)) => info!("receiver {receiver} was not told, again in {wait:?}: {why}"),
                Some(Fate::GivenUp(events)) => warn!("receiver {receiver} was not told of {events} events: {why}"),
                None => {}
            },
        }
        self.pulse.alerts.save();
        self.deliver();
    }

    /// Tells all of them, or that one, that something is wrong, and then that it is over.
    pub(super) fn test_receivers(&mut self, only: Option<&str>, responder: Responder) {
        let is_meant = |name: &str| only.is_none_or(|only| only == name);
        let all = self.plan.alerts.receivers().numbered().map(|(_, receiver)| receiver);
        let receivers: Vec<_> = all.filter(|receiver| is_meant(receiver.name().as_str())).collect();
        let command = self.plan.alerts.command.clone().filter(|_| is_meant("command"));
        if receivers.is_empty() && command.is_none() {
            return responder.failed(nobody(only));
        }
        let notices = self.test_notices();
        let (teller, limit) = (self.teller.clone(), self.plan.alerts.timeout());
        job::spawn(&self.events, move || {
            let threads: Vec<_> = receivers.into_iter().map(|receiver| begin(&teller, receiver, &notices)).collect();
            let by_command = command.map(|command| tested("command", "command", || run(&command, &notices, limit)));
            let told = threads.into_iter().filter_map(|thread| thread.join().ok());
            responder.done(Answer::AlertTested(by_command.into_iter().chain(told).collect()));
            None
        });
    }

    /// The raise and the clear of nothing.
    fn test_notices(&mut self) -> [Notice; 2] {
        let now = wall_clock();
        let kept = &mut self.pulse.alerts.kept;
        kept.last += 2;
        let (name, last) = (&self.name, kept.last);
        let notices = [(Edge::Raise, last - 1), (Edge::Clear, last)].map(|(event, number)| {
            let alert = Alert {
                wrong: Wrong::Test,
                set: "test".parse().expect("a good name"),
                source: name.clone(),
                target: name.clone(),
                since: now,
                text: "nothing is wrong, this is a test".into(),
            };
            Notice { number, event, at: now, node: name.clone(), alert }
        });
        self.pulse.alerts.save();
        notices
    }
}

fn nobody(only: Option<&str>) -> Failure {
    let why = match only {
        Some(name) => format!("the plan names no receiver {name}"),
        None => "the plan names no receiver of alerts".into(),
    };
    Failure::new(WHAT, why, "Name one in the plan: [[alerts.snmp]], [[alerts.mail]], [[alerts.webhook]], or a command")
}

fn attempt(teller: &Teller, receiver: &Receiver, message: &Message) -> Result<(), String> {
    let told = job::guarded(WHAT, || {
        let told = teller.tell(receiver, message, ATTEMPT_MAX).value;
        told.map_err(|failure| Failure::new(WHAT, failure.to_string(), ""))
    });
    told.map_err(|failure| failure.why)
}

fn begin(teller: &Arc<Teller>, receiver: Receiver, notices: &[Notice; 2]) -> thread::JoinHandle<TestedReceiver> {
    let (teller, notices) = (teller.clone(), notices.clone());
    thread::spawn(move || {
        let name = receiver.name().to_string();
        let message = |notice| Message { receiver: name.clone(), notices: vec![notice], held_back: 0 };
        let all = || notices.into_iter().try_for_each(|notice| attempt(&teller, &receiver, &message(notice)));
        tested(&name, receiver.kind(), all)
    })
}

fn run(command: &str, notices: &[Notice; 2], limit: Duration) -> Result<(), String> {
    notices.iter().cloned().try_for_each(|Notice { number, event, at, node, alert }| {
        let told = Told { number, event, at, alert };
        tell(command, &node, &told, limit).map_err(|failure| failure.why)
    })
}

fn tested(name: &str, kind: &str, work: impl FnOnce() -> Result<(), String>) -> TestedReceiver {
    let began = Instant::now();
    let failed = work().err();
    let took_ms = began.elapsed().as_millis() as u64;
    TestedReceiver { name: name.into(), kind: kind.into(), failed, took_ms }
}
