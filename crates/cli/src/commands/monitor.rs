use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use stead_api::Request;
use stead_model::plan::{AddressPlan, HeartbeatPath, OnFailure, ScriptPlan, ScriptsPlan, ServicePlan, Span, Takeover};
use stead_model::{GroupName, NodeName, SetName};

use super::{DONE, Ended};
use crate::args::duration;
use crate::client::ask_quietly;
use crate::show::say;

/// Program and arguments, as one argument of the command line; no shell runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<String>);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the group; where there is one of that name, these options take the place of what it was
    #[arg(value_name = "GROUP")]
    group: GroupName,
    /// A set that goes with it, of which this node keeps the replica; may be repeated
    #[arg(long = "set", value_name = "SET", required_unless_present = "source")]
    sets: Vec<SetName>,
    /// The node that is watched, where no set goes with the group: only addresses and services move
    #[arg(long, value_name = "NODE", conflicts_with = "sets")]
    source: Option<NodeName>,
    /// An address of the server, as 10.0.0.100/24, that moves to the node that serves; may be repeated
    #[arg(long = "address", value_name = "CIDR", value_parser = cidr)]
    addresses: Vec<String>,
    /// The interface of the addresses [default: the one that has an address in the same network]
    #[arg(long, value_name = "IF", requires = "addresses")]
    interface: Option<String>,
    /// The addresses replace the host's own in their networks, instead of standing beside them
    #[arg(long, requires = "addresses")]
    replace: bool,
    /// The addresses are taken also where somebody else answers for them
    #[arg(long, requires = "addresses")]
    take: bool,
    /// A unit of systemd that runs on the node that serves; may be repeated, in the order in which they are started
    #[arg(long = "service", value_name = "UNIT")]
    services: Vec<String>,
    /// Starts a service that is no unit, after the units: program with its absolute path, and arguments; no shell runs it
    #[arg(long, value_name = "CMD", value_parser = words, requires_all = ["stop", "status"])]
    start: Option<Words>,
    /// Stops it
    #[arg(long, value_name = "CMD", value_parser = words, requires_all = ["start", "status"])]
    stop: Option<Words>,
    /// Tells by its exit code what it is: 0 running, 3 stopped
    #[arg(long, value_name = "CMD", value_parser = words, requires_all = ["start", "stop"])]
    status: Option<Words>,
    /// Run on the node that takes over, before anything is brought up
    #[arg(long, value_name = "CMD", value_parser = words)]
    pre_failover: Option<Words>,
    /// Run there when all is up
    #[arg(long, value_name = "CMD", value_parser = words)]
    post_failover: Option<Words>,
    /// Run on the node that hands over to the source, before anything is taken down
    #[arg(long, value_name = "CMD", value_parser = words)]
    pre_failback: Option<Words>,
    /// Run on the source when all is up
    #[arg(long, value_name = "CMD", value_parser = words)]
    post_failback: Option<Words>,
    /// Between two heartbeats, 10ms to 60s [default: 500ms]
    #[arg(long, value_name = "D", value_parser = duration)]
    heartbeat: Option<Duration>,
    /// Silence after which the source counts as failed, at least three heartbeats [default: 3s]
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
    /// A heartbeat path, from an address of the source to one of this node; may be repeated [default: the addresses at which
    /// the nodes know each other]
    #[arg(long = "path", value_name = "SRC_IP=DST_IP", value_parser = path)]
    paths: Vec<HeartbeatPath>,
    /// A third node that both trust, which grants and votes; without one, a person approves each takeover
    #[arg(long, value_name = "NODE")]
    witness: Option<NodeName>,
    /// A person approves each takeover, also with a witness
    #[arg(long, conflicts_with = "unsafe_two_node")]
    approve: bool,
    /// Take over without a witness and without a person: where the line between the nodes is cut, both may serve
    #[arg(long)]
    unsafe_two_node: bool,
    /// An address, as of a gateway, of which one has to answer before a takeover; may be repeated
    #[arg(long = "reference", value_name = "IP")]
    references: Vec<IpAddr>,
    /// How long the restored source has to be well until it serves again by itself [default: a person says when]
    #[arg(long, value_name = "D", value_parser = duration)]
    switch_back: Option<Duration>,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let monitor = options(args);
    ask_quietly(state, &Request::Monitor(Box::new(monitor.clone())))?;
    let group = &monitor.group;
    say(format_args!("group {group} is watched; see stead status, and test it with: stead switchover {group}\n"));
    if monitor.witness.is_none() && monitor.takeover == Takeover::Automatic {
        say(format_args!("it has no witness: when its source fails, it waits for: stead approve {group}\n"));
    }
    DONE
}

fn options(args: Args) -> stead_api::Monitor {
    let span = |duration: Option<Duration>| duration.map(Span);
    stead_api::Monitor {
        takeover: match (args.approve, args.unsafe_two_node) {
            (true, _) => Takeover::Approve,
            (_, true) => Takeover::UnsafeTwoNode,
            _ => Takeover::Automatic,
        },
        heartbeat: span(args.heartbeat),
        timeout: span(args.timeout),
        switch_back: span(args.switch_back),
        addresses: addresses(&args),
        services: services(&args),
        checks: Vec::new(),
        scripts: scripts(&args),
        group: args.group,
        source: args.source,
        sets: args.sets,
        witness: args.witness,
        references: args.references,
        paths: args.paths,
    }
}

fn addresses(args: &Args) -> Vec<AddressPlan> {
    let address = |address: &String| AddressPlan {
        address: address.clone(),
        interface: args.interface.clone(),
        replace: args.replace,
        take: args.take,
        ..AddressPlan::default()
    };
    args.addresses.iter().map(address).collect()
}

fn services(args: &Args) -> Vec<ServicePlan> {
    let unit = |unit: &String| ServicePlan { unit: Some(unit.clone()), ..ServicePlan::default() };
    let mut services: Vec<_> = args.services.iter().map(unit).collect();
    if let (Some(Words(start)), Some(Words(stop)), Some(Words(status))) =
        (args.start.clone(), args.stop.clone(), args.status.clone())
    {
        services.push(ServicePlan { start, stop, status, ..ServicePlan::default() });
    }
    services
}

fn scripts(args: &Args) -> ScriptsPlan {
    let script = |words: &Option<Words>| words.clone().map(Words::into_script);
    ScriptsPlan {
        pre_failover: script(&args.pre_failover),
        post_failover: script(&args.post_failover),
        pre_failback: script(&args.pre_failback),
        post_failback: script(&args.post_failback),
    }
}

impl Words {
    fn into_script(self) -> ScriptPlan {
        ScriptPlan { command: self.0, timeout: None, on_failure: OnFailure::default() }
    }
}

fn words(text: &str) -> Result<Words, String> {
    let words = Words(shlex::split(text).ok_or("a quote in it is not closed")?);
    words.clone().into_script().check()?;
    Ok(words)
}

fn cidr(text: &str) -> Result<String, String> {
    AddressPlan { address: text.into(), ..AddressPlan::default() }.check()?;
    Ok(text.into())
}

fn path(text: &str) -> Result<HeartbeatPath, String> {
    let parsed = text.split_once('=').and_then(|(source, target)| {
        Some(HeartbeatPath { source: source.parse().ok()?, target: target.parse().ok()? })
    });
    let path = parsed.ok_or("use SRC_IP=DST_IP, as 10.0.0.1=10.0.0.2")?;
    path.check()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(line: &str) -> Result<stead_api::Monitor, String> {
        let words = shlex::split(&format!("stead monitor {line}")).unwrap();
        match Cli::try_parse_from(words).map_err(|e| e.to_string())?.command {
            Command::Monitor(args) => Ok(options(*args)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_has_its_place_in_the_request() {
        let monitor = parsed(
            "office --set notes --set mail --address 10.0.0.100/24 --address fd00::100/64 --interface eth0 --replace --take \
             --service notes.service --service mail --start '/bin/x start' --stop '/bin/x stop' --status '/bin/x status' \
             --pre-failover \"/bin/page 'it fails' now\" --post-failback /bin/page --heartbeat 1s --timeout 5s \
             --path 10.0.0.2=10.0.0.3 --path fd00::2=fd00::3 --witness rome --reference 10.0.0.1 --switch-back 10m --approve",
        )
        .unwrap();
        let script =
            |command: &[&str]| Some(Words(command.iter().map(|word| word.to_string()).collect()).into_script());
        let expected = serde_json::json!({
            "group": "office", "source": null, "sets": ["notes", "mail"], "witness": "rome", "takeover": "approve",
            "heartbeat": "1s", "timeout": "5s", "switch_back": "10m", "references": ["10.0.0.1"],
            "paths": [{"source": "10.0.0.2", "target": "10.0.0.3"}, {"source": "fd00::2", "target": "fd00::3"}],
            "addresses": [
                {"address": "10.0.0.100/24", "interface": "eth0", "replace": true, "take": true},
                {"address": "fd00::100/64", "interface": "eth0", "replace": true, "take": true},
            ],
            "services": [
                {"unit": "notes.service"}, {"unit": "mail"},
                {"start": ["/bin/x", "start"], "stop": ["/bin/x", "stop"], "status": ["/bin/x", "status"]},
            ],
            "checks": [],
            "scripts": {
                "pre-failover": script(&["/bin/page", "it fails", "now"]), "post-failback": script(&["/bin/page"]),
            },
        });
        assert_eq!(serde_json::json!(monitor), expected);
    }

    #[test]
    fn without_a_set_the_source_is_named() {
        let monitor = parsed("office --source paris --address 10.0.0.100/24").unwrap();
        assert_eq!((monitor.source, monitor.sets), (Some("paris".parse().unwrap()), vec![]));
        assert!(parsed("office --source paris --set notes").is_err() && parsed("office").is_err());
    }

    #[test]
    fn what_is_not_said_is_left_to_the_daemon() {
        let monitor = parsed("office --set notes").unwrap();
        assert_eq!((monitor.takeover, monitor.heartbeat, monitor.witness), (Takeover::Automatic, None, None));
        assert!(monitor.services.is_empty() && monitor.scripts == ScriptsPlan::default());
        assert_eq!(parsed("office --set notes --unsafe-two-node").unwrap().takeover, Takeover::UnsafeTwoNode);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
        for (line, expected) in [
            ("office", "--set"),
            ("office --set notes --interface eth0", "--address"),
            ("office --set notes --take", "--address"),
            ("office --set notes --address 10.0.0.100", "10.0.0.100/24"),
            ("office --set notes --address 10.0.0.255/24", "can take on a network"),
            ("office --set notes --start /bin/x --stop /bin/x", "--status"),
            ("office --set notes --pre-failover page", "absolute path"),
            ("office --set notes --pre-failover ''", "empty"),
            ("office --set notes --pre-failover \"/bin/page 'it\"", "not closed"),
            ("office --set notes --path 10.0.0.2", "SRC_IP=DST_IP"),
            ("office --set notes --path 10.0.0.2=fd00::3", "IPv6"),
            ("office --set notes --approve --unsafe-two-node", "cannot be used with"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
