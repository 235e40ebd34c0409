//! Where in a file that was read something stands: what is wrong with it is told with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{BadGroup, PlanError};
use crate::GroupName;

/// One step of the way to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The field of that name.
    Field(String),
    /// The last table of a list whose fields have those values.
    Item(Vec<(&'static str, String)>),
    /// The last table of a list with a table of that name whose field is that, in whatever case.
    Holding(&'static str, &'static str, String),
    /// The table of a list at that place, from 0.
    Nth(usize),
}

/// The way from the top of the file.
pub(super) type Place = Vec<Step>;

/// The line, from 1, of an address of a group in the text of a plan; none: it is not there.
pub fn line_of_address(text: &str, group: &GroupName, address: &str) -> Option<usize> {
    line(text, &[in_group(group, [field("address"), item([("address", address)]), field("address")])])
}

/// The line, from 1, of a resource of a group in the text of a plan, or of one of its parameters; none: it is not there.
pub fn line_of_resource(text: &str, group: &GroupName, resource: &str, parameter: Option<&str>) -> Option<usize> {
    let here = in_group(group, in_resource(resource, None));
    let parameter = parameter.map(|name| along(here.clone(), [field("parameters"), field(name)]));
    let shares = ["samba", "nfs"].map(|kind| along(here.clone(), [field(kind)]));
    line(text, &parameter.into_iter().chain(shares).chain([here]).collect::<Vec<_>>())
}

/// The line, from 1, of a role file of a group in the text of a plan, or of one of its fields; none: it is not there.
pub fn line_of_role_file(text: &str, group: &GroupName, path: &str, name: &str) -> Option<usize> {
    let here = in_group(group, in_role_file(path));
    line(text, &[along(here.clone(), [field(name)]), here])
}

impl PlanError {
    /// The same, with the line of the text in which it is, where that is known.
    pub fn in_text(self, text: &str) -> PlanError {
        let places = self.places();
        self.at(text, &places)
    }

    /// The same, with the line of the first of the places that is there.
    pub(super) fn at(self, text: &str, places: &[Place]) -> PlanError {
        match line(text, places) {
            Some(line) => PlanError::At { line, error: Box::new(self) },
            None => self,
        }
    }

    /// Where it may be written; the first that is there counts.
    fn places(&self) -> Vec<Place> {
        let set = |name: &dyn ToString| vec![field("set"), item([("name", &name.to_string())])];
        let connection = |set: &dyn ToString, target: &dyn ToString| {
            vec![field("connection"), item([("set", &set.to_string()), ("target", &target.to_string())])]
        };
        let shown = |path: &std::path::Path| path.display().to_string();
        vec![match self {
            PlanError::Syntax(_) | PlanError::At { .. } | PlanError::Stranger { .. } => return Vec::new(),
            PlanError::Version(_) => vec![field("version")],
            PlanError::DuplicateSet(name) => along(set(name), [field("name")]),
            PlanError::NoPath(name) | PlanError::NoGroup(name) => set(name),
            PlanError::Path { set: name, path, .. } | PlanError::Overlap { set: name, path, .. } => {
                along(set(name), [field("path"), item([("path", &shown(path))]), field("path")])
            }
            PlanError::Rule { set: name, .. } => along(set(name), [field("rules")]),
            PlanError::Volume { set: name, error } => {
                let volume = || [item([("volume", error.text())]), field("volume")];
                let replica = vec![field("connection"), item([("set", name.as_str())]), field("mapping")];
                return vec![along(along(set(name), [field("path")]), volume()), along(replica, volume())];
            }
            PlanError::UnknownSet(name) => vec![field("connection"), item([("set", name.as_str())]), field("set")],
            PlanError::SyncNeedsMount { set: name, .. } => vec![field("connection"), item([("set", name.as_str())])],
            PlanError::DuplicateConnection(name, target)
            | PlanError::UnknownConnection(name, target)
            | PlanError::Setting { set: name, target, .. }
            | PlanError::Unmapped { set: name, target, .. } => connection(name, target),
            PlanError::Loop(name, target) => along(connection(name, target), [field("target")]),
            PlanError::MappedUnknown { set: name, target, path } | PlanError::NoVolume { set: name, target, path } => {
                along(connection(name, target), [field("mapping"), item([("from", &shown(path))]), field("from")])
            }
            PlanError::ReplicaOverlap { set: name, target, path, .. } => {
                along(connection(name, target), [field("mapping"), item([("to", &shown(path))]), field("to")])
            }
            PlanError::Default(_) => vec![field("defaults")],
            PlanError::Alerts(_) => vec![field("alerts")],
            PlanError::Receiver { kind, number, field: name, .. } => {
                vec![field("alerts"), field(kind), Step::Nth(number - 1), field(name)]
            }
            PlanError::Relay { set: name, .. } => along(set(name), [field("relay")]),
            PlanError::DuplicateGroup(name) | PlanError::UnknownGroup(name) => in_group(name, [field("name")]),
            PlanError::Group { group, error } => {
                return error.places().into_iter().map(|place| in_group(group, place)).collect();
            }
        }]
    }
}

impl BadGroup {
    /// As [`PlanError::places`], from the group on.
    fn places(&self) -> Vec<Place> {
        let named = |list: &str, key: &'static str, value: &dyn ToString| {
            vec![field(list), item([(key, &value.to_string())]), field(key)]
        };
        let one_of = |fields: &[&str]| fields.iter().map(|name| vec![field(name)]).collect();
        vec![match self {
            BadGroup::Nothing => Vec::new(),
            BadGroup::OneNode(_) => vec![field("target")],
            BadGroup::Witness(_) => vec![field("witness")],
            BadGroup::SetTwice(_)
            | BadGroup::SetElsewhere(..)
            | BadGroup::NotBetween { .. }
            | BadGroup::Relays(..)
            | BadGroup::Relayed(..) => vec![field("sets")],
            BadGroup::Range { field: name, .. } | BadGroup::TooMany { field: name, .. } => vec![field(name)],
            BadGroup::TooTight { .. } => return one_of(&["timeout", "heartbeat"]),
            BadGroup::ShortLease { .. } => return one_of(&["wait", "timeout", "heartbeat"]),
            BadGroup::Reference { .. } => vec![field("references")],
            BadGroup::Path { from, to, .. } => {
                vec![field("path"), item([("source", &from.to_string()), ("target", &to.to_string())])]
            }
            BadGroup::Address { address, .. } => named("address", "address", address),
            BadGroup::AddressElsewhere(address, _) => named("address", "address", address),
            BadGroup::UnitTwice(unit) | BadGroup::UnitElsewhere(unit, _) => {
                return vec![named("service", "unit", unit), named("resource", "unit", unit)];
            }
            BadGroup::ShareTwice(share) | BadGroup::ShareElsewhere(share, _) => return places_of_share(share),
            BadGroup::TooManyResources(_) => vec![field("resource")],
            BadGroup::ResourceTwice(name) => named("resource", "name", name),
            BadGroup::Ring(names) => in_resource(&names[0], Some("requires")),
            BadGroup::Requires { resource, .. } => in_resource(resource, Some("requires")),
            BadGroup::Resource { resource, .. } => in_resource(resource, None),
            BadGroup::Identity { resource, field: name, .. } => {
                along(in_resource(resource, Some("identity")), [field(name)])
            }
            BadGroup::TooManyRoleFiles(_) => vec![field("role-file")],
            BadGroup::RoleFile { path, field: name, .. } => {
                let here = in_role_file(path);
                return vec![along(here.clone(), [field(name)]), here];
            }
            BadGroup::Service { number, .. } => vec![field("service"), Step::Nth(number - 1)],
            BadGroup::Check { number, .. } => vec![field("check"), Step::Nth(number - 1)],
            BadGroup::Outside { list, number, field: name, .. } => {
                vec![field(list), Step::Nth(number - 1), field(name)]
            }
            BadGroup::Script { script, .. } => vec![field("scripts"), field(script)],
            BadGroup::FenceNode(node) | BadGroup::Fence { node, .. } => vec![field("fence"), field(node.as_str())],
        }]
    }
}

/// Something beneath a group.
pub(super) fn in_group(group: &GroupName, steps: impl IntoIterator<Item = Step>) -> Place {
    along(vec![field("group"), item([("name", group.as_str())])], steps)
}

/// As [`BadGroup::places`]: its name, which may be written otherwise, or its path.
fn places_of_share(share: &str) -> Vec<Place> {
    let of = |kind, key| vec![field("resource"), Step::Holding(kind, key, share.to_owned()), field(kind), field(key)];
    vec![of("samba", "share"), of("nfs", "path")]
}

/// From the group on.
fn in_resource(name: &str, key: Option<&str>) -> Place {
    along(vec![field("resource"), item([("name", name)])], key.map(field))
}

fn in_role_file(path: &str) -> Place {
    vec![field("role-file"), item([("path", path)])]
}

pub(super) fn field(name: &str) -> Step {
    Step::Field(name.into())
}

pub(super) fn item<const N: usize>(values: [(&'static str, &str); N]) -> Step {
    Step::Item(values.map(|(key, value)| (key, value.to_string())).into())
}

fn along(mut place: Place, steps: impl IntoIterator<Item = Step>) -> Place {
    place.extend(steps);
    place
}

/// The line of the first of the places that is there; else as far as there is a way to the first.
fn line(text: &str, places: &[Place]) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let found: Vec<_> = places.iter().map(|place| walk(&root, place)).collect();
    let (_, at) = found.iter().find(|(whole, _)| *whole).or(found.first())?;
    at.map(|at| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count())
}

/// Is all of the way there, and where does it end?
fn walk(root: &Spanned<DeTable<'_>>, place: &Place) -> (bool, Option<usize>) {
    let (mut here, mut at) = (Here::Table(root.get_ref()), None);
    for step in place {
        match here.next(step) {
            Some((next, start)) => (here, at) = (next, Some(start)),
            None => return (false, at),
        }
    }
    (true, at)
}

#[derive(Clone, Copy)]
enum Here<'a> {
    Table(&'a DeTable<'a>),
    Value(&'a DeValue<'a>),
}

impl<'a> Here<'a> {
    fn next(self, step: &Step) -> Option<(Here<'a>, usize)> {
        match (self, step) {
            (Here::Table(table) | Here::Value(DeValue::Table(table)), Step::Field(name)) => {
                let (key, value) = table.get_key_value(name.as_str())?;
                Some((Here::Value(value.get_ref()), key.span().start))
            }
            (Here::Value(DeValue::Array(items)), Step::Item(values)) => {
                items.iter().rev().find(|item| has(item.get_ref(), values)).map(entered)
            }
            (Here::Value(DeValue::Array(items)), Step::Holding(kind, key, value)) => {
                items.iter().rev().find(|item| holds(item.get_ref(), kind, key, value)).map(entered)
            }
            (Here::Value(DeValue::Array(items)), Step::Nth(at)) => items.get(*at).map(entered),
            _ => None,
        }
    }
}

fn entered<'a>(item: &'a Spanned<DeValue<'a>>) -> (Here<'a>, usize) {
    (Here::Value(item.get_ref()), item.span().start)
}

fn has(item: &DeValue<'_>, values: &[(&'static str, String)]) -> bool {
    let DeValue::Table(table) = item else { return false };
    values.iter().all(|(key, meant)| match table.get(*key).map(Spanned::get_ref) {
        Some(DeValue::String(written)) => is_meant(written, meant),
        _ => false,
    })
}

fn holds(item: &DeValue<'_>, kind: &str, key: &str, value: &str) -> bool {
    let DeValue::Table(table) = item else { return false };
    let Some(DeValue::Table(inner)) = table.get(kind).map(Spanned::get_ref) else { return false };
    matches!(inner.get(key).map(Spanned::get_ref), Some(DeValue::String(text)) if text.eq_ignore_ascii_case(value))
}

/// Addresses are told without the length of their network, and units with their kind.
fn is_meant(written: &str, meant: &str) -> bool {
    let has_prefix = written.strip_prefix(meant).is_some_and(|rest| rest.starts_with('/'));
    written == meant || has_prefix && !meant.starts_with('/') || meant.strip_suffix(".service") == Some(written)
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
