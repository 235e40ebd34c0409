//! A resource of the plan, as it is started, stopped and looked at.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stead_failover::resources::{Goal, LookConfig, Reach, ResourceConfig, Seen};
use stead_model::GroupName;
use stead_model::plan::{CheckPlan, LookPlan, ResourcePlan};
use stead_resource::check::Check;
use stead_resource::command::{Command, end_kept};
use stead_resource::dns::Question;
use stead_resource::ocf::{self, Agent, AgentName, Instance, Metadata};
use stead_resource::service::{Commands, Manager, Unit, UnitName};
use stead_resource::share::{Nfs, Samba};
use stead_resource::{Done, Failure, Outcome, Output, Resource, State, Stop};

use crate::failover::hands::kit::STEP_TIMEOUT;

const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
const QUICK_INTERVAL: Duration = Duration::from_secs(10);
const DEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Depths of an agent's monitor.
const QUICK: u32 = 0;
const DEEP: u32 = 20;
/// A look is given up by whoever asked for it, before it ends itself.
const LATER: Duration = Duration::from_secs(1);

/// How the programs of a resource are run.
#[derive(Clone)]
pub(in super::super) struct Runs {
    /// What starts them.
    pub(in super::super) under: Vec<OsString>,
    /// Under that name what a start leaves running is kept together: unique on this machine.
    pub(in super::super) keeps: String,
}

/// How a resource is worked.
pub(in super::super) struct Kind<M> {
    pub(super) name: String,
    plan: ResourcePlan,
    way: Way<M>,
    runs: Runs,
    /// Stops that failed, one after the other.
    failed_stops: AtomicU32,
    /// It was started or seen up since its agent stopped it: what a crash left of it may still be there.
    may_be_left: AtomicBool,
    looks: Vec<Look>,
    /// Held while it is started or stopped; looks share it.
    pub(super) busy: RwLock<()>,
}

enum Way<M> {
    /// The agent is found anew each time: it may be installed, or on a file system that is mounted meanwhile.
    Agent {
        agent: AgentName,
        root: PathBuf,
        instance: String,
    },
    Unit(Unit<M>),
    Commands(Box<Commands>),
    Samba(Samba),
    Nfs(Nfs),
}

enum Look {
    Quick,
    Deep,
    Check(Check),
}

impl<M: Manager> Kind<M> {
    /// # Errors
    /// Where the plan names something that cannot be.
    pub(in super::super) fn new(
        plan: &ResourcePlan,
        group: &GroupName,
        runs: Runs,
        agents: &Path,
        manager: impl Fn() -> M,
    ) -> Result<Self, String> {
        let way = way(plan, group, &runs, agents, manager)?;
        let looks = [Look::Quick].into_iter().chain(plan.deep.map(|_| Look::Deep));
        let looks = looks.chain(plan.checks.iter().map(|check| Look::Check(check_under(check, &runs.under)))).collect();
        let (name, plan, failed_stops) = (plan.name.clone(), plan.clone(), AtomicU32::new(0));
        let may_be_left = AtomicBool::new(false);
        Ok(Kind { name, plan, way, runs, failed_stops, may_be_left, looks, busy: RwLock::default() })
    }

    /// What the mind has to know of it. An agent is asked; where it does not tell, what is usual holds.
    pub(super) fn config(&self, requires: Vec<usize>) -> ResourceConfig {
        let told = self.metadata();
        let action = |name| told.as_ref().and_then(|told| told.action(name)).and_then(|action| action.timeout);
        let limit = |plan: Option<stead_model::plan::Span>, name| {
            plan.map(|span| span.0).or(action(name)).unwrap_or(STEP_TIMEOUT)
        };
        ResourceConfig {
            requires,
            start: limit(self.plan.start_timeout, "start"),
            stop: limit(self.plan.stop_timeout, "stop"),
            looks: self.look_configs(told.as_ref()),
            restarts: self.plan.restarts(),
            within: self.plan.within(),
        }
    }

    fn look_configs(&self, told: Option<&Metadata>) -> Vec<LookConfig> {
        let quick = look_config(self.plan.quick, QUICK_INTERVAL, QUICK, told);
        let deep = self.plan.deep.map(|deep| look_config(deep, DEEP_INTERVAL, DEEP, told));
        [quick].into_iter().chain(deep).chain(self.plan.checks.iter().map(check_config)).collect()
    }

    fn metadata(&self) -> Option<Metadata> {
        let Way::Agent { agent, root, .. } = &self.way else { return None };
        Agent::find(agent.clone(), root).ok()?.metadata(METADATA_TIMEOUT).value.ok()
    }

    /// What does not stop twice in a row is ended by force: the next try finds it so.
    pub(super) fn switch(&self, goal: Goal, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        let switched = self.switch_once(goal, limit, stop);
        if goal == Goal::Up || switched.value.is_ok() {
            self.failed_stops.store(0, Ordering::Relaxed);
            return switched;
        }
        let ended = match self.failed_stops.fetch_add(1, Ordering::Relaxed) {
            0 => 0,
            _ => end_kept(&self.runs.keeps),
        };
        match ended {
            0 => switched,
            ended => map(switched, |value| {
                value.map_err(|why| Failure::Failed(format!("{why}; its {ended} processes were ended by force")))
            }),
        }
    }

    fn switch_once(&self, goal: Goal, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        match &self.way {
            Way::Unit(unit) => switch(unit, goal, limit, stop),
            Way::Commands(commands) => switch(commands.as_ref(), goal, limit, stop),
            Way::Samba(samba) => switch(samba, goal, limit, stop),
            Way::Nfs(nfs) => switch(nfs, goal, limit, stop),
            Way::Agent { .. } => match self.instance() {
                Ok(instance) if goal == Goal::Down => self.stop_by_agent(&instance, limit, stop),
                Ok(instance) => {
                    self.may_be_left.store(true, Ordering::Relaxed);
                    switch(&instance, goal, limit, stop)
                }
                // What is not installed here cannot run here.
                Err(_) if goal == Goal::Down => at_once(Ok(Done::Already)),
                Err(why) => at_once(Err(why)),
            },
        }
    }

    /// Where it does not run after all, its agent clears away what a crash or a start that failed has left.
    fn stop_by_agent(&self, instance: &Instance, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
        let mut stopped = switch(instance, Goal::Down, limit, stop);
        if stopped.value == Ok(Done::Already) && self.may_be_left.load(Ordering::Relaxed) {
            stopped = instance.clear(limit, stop);
        }
        if stopped.value.is_ok() {
            self.may_be_left.store(false, Ordering::Relaxed);
        }
        stopped
    }

    pub(super) fn look(&self, look: usize, limit: Duration, stop: &Stop) -> Outcome<Seen> {
        let limit = limit + LATER;
        match (&self.looks[look], &self.way) {
            (Look::Check(check), _) => map(check.run(limit), |looked| match looked {
                Ok(()) => Seen::Good,
                Err(why) => Seen::Bad(why.to_string(), Reach::Now),
            }),
            (_, Way::Unit(unit)) => map(unit.status(limit), of_state),
            (_, Way::Commands(commands)) => map(commands.status(limit), of_state),
            (_, Way::Samba(samba)) => map(samba.check(limit, stop), of_share),
            (_, Way::Nfs(nfs)) => map(nfs.check(limit, stop), of_share),
            (look, Way::Agent { .. }) => match self.instance() {
                Ok(instance) => {
                    let seen = instance.look(look.depth(), limit, stop);
                    self.may_be_left.fetch_or(matches!(seen.value, ocf::Seen::Running { .. }), Ordering::Relaxed);
                    map(seen, Seen::from)
                }
                Err(why) => at_once(Seen::Unknown(why.to_string())),
            },
        }
    }

    fn instance(&self) -> Result<Instance, Failure> {
        let Way::Agent { agent, root, instance } = &self.way else { return Err(Failure::Cancelled) };
        let agent = Agent::find(agent.clone(), root)?;
        let Runs { under, keeps } = self.runs.clone();
        Ok(Instance::new(agent, instance, self.plan.parameters.clone())?.under(under).keeping(keeps))
    }
}

impl Look {
    fn depth(&self) -> u32 {
        if matches!(self, Look::Deep) { DEEP } else { QUICK }
    }
}

fn way<M>(
    plan: &ResourcePlan,
    group: &GroupName,
    runs: &Runs,
    agents: &Path,
    manager: impl Fn() -> M,
) -> Result<Way<M>, String> {
    let instance = instance_name(group, plan);
    Ok(match plan {
        ResourcePlan { agent: Some(agent), .. } => {
            Way::Agent { agent: agent.parse()?, root: agents.to_owned(), instance }
        }
        ResourcePlan { unit: Some(unit), .. } => {
            Way::Unit(Unit { name: unit.parse::<UnitName>()?, manager: manager() })
        }
        ResourcePlan { samba: Some(samba), .. } => Way::Samba(Samba::new(samba.clone())),
        ResourcePlan { nfs: Some(nfs), .. } => Way::Nfs(Nfs::new(nfs.clone(), &instance)),
        _ => {
            let command = |argv| Command { under: runs.under.clone(), ..Command::new(argv) };
            let [start, stop, status] = [&plan.start, &plan.stop, &plan.status].map(command);
            let start = Command { keeps: Some(runs.keeps.clone()), ..start };
            Way::Commands(Box::new(Commands { start, stop, status }))
        }
    })
}

/// Under that name an agent keeps its state, and an export has its number: unique on this machine.
pub(crate) fn instance_name(group: &GroupName, plan: &ResourcePlan) -> String {
    format!("{group}-{}", plan.name)
}

fn switch(resource: &impl Resource, goal: Goal, limit: Duration, stop: &Stop) -> Outcome<Result<Done, Failure>> {
    match goal {
        Goal::Up => resource.start_until(limit, stop),
        Goal::Down => resource.stop_until(limit, stop),
    }
}

fn look_config(plan: LookPlan, interval: Duration, depth: u32, told: Option<&Metadata>) -> LookConfig {
    let offer = told.and_then(|told| told.monitor(depth)).filter(|offer| depth == QUICK || offer.depth == depth);
    let told = |of: fn(&ocf::Offer) -> Option<Duration>| offer.and_then(of).filter(|span| !span.is_zero());
    LookConfig {
        interval: plan.interval.map(|span| span.0).or(told(|offer| offer.interval)).unwrap_or(interval),
        timeout: plan.timeout.map(|span| span.0).or(told(|offer| offer.timeout)).unwrap_or(LOOK_TIMEOUT),
        failures: plan.failures.unwrap_or(1),
    }
}

fn check_config(plan: &CheckPlan) -> LookConfig {
    LookConfig { interval: plan.interval(), timeout: plan.timeout(), failures: plan.failures() }
}

/// The check of the plan, as the hand that runs it has it.
pub(crate) fn check_of(plan: &CheckPlan) -> Check {
    let expect = plan.expect.clone();
    let question = |server, (name, kind): (&str, &str)| {
        Check::Dns(Question { server, name: name.into(), kind: kind.into(), expect: expect.clone() })
    };
    let asked = plan.dns.zip(plan.question()).map(|(server, asked)| question(server, asked));
    let http = plan.http.as_ref().map(|url| Check::Http { url: url.clone(), expect: expect.clone() });
    let lines = plan.smtp.map(Check::Smtp).or(plan.imap.map(Check::Imap));
    let found = plan.tcp.map(Check::Tcp).or(http).or(lines).or(asked);
    found.unwrap_or_else(|| Check::Command(Command::new(&plan.command)))
}

fn check_under(plan: &CheckPlan, under: &[OsString]) -> Check {
    match check_of(plan) {
        Check::Command(command) => Check::Command(Command { under: under.into(), ..command }),
        check => check,
    }
}

fn of_state(state: State) -> Seen {
    match state {
        State::Started => Seen::Good,
        State::Stopped => Seen::Bad("it does not run".into(), Reach::Now),
        State::Unknown(why) => Seen::Unknown(why),
    }
}

fn of_share(looked: Result<(), Failure>) -> Seen {
    match looked {
        Ok(()) => Seen::Good,
        Err(Failure::Failed(why)) => Seen::Bad(why, Reach::Now),
        Err(why) => Seen::Unknown(why.to_string()),
    }
}

fn map<T, U>(outcome: Outcome<T>, to: impl FnOnce(T) -> U) -> Outcome<U> {
    Outcome { value: to(outcome.value), took: outcome.took, output: outcome.output }
}

fn at_once<T>(value: T) -> Outcome<T> {
    Outcome { value, took: Duration::ZERO, output: Output::default() }
}
