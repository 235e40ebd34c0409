//! Takes one group down.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use stead_resource::address::{restore, take_off};
use stead_resource::command::end_orphans;
use stead_resource::{Call, Done, Failure, Resource, Stop};

use super::group::Group;
use super::log::Log;
use super::orders::Stoppable;
use super::{Managers, STACK_BYTES, boot_now, hurry};

/// What a service has at least, however little of the stop budget is left.
const LEAST: Duration = Duration::from_millis(200);
/// What it has from the second round on.
const LATER: Duration = Duration::from_secs(10);
/// How soon it is noticed that the daemon has a lease again.
const LOOK: Duration = Duration::from_millis(5);
/// After a round that did not bring everything down.
const AGAIN: Duration = Duration::from_secs(1);
/// So often it is looked once more, each time after twice as long, whether something came up that was begun before.
const LOOKS: u32 = 6;

pub(super) struct Guard {
    pub(super) group: Weak<Group>,
    pub(super) log: Log,
    pub(super) manager: Managers,
    pub(super) hurries: bool,
}

/// One group past one deadline.
struct Fall<'a> {
    guard: &'a Guard,
    group: &'a Group,
    deadline: u64,
}

/// How a service was stopped; none: it was.
type Stopped = Result<Option<&'static str>, Failure>;

/// What came of a round.
#[derive(Default)]
struct Round {
    words: Vec<String>,
    failed: bool,
}

impl Guard {
    /// Ends when its group is watched no more.
    pub(super) fn work(&self, woken: &Receiver<u64>) {
        if self.hurries {
            let _ = hurry();
        }
        for deadline in woken {
            let Some(group) = self.group.upgrade() else { return };
            Fall { guard: self, group: &group, deadline }.run();
        }
    }
}

impl Fall<'_> {
    /// Round after round, until everything is down and stays so, or the daemon says something new.
    fn run(&self) {
        let stop = self.group.call.stop();
        let (mut looks, mut failures, mut limit) = (0, 0, self.left());
        let mut told = Vec::new();
        while !self.is_obsolete() && looks < LOOKS && !stop.is_called() {
            let round = self.round(limit);
            (looks, failures) = if round.failed { (0, failures + 1) } else { (looks + 1, 0) };
            if round.words != told {
                self.tell(&round);
                told = round.words;
            }
            limit = LATER;
            stop.wait(Instant::now() + AGAIN * (1 << (looks + failures - 1).min(LOOKS - 1)));
        }
    }

    /// What is left of the stop budget.
    fn left(&self) -> Duration {
        let late = Duration::from_nanos(boot_now().saturating_sub(self.deadline));
        self.group.orders().stop_budget().saturating_sub(late).max(LEAST)
    }

    /// The lease was renewed, or everything is down by the daemon's evidence.
    fn is_obsolete(&self) -> bool {
        self.group.lease.deadline() != self.deadline
    }

    /// Addresses first, which needs no disk: nobody is answered any more.
    fn round(&self, limit: Duration) -> Round {
        let mut round = Round::default();
        let orders = self.group.orders();
        for cidr in orders.addresses() {
            if !self.is_obsolete() {
                round.add(&cidr.to_string(), "removed", take_off(cidr).value);
            }
        }
        // A daemon that died may have left a start running.
        let orphans = end_orphans();
        if orphans > 0 {
            round.add(&format!("{orphans} processes that a daemon had left running"), "ended", Ok(Done::Changed));
        }
        let services = orders.services(&*self.guard.manager);
        for ((name, _), stopped) in services.iter().zip(self.stop_all(&services, limit, &mut round)) {
            match stopped {
                Ok(None) => {}
                // The daemon has it in hand again.
                Err(Failure::Cancelled | Failure::Unknown(_)) if self.is_obsolete() => {}
                Ok(Some(how)) => round.add(name, how, Ok(Done::Changed)),
                Err(why) => round.add(name, "stopped", Err(why)),
            }
        }
        round
    }

    /// All at once; meanwhile what was saved is put back.
    fn stop_all(&self, services: &[(String, Stoppable)], limit: Duration, round: &mut Round) -> Vec<Stopped> {
        let lost = |_| Err(Failure::Unknown("the watchdog ran into a fault of its own".into()));
        let call = Call::new().ok();
        let calls_off = call.as_ref().map_or_else(Stop::never, Call::stop);
        thread::scope(|scope| {
            let (ended, ends) = bounded::<()>(0);
            let calls = thread::Builder::new().name("watchdog-call".into()).stack_size(STACK_BYTES);
            let _ = calls.spawn_scoped(scope, move || self.call_off(call.as_ref(), &ends));
            let calls_off = &calls_off;
            let stop = |service| {
                let thread = thread::Builder::new().name("watchdog-stop".into()).stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, move || self.stop_in_haste(service, limit, calls_off))
            };
            let stopping: Vec<_> = services.iter().map(|(_, service)| (service, stop(service))).collect();
            self.put_back(round);
            let end = |(service, stopping): (_, std::io::Result<thread::ScopedJoinHandle<'_, _>>)| match stopping {
                Ok(thread) => thread.join().unwrap_or_else(lost),
                Err(_) => self.stop_service(service, limit, calls_off),
            };
            let stopped = stopping.into_iter().map(end).collect();
            drop(ended);
            stopped
        })
    }

    /// Whatever is being stopped is called off once the daemon has a lease again: what it starts then has the same name.
    fn call_off(&self, call: Option<&Call>, ends: &Receiver<()>) {
        while ends.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if self.is_obsolete() {
                return call.into_iter().for_each(Call::off);
            }
        }
    }

    fn stop_in_haste(&self, service: &Stoppable, limit: Duration, calls_off: &Stop) -> Stopped {
        if self.guard.hurries {
            let _ = hurry();
        }
        self.stop_service(service, limit, calls_off)
    }

    /// Stops it; says how, where there was something to stop.
    fn stop_service(&self, service: &Stoppable, limit: Duration, calls_off: &Stop) -> Stopped {
        if self.is_obsolete() {
            return Ok(None);
        }
        let stopped = match service {
            Stoppable::Commands(commands) => commands.stop_until(limit, calls_off).value?,
            Stoppable::Agent(instance) => instance.stop_until(limit, calls_off).value?,
            Stoppable::Samba(samba) => samba.stop_until(limit, calls_off).value?,
            Stoppable::Nfs(nfs) => nfs.stop_until(limit, calls_off).value?,
            Stoppable::Unit(unit) => match unit.stop_until(limit * 2 / 3, calls_off).value {
                Err(why) if calls_off.is_called() => return Err(why),
                Err(_) if unit.is_absent(LEAST, &Stop::never()) => Done::Already,
                Err(_) => return unit.kill(limit / 3).value.map(|()| Some("ended by force")),
                Ok(done) => done,
            },
        };
        Ok((stopped == Done::Changed).then_some("stopped"))
    }

    /// What the interfaces had before comes back as far as it was saved.
    fn put_back(&self, round: &mut Round) {
        for saved in saved(&self.group.dir) {
            if let Err(why) = restore(&saved).value {
                round.words.push(format!("{}: {why}", saved.display()));
            }
        }
    }

    fn tell(&self, round: &Round) {
        if round.words.is_empty() {
            return;
        }
        let now = boot_now();
        let silence = match self.group.silence(self.deadline) {
            Some(silence) => format!("the daemon had not been seen for {:.1} s", silence.as_secs_f64()),
            None => "no daemon was seen".into(),
        };
        let late = Duration::from_nanos(now.saturating_sub(self.deadline)).as_millis();
        let end = format!("the watchdog: the lease ended {late} ms ago and was not renewed ({silence})");
        self.guard.log.add(&self.group.dir, format!("{end}: {}", round.words.join("; ")));
    }
}

impl Round {
    fn add(&mut self, what: &str, how: &str, result: Result<Done, Failure>) {
        match result {
            Ok(Done::Already) => {}
            Ok(Done::Changed) => self.words.push(format!("{what} {how}")),
            Err(why) => {
                self.failed = true;
                self.words.push(format!("{what} not {how}: {why}"));
            }
        }
    }
}

fn saved(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_saved = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("address-") && name.ends_with(".saved")
    };
    entries.map(|entry| entry.path()).filter(is_saved).collect()
}
