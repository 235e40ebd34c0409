//! A group of the plan in the words of the mind that runs it.

use std::time::Duration;

use stead_api::Failure;
use stead_failover::lease::BadTimes;
use stead_failover::machine::{BadConfig, Config, Limits, OnFailure, Policy, Resources};
use stead_failover::{GroupId, MonitorConfig, NodeId, Times, WitnessConfig};
use stead_model::plan::{self, GroupPlan, ScriptPlan, Span, Takeover};
use stead_model::{GroupName, NodeName};

use super::hands::SLACK;

/// How long a service or a script may take where the plan does not say.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a resource may take to start or stop where the plan does not say, as far as the whole is bounded.
const RESOURCE_TIMEOUT: Duration = Duration::from_secs(120);
const RESOURCES_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

/// The id of a node in groups: of its name, so that a new key does not make it another node.
pub(crate) fn node_id(node: &NodeName) -> NodeId {
    let GroupId(id) = GroupId::of(&format!("node {node}"));
    NodeId(id)
}

/// The id of a group.
pub(crate) fn group_id(group: &GroupName) -> GroupId {
    GroupId::of(group.as_str())
}

/// The configuration of the machine of a group on one of its two nodes.
///
/// # Errors
/// Where it could not be safe, or cannot work.
pub(crate) fn machine(plan: &GroupPlan, me: &NodeName, synchronous: bool, run: u32) -> Result<Config, Failure> {
    let failed = |e: BadConfig| refused(plan, e.to_string());
    let peer = plan.other(me).ok_or_else(|| refused(plan, format!("{me} is none of its two nodes")))?;
    let config = Config {
        group: group_id(&plan.name),
        me: node_id(me),
        peer: node_id(peer),
        home: node_id(&plan.source),
        witness: plan.witness.as_ref().map(node_id),
        monitor: monitor(plan),
        times: times(plan)?,
        policy: match plan.takeover {
            Takeover::Automatic => Policy::Automatic,
            Takeover::Approve => Policy::Approve,
            Takeover::UnsafeTwoNode => Policy::UnsafeTwoNode,
        },
        resources: resources(plan, peer),
        limits: limits(plan),
        synchronous,
        run,
    };
    config.check().map_err(failed)?;
    Ok(config)
}

/// The configuration of a group's witness.
///
/// # Errors
/// Where the times contradict each other.
pub(crate) fn witness(plan: &GroupPlan) -> Result<WitnessConfig, Failure> {
    let nodes = [node_id(&plan.source), node_id(&plan.target)];
    Ok(WitnessConfig { group: group_id(&plan.name), nodes, times: times(plan)? })
}

/// How the other node of a group is watched.
pub(crate) fn monitor(plan: &GroupPlan) -> MonitorConfig {
    let paths = u32::try_from(plan.paths.len().max(1)).unwrap_or(u32::MAX);
    let usual = MonitorConfig::default();
    let timeout = plan.timeout();
    let leave_grace = usual.leave_grace.max(timeout);
    MonitorConfig { interval: plan.heartbeat(), timeout, paths, leave_grace }
}

fn times(plan: &GroupPlan) -> Result<Times, Failure> {
    let wait = plan.wait();
    match plan.witness {
        None => Ok(Times::without_witness(wait)),
        Some(_) => Times::for_wait(wait, Times::usual_stop_budget(wait), plan.heartbeat())
            .map_err(|e: BadTimes| refused(plan, e.to_string())),
    }
}

fn resources(plan: &GroupPlan, peer: &NodeName) -> Resources {
    let count = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
    let script = |script: &Option<ScriptPlan>| script.as_ref().map(|script| on_failure(script.on_failure));
    Resources {
        fence: plan.fence.contains_key(peer),
        references: !plan.references.is_empty(),
        capture: !plan.sets.is_empty(),
        addresses: count(plan.addresses.len()),
        role_files: !plan.role_files.is_empty(),
        services: count(plan.services.len()),
        resources: !plan.resources.is_empty(),
        pre_failover: script(&plan.scripts.pre_failover),
        post_failover: script(&plan.scripts.post_failover),
        pre_failback: script(&plan.scripts.pre_failback),
        post_failback: script(&plan.scripts.post_failback),
    }
}

fn on_failure(policy: plan::OnFailure) -> OnFailure {
    match policy {
        plan::OnFailure::GoOn => OnFailure::GoOn,
        plan::OnFailure::Stop => OnFailure::Stop,
        plan::OnFailure::Undo => OnFailure::Undo,
    }
}

/// A step may take as long as the slowest of its kind; each is bounded by its own time-out besides.
fn limits(plan: &GroupPlan) -> Limits {
    let longest = |spans: &mut dyn Iterator<Item = Option<Span>>| {
        spans.map(|span| span.map_or(STEP_TIMEOUT, |span| span.0)).max().unwrap_or(STEP_TIMEOUT)
    };
    let scripts = &plan.scripts;
    let hooks = [&scripts.pre_failover, &scripts.post_failover, &scripts.pre_failback, &scripts.post_failback];
    let usual = Limits::default();
    Limits {
        script: SLACK + longest(&mut hooks.into_iter().flatten().map(|script| script.timeout)),
        service: SLACK + longest(&mut plan.services.iter().map(|service| service.timeout)),
        resources: SLACK + resources_limit(plan),
        fence: longest(&mut plan.fence.values().map(|fence| fence.timeout.or(Some(Span(usual.fence))))),
        drain: Duration::from_secs(3600),
        resource: Duration::from_secs(30),
        ..usual
    }
}

/// All of them one after the other, each restarted once; what an agent says of itself is not known here.
fn resources_limit(plan: &GroupPlan) -> Duration {
    let span = |span: Option<Span>| span.map_or(RESOURCE_TIMEOUT, |span| span.0);
    let both = plan.resources.iter().map(|resource| span(resource.start_timeout) + span(resource.stop_timeout));
    (both.sum::<Duration>() * 2).min(RESOURCES_TIMEOUT_MAX)
}

fn refused(plan: &GroupPlan, why: String) -> Failure {
    Failure::new(format!("group {} cannot be run", plan.name), why, "Correct the plan")
}
