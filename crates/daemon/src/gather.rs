//! Status that is the same on every node: what this one knows, and what its peers say about the rest.

use std::thread;
use std::time::Duration;

use stead_model::NodeName;
use stead_model::status::{ConnectionStatus, MonitorStatus, Status};

use crate::peer::messages::{Ask, Standing, Tell};
use crate::peer::{Dialer, ask};

/// How long a peer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What is needed to ask everyone.
pub(crate) struct Gathering {
    pub(crate) local: Status,
    pub(crate) peers: Vec<NodeName>,
    pub(crate) dialer: Dialer,
}

/// Asks all peers at once and puts their answers together with what is known here.
pub(crate) fn everywhere(gathering: Gathering) -> Status {
    let Gathering { local, peers, dialer } = gathering;
    let question = |peer: &NodeName| match ask(&dialer, peer, &Ask::Standing, TIMEOUT) {
        Ok(Tell::Standing(standing)) => Some(standing),
        // A node of an earlier release knows no groups.
        Err(_) if dialer.version_of(peer).is_some_and(|version| version < Ask::Standing.version()) => {
            match ask(&dialer, peer, &Ask::Status, TIMEOUT) {
                Ok(Tell::Status(connections)) => {
                    Some(Standing { connections, monitors: Vec::new(), dropped_heartbeats: Vec::new() })
                }
                _ => None,
            }
        }
        _ => None,
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = peers.iter().map(|peer| scope.spawn(|| question(peer))).collect();
        asked.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    merge(local, peers.into_iter().zip(answers))
}

/// A connection's source knows best; a target speaks for it where the source says nothing. Of a group the target knows
/// best, which watches.
fn merge(mut local: Status, answers: impl Iterator<Item = (NodeName, Option<Standing>)>) -> Status {
    let mut known: Vec<_> = local.connections.drain(..).map(|c| (local.node.clone(), c)).collect();
    let mut monitors: Vec<_> = local.monitors.drain(..).map(|m| (local.node.clone(), m)).collect();
    for (peer, answer) in answers {
        match answer {
            Some(Standing { connections, monitors: watched, dropped_heartbeats }) => {
                local.dropped_heartbeats.extend(dropped_heartbeats.into_iter().filter(|dropped| dropped.node == peer));
                let takes_part = |m: &MonitorStatus| m.source == peer || m.target == peer;
                monitors.extend(watched.into_iter().filter(takes_part).map(|m| (peer.clone(), m)));
                let takes_part = |c: &ConnectionStatus| c.source == peer || c.target == peer;
                known.extend(connections.into_iter().filter(takes_part).map(|c| (peer.clone(), c)));
            }
            None => local.unreachable.push(peer),
        }
    }
    known.sort_by_key(|(from, c)| (c.set.clone(), c.target.clone(), c.source.clone(), *from != c.source));
    known.dedup_by(|(_, later), (_, first)| {
        (&later.set, &later.source, &later.target) == (&first.set, &first.source, &first.target)
    });
    local.connections = known.into_iter().map(|(_, connection)| connection).collect();
    monitors.sort_by_key(|(from, m)| (m.group.clone(), *from != m.target));
    monitors.dedup_by(|(_, later), (_, first)| later.group == first.group);
    local.monitors = monitors.into_iter().map(|(_, monitor)| monitor).collect();
    local.unreachable.sort();
    local
}

#[cfg(test)]
mod tests {
    use stead_model::status::{DroppedHeartbeats, State, Timestamp};

    use super::*;
    use crate::test_values::connection;

    #[test]
    fn the_source_is_believed_and_the_silent_are_named() {
        let mut by_target = connection("notes", "paris", "lyon");
        by_target.state = State::Disconnected;
        let by_source = connection("notes", "paris", "lyon");
        let foreign = connection("mail", "rome", "lyon");
        let local = Status {
            node: "lyon".parse().unwrap(),
            connections: vec![by_target, foreign.clone()],
            monitors: vec![],
            unreachable: vec![],
            remarks: vec![],
            dropped_heartbeats: vec![dropped("lyon")],
        };
        let lies = connection("games", "oslo", "bern");
        let told = Standing {
            connections: vec![by_source.clone(), lies],
            monitors: vec![],
            dropped_heartbeats: vec![dropped("paris"), dropped("oslo")],
        };
        let answers = [("paris", Some(told)), ("rome", None)];
        let merged = merge(local, answers.into_iter().map(|(name, answer)| (name.parse().unwrap(), answer)));
        assert_eq!(merged.connections, [foreign, by_source]);
        assert_eq!(merged.unreachable, ["rome".parse().unwrap()]);
        assert_eq!(merged.dropped_heartbeats, [dropped("lyon"), dropped("paris")], "each speaks for itself");
    }

    fn dropped(node: &str) -> DroppedHeartbeats {
        DroppedHeartbeats {
            node: node.parse().unwrap(),
            at: [10, 0, 0, 2].into(),
            from: None,
            reason: "forged".into(),
            count: 3,
            last: Timestamp(1),
        }
    }
}
