//! The recovery kits with the real programs: started, looked at, recovered, moved, brought back; with the data that was
//! served before.

mod bind;
mod mail;
mod mariadb;
mod nginx;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use stead_tests::command::until;
use stead_tests::town::{ADDRESS, GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(40);

/// A service that kits keep up.
trait Service {
    /// Its kits, each with the values for this town.
    fn kits(&self) -> Vec<Vec<String>>;

    /// What a client gets of it.
    fn asked(&self, town: &Town) -> Result<String>;

    /// Gives it a word that clients get from then on; is there a way?
    fn told(&self, _town: &Town, _word: &str) -> Result<bool> {
        Ok(false)
    }

    /// Its resources, each with a file that holds the number of its process.
    fn programs(&self) -> Vec<Program>;

    /// After so many words, what it keeps beside what clients get is on that side.
    fn holds(&self, _side: &Side, _words: usize) -> Result<()> {
        Ok(())
    }
}

/// What one host alone has, although all see the same files: its copy of the set, and a directory beside that, for what
/// machines have in `/run` and `/etc`.
struct Side {
    set: PathBuf,
    own: PathBuf,
}

impl Side {
    /// Its directory in the words of a plan, in which paths of the set are those of either node.
    fn own_by_set(&self) -> String {
        format!("{}/../own", self.set.display())
    }
}

/// Paris's and lyon's.
fn sides(town: &Town) -> [Side; 2] {
    [&town.notes.source, &town.notes.replica].map(|set| {
        let own = set.parent().unwrap().join("own");
        fs::create_dir_all(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        Side { set: set.clone(), own }
    })
}

/// A program of a service.
struct Program {
    /// The name of its resource.
    name: &'static str,
    /// The file with its number.
    pid_file: PathBuf,
}

impl Program {
    fn pid(&self) -> Result<Pid> {
        let text = fs::read_to_string(&self.pid_file)?;
        Pid::from_raw(text.trim().parse()?).context("no process")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Its process is another one than `before`: while it starts, the file is there and may be empty.
    fn is_another(&self, town: &Town, before: Pid) -> Result<()> {
        let another = || Ok(self.pid().is_ok_and(|pid| pid != before));
        until(&format!("{} is started again", self.name), SOON, another).with_context(|| town.standing())
    }

    /// The process that runs now.
    fn running(&self, town: &Town) -> Result<Pid> {
        let runs = || Ok(self.pid().is_ok());
        until(&format!("{} runs", self.name), SOON, runs).with_context(|| town.standing())?;
        self.pid()
    }
}

fn answers(town: &Town, service: &impl Service, expected: &str) -> Result<()> {
    let answered = || Ok(service.asked(town).is_ok_and(|told| told.contains(expected)));
    until(&format!("{expected} is answered"), SOON, answered).with_context(|| town.standing())
}

/// It may not be up yet.
fn told(town: &Town, service: &impl Service, word: &str) -> Result<bool> {
    let mut told = service.told(town, word);
    let waited = until(&format!("{word} is told"), SOON, || {
        if told.is_err() {
            told = service.told(town, word);
        }
        Ok(told.is_ok())
    });
    told.and_then(|told| waited.map(|()| told)).with_context(|| town.standing())
}

/// Has lyon watch paris, with the kit in the group.
fn kept(town: &Town, service: &impl Service) -> Result<()> {
    let (host, address) = (format!("{ADDRESS}/24"), "--address");
    town.site.lyon.cli(["monitor", GROUP, "--set", GROUP, address, &host, "--witness", "oslo"])?;
    town.is_served_by("paris")?;
    let shown = |kit: &Vec<String>| {
        let kit = town.site.lyon.cli(["kit", "show"].into_iter().chain(kit.iter().map(String::as_str)))?;
        anyhow::Ok(kit.replacen("quick =", "restarts = 2\nstop-timeout = \"15s\"\nquick =", 1))
    };
    let kits = service.kits().iter().map(shown).collect::<Result<Vec<_>>>()?.join("\n");
    let plan = town.site.lyon.cli(["plan", "show"])?;
    let file = town.site.hosts.run().dir().join("plan.toml");
    // Quick, so that the test is.
    let quick = [("\"10s\"", "\"500ms\""), ("\"30s\"", "\"500ms\""), ("\"20s\"", "\"2s\"")];
    let kits = quick.into_iter().fold(kits, |kits, (usual, quick)| kits.replace(usual, quick));
    fs::write(&file, format!("{plan}\n{}", kits))?;
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
    town.tells("paris", "resources: done")
}

/// The hosts, and on them a service that was made in the directory of a set.
struct Scene<S> {
    town: Town,
    service: S,
}

fn scene<S: Service>(service: impl FnOnce(&Town) -> S) -> Scene<S> {
    let town = Town::unprotected(Path::new(LOAD), "notes").unwrap();
    fs::create_dir_all(&town.notes.source).unwrap();
    let service = service(&town);
    town.site.protect(&town.notes, &[]).unwrap();
    Scene { town, service }
}

/// It is kept up through crashes and hangs, moved where it crashes again and again, taken over from a dead server, and
/// brought back, with its data.
fn is_kept<S: Service>(scene: &mut Scene<S>) -> Result<()> {
    let (town, service) = (&mut scene.town, &scene.service);
    kept(town, service)?;
    told(town, service, "one")?;
    answers(town, service, "one")?;
    for program in service.programs() {
        is_recovered(town, service, &program)?;
    }
    let last = is_moved(town, service)?;

    town.settles_with("lyon")?;
    town.lyon_dies()?;
    town.is_served_by("paris")?;
    answers(town, service, last)?;
    answers(town, service, "one")?;
    service.holds(&sides(town)[0], 2)?;

    town.lyon_returns()?;
    town.settles_with("paris")?;
    town.site.paris.cli(["group", "move", GROUP, "--yes"])?;
    town.is_served_by("lyon")?;
    answers(town, service, last)?;
    service.holds(&sides(town)[1], 2)
}

/// It is started again after a crash, and where it lives and does nothing: only the deep check finds that.
fn is_recovered(town: &Town, service: &impl Service, program: &Program) -> Result<()> {
    for signal in [Signal::KILL, Signal::STOP] {
        let (before, restarts) = (program.running(town)?, restarts(town)?);
        program.signal(signal)?;
        program.is_another(town, before)?;
        let is_told = || Ok(self::restarts(town)? > restarts);
        until("all resources are told to be up again", SOON, is_told).with_context(|| town.standing())?;
        answers(town, service, "one")?;
    }
    town.tells("paris", &format!("resource {}: is restarted", program.name))
}

/// It crashes once more than it is restarted here: lyon serves what paris did. Returns the last word.
fn is_moved(town: &Town, service: &impl Service) -> Result<&'static str> {
    let programs = service.programs();
    let program = programs.last().context("a program")?;
    program.running(town)?;
    program.signal(Signal::KILL)?;
    town.tells("paris", &format!("resource {} cannot be kept up", program.name))?;
    town.is_served_by("lyon")?;
    answers(town, service, "one")?;
    service.holds(&sides(town)[1], 1)?;
    let last = if told(town, service, "two")? { "two" } else { "one" };
    answers(town, service, last)?;
    Ok(last)
}

/// How often paris has told that all resources are up again.
fn restarts(town: &Town) -> Result<usize> {
    Ok(fs::read_to_string(town.site.paris.log_path())?.matches("all resources are up again").count())
}
