//! In what two plans differ, in words: what is told before one takes the place of the other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::settings::SettingsSpec;
use super::{CheckPlan, ConnectionPlan, GroupPlan, Plan, ResourcePlan, SetPlan, Span};

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    New,
    /// It ends.
    Gone,
    /// It goes on in another way.
    Changed,
}

/// One difference. As text: `group office: timeout 3s → 5s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What becomes of it.
    pub kind: Kind,
    /// Of what: `set notes`, `set notes → lyon`, `group office`, `defaults`, `alerts`.
    pub of: String,
    /// Which of its fields, as `timeout` or `address 10.0.0.100/24`; none: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is to be; of what ends: what stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Difference {
    /// Does a set, one of its replicas or a group end with it?
    pub fn ends_protection(&self) -> bool {
        self.kind == Kind::Gone && self.field.is_none()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { kind, of, field, old, new } = self;
        let more = new.as_ref().map_or(String::new(), |new| format!(", {new}"));
        match (kind, field) {
            (Kind::New, None) => write!(f, "{of}: new{more}"),
            (Kind::New, Some(field)) => write!(f, "{of}: {field} new{more}"),
            (Kind::Gone, None) => write!(f, "{of}: {}", new.as_deref().unwrap_or("gone")),
            (Kind::Gone, Some(field)) => write!(f, "{of}: {field} gone"),
            (Kind::Changed, _) => {
                let word = |word: &Option<String>| word.as_deref().unwrap_or("none").to_owned();
                write!(f, "{of}: {} {} → {}", field.as_deref().unwrap_or(""), word(old), word(new))
            }
        }
    }
}

/// In what `new` differs from `old`: what ends first, then what changes, then what begins. What is left out counts as what
/// is usual then.
pub fn differences(old: &Plan, new: &Plan) -> Vec<Difference> {
    let mut found = Vec::new();
    let alerts = |plan: &Plan| Side { said: as_table(&plan.alerts), usual: usual_alerts(plan) };
    fields("alerts", "", &alerts(old), &alerts(new), &mut found);
    let metrics = |plan: &Plan| Side { said: as_table(&plan.metrics), usual: Table::new() };
    fields("metrics", "", &metrics(old), &metrics(new), &mut found);
    let defaults = |plan: &Plan| Side { said: as_table(&plan.defaults), usual: as_table(&SettingsSpec::usual()) };
    fields("defaults", "", &defaults(old), &defaults(new), &mut found);
    sets(old, new, &mut found);
    groups(old, new, &mut found);
    found.sort_by_key(|difference| match difference.kind {
        Kind::Gone if difference.ends_protection() => 0,
        Kind::New if difference.field.is_none() => 2,
        _ => 1,
    });
    found
}

fn sets(old: &Plan, new: &Plan, found: &mut Vec<Difference>) {
    for set in &old.sets {
        match new.set(&set.name) {
            None => found.push(gone(format!("set {}", set.name), "no longer protected; its replica stays as it is")),
            Some(after) => {
                let side = |set: &SetPlan| Side { said: as_table(set), usual: Table::new() };
                fields(&format!("set {}", set.name), "", &side(set), &side(after), found);
                connections(old, new, set, found);
            }
        }
    }
    for set in new.sets.iter().filter(|set| old.set(&set.name).is_none()) {
        let all: Vec<_> = set.paths.iter().map(|path| path.path.display().to_string()).collect();
        let targets: Vec<_> = new.connections_of(&set.name).map(|c| c.target.to_string()).collect();
        let text = format!("{} from {} to {}", all.join(", "), set.source, targets.join(", "));
        found.push(begins(format!("set {}", set.name), text));
    }
}

fn connections(old: &Plan, new: &Plan, set: &SetPlan, found: &mut Vec<Difference>) {
    let name = |c: &ConnectionPlan| format!("set {} → {}", c.set, c.target);
    let of = |plan: &Plan, connection: &ConnectionPlan| {
        let mut usual = as_table(&plan.defaults.settings.or(&SettingsSpec::usual()));
        usual.insert("paused".into(), false.into());
        Side { said: as_table(connection), usual }
    };
    for before in old.connections_of(&set.name) {
        match new.connections_of(&set.name).find(|c| c.target == before.target) {
            None => found.push(gone(name(before), "ends; the replica stays as it is")),
            Some(after) => fields(&name(before), "", &of(old, before), &of(new, after), found),
        }
    }
    let is_new = |c: &&ConnectionPlan| !old.connections_of(&set.name).any(|before| before.target == c.target);
    for connection in new.connections_of(&set.name).filter(is_new) {
        let to: Vec<_> = connection.mapping.iter().map(|m| one_way(&m.from, &m.to)).collect();
        found.push(begins(name(connection), to.join(", ")));
    }
}

fn one_way(from: &Path, to: &Path) -> String {
    format!("{} to {}", from.display(), to.display())
}

fn groups(old: &Plan, new: &Plan, found: &mut Vec<Difference>) {
    let side = |group: &GroupPlan| Side { said: as_table(group), usual: usual_of(group) };
    for group in &old.groups {
        let name = format!("group {}", group.name);
        match new.group(&group.name) {
            None => found.push(gone(name, "no longer watched; nobody stands in, its sets stay protected")),
            Some(after) => fields(&name, "", &side(group), &side(after), found),
        }
    }
    for group in new.groups.iter().filter(|group| old.group(&group.name).is_none()) {
        found.push(begins(format!("group {}", group.name), format!("{} stands in for {}", group.target, group.source)));
    }
}

/// What holds of a group where its plan does not say it.
fn usual_of(group: &GroupPlan) -> Table {
    let (check, resource) = (CheckPlan::default(), ResourcePlan::default());
    table([
        ("heartbeat", span(group.heartbeat())),
        ("timeout", span(group.timeout())),
        ("wait", span(group.wait())),
        ("address", Value::Table(table([("replace", false.into()), ("take", false.into())]))),
        ("service", Value::Table(table([("timeout", "1m".into())]))),
        (
            "resource",
            Value::Table(table([
                ("restarts", i64::from(resource.restarts()).into()),
                ("within", span(resource.within())),
            ])),
        ),
        (
            "check",
            Value::Table(table([
                ("interval", span(check.interval())),
                ("timeout", span(check.timeout())),
                ("failures", i64::from(check.failures()).into()),
            ])),
        ),
    ])
}

fn usual_alerts(plan: &Plan) -> Table {
    let alerts = &plan.alerts;
    let (timeout, behind) = (span(alerts.timeout()), span(alerts.behind()));
    table([("timeout", timeout), ("behind", behind), ("disconnected", span(alerts.disconnected()))])
}

fn table<const N: usize>(fields: [(&str, Value); N]) -> Table {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn span(duration: Duration) -> Value {
    Value::String(Span(duration).to_string())
}

fn begins(of: String, what: String) -> Difference {
    Difference { kind: Kind::New, of, field: None, old: None, new: Some(what) }
}

fn gone(of: String, what: &str) -> Difference {
    Difference { kind: Kind::Gone, of, field: None, old: None, new: Some(what.into()) }
}

/// One of two values that are compared: what is said, and what holds where nothing is said.
struct Side {
    said: Table,
    usual: Table,
}

impl Side {
    fn beneath(&self, key: &str) -> Side {
        Side { said: table_at(&self.said, key), usual: table_at(&self.usual, key) }
    }

    /// The word for a field; none: nothing holds.
    fn word(&self, key: &str) -> Option<String> {
        self.said.get(key).or(self.usual.get(key)).filter(|value| !is_tables(value)).map(word)
    }
}

fn as_table(value: &impl Serialize) -> Table {
    Table::try_from(value).expect("plans hold nothing that TOML cannot")
}

fn table_at(table: &Table, key: &str) -> Table {
    table.get(key).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// All fields that differ; `before` stands in front of their names.
fn fields(of: &str, before: &str, old: &Side, new: &Side, found: &mut Vec<Difference>) {
    let keys: BTreeSet<&String> = old.said.keys().chain(new.said.keys()).collect();
    for key in keys {
        let (a, b) = (old.said.get(key), new.said.get(key));
        let either = |is: fn(&Value) -> bool| a.is_some_and(is) || b.is_some_and(is);
        if a == b {
            continue;
        }
        let field = format!("{before}{key}");
        if either(is_tables) {
            items(of, &field, key, [old, new], [a, b], found);
        } else if either(Value::is_table) && (a.is_some() && b.is_some() || new.usual.contains_key(key)) {
            fields(of, &format!("{field}."), &old.beneath(key), &new.beneath(key), found);
        } else {
            changed(of, field, [(a, old.word(key)), (b, new.word(key))], found);
        }
    }
}

fn changed(of: &str, field: String, [old, new]: [(Option<&Value>, Option<String>); 2], found: &mut Vec<Difference>) {
    // Said or left out, it is the same.
    let is_same = old.1 == new.1;
    let told = |(said, word): (Option<&Value>, Option<String>)| match said {
        None if is_same => word.map(|word| format!("{word} as usual")),
        _ => word,
    };
    let (old, new) = (told(old), told(new));
    found.push(Difference { kind: Kind::Changed, of: of.into(), field: Some(field), old, new });
}

/// Tables of a list, each known by what it is about, and their order.
fn items(
    of: &str,
    field: &str,
    key: &str,
    [old, new]: [&Side; 2],
    [a, b]: [Option<&Value>; 2],
    found: &mut Vec<Difference>,
) {
    let (a, b) = (named(a), named(b));
    let one = |kind, name: &str, new| Difference { kind, of: of.into(), field: Some(name.into()), old: None, new };
    for (name, before) in &a {
        let called = format!("{field} {name}");
        match b.iter().find(|(other, _)| other == name) {
            None => found.push(one(Kind::Gone, &called, None)),
            Some((_, after)) => {
                let side = |said: &Table, usual: &Table| Side { said: said.clone(), usual: table_at(usual, key) };
                fields(of, &format!("{called} "), &side(before, &old.usual), &side(after, &new.usual), found);
            }
        }
    }
    let is_new = |(name, _): &&(String, Table)| !a.iter().any(|(other, _)| other == name);
    found.extend(
        b.iter().filter(is_new).map(|(name, table)| one(Kind::New, &format!("{field} {name}"), rest(table, name))),
    );
    let common = |list: &[(String, Table)], other: &[(String, Table)]| {
        let both = list.iter().filter(|(name, _)| other.iter().any(|(there, _)| there == name));
        both.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let (before, after) = (common(&a, &b), common(&b, &a));
    if before != after {
        let (old, new) = (Some(before.join(", ")), Some(after.join(", ")));
        let field = Some(format!("order of {field}"));
        found.push(Difference { kind: Kind::Changed, of: of.into(), field, old, new });
    }
}

fn is_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.first().is_some_and(Value::is_table))
}

/// The tables of a list, with names that are theirs alone.
fn named(list: Option<&Value>) -> Vec<(String, Table)> {
    let mut found: Vec<(String, Table)> = Vec::new();
    for table in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        let name = name_of(table);
        let before = found.iter().filter(|(_, other)| name_of(other) == name).count();
        found.push((if before == 0 { name } else { format!("{name} ({})", before + 1) }, table.clone()));
    }
    found
}

/// What a table of a list is about.
fn name_of(table: &Table) -> String {
    let word_of = |key: &str| table.get(key).map(|value| word(value).trim_matches(['[', ']']).replace(", ", " "));
    let by_one =
        ["name", "address", "unit", "start", "tcp", "http", "command", "path", "from"].into_iter().find_map(word_of);
    by_one.unwrap_or_else(|| {
        format!("{}={}", word_of("source").unwrap_or_default(), word_of("target").unwrap_or_default())
    })
}

/// What else is said of it.
fn rest(table: &Table, name: &str) -> Option<String> {
    let others = table.iter().filter(|(_, value)| word(value).trim_matches(['[', ']']).replace(", ", " ") != name);
    let others: Vec<_> = others.map(|(key, value)| format!("{key} {}", word(value))).collect();
    (!others.is_empty() && !name.contains('=')).then(|| others.join(", "))
}

/// A value as people write it.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(word).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            table.iter().map(|(key, value)| format!("{key} {}", word(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
