//! Text scenarios: `tests/scenarios/*.txt` hold what happens when, and behind a line `----` what every node's timeline
//! says of it. `STEAD_BLESS=1` writes the latter anew.
//!
//! ```text
//! setup witness=no policy=approve|unsafe fence=yes fast=yes resources=yes role-files=yes
//! at 5 power paris          power, kill, start, sleep, stop, freeze, resume, isolate, rejoin, leave NODE
//! at 5 cut paris lyon       cut, mend, one-way A B; path A B NUMBER
//! at 5 want lyon failover
//! at 5 goes fence unknown       at 5 takes fence 4
//! at 5 resources-fail
//! at 5 unfit lyon 10        at 15 fit lyon
//! until 20
//! ```

use std::fmt::Write as _;
use std::path::Path;

use super::net::PATHS;
use super::node::{NAMES, Pause};
use super::rng::Rng;
use super::setup::Setup;
use super::world::World;
use crate::machine::{Hook, Outcome, Policy, Step, Want};

#[test]
fn every_scenario_goes_as_it_is_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "found only {files:?}");
    let mut differ = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let happened = play(script);
        if happened == expected {
            continue;
        }
        if std::env::var_os("STEAD_BLESS").is_some() {
            std::fs::write(&file, format!("{script}----\n{happened}")).unwrap();
        } else {
            differ.push(format!("{}:\n{happened}", file.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

fn play(script: &str) -> String {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    let mut world = World::new(setup(&lines), Rng::new(1), true);
    for line in &lines {
        let ended = match line[..] {
            ["at", at, ref what @ ..] => {
                let ended = world.run_until(seconds(at));
                happen(&mut world, what);
                ended
            }
            ["until", at] => world.run_until(seconds(at)),
            _ => Ok(()),
        };
        if let Err(wrong) = ended {
            return format!("{}{wrong}\n", world.trace.unwrap());
        }
    }
    format!("{}{}", world.trace.take().unwrap(), summary(&world))
}

fn summary(world: &World) -> String {
    let mut text = String::new();
    for node in &world.nodes[..2] {
        let (name, serves) = (NAMES[usize::from(!std::ptr::eq(node, &world.nodes[0]))], node.serves());
        let state = node.machine().map_or("down".into(), |machine| {
            format!("{:?}, {}, epoch {}", machine.state().role(), machine.word(), machine.record().epoch.number)
        });
        writeln!(text, "{name}: {}{state}", if serves { "serves, " } else { "" }).unwrap();
    }
    text
}

fn setup(lines: &[Vec<&str>]) -> Setup {
    let mut setup = Setup::scripted();
    for word in lines.iter().filter(|line| line[0] == "setup").flat_map(|line| &line[1..]) {
        match *word {
            "witness=no" => setup.witness = false,
            "fence=yes" => setup.fence = true,
            "fast=yes" => setup.fast = true,
            "resources=yes" => setup.resources = true,
            "role-files=yes" => setup.role_files = true,
            "policy=approve" => setup.policy = Policy::Approve,
            "policy=unsafe" => setup.policy = Policy::UnsafeTwoNode,
            _ => panic!("{word} is no setup"),
        }
    }
    setup
}

fn seconds(text: &str) -> u64 {
    (text.parse::<f64>().unwrap() * 1e6) as u64
}

fn node(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{name} is no node"))
}

fn happen(world: &mut World, what: &[&str]) {
    world.log("#", format_args!("{}", what.join(" ")));
    match *what {
        ["power", at] => world.crash(node(at), true),
        ["kill", at] => world.crash(node(at), false),
        ["start", at] => world.start_again(node(at), 0),
        ["sleep", at] => world.pause(node(at), Pause::Host),
        ["stop", at] => world.pause(node(at), Pause::Daemon),
        ["freeze", at] => world.pause(node(at), Pause::Frozen),
        ["resume", at] => world.resume(node(at)),
        ["leave", at] => world.leave(node(at)),
        ["isolate", at] => others(node(at)).for_each(|other| cut(world, node(at), other, true)),
        ["rejoin", at] => others(node(at)).for_each(|other| cut(world, node(at), other, false)),
        ["cut", one, other] => cut(world, node(one), node(other), true),
        ["mend", one, other] => cut(world, node(one), node(other), false),
        ["one-way", from, to] => (0..PATHS).for_each(|path| world.net.cut(node(from), node(to), path, true)),
        ["path", one, other, path] => {
            let path = path.parse().unwrap();
            world.net.cut(node(one), node(other), path, true);
            world.net.cut(node(other), node(one), path, true);
        }
        ["want", at, want] => _ = world.want(node(at), self::want(want)),
        ["goes", step, outcome] => world.setup.goes = Some((self::step(step), self::outcome(outcome))),
        ["takes", step, time] => world.setup.takes = Some((self::step(step), seconds(time))),
        ["resources-fail"] => world.fail_resources(),
        ["unfit", at, time] => {
            world.nodes[node(at)].unfit_until = world.now + seconds(time);
            world.tell_fitness(node(at));
        }
        ["fit", at] => {
            world.nodes[node(at)].unfit_until = 0;
            world.tell_fitness(node(at));
        }
        _ => panic!("{what:?} cannot happen"),
    }
}

fn others(at: usize) -> impl Iterator<Item = usize> {
    (0..3).filter(move |other| *other != at)
}

fn cut(world: &mut World, one: usize, other: usize, cut: bool) {
    for path in 0..PATHS {
        world.net.cut(one, other, path, cut);
        world.net.cut(other, one, path, cut);
    }
}

fn want(name: &str) -> Want {
    match name {
        "failover" => Want::Failover { force: false },
        "failover-force" => Want::Failover { force: true },
        "switchover" => Want::Switchover,
        "failback" => Want::Failback,
        "approve" => Want::Approve,
        "suspend" => Want::Suspend,
        "resume" => Want::Resume,
        "offline" => Want::Offline,
        "online" => Want::Online,
        "maintenance" => Want::Maintain(true),
        "maintenance-ends" => Want::Maintain(false),
        _ => panic!("{name} is nothing to want"),
    }
}

fn step(name: &str) -> Step {
    match name {
        "references" => Step::References,
        "fence" => Step::Fence,
        "service" => Step::Service(0),
        "resources" => Step::Resources,
        "role-files" => Step::RoleFiles,
        "hand-over" => Step::HandOver,
        "pre-failover" => Step::Script(Hook::PreFailover),
        "pre-failback" => Step::Script(Hook::PreFailback),
        _ => panic!("{name} is no step"),
    }
}

fn outcome(name: &str) -> Outcome {
    match name {
        "done" => Outcome::Done,
        "failed" => Outcome::Failed("as scripted".into()),
        "unknown" => Outcome::Unknown("as scripted".into()),
        "hopeless" => Outcome::Hopeless("as scripted".into()),
        _ => panic!("{name} is no outcome"),
    }
}
