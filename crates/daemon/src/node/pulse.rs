//! What happens by the clock: schedules, verifies that are due, alerts, and how fast everything gets on. Once a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::plan::{ConnectionPlan, Settings};
use stead_model::status::{Cause, ConnectionStatus, State, Timestamp, VerifyReport, VerifySummary};
use stead_model::{NodeName, SetName};
use tracing::{info, warn};

use super::Node;
use super::alerts::Alerts;
use super::drift::Drift;
use super::pace::Pace;
use crate::clock::wall_clock;
use crate::seam::{Command, CommandId};
use crate::state::{StateDir, files};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// File of a set with its last verify.
const VERIFY_FILE: &str = "verify.json";

type Key = (SetName, NodeName);

/// What the loop remembers from one look to the next.
pub(crate) struct Pulse {
    next: Instant,
    /// When it was looked last, by the wall.
    looked: Timestamp,
    /// Resumed by hand in a time of pause, until its end.
    resumed: BTreeMap<Key, Timestamp>,
    /// What the data path was told.
    told: BTreeMap<Key, Told>,
    paces: BTreeMap<Key, Pace>,
    /// Verifies that the schedule began.
    verifies: BTreeMap<CommandId, SetName>,
    reports: BTreeMap<SetName, LastVerify>,
    pub(super) alerts: Alerts,
    pub(super) drift: Drift,
}

#[derive(Clone, Copy, PartialEq)]
struct Told {
    paused: bool,
    rate: Option<u64>,
}

/// The file `verify.json` of a set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LastVerify {
    pub(super) at: Timestamp,
    pub(super) report: VerifyReport,
}

impl Pulse {
    /// As a daemon begins.
    pub(crate) fn begin(state: &StateDir) -> Pulse {
        Pulse {
            next: Instant::now(),
            looked: wall_clock(),
            resumed: BTreeMap::new(),
            told: BTreeMap::new(),
            paces: BTreeMap::new(),
            verifies: BTreeMap::new(),
            reports: BTreeMap::new(),
            alerts: Alerts::load(state),
            drift: Drift::default(),
        }
    }

    /// How long until it is to be looked again.
    pub(super) fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Is that connection to be paused now?
    pub(super) fn is_paused(&self, connection: &ConnectionPlan, settings: &Settings) -> bool {
        let now = wall_clock();
        let resumed = self.resumed.get(&key(connection)).is_some_and(|until| now < *until);
        connection.paused || settings.is_paused_at(now).value && !resumed
    }

    /// A hand resumes it: a pause of the schedule that lasts now is over. Returns until when it would have lasted.
    pub(super) fn resume(&mut self, connection: &ConnectionPlan, settings: &Settings) -> Option<Timestamp> {
        let now = settings.is_paused_at(wall_clock());
        let until = now.until.filter(|_| now.value)?;
        self.resumed.insert(key(connection), until);
        Some(until)
    }

    /// A hand pauses it: what a hand resumed before is forgotten.
    pub(super) fn pause(&mut self, connection: &ConnectionPlan) {
        self.resumed.remove(&key(connection));
    }

    /// The data path began anew with that set.
    pub(super) fn begun(&mut self, set: &SetName) {
        self.told.retain(|(told, _), _| told != set);
    }

    pub(super) fn last_verify(&self, set: &SetName) -> Option<&LastVerify> {
        self.reports.get(set)
    }

    /// That command was a verify of the schedule, and of this set.
    pub(super) fn take_verify(&mut self, id: CommandId) -> Option<SetName> {
        self.verifies.remove(&id)
    }

    /// Says of a connection what only the clock and the operator know.
    fn describe(&self, status: &mut ConnectionStatus, plan: Option<(&ConnectionPlan, Settings)>) {
        match self.paces.get(&(status.set.clone(), status.target.clone())) {
            Some(pace) => pace.describe(status),
            None => Pace::default().describe(status),
        }
        if let Some(last) = self.reports.get(&status.set) {
            status.details.verified = Some(summary(last));
        }
        if status.state == State::Halted && status.details.remedy.is_none() {
            status.details.remedy = status.details.cause.and_then(|cause| remedy(cause, status));
        }
        let Some((connection, settings)) = plan else { return };
        let now = wall_clock();
        status.details.limit = settings.rate_at(now).value.map(|rate| rate.0);
        if status.state == State::Paused {
            let paused = settings.is_paused_at(now);
            status.details.paused_until = paused.until.filter(|_| paused.value && !connection.paused);
            status.reason = Some(match status.details.paused_until {
                Some(until) => format!("paused by its schedule until {until}"),
                None => "paused by hand".into(),
            });
        }
    }
}

impl Node {
    pub(super) fn tick_pulse(&mut self) {
        if Instant::now() < self.pulse.next {
            return;
        }
        self.pulse.next = Instant::now() + EVERY;
        let (before, now) = (self.pulse.looked, wall_clock());
        self.pulse.looked = now;
        self.keep_time(before, now);
        self.keep_pace();
        self.look_for_alerts(now);
        self.tell_targets();
    }

    fn keep_time(&mut self, before: Timestamp, now: Timestamp) {
        let own =
            self.plan.sets.iter().filter(|set| set.source == self.name && !self.unstarted.contains_key(&set.name));
        for set in own.map(|set| set.name.clone()).collect::<Vec<_>>() {
            if let Err(failure) = self.keep_time_of(&set) {
                warn!("set {set}: {failure}");
            }
            let due = |c: &ConnectionPlan| self.plan.settings_of(c).is_verify_due(before, now);
            if self.plan.connections_of(&set).any(due) {
                self.verify_by_schedule(set);
            }
        }
    }

    /// Has the data path pause and limit the connections of a set as it is right now.
    ///
    /// # Errors
    /// Where it cannot: it is tried again with the next look.
    pub(super) fn keep_time_of(&mut self, set: &SetName) -> Result<(), Failure> {
        let wanted: Vec<_> = self.plan.connections_of(set).map(|c| (key(c), self.wanted(c))).collect();
        let stood =
            |(key, wanted): &(Key, Told)| self.pulse.told.get(key).map(|told| told.paused) == Some(wanted.paused);
        if !wanted.iter().all(stood) {
            self.pause_as(set, &wanted)?;
        }
        for (key, wanted) in wanted {
            if self.pulse.told.insert(key.clone(), wanted) != Some(wanted) {
                self.plane.limit(set, &key.1, wanted.rate);
            }
        }
        Ok(())
    }

    fn wanted(&self, connection: &ConnectionPlan) -> Told {
        let settings = self.plan.settings_of(connection);
        let rate = settings.rate_at(wall_clock()).value.map(|rate| rate.0);
        Told { paused: self.pulse.is_paused(connection, &settings), rate }
    }

    fn pause_as(&mut self, set: &SetName, wanted: &[(Key, Told)]) -> Result<(), Failure> {
        let known = |(key, _): &(Key, Told)| self.pulse.told.contains_key(key);
        if !wanted.iter().any(known) && wanted.iter().all(|(_, wanted)| !wanted.paused) {
            return Ok(());
        }
        let done = self.reconfigure(set);
        let alike = wanted.iter().all(|(_, told)| told.paused == wanted[0].1.paused);
        match done {
            Err(_) if alike => {
                self.commands += 1;
                let command = if wanted[0].1.paused { Command::Pause } else { Command::Resume };
                self.plane.command(set, self.commands, command);
                Ok(())
            }
            done => done,
        }
    }

    fn verify_by_schedule(&mut self, set: SetName) {
        if self.pulse.verifies.values().any(|running| *running == set) {
            return warn!("set {set}: the verify before is not done yet, this one is left out");
        }
        info!("set {set}: verify by its schedule");
        self.commands += 1;
        self.pulse.verifies.insert(self.commands, set.clone());
        self.plane.command(&set, self.commands, Command::Verify { repair: false, content: true });
    }

    /// Keeps what a verify found, for `status` and `verify --last`.
    pub(super) fn keep_report(&mut self, set: &SetName, report: &VerifyReport) {
        let last = LastVerify { at: wall_clock(), report: report.clone() };
        let file = self.state.set(set).join(VERIFY_FILE);
        let written = serde_json::to_vec(&last)
            .map_err(|e| Failure::new(format!("{} cannot be written", file.display()), e.to_string(), ""))
            .and_then(|bytes| files::write(&file, &bytes, 0o600));
        written.unwrap_or_else(|failure| warn!("set {set}: {failure}"));
        self.pulse.reports.insert(set.clone(), last);
    }

    /// Reads what the last verify of a set found, at its start.
    pub(super) fn load_report(&mut self, set: &SetName) {
        let file = self.state.set(set).join(VERIFY_FILE);
        self.pulse.reports.remove(set);
        let read = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        self.pulse.reports.extend(read.map(|last| (set.clone(), last)));
    }

    fn keep_pace(&mut self) {
        let (statuses, now) = (self.plane.status(), Instant::now());
        let key = |status: &ConnectionStatus| (status.set.clone(), status.target.clone());
        self.pulse.paces.retain(|known, _| statuses.iter().any(|status| key(status) == *known));
        for status in &statuses {
            self.pulse.paces.entry(key(status)).or_default().look(status, now);
        }
    }

    /// Fills in what the data path does not know.
    pub(super) fn describe(&self, connections: &mut [ConnectionStatus]) {
        for status in connections {
            let own = status.source == self.name;
            let meant = |c: &&ConnectionPlan| own && c.set == status.set && c.target == status.target;
            let planned = self.plan.connections.iter().find(meant);
            self.pulse.describe(status, planned.map(|c| (c, self.plan.settings_of(c))));
        }
    }
}

/// What to do about what halted it, where the data path says no more than its kind.
fn remedy(cause: Cause, status: &ConnectionStatus) -> Option<String> {
    let (source, target) = (&status.source, &status.target);
    match cause {
        Cause::NoRoom => Some(format!("make room on {target}: it goes on by itself then")),
        Cause::Denied => {
            Some(format!("make the replica's file system on {target} writable: it goes on by itself then"))
        }
        Cause::TooLong => Some(format!("shorten it on {source}, or leave it out by the rules of the plan")),
        Cause::WrongVolume => Some(format!("mount the right file system on {source}: it goes on by itself then")),
        Cause::Brake | Cause::NotStarted | Cause::Other => None,
    }
}

fn summary(last: &LastVerify) -> VerifySummary {
    let LastVerify { at, report } = last;
    let listed = report.differences.iter().filter(|difference| difference.repaired).count() as u64;
    let all = !report.differences.is_empty() && listed == report.differences.len() as u64;
    let repaired = if all { report.different } else { listed };
    VerifySummary { at: *at, files: report.files, bytes: report.bytes, different: report.different, repaired }
}

fn key(connection: &ConnectionPlan) -> Key {
    (connection.set.clone(), connection.target.clone())
}
