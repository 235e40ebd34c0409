//! Resources that depend on each other: how long fifty of them take beyond what their programs do, and what it costs to look
//! at them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stead_tests::command::until;
use stead_tests::town::{GROUP, Town};

use super::Size;
use super::standin::town;
use super::table::{Line, median, short};

const RESOURCES: usize = 50;
/// So many of them require each other in a row.
const CHAIN: usize = 5;
/// Between two looks at one of them, which makes a thousand looks in a minute.
const INTERVAL: &str = "3s";
const WATCHED: Duration = Duration::from_secs(30);
/// Of `/proc/PID/stat`, on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

pub fn run(size: Size) -> Result<Vec<Line>> {
    let town = town()?;
    town.monitor(&["--witness", "oslo"])?;
    let program = program(&town)?;
    let plan = town.site.lyon.cli(["plan", "show"])?;
    kept(&town, &plan, &program, "1h")?;
    let mut lines = moved(&town, &program, size)?;
    let idle = used(&town)?;
    kept(&town, &plan, &program, INTERVAL)?;
    let looking = used(&town)?;
    let checks = RESOURCES as f64 * 20.0;
    lines.push(Line {
        work: format!("{checks} quick checks in a minute: what the daemon uses of one core, beside their programs"),
        stead: format!("{looking:.2} %, {idle:.2} % without"),
        others: String::new(),
        figure: looking - idle,
        unit: "%",
        aim: Some(2.0),
    });
    Ok(lines)
}

/// A resource is a file; to start and to stop it takes a fifth of a second.
fn program(town: &Town) -> Result<PathBuf> {
    let path = town.site.hosts.run().dir().join("resource");
    let text = "#!/bin/sh\nfile=${STEAD_TEST_HOST%/*}/resource-$2\ncase $1 in\nstart) sleep 0.2; : >\"$file\" ;;\n\
                stop) sleep 0.2; rm -f \"$file\" ;;\nstatus) [ -e \"$file\" ] || exit 3 ;;\nesac\n";
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Has the group have them, looked at that often, and waits until they are up.
fn kept(town: &Town, plan: &str, program: &Path, interval: &str) -> Result<()> {
    let resource = |at: usize| {
        let requires = if at.is_multiple_of(CHAIN) { String::new() } else { format!("'r{}'", at - 1) };
        let command = |word: &str| format!("{word} = ['{}', '{word}', '{at}']\n", program.display());
        let commands: String = ["start", "stop", "status"].map(command).concat();
        format!(
            "[[group.resource]]\nname = 'r{at}'\nrequires = [{requires}]\nquick = {{ interval = '{interval}' }}\n{commands}"
        )
    };
    let resources: String = (0..RESOURCES).map(resource).collect();
    let file = town.site.hosts.run().dir().join("plan.toml");
    fs::write(&file, format!("{plan}\n{resources}"))?;
    let before = took(town)?.len();
    town.site.lyon.cli([Path::new("plan"), Path::new("apply"), &file, Path::new("--yes")])?;
    until("they are up", Duration::from_secs(30), || Ok(took(town)?.len() > before))
}

/// Down and up again, some times: what it takes beyond the longest chain of the programs.
fn moved(town: &Town, program: &Path, size: Size) -> Result<Vec<Line>> {
    let alone = longest_chain(town, program)?;
    let mut beyond = Vec::new();
    for _ in 0..size.rounds {
        let before = took(town)?.len();
        town.site.lyon.cli(["group", "offline", GROUP, "--yes"])?;
        town.site.lyon.cli(["group", "online", GROUP])?;
        let steps = took(town)?;
        ensure!(steps.len() == before + 2, "a stop and a start are told");
        beyond.extend(steps[before..].iter().map(|took| took - alone));
    }
    let figure = median(&beyond);
    Ok(vec![Line {
        work: format!(
            "start or stop of {RESOURCES} resources in chains of {CHAIN}, beyond the longest chain of the programs"
        ),
        stead: format!("{} ms", short(figure)),
        others: format!("the programs of a chain, one after the other: {} ms", short(alone)),
        figure,
        unit: "ms",
        aim: Some(100.0),
    }])
}

/// Milliseconds that the programs of one chain take by themselves.
fn longest_chain(town: &Town, program: &Path) -> Result<f64> {
    let began = Instant::now();
    for at in 0..CHAIN {
        let mut start = Command::new(program);
        start.args(["start", &format!("alone-{at}")]).env("STEAD_TEST_HOST", town.site.hosts.paris.dir().join("paris"));
        ensure!(start.status()?.success(), "the program works");
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// What the steps of resources on paris took, in milliseconds, in their order.
fn took(town: &Town) -> Result<Vec<f64>> {
    let told = town.site.paris.json(["explain", GROUP, "--json"])?;
    let of_paris = told.as_array().into_iter().flatten().filter(|timeline| timeline["node"] == "paris");
    let entries = of_paris.filter_map(|timeline| timeline["entries"].as_array()).flatten();
    let is_one = |entry: &&Value| ["resources", "undo resources"].iter().any(|step| entry["step"] == *step);
    entries.filter(is_one).map(|entry| entry["took_ms"].as_f64().context("a step has a duration")).collect()
}

/// What the daemon of paris uses of one core, in percent, without the programs that it runs.
fn used(town: &Town) -> Result<f64> {
    let ticks = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", town.site.paris.pid()))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok([11, 12].into_iter().filter_map(|at| fields.get(at)?.parse::<f64>().ok()).sum())
    };
    let before = ticks()?;
    std::thread::sleep(WATCHED);
    Ok((ticks()? - before) / TICKS_PER_SECOND / WATCHED.as_secs_f64() * 100.0)
}
