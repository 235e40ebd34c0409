use std::path::Path;

use stead_api::{Alike, Answer, ChecklistItem, Request};
use stead_model::GroupName;

use super::{DONE, Ended, no, print_json};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only that group
    #[arg(value_name = "GROUP")]
    group: Option<GroupName>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    let answer = ask_quietly(state, &Request::Checklist { group: args.group })?;
    let Answer::Checklist(items) = answer else { return Err(misunderstood(&answer)) };
    if args.json {
        print_json(&serde_json::json!(items));
    } else {
        say(text(&items));
    }
    if items.iter().any(|item| item.alike == Alike::Different) { no() } else { DONE }
}

fn text(items: &[ChecklistItem]) -> String {
    if items.is_empty() {
        return "this node is neither source nor target of a group\n".into();
    }
    let mut out = String::new();
    let mut group = None;
    for item in items {
        if group != Some(&item.group) {
            out += &format!("group {}: [x] the same on both nodes, [ ] to be looked at, [?] not known\n", item.group);
            group = Some(&item.group);
        }
        out += &line(item);
    }
    out
}

fn line(item: &ChecklistItem) -> String {
    let mark = match item.alike {
        Alike::Same => "[x]",
        Alike::Different | Alike::Reminder => "[ ]",
        Alike::Unknown => "[?]",
    };
    let mut out = format!("{mark} {}: {}", item.area, item.what);
    match (item.alike, item.nodes.as_slice()) {
        (Alike::Same, [(_, one), (_, other)]) if one == other => out += &format!(" ({one})"),
        (_, nodes) => out.extend(nodes.iter().map(|(node, has)| format!("\n      {node}: {has}"))),
    }
    let remedy = item.remedy.iter().map(|remedy| format!("\n      → {remedy}"));
    out.extend(remedy);
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checklist_is_lines_to_be_ticked() {
        let item = |what: &str, alike, [one, other]: [&str; 2], remedy: Option<&str>| ChecklistItem {
            group: "notes".parse().unwrap(),
            area: "file".into(),
            what: what.into(),
            alike,
            nodes: vec![("paris".parse().unwrap(), one.into()), ("lyon".parse().unwrap(), other.into())],
            remedy: remedy.map(str::to_owned),
        };
        let by_hand = ChecklistItem { nodes: Vec::new(), ..item("mounts", Alike::Reminder, ["", ""], None) };
        let items = [
            item("/etc/a", Alike::Same, ["1", "1"], None),
            item("/etc/b", Alike::Different, ["1", "none"], Some("Make them equal")),
            item("/etc/c", Alike::Unknown, ["1", "not known: lyon is silent"], None),
            by_hand,
        ];
        let expected = "group notes: [x] the same on both nodes, [ ] to be looked at, [?] not known\n\
                        [x] file: /etc/a (1)\n\
                        [ ] file: /etc/b\n      paris: 1\n      lyon: none\n      → Make them equal\n\
                        [?] file: /etc/c\n      paris: 1\n      lyon: not known: lyon is silent\n\
                        [ ] file: mounts\n";
        assert_eq!(text(&items), expected);
    }
}
