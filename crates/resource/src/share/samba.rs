//! A share of Samba: a section of a file that the server's configuration includes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use stead_model::plan::SambaPlan;

use super::includes::{self, Place};
use super::sections::Sections;
use super::server::{self, Answer, Server};
use crate::procedure::{Switch, To};
use crate::{Failure, Outcome, Output, State, Stop, Term};

/// Between two questions to a server that does not answer yet, or has not let go.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one that is waited for may take to answer until it is asked again.
const ANSWER: Duration = Duration::from_secs(2);

/// A directory that a Samba server shares while the group is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samba {
    plan: SambaPlan,
}

/// How the share is.
enum Seen {
    Served,
    /// It is in the configuration, and the server does not take connections.
    Unserved(Answer),
    /// It is in the configuration in another way than by the plan.
    Otherwise,
    /// It is not in the configuration, and these processes serve it to clients of before.
    Held(Vec<Pid>),
    Gone,
}

impl Samba {
    /// As the plan has it.
    pub fn new(plan: SambaPlan) -> Samba {
        Samba { plan }
    }

    /// Looks whether clients can use it.
    ///
    /// # Errors
    /// In the outcome: what speaks against it; [`Failure::Failed`] by evidence.
    pub fn check(&self, limit: Duration, stop: &Stop) -> Outcome<Result<(), Failure>> {
        // One that is slow has not failed: it has most of the time that there is.
        Outcome::with_output(|output| match self.seen(limit * 3 / 4, Term::new(limit, stop), output) {
            Ok(Seen::Served) => Ok(()),
            Ok(other) => Err(Failure::Failed(other.told())),
            Err(why) => Err(Failure::Unknown(why.to_string())),
        })
    }

    /// Why it can never be shared on this machine; none: nothing speaks against it. Changes nothing. A configuration that is
    /// not there, as one in a set that is not mirrored yet, is not looked at.
    pub fn misfit(&self, limit: Duration) -> Option<String> {
        let (stop, mut output) = (Stop::never(), Output::default());
        self.fits(Term::new(limit, &stop), &mut output).err().map(|why| why.to_string())
    }

    fn fits(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        server::accepts(&self.section(), term, output)?;
        if self.has_no_config() {
            return Ok(());
        }
        let facts = self.server().facts(term, output)?;
        let sections = Sections::of(&facts.pid_dir);
        self.is_not_anothers(&sections, term, output)?;
        is_included(&facts.config, &sections)
    }

    /// `wait`: for an answer of the server.
    fn seen(&self, wait: Duration, term: Term<'_>, output: &mut Output) -> Result<Seen, Failure> {
        match self.configured(term, output)? {
            Seen::Unserved(_) => match self.server().answer(wait, term, output)? {
                Answer::Given => Ok(Seen::Served),
                answer => Ok(Seen::Unserved(answer)),
            },
            seen => Ok(seen),
        }
    }

    /// As far as it can be told without an answer of the server, which may hang.
    fn configured(&self, term: Term<'_>, output: &mut Output) -> Result<Seen, Failure> {
        if self.has_no_config() {
            return Ok(Seen::Gone);
        }
        let facts = match self.server().facts(term, output) {
            // What is not installed here shares nothing.
            Err(Failure::Unusable(_)) => return Ok(Seen::Gone),
            facts => facts?,
        };
        let sections = Sections::of(&facts.pid_dir);
        let section = sections.get(&self.plan.share);
        match section.map_err(Failure::at(format!("read {}", sections.path().display())))? {
            Some(section) if section != self.section() => Ok(Seen::Otherwise),
            Some(_) => Ok(Seen::Unserved(Answer::Silent)),
            None => match self.server().holders(&self.plan.share, term, output)? {
                none if none.is_empty() => Ok(Seen::Gone),
                holders => Ok(Seen::Held(holders)),
            },
        }
    }

    fn publish(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let name = &self.plan.share;
        server::accepts(&self.section(), term, output)?;
        let facts = self.server().facts(term, output)?;
        let sections = Sections::of(&facts.pid_dir);
        self.is_not_anothers(&sections, term, output)?;
        is_included(&facts.config, &sections)?;
        std::fs::create_dir_all(&facts.pid_dir).map_err(Failure::at(format!("make {}", facts.pid_dir.display())))?;
        term.stop.check()?;
        sections.put(name, Some(&self.section()), term)?;
        if self.server().path_of(name, term, output)?.as_ref() != Some(&self.plan.path) {
            sections.put(name, None, term)?;
            return Err(not_included(&facts.config, &sections));
        }
        self.wait_for_server(term, output)
    }

    /// Once it has answered, it has read what was told before.
    fn wait_for_server(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        // Before whoever asked for it gives up: then nobody would hear why.
        let last = term.moment - term.limit / 8;
        loop {
            self.server().reload(term, output)?;
            let answer = self.server().answer(ANSWER, term, output)?;
            if answer == Answer::Given {
                return Ok(());
            }
            if Instant::now() >= last || term.stop.wait(Instant::now() + PAUSE) {
                let remedy = "start it here, or have the share require a resource that does";
                return Err(Failure::Failed(format!("{}: {remedy}", told(answer))));
            }
        }
    }

    fn withdraw(&self, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let (name, server) = (&self.plan.share, self.server());
        let facts = server.facts(term, output)?;
        Sections::of(&facts.pid_dir).put(name, None, term)?;
        server.reload(term, output)?;
        server.close(name, term, output)?;
        let polite = Instant::now() + term.left() / 2;
        loop {
            let holders = server.holders(name, term, output)?;
            if holders.is_empty() {
                return Ok(());
            }
            if Instant::now() >= polite {
                holders.iter().for_each(|pid| server::end_by_force(*pid));
            }
            if term.is_over() || term.stop.wait(Instant::now() + PAUSE) {
                return Err(Failure::Failed(Seen::Held(holders).told()));
            }
        }
    }

    /// A share of that name which is in none of our sections is the administrator's.
    fn is_not_anothers(&self, sections: &Sections, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        let name = &self.plan.share;
        let ours = sections.get(name).map_err(Failure::at(format!("read {}", sections.path().display())))?;
        match self.server().path_of(name, term, output)? {
            Some(path) if ours.is_none() => Err(Failure::Unusable(format!(
                "Samba's configuration has a share {name} of {} by itself: take it out there",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    fn section(&self) -> String {
        let options = self.plan.options.iter().map(|(name, value)| format!("\t{name} = {value}\n"));
        format!("[{}]\n\tpath = {}\n{}", self.plan.share, self.plan.path.display(), options.collect::<String>())
    }

    fn server(&self) -> Server<'_> {
        Server(self.plan.config.as_deref())
    }

    /// No server can have been started by it.
    fn has_no_config(&self) -> bool {
        self.plan.config.as_ref().is_some_and(|config: &PathBuf| !config.exists())
    }
}

impl Switch for Samba {
    fn look(&self, term: Term<'_>, output: &mut Output) -> State {
        state(self.seen(ANSWER, term, output))
    }

    fn look_for(&self, to: To, term: Term<'_>, output: &mut Output) -> State {
        state(if to == To::Stop { self.configured(term, output) } else { self.seen(ANSWER, term, output) })
    }

    fn tell(&self, to: To, term: Term<'_>, output: &mut Output) -> Result<(), Failure> {
        match to {
            To::Start => self.publish(term, output),
            To::Stop => self.withdraw(term, output),
        }
    }

    /// Both end when it is so.
    fn may_change(&self, _: &State) -> bool {
        false
    }
}

impl Seen {
    fn told(&self) -> String {
        match self {
            Seen::Served => "it is shared".into(),
            Seen::Unserved(answer) => told(*answer).into(),
            Seen::Otherwise => "it is shared in another way than by the plan".into(),
            Seen::Held(holders) => {
                let pids: Vec<_> = holders.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
                format!("it is not shared any more, but these processes have clients that use it: {}", pids.join(", "))
            }
            Seen::Gone => "it is not shared".into(),
        }
    }
}

fn state(seen: Result<Seen, Failure>) -> State {
    match seen {
        Ok(Seen::Served) => State::Started,
        Ok(Seen::Gone) => State::Stopped,
        Ok(other) => State::Unknown(other.told()),
        Err(why) => State::Unknown(why.to_string()),
    }
}

fn told(answer: Answer) -> &'static str {
    match answer {
        Answer::Given => "smbd answers",
        Answer::Silent => "smbd runs here and does not answer",
        Answer::Absent => "smbd does not run here",
    }
}

fn is_included(config: &Path, sections: &Sections) -> Result<(), Failure> {
    match includes::place(config, sections.path()) {
        Place::Last => Ok(()),
        Place::Nowhere => Err(not_included(config, sections)),
        Place::Amid => {
            let (config, file) = (config.display(), sections.path().display());
            let why = "what follows would count for the last share in it: put that line at the end";
            Err(Failure::Unusable(format!("{config} includes {file} before other parameters, and {why}")))
        }
    }
}

fn not_included(config: &Path, sections: &Sections) -> Failure {
    let (config, file) = (config.display(), sections.path().display());
    Failure::Unusable(format!("{config} does not include {file}: add at its end the line \"include = {file}\""))
}
