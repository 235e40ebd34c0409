//! A daemon dies between any two steps of a takeover, on either node, and is started again: never do two serve, in the end one
//! does, and a planned move loses nothing. A few points each time; all of them with `STEAD_SOAK`.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stead_tests::command::until;
use stead_tests::node::Node;
use stead_tests::rng::Rng;
use stead_tests::service::{Answered, lost};
use stead_tests::town::{GROUP, Town};

const LOAD: &str = env!("CARGO_BIN_EXE_stead-load");
const SOON: Duration = Duration::from_secs(30);
/// A request of a person is over within that.
const REQUEST: Duration = Duration::from_secs(90);
const SAMPLE: usize = 2;

/// The steps of who hands over, and of who takes over. The record with the new epoch is what makes it final.
const GIVES: &[&str] = &["undo service 0", "hand over the last changes", "undo address 0", "undo capture"];
const TAKES: &[&str] = &["epoch", "drain the journal", "capture", "address 0", "service 0", "tell"];

/// Where a daemon dies.
#[derive(Clone, Copy, Debug)]
struct Point {
    action: &'static str,
    gives: bool,
    step: &'static str,
    side: &'static str,
}

impl Point {
    fn all() -> Vec<Point> {
        let mut all = Vec::new();
        for action in ["switchover", "failback", "failover"] {
            let gives = GIVES.iter().map(|step| (true, *step)).filter(|_| action != "failover");
            for (gives, step) in gives.chain(TAKES.iter().map(|step| (false, *step))) {
                all.extend(["before", "after"].map(|side| Point { action, gives, step, side }));
            }
        }
        all
    }

    /// Who serves before, and who is to.
    fn ways(&self) -> (&'static str, &'static str) {
        if self.action == "failback" { ("lyon", "paris") } else { ("paris", "lyon") }
    }

    fn dies(&self) -> &'static str {
        if self.gives { self.ways().0 } else { self.ways().1 }
    }

    /// Who serves in the end; none: whoever gives may be asked once more when it is back.
    fn serves_at_last(&self) -> Option<&'static str> {
        match (self.action, self.step, self.side) {
            ("failover", ..) => Some(self.ways().1),
            _ if self.gives => None,
            (_, "epoch", "before") => Some(self.ways().0),
            _ => Some(self.ways().1),
        }
    }

    fn chosen(&self, epoch: u64) -> String {
        let step = if self.step == "epoch" { format!("epoch {}", epoch + 1) } else { self.step.into() };
        format!("{GROUP}/{step}/{}", self.side)
    }
}

fn node<'a>(town: &'a mut Town, name: &str) -> &'a mut Node {
    if name == "paris" { &mut town.site.paris } else { &mut town.site.lyon }
}

fn epoch(town: &Town) -> u64 {
    town.monitor_at(&town.site.lyon).unwrap()["epoch"].as_u64().unwrap()
}

fn who_serves(town: &Town) -> Result<Option<&'static str>> {
    let is = |name: &str, what: &[&str]| -> Result<bool> {
        // A daemon that was just started runs no group yet.
        let Ok(mut monitor) = town.monitor_at(town.node(name)) else { return Ok(false) };
        let doing = monitor["doing"].take();
        Ok(what.iter().any(|what| doing == *what))
    };
    let rests = ["standby", "restore-required"];
    let serves = |name, other| Ok::<_, anyhow::Error>(is(name, &["active"])? && is(other, &rests)?);
    Ok(if serves("paris", "lyon")? {
        Some("paris")
    } else if serves("lyon", "paris")? {
        Some("lyon")
    } else {
        None
    })
}

fn settled_who(town: &Town) -> Result<&'static str> {
    let mut who = None;
    until("one of the two serves", REQUEST, || {
        who = who_serves(town)?;
        Ok(who.is_some())
    })
    .with_context(|| town.standing())?;
    let who = who.expect("seen above");
    town.settles_with(who)?;
    Ok(who)
}

/// Nothing dies, and that node serves.
fn bring_to(town: &Town, name: &str) -> Result<()> {
    if settled_who(town)? != name {
        town.node(name).cli(["switchover", GROUP, "--yes"])?;
        town.settles_with(name)?;
    }
    Ok(())
}

fn ask(town: &mut Town, point: &Point) -> Result<Option<Child>> {
    if point.action == "failover" {
        town.paris_dies()?;
        return Ok(None);
    }
    let mut command = town.node(point.ways().1).command([point.action, GROUP, "--yes"])?;
    Ok(Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn dies_there(town: &mut Town, point: &Point) -> Result<()> {
    let (from, to) = point.ways();
    bring_to(town, from)?;
    let chosen = point.chosen(epoch(town));
    let dying = node(town, point.dies());
    dying.kill();
    dying.launch_with(&[("STEAD_CRASH", &chosen)])?;
    town.settles_with(from)?;
    let client = town.client(100)?;
    let mut asked = ask(town, point)?;
    until("it comes to that point", SOON, || {
        if node(town, point.dies()).has_died()? {
            return Ok(true);
        }
        // Whoever was just started refuses for a while, not knowing what it granted before.
        if asked.as_mut().map(Child::try_wait).transpose()?.flatten().is_some() {
            asked = ask(town, point)?;
        }
        Ok(false)
    })?;
    let dying = node(town, point.dies());
    dying.kill();
    dying.launch()?;
    if let Some(asked) = &mut asked {
        until("the request ends", REQUEST, || Ok(asked.try_wait()?.is_some()))?;
    } else {
        town.answers(&client, to, SOON)?;
        town.paris_returns()?;
    }
    let serves = settled_who(town)?;
    town.answers(&client, serves, SOON)?;
    let answers = client.stop();
    ensure!(point.serves_at_last().is_none_or(|name| name == serves), "{serves} serves\n{}", town.standing());
    served_in_turn(&answers, from, to, serves)?;
    if point.action != "failover" {
        town.node(serves).cli(["wait", GROUP])?;
        let lost = lost(&answers, &database(town, serves))?;
        ensure!(lost == 0, "{lost} of {} acknowledged changes are lost", answers.len());
    }
    Ok(())
}

fn served_in_turn(answers: &[Answered], from: &str, to: &str, last: &str) -> Result<()> {
    let mut holders: Vec<_> = answers.iter().map(|answered| answered.holder.as_str()).collect();
    holders.dedup();
    ensure!([&[from][..], &[from, to]].contains(&&holders[..]) && holders.last() == Some(&last), "{holders:?} served");
    Ok(())
}

fn database(town: &Town, name: &str) -> PathBuf {
    let notes = &town.notes;
    if name == "paris" { notes.source.join("notes.db") } else { notes.replica.join("notes.db") }
}

#[test]
fn a_daemon_that_dies_between_two_steps_leaves_one_that_serves() {
    let (mut points, seed) = (Point::all(), Rng::seed());
    if std::env::var_os("STEAD_SOAK").is_none() {
        let mut rng = Rng::new(seed);
        points = (0..SAMPLE).map(|_| *rng.pick(&points)).collect();
    }
    println!("seed {seed}: {} points", points.len());
    let mut town = Town::new(Path::new(LOAD)).unwrap();
    town.monitor(&["--witness", "oslo"]).unwrap();
    let mut failures = Vec::new();
    for point in points {
        println!("{point:?}");
        failures.extend(dies_there(&mut town, &point).err().map(|error| format!("{point:?}: {error:#}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
