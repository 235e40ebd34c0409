//! Faults in random order while databases are written: the application notices nothing, the replica is an earlier source
//! at any moment at which it says so, and becomes equal by itself.

mod application;
mod inject;
mod kind;
mod machine;
mod probe;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::command::{run, text};
use crate::compare::Compare;
use crate::host::Traffic;
use crate::rng::Rng;
use application::Application;
use inject::World;
pub use kind::{ALL, Kind, Place};
pub use probe::{Stall, Waits};
pub use report::Report;

/// Longest time until it replicates again after all faults have ended.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// PostgreSQL takes seconds to be opened: one sample in so many.
const CLUSTER_EVERY: u64 = 5;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number that the order and the moments of faults follow from.
    pub seed: u64,
    /// How long faults are injected.
    pub duration: Duration,
    /// Which faults.
    pub kinds: Vec<Kind>,
    /// Does PostgreSQL run, too?
    pub with_cluster: bool,
    /// Executable of the loads.
    pub program: PathBuf,
}

/// One run.
struct Driver {
    world: World,
    application: Application,
    active: Vec<(Kind, Instant)>,
    /// The target's daemon was started and has not replicated since: it may still be applying its journal.
    is_restoring: bool,
    rng: Rng,
    begin: Instant,
    /// What was counted before the first fault.
    traffic: Traffic,
    written: u64,
    report: Report,
}

/// Runs it to its end; what happens is printed.
///
/// # Errors
/// Names what did not hold, with the seed.
pub fn break_things(options: &Options) -> Result<Report> {
    println!("seed {}", options.seed);
    let mut driver = Driver::start(options)?;
    let ended = driver.inject(options).and_then(|()| driver.calm());
    let last: Vec<_> = driver.active.iter().map(|(kind, _)| *kind).collect();
    ended.with_context(|| {
        format!("seed {}, {:?} after its start, within {last:?}", options.seed, driver.begin.elapsed())
    })?;
    driver.conclude().with_context(|| format!("seed {}", options.seed))
}

impl Driver {
    fn start(options: &Options) -> Result<Driver> {
        let mut world = World::new(&options.program)?;
        let cluster = options.with_cluster.then(|| Application::prepare(&world.site, &world.set)).transpose()?;
        let mut rng = Rng::new(options.seed);
        world.protect(&mut rng)?;
        let application = Application::start(&world.site, &world.set, &options.program, cluster)?;
        world.recover(RECOVERY_MAX)?;
        // What was made without a sync is not what a power cut is about.
        run(Command::new("sync").arg("-f").arg(world.site.hosts.paris.store()))?;
        Ok(Driver {
            traffic: world.site.hosts.paris.traffic()?,
            written: application.written(&world.site),
            world,
            application,
            active: Vec::new(),
            is_restoring: false,
            rng,
            begin: Instant::now(),
            report: Report { seed: options.seed, injected: BTreeMap::new(), ..Report::default() },
        })
    }

    fn inject(&mut self, options: &Options) -> Result<()> {
        while self.begin.elapsed() < options.duration {
            self.end_due()?;
            let kind = *self.rng.pick(&options.kinds);
            if kind.needs_calm() || self.rng.one_in(6) {
                self.calm()?;
            }
            if self.active.iter().all(|(other, _)| !other.excludes(kind)) {
                self.begin_fault(kind)?;
            }
            std::thread::sleep(Duration::from_millis(self.rng.below(600)));
            self.check()?;
            if self.rng.one_in(3) {
                self.sample(false)?;
            }
        }
        Ok(())
    }

    fn begin_fault(&mut self, kind: Kind) -> Result<()> {
        let lasts = kind.lasts(&mut self.rng);
        println!("  {:7.2} s  {kind:?} for {lasts:?}", self.begin.elapsed().as_secs_f64());
        if kind == Kind::SourcePowerCut {
            self.application.loses_power(&self.world.site, self.begin);
        }
        self.world.begin(kind, &mut self.rng).with_context(|| format!("{kind:?} begins"))?;
        if kind == Kind::SourcePowerCut {
            self.application.has_died();
        }
        self.is_restoring |= kind.place() == Place::Target;
        *self.report.injected.entry(kind).or_default() += 1;
        if lasts > Duration::ZERO {
            self.active.push((kind, Instant::now() + lasts));
        }
        Ok(())
    }

    fn end_due(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(at) = self.active.iter().position(|(_, until)| *until <= now) {
            let (kind, _) = self.active.remove(at);
            self.end_fault(kind).with_context(|| format!("{kind:?} ends"))?;
        }
        Ok(())
    }

    fn end_fault(&mut self, kind: Kind) -> Result<()> {
        self.world.end(kind)?;
        if kind == Kind::SourcePowerCut {
            self.application.start_again(&self.world.site, &self.world.set)?;
        }
        Ok(())
    }

    /// Ends every fault; then it has to recover by itself, and the replica to be good.
    fn calm(&mut self) -> Result<()> {
        // The disk before what runs on it.
        self.active.sort_by_key(|(kind, _)| *kind != Kind::TargetFull);
        for (kind, _) in std::mem::take(&mut self.active) {
            self.end_fault(kind).with_context(|| format!("{kind:?} ends"))?;
        }
        let begin = Instant::now();
        self.world.recover(RECOVERY_MAX)?;
        self.is_restoring = false;
        println!("  {:7.2} s  calm after {:.2?}", self.begin.elapsed().as_secs_f64(), begin.elapsed());
        self.report.recoveries.push(begin.elapsed());
        self.world.source_has_won()?;
        self.check()?;
        self.sample(true)
    }

    fn check(&mut self) -> Result<()> {
        self.application.check()?;
        self.world.site.paris.check()?;
        self.world.site.lyon.check()
    }

    /// Copies the databases while the target's daemon stands still. Where the replica says to be an image before and
    /// after, it has to be one.
    fn sample(&mut self, is_calm: bool) -> Result<()> {
        let tries = if is_calm { 50 } else { 1 };
        for _ in 0..tries {
            if self.try_sample(is_calm)? {
                self.report.samples += 1;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.report.samples_unconsistent += 1;
        ensure!(!is_calm, "it replicates, but has no consistent image: {}", self.world.site.lyon.status()?);
        Ok(())
    }

    fn try_sample(&mut self, is_calm: bool) -> Result<bool> {
        if self.is_restoring || !self.is_image() {
            return Ok(false);
        }
        let (lyon, replica) = (self.world.site.lyon.pid(), self.world.set.replica.clone());
        let scratch = self.world.site.hosts.paris.dir().join("copy");
        let (files, cluster) = (scratch.join("files"), scratch.join("cluster"));
        std::fs::create_dir_all(&scratch)?;
        let with_cluster =
            is_calm && self.report.samples.is_multiple_of(CLUSTER_EVERY) && self.application.has_cluster();
        crate::run::signal(lyon, Signal::STOP);
        let mut copied = Ok(());
        for name in ["wal", "second", "rollback"] {
            let to = files.join(name);
            let _ = std::fs::remove_dir_all(&to);
            copied = copied.and_then(|()| Ok(std::fs::create_dir_all(&files)?));
            copied = copied.and_then(|()| application::copy(&replica.join(name), &to));
        }
        if with_cluster {
            copied = copied.and_then(|()| application::copy(&replica.join("pg"), &cluster));
        }
        crate::run::signal(lyon, Signal::CONT);
        copied?;
        if !self.is_image() {
            return Ok(false);
        }
        self.application.examine(&files, &scratch.join("opened")).with_context(|| {
            let lyon = &self.world.site.lyon;
            let said = lyon.connection(&self.world.set.set).map(|said| said.to_string()).unwrap_or_default();
            format!("a sample of the replica; lyon says {said}\n{}", lyon.log())
        })?;
        if with_cluster {
            let site = &self.world.site;
            self.application.examine_cluster(site, &cluster).context("a sample of the replica's PostgreSQL")?;
        }
        Ok(true)
    }

    /// Is the replica said to be an image of one instant, and lies it there as such?
    fn is_image(&self) -> bool {
        let lyon = &self.world.site.lyon;
        let connection = || lyon.connection(&self.world.set.set);
        lyon.pid() != 0 && connection().is_ok_and(|found| !found["consistent_at"].is_null()) && !self.is_ahead()
    }

    /// Would the replica have to be brought back to its image first? Then there is a log of how.
    fn is_ahead(&self) -> bool {
        let mut find = Command::new("find");
        find.arg(self.world.site.lyon.state()).args(["-name", "undo", "-type", "f"]);
        run(&mut find).is_ok_and(|found| !found.is_empty())
    }

    fn conclude(mut self) -> Result<Report> {
        self.report.written = self.application.written(&self.world.site).saturating_sub(self.written);
        self.report.sent = self.world.site.hosts.paris.traffic()?.since(self.traffic).sent;
        let (waits, told) = self.application.finish(&self.world.site, self.begin)?;
        self.report.waits = waits;
        let World { site, set, is_strict, .. } = &self.world;
        site.paris.wait(&set.set)?;
        // After a power cut the target cannot tell a hole from zeroes that are equal to the source's.
        let compare = Compare { holes: false, ..Compare::default() };
        compare.same(&set.beneath, &set.replica).context("at the end, beneath the source and the replica")?;
        // In order flush the kernel keeps times of its own until a file is closed.
        let seen = Compare { mtime: *is_strict, ..compare };
        seen.same(&set.source, &set.beneath).context("at the end, the source as applications see it and beneath")?;
        let verified = site.paris.output(["verify", &set.set])?;
        ensure!(verified.status.success(), "verify: {}{}", text(&verified.stdout), text(&verified.stderr));
        for node in [&site.paris, &site.lyon] {
            let state = node.state_of(&set.set)?;
            ensure!(state == "replicating", "{} says {state} at the end", node.name());
        }
        for (database, count) in told {
            let name = database.parent().and_then(Path::file_name).context("no name")?;
            let found =
                crate::load::examine_copy(&set.replica.join(name).join("db"), &site.hosts.paris.dir().join("last"))?;
            if found.transactions < count {
                bail!("{name:?}: {} of {count} confirmed commits at the end", found.transactions);
            }
            self.report.commits += count;
        }
        self.report.duration = self.begin.elapsed();
        Ok(self.report)
    }
}
