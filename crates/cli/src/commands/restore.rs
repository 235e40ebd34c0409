use std::io::IsTerminal;
use std::path::Path;

use stead_api::{Amount, Answer, Failure, FailureKind, MapArg, Preview, Request, Restore};
use stead_model::{GroupName, NodeName, SetName};

use super::{DONE, Ended, print_json};
use crate::agree::{agree, is_yes};
use crate::args::map_arg;
use crate::client::{ask, ask_quietly, misunderstood};
use crate::show::{Progress, columns, say, size};

/// Changes that are listed for people.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    group: GroupName,
    /// Only list what would change on the node that is restored; nothing is changed
    #[arg(long, conflicts_with_all = ["map", "to", "into_non_empty", "no_wait"])]
    dry_run: bool,
    /// For programs, with --dry-run: all changes, up to 20,000
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Only that set of the group; may be repeated. The group is restored when all of its sets are
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<SetName>,
    /// Where a path of the node that serves goes on the restored node from now on; may be repeated
    #[arg(long, value_name = "SRC=DST", value_parser = map_arg)]
    map: Vec<MapArg>,
    /// The old source is beyond repair: that node is the source from now on, and gets everything
    #[arg(long, value_name = "NODE", conflicts_with = "sets")]
    to: Option<NodeName>,
    /// With --map or --to, also into directories that are not empty: what would be deleted is listed first
    #[arg(long)]
    into_non_empty: bool,
    /// Do not ask whether it is meant; needed where there is no terminal to ask on
    #[arg(long)]
    yes: bool,
    /// Return once it runs, not once the source is restored
    #[arg(long)]
    no_wait: bool,
}

pub fn run(state: &Path, args: Args) -> Ended {
    if args.dry_run {
        return dry_run(state, args);
    }
    agree(args.yes, &meant(&args))?;
    let Args { group, sets, map, to, into_non_empty, yes, no_wait, .. } = args;
    let map = map.into_iter().map(|map| MapArg { to: map.to.components().collect(), ..map }).collect();
    let options = Restore { group: group.clone(), sets, map, to, into_non_empty, yes, no_wait };
    let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let answer = match begin(state, &options) {
        Err(failure)
            if would_delete(&failure, &options) && is_terminal && is_yes(&format!("{}. Go on?", failure.why)) =>
        {
            begin(state, &Restore { yes: true, ..options })?
        }
        other => other?,
    };
    let Answer::Restored { left } = answer else { return Err(misunderstood(&answer)) };
    say(told(&group, no_wait, &left));
    DONE
}

fn meant(args: &Args) -> String {
    let group = &args.group;
    if let Some(to) = &args.to {
        return format!(
            "make {to} the source of group {group}, in the place of the one that it had, which is given up"
        );
    }
    let what = match args.sets.as_slice() {
        [] => format!("the directories of group {group}"),
        sets => format!("set {} of group {group}", sets.iter().map(SetName::as_str).collect::<Vec<_>>().join(", ")),
    };
    let gone = "what it alone has is kept aside there first, and is no longer in them";
    format!("make {what} on its source what they are where it serves now: {gone}")
}

fn begin(state: &Path, options: &Restore) -> Result<Answer, Failure> {
    let mut progress = Progress::new("restoring");
    let request = Request::Restore(Box::new(options.clone()));
    let answer = ask(state, &request, |status| progress.show(&status));
    progress.end();
    answer
}

fn would_delete(failure: &Failure, options: &Restore) -> bool {
    failure.kind == FailureKind::No && !options.yes && options.into_non_empty
}

fn told(group: &GroupName, no_wait: bool, left: &[SetName]) -> String {
    let names = || left.iter().map(SetName::as_str).collect::<Vec<_>>().join(", ");
    match (no_wait, left.is_empty()) {
        (true, _) => format!("group {group} is being restored; follow it with: stead status --watch\n"),
        (false, true) => {
            format!("group {group} is restored; have its source serve again with: stead failback {group}\n")
        }
        (false, false) => format!("that is restored; group {group} is when the rest is, too: {}\n", names()),
    }
}

fn dry_run(state: &Path, args: Args) -> Ended {
    let answer = ask_quietly(state, &Request::RestorePreview { group: args.group, sets: args.sets })?;
    let Answer::Preview(previews) = answer else { return Err(misunderstood(&answer)) };
    if args.json {
        print_json(&serde_json::json!(previews));
    } else {
        say(text(&previews));
    }
    DONE
}

fn text(previews: &[Preview]) -> String {
    let mut out = String::new();
    let mut room = SHOWN;
    for preview in previews {
        out += &summary(preview);
        let row = |change: &stead_api::PreviewChange| {
            let bytes = if change.bytes > 0 { size(change.bytes) } else { String::new() };
            vec![format!("    {}", change.what), bytes, change.path.clone()]
        };
        let rows: Vec<_> = preview.changes.iter().take(room).map(row).collect();
        out += &columns(&rows);
        room -= rows.len();
        let more = preview.changed().saturating_sub(rows.len() as u64);
        if more > 0 {
            out += &format!("    … and {more} more: --json\n");
        }
    }
    out + "nothing was changed; files of the same size and time count as equal\n"
}

fn summary(preview: &Preview) -> String {
    let Preview { set, on, compared, made, rewritten, dressed, removed, .. } = preview;
    if preview.changed() == 0 {
        return format!("{set} → {on}: nothing would change ({compared} compared)\n");
    }
    let part = |amount: &Amount, what: &str| {
        (amount.entries > 0).then(|| format!("{} {what} ({})", amount.entries, size(amount.bytes)))
    };
    let dressed = (*dressed > 0).then(|| format!("{dressed} with other attributes"));
    let parts = [part(made, "missing"), part(rewritten, "different"), dressed, part(removed, "removed")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    format!("{set} → {on}: {} of {compared} compared\n", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use stead_api::PreviewChange;
    use stead_model::compare::Gap;

    use super::*;

    fn preview(changes: usize) -> Preview {
        let mut preview = Preview::new("notes".parse().unwrap(), "paris".parse().unwrap());
        (preview.compared, preview.dressed) = (57, 1);
        preview.made = Amount { entries: changes as u64, bytes: 1536 };
        let change = |at| PreviewChange { path: format!("/srv/{at}"), what: Gap::Missing, bytes: 1536 };
        preview.changes = (0..changes).map(change).collect();
        preview.changes.push(PreviewChange { path: "/srv/d".into(), what: Gap::Attributes, bytes: 0 });
        preview
    }

    #[test]
    fn a_dry_run_reads_like_this() {
        let expected = "\
notes → paris: 1 missing (1.5 KiB), 1 with other attributes of 57 compared
    missing     1.5 KiB  /srv/0
    attributes           /srv/d
nothing was changed; files of the same size and time count as equal
";
        assert_eq!(text(&[preview(1)]), expected);
        let none = text(&[Preview::new("notes".parse().unwrap(), "paris".parse().unwrap())]);
        assert!(none.starts_with("notes → paris: nothing would change (0 compared)\n"), "{none}");
    }

    #[test]
    fn a_dry_run_fills_no_more_than_a_screen() {
        let told = text(&[preview(30), preview(30)]);
        assert_eq!(told.lines().filter(|line| line.contains("/srv/")).count(), SHOWN);
        assert!(told.contains("… and 11 more: --json") && told.contains("… and 31 more: --json"), "{told}");
    }
}
