//! What the mind tells, as lines of a timeline: with the names of the plan in the place of numbers.

use stead_api::TimelineEntry;
use stead_failover::heartbeat::{Hold, Role};
use stead_failover::machine::{Await, State, Step, Turn};
use stead_failover::{Entry, MonitorOutput, Watch};
use stead_model::NodeName;
use stead_model::plan::{GroupPlan, ServicePlan};
use stead_model::status::Timestamp;

/// The line for an entry; `output` is what programs of the step wrote.
pub(super) fn line(entry: &Entry, plan: &GroupPlan, output: Option<String>, at: Timestamp) -> TimelineEntry {
    let mut line = TimelineEntry { output, ..plain(&text(entry, plan), at) };
    match entry {
        Entry::Step { step, turn, took, outcome } => {
            line.failed = !outcome.is_good();
            line.step = Some(step_name(*step, *turn, plan));
            line.took_ms = Some(took.as_millis() as u64);
        }
        Entry::Active { took, outage, .. } => {
            line.took_ms = Some(took.as_millis() as u64);
            line.outage_ms = outage.map(|outage| outage.as_millis() as u64);
        }
        _ => {}
    }
    line
}

/// The line for what a monitor would have told.
pub(super) fn concluded(output: MonitorOutput, plan: &GroupPlan, at: Timestamp) -> TimelineEntry {
    let text = match output {
        MonitorOutput::Became(Watch::Online) => "online".into(),
        MonitorOutput::Became(Watch::Late) => "late".into(),
        MonitorOutput::Became(Watch::Failed) => "failed: a takeover would have been considered".into(),
        MonitorOutput::Became(Watch::Unknown) => "not known".into(),
        MonitorOutput::PathDown(path) => format!("path {} silent while others live", path_name(path, plan)),
        MonitorOutput::PathUp(path) => format!("path {} lives again", path_name(path, plan)),
        MonitorOutput::Stalled(by) => format!("this process stalled for {by:?}"),
        MonitorOutput::Leaves => "goes down in order".into(),
    };
    plain(&text, at)
}

/// A line of words alone.
pub(super) fn plain(text: &str, at: Timestamp) -> TimelineEntry {
    TimelineEntry { at, text: text.into(), step: None, failed: false, took_ms: None, outage_ms: None, output: None }
}

fn text(entry: &Entry, plan: &GroupPlan) -> String {
    match entry {
        Entry::Step { step, turn, outcome, .. } => format!("{}: {outcome}", step_name(*step, *turn, plan)),
        Entry::Path { path, down } => {
            let is = if *down { "is silent while others live" } else { "lives again" };
            format!("path {} {is}", path_name(*path, plan))
        }
        other => other.to_string(),
    }
}

/// A step as people call it.
fn step_name(step: Step, turn: Turn, plan: &GroupPlan) -> String {
    let name = match step {
        Step::Address(at) => plan.addresses.get(usize::from(at)).map(|address| format!("address {}", address.address)),
        Step::Service(at) => plan.services.get(usize::from(at)).map(|service| format!("service {}", of(service))),
        _ => None,
    };
    let name = name.unwrap_or_else(|| step.to_string());
    if turn == Turn::Undo { format!("undo {name}") } else { name }
}

fn of(service: &ServicePlan) -> String {
    service.unit.clone().unwrap_or_else(|| service.start.join(" "))
}

/// A heartbeat path as people call it.
pub(super) fn path_name(path: u32, plan: &GroupPlan) -> String {
    match plan.paths.get(path as usize) {
        Some(path) => format!("{}={}", path.source, path.target),
        None => format!("{}={}", plan.source, plan.target),
    }
}

/// What a node waits for before it serves.
pub(super) fn awaited(what: Await, plan: &GroupPlan, me: &NodeName) -> String {
    let other = plan.other(me).map_or("the other node", NodeName::as_str);
    let witness = plan.witness.as_ref().map_or("a witness", NodeName::as_str);
    let force = format!("where {witness} is gone and {other} surely dead: stead failover {} --force", plan.name);
    match what {
        Await::References => "waits until one of the reference addresses answers".into(),
        Await::Vote => format!("waits for the agreement of {witness}; {force}"),
        Await::Lapse => format!("waits until the lease of {other} is over"),
        Await::Grant => format!("waits for a lease from {other} or {witness}; {force}"),
    }
}

/// What a node does in a group, in one word.
pub(super) fn doing(state: &State, hold: Hold) -> &'static str {
    match state {
        State::Down { .. } if hold == Hold::Offline => "offline",
        State::Down { .. } => "down",
        State::Raising => "raising",
        State::Active => "active",
        State::HandingOver { .. } => "handing-over",
        State::Yielded { .. } => "handed-over",
        State::Closing { .. } | State::Falling(_) => "taking-down",
        State::Standby => "standby",
        State::Approval => "approval",
        State::Asking(_) => "asking",
        State::Confirming(_) => "confirming",
        State::Fencing(_) => "fencing",
        State::Committing(_) => "committing",
        State::RestoreRequired => "restore-required",
    }
}

/// What a person holds a group in, in one word.
pub(super) fn hold(hold: Hold) -> Option<&'static str> {
    match hold {
        Hold::None => None,
        Hold::Maintenance => Some("maintenance"),
        Hold::Offline => Some("offline"),
    }
}

/// What the other node says that it is, in one word.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Down => "down",
        Role::Moving => "moving",
        Role::Active => "active",
        Role::Standby => "standby",
        Role::RestoreRequired => "restore-required",
        Role::Failing => "failing",
    }
}
