//! Breaking things and mending them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::FallocateFlags;
use rustix::process::Signal;

use super::kind::Kind;
use crate::command::{text, until};
use crate::host::{Disk, Hosts};
use crate::node::Node;
use crate::random::Workload;
use crate::relay::{Flow, Relay};
use crate::rng::Rng;
use crate::run::signal;
use crate::site::{Pairing, Site};
use crate::tree;

/// Two joined nodes with a protected directory and a line that can be broken.
pub(super) struct World {
    pub(super) site: Site,
    pub(super) set: Pairing,
    pub(super) relay: Relay,
    pub(super) program: PathBuf,
    pub(super) is_strict: bool,
    pub(super) stranger: Node,
}

/// Files that nothing but a fault changes.
const STILL: &str = "still";
/// A recovery that takes longer is explained in what is printed.
const SLOW_RECOVERY: Duration = Duration::from_secs(5);
/// Takes what room there is on a disk.
pub(super) const BALLAST: &str = "ballast";
/// Files that are deleted at once.
const DELETED: u64 = 400;

impl World {
    pub(super) fn new(program: &Path) -> Result<World> {
        let disk = |image_mib| Disk { image_mib, can_lose_power: true, ..Disk::default() };
        let hosts = Hosts::with_disks(disk(2048), disk(1024))?;
        for shortcoming in &hosts.shortcomings {
            println!("not everything can be tested here: {shortcoming}");
        }
        println!("not tested here: steps of the clock, which test hosts share with the machine");
        let site = Site::on(hosts)?;
        let stranger = Node::start_as(&site.hosts.paris, "stranger", 7132)?;
        let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen())?;
        let set = site.pairing("notes")?;
        tree::plain(&set.source.join(STILL), 300, 3 << 20, 1)?;
        Ok(World { site, set, relay, program: program.into(), is_strict: true, stranger })
    }

    /// In the order strict, and for one seed in four in the order flush.
    pub(super) fn protect(&mut self, rng: &mut Rng) -> Result<()> {
        self.is_strict = !rng.one_in(4);
        let order = if self.is_strict { "strict" } else { "flush" };
        println!("order {order}");
        self.site.protect(&self.set, &["--order", order, "--route", &self.relay.address()])?;
        self.limit_queue(rng)
    }

    /// Begins a fault; one that is over at once ends here.
    pub(super) fn begin(&mut self, kind: Kind, rng: &mut Rng) -> Result<()> {
        match kind {
            Kind::SourceKilled => self.site.paris.kill(),
            Kind::SourceRestarted => self.site.paris.stop()?,
            Kind::CaptureServerKilled => self.kill_servers()?,
            Kind::SourcePowerCut => self.cut_source(rng.next_u64())?,
            Kind::SourceQueueFull => self.fill_queue(rng.next_u64())?,
            Kind::TargetKilled => self.site.lyon.kill(),
            Kind::TargetRestarted => self.site.lyon.stop()?,
            Kind::TargetPowerCut => self.cut_target(rng.next_u64())?,
            Kind::TargetFull => fill(&self.ballast())?,
            Kind::TargetReadOnly => self.site.hosts.lyon.break_disk()?,
            Kind::LineReset => self.relay.flow(Flow::Cut),
            Kind::LineFlapping => self.flap(rng),
            Kind::LineHalfOpen => self.relay.flow(Flow::HalfOpen),
            Kind::LineOneWay => self.relay.flow(*rng.pick(&[Flow::LoseForward, Flow::LoseBack])),
            Kind::LineSlow => self.slow(Duration::from_millis(100), Some(250_000)),
            Kind::LineUnplugged => self.site.hosts.lyon.link(false)?,
            Kind::WrongMachine => self.relay.lead_to(&self.stranger.listen())?,
            Kind::Paused => self.site.paris.cli(["pause", &self.set.set]).map(drop)?,
            Kind::ReplicaTampered => self.tamper(rng)?,
            Kind::Deletion => self.delete(rng)?,
            Kind::Storm => self.storm(rng.next_u64() >> 16)?,
        }
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::SourceKilled | Kind::SourceRestarted => self.site.paris.launch()?,
            Kind::SourcePowerCut => self.boot_source()?,
            Kind::SourceQueueFull => self.empty_queue()?,
            Kind::TargetKilled | Kind::TargetRestarted | Kind::TargetPowerCut => self.site.lyon.launch()?,
            Kind::TargetFull => self.make_room()?,
            Kind::TargetReadOnly => {
                self.site.lyon.kill_host();
                self.site.hosts.lyon.mend_disk()?;
                self.site.lyon.launch()?;
            }
            Kind::LineReset | Kind::LineFlapping | Kind::LineHalfOpen | Kind::LineOneWay => {
                self.relay.flow(Flow::Through)
            }
            Kind::LineSlow => self.slow(Duration::ZERO, None),
            Kind::LineUnplugged => self.site.hosts.lyon.link(true)?,
            Kind::WrongMachine => self.relay.lead_to(&self.site.lyon.listen())?,
            Kind::Paused => self.site.paris.cli(["resume", &self.set.set]).map(drop)?,
            Kind::CaptureServerKilled | Kind::ReplicaTampered | Kind::Deletion | Kind::Storm => {}
        }
        Ok(())
    }

    fn kill_servers(&self) -> Result<()> {
        let servers = self.site.paris.capture_servers();
        ensure!(!servers.is_empty(), "no server of the mount runs");
        servers.iter().for_each(|pid| signal(*pid, Signal::KILL));
        Ok(())
    }

    fn cut_target(&mut self, seed: u64) -> Result<()> {
        self.site.lyon.kill_host();
        let cut = self.site.hosts.lyon.lose_power(seed)?;
        println!("           {cut:?}");
        Ok(())
    }

    fn ballast(&self) -> PathBuf {
        self.site.hosts.lyon.store().join(BALLAST)
    }

    /// A power cut must not bring the ballast back: nobody would remove it again.
    fn make_room(&self) -> Result<()> {
        fs::remove_file(self.ballast())?;
        File::open(self.site.hosts.lyon.store())?.sync_all()?;
        Ok(())
    }

    fn flap(&self, rng: &mut Rng) {
        for _ in 0..3 + rng.below(5) {
            self.relay.flow(Flow::Cut);
            std::thread::sleep(Duration::from_millis(rng.below(200)));
            self.relay.flow(Flow::Through);
            std::thread::sleep(Duration::from_millis(rng.below(200)));
        }
        self.relay.flow(Flow::Cut);
    }

    fn slow(&self, delay: Duration, rate: Option<u64>) {
        self.relay.delay(delay);
        self.relay.rate(rate);
    }

    /// Changes the replica past the guard: verify has to find, name and mend it.
    fn tamper(&self, rng: &mut Rng) -> Result<()> {
        let name = format!("d{:04}/file-{:06}.dat", 0, rng.below(100));
        let replica = self.site.hosts.lyon.beneath(&self.set.replica).join(STILL).join(&name);
        let mut bytes = fs::read(&replica)?;
        let at = rng.below(bytes.len().max(1) as u64) as usize;
        bytes.get_mut(at).map(|byte| *byte ^= 0x55).context("an empty file")?;
        fs::write(&replica, bytes)?;
        let verify = |options: &[&str]| self.site.paris.output([&["verify", &self.set.set], options].concat());
        let found = verify(&["--json"])?;
        let said = format!("{}{}", text(&found.stdout), text(&found.stderr));
        ensure!(found.status.code() == Some(3) && said.contains(&name), "verify does not name {name}: {said}");
        let repaired = verify(&["--repair"])?;
        ensure!(matches!(repaired.status.code(), Some(0 | 3)), "repair: {}", text(&repaired.stderr));
        let equal = verify(&[])?;
        ensure!(equal.status.success(), "not equal after the repair: {}{}", text(&equal.stdout), text(&equal.stderr));
        Ok(())
    }

    fn delete(&self, rng: &mut Rng) -> Result<()> {
        let dir = self.set.source.join("deleted");
        tree::plain(&dir, DELETED, 1 << 20, rng.next_u64())?;
        fs::remove_dir_all(dir)?;
        Ok(())
    }

    /// Names that are made, moved and removed by several processes at once.
    fn storm(&self, seed: u64) -> Result<()> {
        let dir = self.set.source.join("storm");
        fs::create_dir_all(&dir)?;
        Workload { seed, workers: 2, operations: 150 }.run(&self.program, &dir)
    }

    /// Waits until the connection replicates, and everything written before is applied.
    pub(super) fn recover(&self, limit: Duration) -> Result<()> {
        let paris = &self.site.paris;
        let (begin, mut last) = (Instant::now(), String::new());
        let state = || {
            let connection = paris.connection(&self.set.set)?;
            let now = format!("{} {}", connection["state"], connection["reason"]);
            if now != last {
                println!("           {:.2?} {now}", begin.elapsed());
                last = now;
            }
            Ok(connection["state"] == "replicating")
        };
        until("it replicates again by itself", limit, state).with_context(|| {
            let status = paris.connection(&self.set.set).map(|value| value.to_string()).unwrap_or_default();
            format!("{status}\nparis: {}\nlyon: {}", paris.log(), self.site.lyon.log())
        })?;
        if begin.elapsed() > SLOW_RECOVERY {
            println!("a slow recovery; paris: {}\nlyon: {}", paris.log(), self.site.lyon.log());
        }
        // What a fault left over may halt it once more before it is tried again.
        until("everything is applied", limit, || Ok(paris.wait(&self.set.set).is_ok()))
            .with_context(|| paris.connection(&self.set.set).map(|value| value.to_string()).unwrap_or_default())
    }
}

/// Takes all the room that is left on a disk.
pub(super) fn fill(ballast: &Path) -> Result<()> {
    let file = File::create(ballast)?;
    let (mut len, mut piece) = (0, 1u64 << 30);
    while piece >= 4096 {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), len, piece) {
            Ok(()) => len += piece,
            Err(_) => piece /= 2,
        }
    }
    Ok(())
}
