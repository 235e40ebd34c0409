//! Three targets instead of one: what that costs the application.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use stead_tests::command::until;
use stead_tests::host::Hosts;
use stead_tests::node::{Node, PORT};

use super::Size;
use super::micro::{BUFFERED, Loop, NAMES};
use super::pair::{Pair, hosts, sync};
use super::table::{Line, NotAvailable, median, short};

const ONE: &str = "one";
const THREE: &str = "three";
const TURNS_PER_ROUND: usize = 3;

/// A set with one target and one with three, in turns.
pub fn run(size: Size) -> Result<Vec<Line>> {
    let hosts = hosts()?;
    let (one, three) = (hosts.paris.disk().join(ONE), hosts.paris.disk().join(THREE));
    for dir in [&one, &three] {
        fs::create_dir(dir)?;
    }
    let pair = Pair::new(&hosts)?;
    for (set, dir) in [(ONE, &one), (THREE, &three)] {
        pair.protect(set, dir, &hosts.lyon.disk().join(set), &[])?;
    }
    let others = more_targets(&hosts, &pair, &three)?;
    let mut lines = Vec::new();
    for cost in [&BUFFERED[0], &BUFFERED[1], &NAMES[0]] {
        lines.extend(compare(&pair, cost, &one, &three, size.rounds * TURNS_PER_ROUND)?);
    }
    drop(others);
    Ok(lines)
}

/// Two more nodes on lyon, and the set `three` on them, too.
fn more_targets(hosts: &Hosts, pair: &Pair, three: &Path) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut plan = pair.paris.cli(["plan", "show"])?;
    for (name, port) in [("metz", PORT + 1), ("brest", PORT + 2)] {
        let node = Node::start_as(&hosts.lyon, name, port)?;
        pair.paris.join(&node)?;
        plan = with_target(&plan, name, three, &hosts.lyon.disk().join(format!("at-{name}")));
        nodes.push(node);
    }
    let file = hosts.paris.dir().join("plan.toml");
    fs::write(&file, plan)?;
    if let Err(e) = pair.paris.cli(["plan", "apply", &file.display().to_string()]) {
        return Err(NotAvailable(format!("a set cannot be given more targets yet: {e}")).into());
    }
    let names = ["lyon", "metz", "brest"];
    let states = || -> Result<usize> {
        let status = pair.paris.status()?;
        let all = status["connections"].as_array().cloned().unwrap_or_default();
        let of = all.iter().filter(|c| c["set"] == THREE && c["source"] == "paris" && c["state"] == "replicating");
        Ok(of.filter(|c| names.iter().any(|name| c["target"] == *name)).count())
    };
    until("three targets replicate", Duration::from_secs(60), || Ok(states()? == names.len()))?;
    Ok(nodes)
}

/// The plan with one more connection of the set.
fn with_target(plan: &str, target: &str, source: &Path, replica: &Path) -> String {
    let (from, to) = (source.display(), replica.display());
    let mapping = format!("[[connection.mapping]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    format!("{plan}\n[[connection]]\nset = \"{THREE}\"\ntarget = \"{target}\"\n\n{mapping}")
}

fn compare(pair: &Pair, cost: &Loop, one: &Path, three: &Path, turns: usize) -> Result<[Line; 2]> {
    let mut times: [Vec<f64>; 4] = Default::default();
    // The first turn makes the files and is not counted.
    for turn in 0..=turns {
        for place in 0..4 {
            let place = (place + turn) % 4;
            sync(one)?;
            sync(&pair.lyon.host().disk())?;
            let (set, dir) = if place < 2 { (ONE, one) } else { (THREE, three) };
            let sample = if place % 2 == 0 { pair.held(set, || (cost.run)(dir))? } else { (cost.run)(dir)? };
            pair.paris.wait(set)?;
            if turn > 0 {
                times[place].push(sample);
            }
        }
    }
    let [one_held, one_live, three_held, three_live] = times.map(|times| median(&times));
    let line = |how: &str, one: f64, three: f64, aim: Option<f64>| Line {
        work: format!("{}, {how}, with three targets", cost.name),
        stead: format!("{} µs", short(three)),
        others: format!("with one target {} µs", short(one)),
        figure: three / one,
        unit: "×",
        aim,
    };
    Ok([line("held", one_held, three_held, Some(1.05)), line("live", one_live, three_live, None)])
}
