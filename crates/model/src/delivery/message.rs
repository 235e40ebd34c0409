//! What a receiver gets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::NodeName;
use crate::alert::{Alert, Edge, Severity};
use crate::status::Timestamp;

/// Version of the JSON that receivers get.
const VERSION: u32 = 1;

/// One raise or one clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Rises by one with each event that this node tells; the same event has the same number for everyone.
    pub number: u64,
    /// Which of both.
    pub event: Edge,
    /// When.
    pub at: Timestamp,
    /// Who tells it.
    pub node: NodeName,
    /// What is wrong, or was.
    pub alert: Alert,
}

impl Notice {
    /// What raise and clear of one cause have in common.
    pub fn id(&self) -> String {
        self.alert.id(&self.node)
    }

    /// Have both the same id?
    pub(super) fn is_about(&self, other: &Notice) -> bool {
        let (a, b) = (&self.alert, &other.alert);
        a.wrong == b.wrong && a.set == b.set && a.target == b.target && self.node == other.node
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        self.alert.wrong.severity()
    }

    /// Makes it so among what is raised.
    pub(super) fn apply_to(&self, raised: &mut BTreeMap<String, Notice>) {
        match self.event {
            Edge::Raise => raised.insert(self.id(), self.clone()),
            Edge::Clear => raised.remove(&self.id()),
        };
    }

    fn to_json(&self) -> Value {
        let Notice { number, event, at, node: _, alert } = self;
        json!({
            "id": self.id(), "number": number, "event": event, "at": at,
            "kind": alert.wrong, "severity": self.severity(),
            "set": alert.set, "source": alert.source, "target": alert.target,
            "since": alert.since, "text": alert.text,
        })
    }

    /// In one line, for people.
    pub fn line(&self) -> String {
        let Alert { wrong, set, source, target, text, .. } = &self.alert;
        let event = match self.event {
            Edge::Raise => self.severity().as_str(),
            Edge::Clear => "over",
        };
        format!("{event}: {wrong}, set {set} from {source} to {target}: {text}")
    }
}

/// One message for one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Name of the receiver.
    pub receiver: String,
    /// The events, in order.
    pub notices: Vec<Notice>,
    /// Events that the receiver was not told before this message.
    pub held_back: u64,
}

impl Message {
    /// As programs get it.
    pub fn to_json(&self, node: &NodeName) -> Value {
        let alarms: Vec<_> = self.notices.iter().map(Notice::to_json).collect();
        json!({ "version": VERSION, "node": node, "held_back": self.held_back, "alarms": alarms })
    }

    /// In a few words, for people.
    pub fn subject(&self, node: &NodeName) -> String {
        match self.notices.as_slice() {
            [] => format!("[stead {node}] {} events were held back", self.held_back),
            [one] => format!("[stead {node}] {}", one.line()),
            several => {
                let raises = several.iter().filter(|notice| notice.event == Edge::Raise).count();
                format!("[stead {node}] {raises} raised, {} over", several.len() - raises)
            }
        }
    }

    /// For people to read.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for notice in &self.notices {
            let line = format!("{} {}\n    {}\n", notice.at, notice.line(), notice.id());
            text.push_str(&line);
        }
        if self.held_back > 0 {
            text.push_str(&format!("{} more events were held back: see stead alerts\n", self.held_back));
        }
        text
    }
}
