//! The hands at work, with real programs, and addresses in networks of their own.

mod addresses;
#[path = "../../../../../resource/tests/common/mod.rs"]
pub(crate) mod common;
mod programs;
mod resources;
mod role_files;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stead_failover::heartbeat::Event;
use stead_failover::machine::{Action, Lease, Outcome, Step, Turn};
use stead_model::Epoch;
use stead_resource::Stop;
use stead_resource::service::{Manager, Systemctl};

use stead_resource::ocf::ROOT;

use super::kit::Kit;
use super::{DataSteps, Hands, Job, JobEnd, Listeners, Places};

const LONG: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(1);

/// The hands of node lyon, with what they tell.
struct Bench {
    hands: Hands,
    ends: Receiver<JobEnd>,
    told: Arc<Mutex<Vec<String>>>,
    failed: Arc<AtomicBool>,
}

/// Waits for its stop in `Drain`, does the rest at once.
struct Data;

impl DataSteps for Data {
    fn perform(&mut self, job: &Job, stop: &Stop) -> Outcome {
        if job.action.step != Step::Drain {
            return Outcome::Already;
        }
        let stopped = stop.wait(std::time::Instant::now() + LONG);
        Outcome::Unknown(if stopped { "stopped" } else { "not stopped" }.into())
    }
}

impl Bench {
    /// `plan`: what a group has beside its names, as TOML. Without a witness, the lease has no end.
    fn new(dir: &Path, plan: &str) -> Bench {
        Bench::with(dir, plan, Systemctl::default())
    }

    fn with(dir: &Path, plan: &str, systemctl: Systemctl) -> Bench {
        Bench::of(dir, plan, systemctl, ROOT.as_ref())
    }

    /// With resource agents beneath that root.
    fn with_agents(dir: &Path, plan: &str, agents: &Path) -> Bench {
        Bench::of(dir, plan, Systemctl::default(), agents)
    }

    fn of(dir: &Path, plan: &str, systemctl: Systemctl, agents: &Path) -> Bench {
        let names = "name = 'notes'\nsource = 'paris'\ntarget = 'lyon'\nsets = []\n";
        let plan = toml::from_str(&format!("{names}{plan}")).unwrap();
        let manager = || -> Box<dyn Manager> { Box::new(systemctl.clone()) };
        let roots = vec!["/srv/notes".into(), "/srv/more".into()];
        let (agents, program) = (agents.into(), dir.join("stead"));
        let places = Places { dir: dir.into(), roots, paths: Vec::new(), agents, program };
        let kit = Kit::new(plan, &"lyon".parse().unwrap(), places, manager).unwrap();
        let (ended, ends) = channel();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let tell = Arc::new(move |words| tell.lock().unwrap().push(words));
        let failed = Arc::new(AtomicBool::new(false));
        let fails = failed.clone();
        let listeners = Listeners { tell, failed: Arc::new(move |_| fails.store(true, Ordering::SeqCst)) };
        let hands = Hands::of(kit, Box::new(Data), listeners, move |end| ended.send(end).unwrap()).unwrap();
        hands.lease(Lease::Unlimited);
        Bench { hands, ends, told, failed }
    }

    fn begin(&self, id: u64, step: Step, turn: Turn) {
        self.hands.perform(job(id, step, turn));
    }

    fn end(&self) -> JobEnd {
        self.ends.recv_timeout(LONG).expect("an end of each job")
    }

    fn outcome(&self, step: Step, turn: Turn) -> Outcome {
        self.begin(7, step, turn);
        let end = self.end();
        assert_eq!((end.id, end.cancelled), (7, false));
        end.outcome
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn was_told(&self, words: &str) -> bool {
        self.told.lock().unwrap().iter().any(|told| told.contains(words))
    }
}

fn job(id: u64, step: Step, turn: Turn) -> Job {
    let epoch = Epoch { number: 3, ..Epoch::default() };
    let action = Action { id, step, turn, limit: LONG, event: Event::Failover, epoch };
    Job { action, fenced: false, reason: "all paths silent for 3.0 s".into() }
}

/// A command of the plan that runs this in a shell, in that directory.
fn sh(dir: &Path, text: &str) -> String {
    format!("['sh', '-c', '''cd {}; {text}''']", dir.display())
}
