//! Tells the operator's command what begins and what ends to be wrong: one after the other, each in bounded time, and
//! none forgotten over a restart.
//!
//! The file `alerts.json` holds the events from before the command runs; `alerts.told` the number of the last one for
//! which it ended. Where the daemon is killed while the command runs, it runs again for that event. Receivers are told
//! beside it ([`super::deliveries`]).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::alert::{Alert, Edge, Looked, OfGroup, Patience, Raised};
use stead_model::delivery::{Deliveries, Notice};
use stead_model::plan::GroupPlan;
use stead_model::status::{ConnectionStatus, MonitorStatus, State, Status, Timestamp};
use stead_model::{NodeName, SetName};
use stead_resource::command::{Command, Secret};
use tracing::warn;

use super::Node;
use crate::job::{self, JobDone};
use crate::state::{StateDir, files};

/// How long the end of the daemon waits for a command that runs.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Events that wait for the command; beyond that, those go whose end waits as well.
const PENDING_MAX: usize = 1000;

/// What is wrong, and what of it the command has not been told.
pub(crate) struct Alerts {
    file: PathBuf,
    pub(super) kept: Kept,
    running: bool,
    /// As `running`, until the thread has written down that the command ended.
    busy: Arc<AtomicBool>,
    seen: BTreeMap<(SetName, NodeName), Seen>,
}

/// A state of a connection, since when it says that it lasts, and when it was seen first.
type Seen = (State, Timestamp, Instant);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    raised: Raised,
    pending: VecDeque<Told>,
    /// Number of the last event.
    pub(super) last: u64,
    /// What receivers are to be told, and know.
    #[serde(default)]
    pub(super) deliveries: Deliveries,
}

/// One event, as the command gets it on its standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) number: u64,
    pub(super) event: Edge,
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) alert: Alert,
}

impl Alerts {
    /// As the last daemon left them.
    pub(super) fn load(state: &StateDir) -> Alerts {
        let file = state.file("alerts.json");
        let mut kept = match std::fs::read(&file).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(kept)) => kept,
            Ok(Err(e)) => {
                warn!("{} cannot be read, alerts begin anew: {e}", file.display());
                Kept::default()
            }
            Err(_) => Kept::default(),
        };
        let told = std::fs::read_to_string(state.file("alerts.told")).ok().and_then(|text| text.trim().parse().ok());
        kept.pending.retain(|event| told.is_none_or(|told: u64| event.number > told));
        Alerts { file, kept, running: false, busy: Arc::default(), seen: BTreeMap::new() }
    }

    /// The daemon ends: waits for a command that runs, but not for long.
    pub(super) fn finish(&self) {
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while self.busy.load(Ordering::SeqCst) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is wrong now.
    pub(super) fn list(&self) -> &[Alert] {
        self.kept.raised.list()
    }

    /// Has states begin so long before `now` as they have really lasted, also where the wall clock was set.
    fn date(&mut self, connections: &mut [ConnectionStatus], now: Timestamp, at: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        for connection in connections {
            let key = (connection.set.clone(), connection.target.clone());
            let same = |seen: &Seen| (seen.0, seen.1) == (connection.state, connection.since);
            let seen = before.remove(&key).filter(same).unwrap_or((connection.state, connection.since, at));
            connection.since = Timestamp(now.0.saturating_sub((at - seen.2).as_nanos() as u64));
            self.seen.insert(key, seen);
        }
    }

    pub(super) fn save(&self) {
        let bytes = serde_json::to_vec(&self.kept).unwrap_or_default();
        if let Err(failure) = files::write(&self.file, &bytes, 0o600) {
            warn!("{failure}");
        }
    }

    fn add(&mut self, event: Edge, alert: Alert, at: Timestamp) {
        self.kept.last += 1;
        let told = Told { number: self.kept.last, event, at, alert };
        if self.kept.pending.len() >= PENDING_MAX {
            self.shorten();
        }
        self.kept.pending.push_back(told);
    }

    /// Forgets the oldest trouble that is over before anyone heard of it; where there is none, the oldest event.
    fn shorten(&mut self) {
        let pending = &mut self.kept.pending;
        let same = |a: &Told, b: &Told| {
            a.alert.wrong == b.alert.wrong && a.alert.set == b.alert.set && a.alert.target == b.alert.target
        };
        let first = usize::from(self.running);
        let ended = |at: &usize| {
            pending[*at].event == Edge::Raise && pending.iter().skip(at + 1).any(|later| same(later, &pending[*at]))
        };
        let Some(raise) = (first..pending.len()).find(ended) else {
            pending.remove(first);
            return warn!("the alert command is too slow: an event was left out");
        };
        let raised = pending.remove(raise);
        let clear = raised.and_then(|raised| pending.iter().skip(raise).position(|later| same(later, &raised)));
        if let Some(clear) = clear {
            pending.remove(raise + clear);
        }
    }
}

impl Node {
    /// Looks for what began and what ended to be wrong, and has it told.
    pub(super) fn look_for_alerts(&mut self, now: Timestamp) {
        self.keep_receivers();
        self.look_for_drift();
        let Status { mut connections, monitors, .. } = self.local_status();
        let groups = self.watched(monitors);
        self.pulse.alerts.date(&mut connections, now, Instant::now());
        let settings = &self.plan.alerts;
        let patience = Patience { behind: settings.behind(), disconnected: settings.disconnected() };
        let plan = &self.plan;
        let planned = |set: &_, target: &NodeName| plan.connections_of(set).any(|c| c.target == *target);
        let (flood, drifted) = (self.flooded(), self.drifted());
        let (flood, drifted) = (flood.as_ref(), drifted.as_deref());
        let seen = Looked { connections: &connections, groups: &groups, flood, drifted };
        let told = self.pulse.alerts.kept.raised.look(seen, planned, patience, now);
        for (event, alert) in told {
            let (kind, set, target) = (alert.wrong.as_str(), alert.set.as_str(), alert.target.as_str());
            let event_word = event.as_str();
            warn!(kind, set, target, "{event_word}: {kind} of set {set} → {target}: {}", alert.text);
            self.pulse.alerts.add(event, alert.clone(), now);
            let notice = Notice { number: self.pulse.alerts.kept.last, event, at: now, node: self.name.clone(), alert };
            self.pulse.alerts.kept.deliveries.tell(&notice, Instant::now());
            self.pulse.alerts.save();
        }
        self.tell_next_alert();
        self.deliver();
    }

    /// The groups that this node watches, each with the first of its sets; one without sets stands under its own name.
    fn watched(&self, monitors: Vec<MonitorStatus>) -> Vec<(SetName, MonitorStatus)> {
        let own = monitors.into_iter().filter(|monitor| monitor.target == self.name);
        let set = |monitor: &MonitorStatus| {
            let group = self.plan.groups.iter().find(|group| group.name.as_str() == monitor.group);
            group.and_then(first_set).or_else(|| monitor.group.parse().ok())
        };
        own.filter_map(|monitor| Some((set(&monitor)?, monitor))).collect()
    }

    /// Much that comes as heartbeats is dropped: told of the first group in which this node takes part.
    fn flooded(&self) -> Option<OfGroup> {
        let text = format!("on {}: {}", self.name, self.groups.failover.flood()?);
        let group = self.plan.groups.iter().find(|group| group.has(&self.name))?;
        let (source, target) = (group.source.clone(), group.target.clone());
        Some(OfGroup { set: first_set(group)?, source, target, text })
    }

    /// The command ended, however: the next event is its turn.
    pub(super) fn alert_told(&mut self) {
        self.pulse.alerts.running = false;
        self.pulse.alerts.kept.pending.pop_front();
        self.pulse.alerts.save();
        self.tell_next_alert();
    }

    fn tell_next_alert(&mut self) {
        if self.pulse.alerts.running || self.pulse.alerts.kept.pending.is_empty() {
            return;
        }
        let Some(command) = self.plan.alerts.command.clone() else {
            self.pulse.alerts.kept.pending.clear();
            return self.pulse.alerts.save();
        };
        let (told, node, timeout) =
            (self.pulse.alerts.kept.pending[0].clone(), self.name.clone(), self.plan.alerts.timeout());
        self.pulse.alerts.running = true;
        let (busy, file) = (self.pulse.alerts.busy.clone(), self.pulse.alerts.file.with_extension("told"));
        busy.store(true, Ordering::SeqCst);
        job::spawn(&self.events, move || {
            let run = job::guarded("the alert command was not run", || tell(&command, &node, &told, timeout));
            run.unwrap_or_else(|failure| warn!("{failure}"));
            let written = files::write(&file, told.number.to_string().as_bytes(), 0o600);
            written.unwrap_or_else(|failure| warn!("{failure}"));
            busy.store(false, Ordering::SeqCst);
            Some(JobDone::AlertTold)
        });
    }
}

/// Under which set a group's alerts stand; one without sets stands under its own name.
pub(super) fn first_set(group: &GroupPlan) -> Option<SetName> {
    group.sets.first().cloned().or_else(|| group.name.as_str().parse().ok())
}

/// Runs the command for one event; beyond the time-out it is ended with all that it started.
pub(super) fn tell(command: &str, node: &NodeName, told: &Told, timeout: Duration) -> Result<(), Failure> {
    let alert = &told.alert;
    let env = [
        ("EVENT", told.event.as_str()),
        ("KIND", alert.wrong.as_str()),
        ("NODE", node.as_str()),
        ("SET", alert.set.as_str()),
        ("SOURCE", alert.source.as_str()),
        ("TARGET", alert.target.as_str()),
        ("SINCE", &alert.since.to_string()),
        ("TEXT", &alert.text),
    ];
    let mut line = serde_json::to_vec(told).unwrap_or_default();
    line.push(b'\n');
    let mut program = Command::new(["/bin/sh", "-c", command]);
    program.env = env.map(|(name, value)| (format!("STEAD_ALERT_{name}"), value.into())).into();
    program.input = Secret(line);
    let ran = program.run(timeout);
    if ran.end.is_success() {
        return Ok(());
    }
    let said = ran.output.text().lines().last().map_or_else(String::new, |line| format!(": {line}"));
    Err(Failure::new(format!("the alert command {command:?} did not work"), format!("it {}{said}", ran.end), ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::alert::Wrong;

    fn told(event: Edge, text: &str) -> Told {
        let alert = Alert {
            wrong: Wrong::Halted,
            set: "notes".parse().unwrap(),
            source: "paris".parse().unwrap(),
            target: "lyon".parse().unwrap(),
            since: Timestamp(0),
            text: text.into(),
        };
        Told { number: 1, event, at: Timestamp(1_000_000_000), alert }
    }

    fn run(command: &str, timeout: Duration) -> Result<(), Failure> {
        tell(command, &"paris".parse().unwrap(), &told(Edge::Raise, "disk \"full\"\n$(reboot)"), timeout)
    }

    #[test]
    fn the_command_gets_the_event_in_its_environment_and_as_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = format!(
            "{{ echo \"$STEAD_ALERT_EVENT $STEAD_ALERT_KIND $STEAD_ALERT_SET\"; echo \"$STEAD_ALERT_TEXT\"; cat; }} > {}",
            out.display()
        );
        run(&command, Duration::from_secs(20)).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["raise halted notes", "disk \"full\"", "$(reboot)"]);
        let json: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
        assert_eq!(
            (&json["event"], &json["wrong"], &json["text"]),
            (&"raise".into(), &"halted".into(), &"disk \"full\"\n$(reboot)".into())
        );
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn states_last_as_long_as_they_do_whatever_the_clock_shows() {
        let dir = tempfile::tempdir().unwrap();
        let mut alerts = Alerts::load(&StateDir::open(dir.path()).unwrap());
        let begin = Instant::now();
        let mut lasts = |state, clock, passed| {
            let mut status = [ConnectionStatus {
                state,
                since: Timestamp(5),
                ..crate::test_values::connection("notes", "paris", "lyon")
            }];
            alerts.date(&mut status, Timestamp(clock), begin + Duration::from_nanos(passed));
            clock - status[0].since.0
        };
        assert_eq!(lasts(State::Disconnected, 1_000, 0), 0);
        assert_eq!(lasts(State::Disconnected, 900_000, 7), 7);
        assert_eq!(lasts(State::Disconnected, 10, 9), 9);
        assert_eq!(lasts(State::Replicating, 20, 30), 0);
    }

    #[test]
    fn a_command_that_hangs_or_fails_is_ended_and_named() {
        let start = Instant::now();
        let hung = run("sleep 300 & sleep 300", Duration::from_millis(300)).unwrap_err();
        assert!(
            hung.why.contains("was not done within 300ms and was ended") && start.elapsed() < Duration::from_secs(20),
            "{hung}"
        );
        let failed = run("echo no such pager >&2; exit 7", Duration::from_secs(20)).unwrap_err();
        assert_eq!(failed.why, "it ended with code 7: no such pager");
        assert!(run("exec 0<&-; exit 0", Duration::from_secs(20)).is_ok());
    }

    #[test]
    fn what_waits_survives_a_restart_and_stays_bounded_in_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut alerts = Alerts::load(&state);
        let add =
            |alerts: &mut Alerts, event, text| alerts.add(event, told(event, text).alert, Timestamp(1_000_000_000));
        add(&mut alerts, Edge::Raise, "first");
        alerts.save();
        assert_eq!(Alerts::load(&state).kept, alerts.kept);
        std::fs::write(dir.path().join("alerts.told"), "1").unwrap();
        assert!(Alerts::load(&state).kept.pending.is_empty(), "the command ended, the daemon was killed");
        for _ in 0..PENDING_MAX {
            add(&mut alerts, Edge::Clear, "");
            add(&mut alerts, Edge::Raise, "again");
        }
        assert!(alerts.kept.pending.len() <= PENDING_MAX);
        assert_eq!(alerts.kept.pending.back().unwrap().event, Edge::Raise);
        std::fs::write(dir.path().join("alerts.json"), b"{").unwrap();
        assert_eq!(Alerts::load(&state).kept, Kept::default());
    }
}
