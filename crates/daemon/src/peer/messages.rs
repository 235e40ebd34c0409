//! What nodes ask each other, apart from the streams of the data path.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_api::Compared;
use stead_model::compare::Item;
use stead_model::plan::{AddressPlan, ConnectionPlan, GroupPlan, ResourcePlan, SetPlan};
use stead_model::status::{ConnectionStatus, DroppedHeartbeats, MonitorStatus, Timestamp};
use stead_model::{Epoch, GroupName, NodeName, SetName};

use super::Fingerprint;
use crate::check::agents::Misfit;
use crate::check::checklist::Fact;
use crate::check::parts::Part;
use crate::check::trial::Tried;

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Trust me (only with purpose `Join`).
    Join(JoinAsk),
    /// Are you there?
    Ping,
    /// The connections that you take part in.
    Status,
    /// Could you keep that replica? Nothing is changed.
    Check(Box<ReplicaAsk>),
    /// Keep that replica. The same question again is answered the same.
    Keep(Box<ReplicaAsk>),
    /// Keep it no longer. The files stay, except that `undo` removes the empty directories that were made for it.
    Release { set: SetName, undo: bool },
    /// Run that replica so from now on: its rules, its settings. The same again changes nothing.
    Change(Box<ReplicaChange>),
    /// Do you keep a replica of that set from me?
    Have { set: SetName },
    /// I no longer trust you: trust me no longer. Refused where connections use the trust (version 2).
    Forget,
    /// That is my certificate from now on; the present one holds for a while longer (version 2).
    NewKey { fingerprint: Fingerprint },
    /// As `Status`, and the groups that you watch (version 3).
    Standing,
    /// My half of the secret for our heartbeats; what is yours? (version 3)
    Secret { secret: String },
    /// Take part in that group. The same question again is answered the same (version 3).
    Group(Box<GroupAsk>),
    /// Take part in it no longer (version 3).
    Ungroup { group: GroupName },
    /// A person wants that of a group, of which you are the one to serve (version 3).
    Move { group: GroupName, want: stead_api::Want, expires_ms: u64 },
    /// What stands against that group on your machine? (version 3)
    CheckGroup { group: GroupName },
    /// Which of those addresses could you not take, which of those resources could you never start, which of those copies
    /// of role files could you not use, and why? Nothing is changed (version 3).
    Fits {
        addresses: Vec<AddressPlan>,
        #[serde(default)]
        resources: Vec<ResourcePlan>,
        #[serde(default)]
        copies: Vec<PathBuf>,
    },
    /// Could those resources of that group, which is as you are to have it, work on your machine by what their agents say?
    /// Nothing is changed (version 3).
    Try { group: Box<GroupPlan>, resources: Vec<String> },
    /// What is on your machine of that group that is not kept alike by itself? (version 3)
    Facts { group: GroupName },
    /// What happened to groups, or to that one, as you saw it? (version 3)
    Explain { group: Option<GroupName> },
    /// Another node is the source of that group in your place, under that epoch (version 3).
    Replaced { group: GroupName, by: NodeName, epoch: u64 },
    /// What lies in that root of the replica that you keep of me, up to `max` entries from the path `after` on? (version 3)
    List { set: SetName, root: u32, after: Option<String>, max: u32 },
    /// On which file systems is the replica that you keep of me? (version 3)
    Volumes { set: SetName },
    /// Compare the sets of that group, which you send me, with what I have; the same question again, of the same number, is
    /// answered how it stands (version 3).
    Compare { group: GroupName, content: bool, number: u64 },
    /// I wrote that set up to that epoch: did you stand in for me since, and with the image of which instant by my clock?
    /// Refused where you do not write it (version 3).
    ForkPoint { set: SetName, known: u64 },
}

impl Ask {
    /// The oldest version of the protocol that knows the question.
    pub(crate) fn version(&self) -> u16 {
        match self {
            Ask::Standing
            | Ask::Secret { .. }
            | Ask::Group(_)
            | Ask::Ungroup { .. }
            | Ask::Move { .. }
            | Ask::CheckGroup { .. }
            | Ask::Fits { .. }
            | Ask::Try { .. }
            | Ask::Facts { .. }
            | Ask::Explain { .. }
            | Ask::Replaced { .. }
            | Ask::List { .. }
            | Ask::Volumes { .. }
            | Ask::Compare { .. }
            | Ask::ForkPoint { .. } => 3,
            Ask::Change(_) | Ask::Forget | Ask::NewKey { .. } => 2,
            _ => 1,
        }
    }
}

/// An answer; a refusal is a [`Failure`](stead_api::Failure) in its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    Done,
    Joined(JoinTell),
    Status(Vec<ConnectionStatus>),
    Checked(ReplicaTell),
    Have(bool),
    Standing(Standing),
    Secret(String),
    Timelines(Vec<stead_api::Timeline>),
    /// Part of a listing, and whether there may be more.
    List {
        items: Vec<Item>,
        more: bool,
    },
    /// Of each path of the set on its source: the file system of its replica.
    Volumes(Vec<(PathBuf, String)>),
    /// None: it is being compared.
    Compared(Option<Vec<Compared>>),
    /// Addresses, resources and copies, each with the reason.
    Unfit {
        addresses: Vec<(String, String)>,
        resources: Vec<Misfit>,
        #[serde(default)]
        copies: Vec<(PathBuf, String)>,
    },
    Tried(Tried),
    Facts(Vec<Fact>),
    /// And what the clock shows, and which units and programs of the group are there.
    Findings {
        texts: Vec<String>,
        now: Timestamp,
        #[serde(default)]
        parts: Vec<Part>,
    },
    /// None: nothing that was written is missing here; 1970: it is the image of no instant.
    ForkPoint(Option<Timestamp>),
}

/// What a node knows of connections and groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) connections: Vec<ConnectionStatus>,
    pub(crate) monitors: Vec<MonitorStatus>,
    #[serde(default)]
    pub(crate) dropped_heartbeats: Vec<DroppedHeartbeats>,
}

/// A group to take part in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupAsk {
    pub(crate) group: GroupPlan,
    /// Of each set, and each path of it on the target: the file system that it is on there.
    pub(crate) volumes: Vec<(SetName, PathBuf, String)>,
    /// Number of the epoch with which the group begins.
    pub(crate) epoch: u64,
    /// The group goes on under that epoch; none: it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<Epoch>,
    /// Its source is in the place of that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_place_of: Option<NodeName>,
}

/// Who wants to be trusted, and the proof that it was invited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinAsk {
    pub(crate) secret: String,
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Who it is trusted by now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinTell {
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) again: bool,
}

/// A replica to be kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaAsk {
    pub(crate) set: SetPlan,
    pub(crate) connection: ConnectionPlan,
    /// For each path of the set: is it a directory?
    pub(crate) dirs: Vec<bool>,
    pub(crate) epoch: Epoch,
    /// Content and entries of the source's tree as they were counted.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// The directories need not be empty.
    pub(crate) into_non_empty: bool,
}

/// How a replica is run from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplicaChange {
    pub(crate) set: SetPlan,
    pub(crate) connection: ConnectionPlan,
    /// Of the changes that one run of the source's daemon tells, what is meant later has the higher number; none in
    /// earlier versions.
    #[serde(default)]
    pub(crate) meant: Option<Meant>,
}

/// The run of a daemon, and a number in it: even for what its plan says, odd for what it is about to say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meant {
    pub(crate) run: u64,
    pub(crate) number: u64,
}

impl Meant {
    /// Is what was heard last meant later?
    pub(crate) fn is_outdated_by(self, heard: Meant) -> bool {
        self.run == heard.run && self.number < heard.number
    }
}

/// What the target found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReplicaTell {
    /// For each path of the set: what lies at the replica's path already, relative to it, parents first, as
    /// [`path_as_text`] writes it.
    pub(crate) existing: Vec<Vec<String>>,
    /// There is more than that.
    pub(crate) cut: bool,
    /// What the operator should know.
    pub(crate) notices: Vec<String>,
}

/// A path of any bytes as text: each byte is one character, U+0000 to U+00FF.
pub(crate) fn path_as_text(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// Reads what [`path_as_text`] wrote; other characters are cut to a byte.
pub(crate) fn text_as_path(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(text.chars().map(|c| c as u8).collect()))
}

#[cfg(test)]
mod tests {
    use stead_api::Failure;

    use super::*;

    #[test]
    fn a_change_is_outdated_only_by_a_later_one_of_the_same_run() {
        let meant = |run, number| Meant { run, number };
        assert!(meant(1, 4).is_outdated_by(meant(1, 5)));
        assert!(!meant(1, 5).is_outdated_by(meant(1, 5)), "told twice");
        assert!(!meant(2, 0).is_outdated_by(meant(1, 5)), "the daemon began anew");
    }

    /// Questions and answers as nodes of version 1 write them, byte by byte.
    #[test]
    fn messages_of_version_1_are_understood_and_still_written_so() {
        let writer = vec!["7"; 16].join(",");
        let replica = format!(
            r#"{{"set":{{"name":"notes","source":"paris","capture":"auto","order":"strict","path":[{{"path":"/srv/notes","volume":"5f0e8a1c-3d5b-4ab6-8f0c-1f2e3d4c5b6a"}}]}},"connection":{{"set":"notes","target":"lyon","mode":"async","mapping":[{{"from":"/srv/notes","to":"/srv/notes"}}]}},"dirs":[true],"epoch":{{"number":1,"writer":[{writer}],"random":18446744073709551615}},"bytes":10,"files":2,"into_non_empty":false}}"#
        );
        for text in [
            r#"{"Join":{"secret":"ab","name":"paris","addresses":["10.0.0.1:7130","[2001:db8::1]:7130"]}}"#,
            r#""Ping""#,
            r#""Status""#,
            &format!(r#"{{"Check":{replica}}}"#),
            &format!(r#"{{"Keep":{replica}}}"#),
            r#"{"Release":{"set":"notes","undo":true}}"#,
            r#"{"Have":{"set":"notes"}}"#,
        ] {
            let ask: Ask = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(ask.version(), 1);
            assert_eq!(serde_json::to_string(&ask).unwrap(), text);
        }
        let status = r#"{"set":"notes","source":"paris","target":"lyon","state":"behind","reason":null,"since":"2026-11-20T07:15:00.000Z","mirror":{"files_done":1,"files_total":4,"bytes_done":5,"bytes_total":6},"queue":{"changes":1,"bytes":2},"lag_seconds":1.5,"consistent_at":null,"capture":"mount","epoch":1,"positions":{"captured":{"epoch":1,"incarnation":2,"sequence":3},"sent":{"epoch":1,"incarnation":2,"sequence":3},"journaled":{"epoch":1,"incarnation":2,"sequence":3},"applied":{"epoch":1,"incarnation":2,"sequence":3}}}"#;
        for text in [
            r#"{"Ok":"Done"}"#,
            r#"{"Ok":{"Joined":{"name":"lyon","addresses":["10.0.0.2:7130"],"again":false}}}"#,
            r#"{"Ok":{"Checked":{"existing":[["a","a/b"]],"cut":false,"notices":[]}}}"#,
            r#"{"Ok":{"Have":true}}"#,
            r#"{"Err":{"kind":"failed","what":"a","why":"b","remedy":"c"}}"#,
        ] {
            let tell: Result<Tell, Failure> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(serde_json::to_string(&tell).unwrap(), text);
        }
        // Statuses say more by now; readers of version 1 skip it.
        let told: Tell = serde_json::from_str(&format!(r#"{{"Status":[{status}]}}"#)).unwrap();
        let Tell::Status(connections) = told else { panic!("{told:?}") };
        assert_eq!((connections[0].set.as_str(), connections[0].queue.changes), ("notes", 1));
    }

    #[test]
    fn paths_of_any_bytes_read_back() {
        let path = PathBuf::from(OsString::from_vec((1..=255).collect()));
        assert_eq!(text_as_path(&path_as_text(&path)), path);
    }
}
