//! Checks beside the heartbeat: while the service of a source fails them, its stand-in asks it to hand over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stead_failover::machine::Want;
use stead_model::GroupName;
use stead_model::plan::{CheckPlan, GroupPlan, Takeover};
use tracing::warn;

use super::Node;
use crate::failover::hands::check_of;
use crate::failover::{Order, Reply};
use crate::job::{self, JobDone};

/// How long a request that came of a check may take to be begun.
const EXPIRES: Duration = Duration::from_secs(10);

/// How the checks of this node's groups went.
#[derive(Default)]
pub(super) struct Checks(BTreeMap<(GroupName, usize), Checked>);

struct Checked {
    next: Instant,
    running: bool,
    failed: u32,
    why: Option<String>,
}

impl Checks {
    /// Why a group's service fails, where it does so for long enough.
    pub(super) fn failing(&self, group: &GroupPlan) -> Option<&str> {
        let failing = |(at, check): (usize, &CheckPlan)| {
            let checked = self.0.get(&(group.name.clone(), at))?;
            checked.why.as_deref().filter(|_| checked.failed >= check.failures())
        };
        group.checks.iter().enumerate().find_map(failing)
    }

    fn forget(&mut self, group: &GroupName) {
        self.0.retain(|(known, _), _| known != group);
    }
}

impl Node {
    /// Begins the checks that are due. Only who stands by checks, and only while the other node is there.
    pub(super) fn check_services(&mut self) {
        for group in self.own_groups().into_iter().filter(|group| !group.checks.is_empty()) {
            let monitor = self.monitor_of(&group.name);
            let stands_by = monitor.is_some_and(|monitor| {
                monitor.doing == "standby" && monitor.state == "online" && monitor.hold.is_none()
            });
            if !stands_by {
                self.groups.checks.forget(&group.name);
                continue;
            }
            for (at, check) in group.checks.iter().enumerate() {
                self.check_service(&group.name, at, check);
            }
        }
    }

    fn check_service(&mut self, group: &GroupName, at: usize, check: &CheckPlan) {
        let now = Instant::now();
        let key = (group.clone(), at);
        let fresh = || Checked { next: now, running: false, failed: 0, why: None };
        let checked = self.groups.checks.0.entry(key).or_insert_with(fresh);
        if checked.running || now < checked.next {
            return;
        }
        (checked.running, checked.next) = (true, now + check.interval());
        let (group, timeout, check) = (group.clone(), check.timeout(), check_of(check));
        job::spawn(&self.events, move || {
            let failed = check.run(timeout).value.err();
            Some(JobDone::Checked { group, at, failed: failed.map(|why| why.to_string()) })
        });
    }

    /// A check ended.
    pub(in super::super) fn checked(&mut self, group: &GroupName, at: usize, failed: Option<String>) {
        let Some(checked) = self.groups.checks.0.get_mut(&(group.clone(), at)) else { return };
        checked.running = false;
        checked.failed = if failed.is_some() { checked.failed.saturating_add(1) } else { 0 };
        checked.why = failed;
        let Some(plan) = self.plan.group(group).cloned() else { return };
        let limit = plan.checks.get(at).map(CheckPlan::failures);
        let just = self.groups.checks.0.get(&(group.clone(), at)).is_some_and(|checked| Some(checked.failed) == limit);
        if let Some(why) = self.groups.checks.failing(&plan).filter(|_| just) {
            warn!("group {group}: the service fails its check: {why}");
            if plan.takeover != Takeover::Approve {
                self.ask_for(group, Want::Switchover);
            }
        }
    }

    /// Asks for a move that no person asked for.
    pub(super) fn ask_for(&mut self, group: &GroupName, want: Want) {
        let name = group.clone();
        let answer = move |reply| {
            if let Reply::Failed(failure) | Reply::NotHandedOver(failure) = reply {
                warn!("group {name}: {failure}");
            }
        };
        self.groups.failover.give(Order::Request {
            group: group.clone(),
            want,
            expires: EXPIRES,
            answer: Box::new(answer),
        });
    }
}
