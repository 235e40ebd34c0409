//! What each answer of an agent comes to, read from the table in `docs/operating/resources.md`.

use std::time::{Duration, Instant};

use stead_model::outcome::{Done, Failure, State, To, conclude};
use stead_model::{End, ocf};

use super::{Ended, Goal, Input, LookConfig, Output, Reach, ResourceConfig, Resources, ResourcesConfig, Seen};

const DOCS: &str = include_str!("../../../../docs/operating/resources.md");
const AGENT: &str = "ocf:stead:Model";
const LIMIT: Duration = Duration::from_secs(5);

/// A row: how an agent ended, and what each of the columns says of it.
struct Row {
    name: &'static str,
    look: &'static str,
    state: &'static str,
    start: &'static str,
    stop: &'static str,
}

fn rows() -> Vec<Row> {
    let (_, table) = DOCS.split_once("| exit code | a look tells |").unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let row = |cells: Vec<&'static str>| match cells[..] {
        [name, look, state, start, stop] => Row { name, look, state, start, stop },
        _ => panic!("{cells:?}"),
    };
    cells.map(row).collect()
}

/// Every way in which a program can end, with the name of its row.
fn ends() -> Vec<(String, End)> {
    let codes = rows().iter().filter_map(|row| row.name.parse::<i32>().ok()).collect::<Vec<_>>();
    let named = |code: i32| if codes.contains(&code) { code.to_string() } else { "another".into() };
    let exited = (0..=255).map(|code| (named(code), End::Exited(code)));
    let killed = (1..=64).map(|signal| ("killed by a signal".to_owned(), End::Killed(signal)));
    let others = [
        ("no end in time", End::TimedOut { limit: LIMIT, unkillable: 0 }),
        ("no end in time", End::TimedOut { limit: LIMIT, unkillable: 2 }),
        ("it could not be run", End::NotStarted("there is no memory".into())),
    ];
    exited.chain(killed).chain(others.map(|(name, end)| (name.into(), end))).collect()
}

fn row(name: &str) -> Row {
    rows().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("the table has no row {name}"))
}

/// How the engine is told of it: an end within the limit of its look comes to it as it is; past that it hears nothing.
fn look(end: &End) -> Seen {
    if !matches!(end, End::TimedOut { .. }) {
        return ocf::seen(&AGENT, end, "").into();
    }
    let looks = vec![LookConfig { interval: LIMIT, timeout: LIMIT, failures: 1 }];
    let resource = ResourceConfig { start: LIMIT, stop: LIMIT, looks, within: LIMIT, ..ResourceConfig::default() };
    let config = ResourcesConfig { resources: vec![resource], at_once: 1, again: LIMIT };
    let (mut engine, begin) = (Resources::new(config).unwrap(), Instant::now());
    engine.handle(Input::Want(Goal::Up), begin);
    engine.handle(Input::Done { id: 1, ended: Ended::Good }, begin);
    engine.handle_timeout(begin + LIMIT);
    engine.handle_timeout(begin + LIMIT * 2);
    let told: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
    let gives_up = told.into_iter().find_map(|output| match output {
        Output::GivesUp { why, reach, .. } => Some(Seen::Bad(why, reach)),
        _ => None,
    });
    gives_up.expect("what does not answer in time is given up where it may not be restarted")
}

fn of_look(seen: &Seen) -> &'static str {
    match seen {
        Seen::Good => "it serves",
        Seen::Degraded(_) => "it serves, and may fail soon",
        Seen::Unknown(_) => "nothing",
        Seen::Bad(_, reach) => of_reach(*reach),
    }
}

fn of_reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Now => "failed",
        Reach::Node => "failed on this node",
        Reach::Everywhere => "failed on any node",
    }
}

fn of_state(state: &State) -> &'static str {
    match state {
        State::Started => "up",
        State::Stopped => "down",
        State::Unknown(_) => "not known",
    }
}

fn of_ended(to: To, ended: &Ended) -> &'static str {
    match (ended, to) {
        (Ended::Good, _) => "done",
        (Ended::Bad(_, reach), To::Start) => of_reach(*reach),
        (Ended::Bad(..), To::Stop) => "not stopped",
    }
}

#[test]
fn each_answer_to_a_look_is_what_the_table_says() {
    for (name, end) in ends() {
        let row = row(&name);
        let told = (of_look(&look(&end)), of_state(&ocf::state(&AGENT, &end, "")));
        assert_eq!(told, (row.look, row.state), "{end:?}");
    }
}

/// As a start or a stop goes: a look before, its answer, a look after.
fn switched(to: To, before: &End, answer: &End, after: &End) -> Ended {
    if to.is(&ocf::state(&AGENT, before, "")) {
        return Ok::<_, Failure>(Done::Already).into();
    }
    let told = ocf::told(&AGENT, "start", answer, "");
    conclude(to, &ocf::state(&AGENT, after, ""), told, LIMIT, false).into()
}

/// Each prior state, each answer, each state that it leaves; those states by each answer that can show them.
#[test]
fn each_start_and_each_stop_ends_as_the_table_says() {
    let ends = ends();
    let looks: Vec<_> = rows().iter().map(|row| ends.iter().find(|(name, _)| name == row.name).unwrap()).collect();
    for (to, is) in [(To::Start, "up"), (To::Stop, "down")] {
        for (before, first) in &looks {
            for (name, answer) in &ends {
                for (after, last) in &looks {
                    let ended = switched(to, first, answer, last);
                    let is_so = row(before).state == is || row(after).state == is;
                    let bad = if to == To::Start { row(name).start } else { row(name).stop };
                    let expected = if is_so { "done" } else { bad };
                    assert_eq!(of_ended(to, &ended), expected, "{to:?}: {first:?}, then {answer:?}, then {last:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_called_off_is_neither_up_nor_down() {
    let end = End::Cancelled { unkillable: 0 };
    assert_eq!(of_state(&ocf::state(&AGENT, &end, "")), "not known");
    assert!(matches!(ocf::told(&AGENT, "stop", &end, ""), Err(Failure::Unknown(_))));
    let stopped = conclude(To::Stop, &State::Unknown("?".into()), Ok(()), LIMIT, true);
    assert!(matches!(stopped, Err(Failure::Unknown(_))));
}
