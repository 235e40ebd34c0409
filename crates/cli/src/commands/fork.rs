use std::path::{Path, PathBuf};

use stead_api::{Answer, Fork, ForkEntry, ForkState, Request};
use stead_model::SetName;

use super::{DONE, Ended, print_json};
use crate::agree::agree;
use crate::client::{ask_quietly, misunderstood};
use crate::show::{columns, say, size};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List what this node alone had when other nodes stood in for it, and how far it is kept
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List the files of one of them: when each was written last, its size, its path
    Show {
        #[command(flatten)]
        fork: Which,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Copy the files out, each beneath the directory with its whole path, with owner, mode, times and xattrs
    Export {
        #[command(flatten)]
        fork: Which,
        /// Where to; it must be empty, or not exist
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Give the files up, also what could not be kept yet
    Drop {
        #[command(flatten)]
        fork: Which,
        /// Do not ask whether it is meant; needed where there is no terminal to ask on
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Name of the set
    #[arg(value_name = "SET")]
    set: SetName,
    /// The epoch under which another node stood in, as the list says
    #[arg(value_name = "EPOCH")]
    epoch: u64,
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::List { json } => list(state, json),
        What::Show { fork, json: false } => show(state, &fork),
        What::Show { fork, json: true } => show_json(state, &fork),
        What::Export { fork, to } => export(state, fork, &to),
        What::Drop { fork, yes } => drop(state, fork, yes),
    }
}

fn list(state: &Path, json: bool) -> Ended {
    let forks = match ask_quietly(state, &Request::Forks)? {
        Answer::Forks(forks) => forks,
        other => return Err(misunderstood(&other)),
    };
    match json {
        true => print_json(&serde_json::json!(forks)),
        false if forks.is_empty() => say("no other node has anything less than this one had\n"),
        false => say(text(&forks)),
    }
    DONE
}

fn text(forks: &[Fork]) -> String {
    columns(&forks.iter().map(row).collect::<Vec<_>>())
}

fn row(fork: &Fork) -> Vec<String> {
    let so_far = format!("{} files, {}", fork.files, size(fork.bytes));
    let how = match (fork.state, &fork.why) {
        (ForkState::Asking, _) => format!("{} has not said yet since when", fork.by),
        (ForkState::Blocked, Some(why)) => why.clone(),
        _ if fork.unkept > 0 => format!("{so_far}, {} not kept", fork.unkept),
        _ => so_far,
    };
    let since = fork.since.map_or(String::new(), |since| match since.0 {
        0 => format!("all of it: {} stood in with the image of no instant", fork.by),
        _ => format!("changed since {since}, from when on {} stands in", fork.by),
    });
    vec![fork.set.to_string(), format!("epoch {}", fork.epoch), fork.state.as_str().into(), how, since]
}

fn show(state: &Path, which: &Which) -> Ended {
    each_page(state, which, |_, entries| say(columns(&entries.iter().map(line).collect::<Vec<_>>())))?;
    DONE
}

fn line(entry: &ForkEntry) -> Vec<String> {
    let path: String = entry.path.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    let why = entry.why.as_ref().map_or(String::new(), |why| format!("  ({why})"));
    let slash = if entry.kind == "directory" { "/" } else { "" };
    vec![entry.modified.to_string(), format!("{:>10}", size(entry.size)), format!("{path}{slash}{why}")]
}

fn show_json(state: &Path, which: &Which) -> Ended {
    let (mut fork, mut all) = (None, Vec::new());
    each_page(state, which, |of, entries| {
        fork = Some(of);
        all.extend(entries);
    })?;
    print_json(&serde_json::json!({ "fork": fork, "entries": all }));
    DONE
}

fn each_page(
    state: &Path,
    Which { set, epoch }: &Which,
    mut told: impl FnMut(Fork, Vec<ForkEntry>),
) -> Result<(), stead_api::Failure> {
    let mut from = Some(0);
    while let Some(at) = from {
        match ask_quietly(state, &Request::Fork { set: set.clone(), epoch: *epoch, from: at })? {
            Answer::Fork { fork, entries, next } => {
                told(fork, entries);
                from = next;
            }
            other => return Err(misunderstood(&other)),
        }
    }
    Ok(())
}

fn export(state: &Path, Which { set, epoch }: Which, to: &Path) -> Ended {
    let to = std::path::absolute(to).unwrap_or_else(|_| to.into());
    match ask_quietly(state, &Request::ForkExport { set, epoch, to: to.clone() })? {
        Answer::Exported { files, bytes } => {
            say(format_args!("{files} files, {}, were copied into {}\n", size(bytes), to.display()));
            DONE
        }
        other => Err(misunderstood(&other)),
    }
}

fn drop(state: &Path, Which { set, epoch }: Which, yes: bool) -> Ended {
    agree(
        yes,
        &format!("remove what this node alone had of set {set} when epoch {epoch} began; no other copy is known"),
    )?;
    ask_quietly(state, &Request::ForkDrop { set: set.clone(), epoch })?;
    say(format_args!("what was kept of set {set} and epoch {epoch} is given up\n"));
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_read_like_this() {
        let fork = |epoch: u64, state: &str, since: Option<&str>, why: Option<&str>| {
            serde_json::from_value::<Fork>(serde_json::json!({
                "set": "notes", "epoch": epoch, "by": "lyon", "state": state, "since": since, "kept_at": null,
                "files": 3, "bytes": 2048, "unkept": 0, "why": why
            }))
            .unwrap()
        };
        let (instant, none) = ("2026-11-20T07:15:00.250Z", "1970-01-01T00:00:00.000Z");
        let all = [
            fork(2, "kept", Some(instant), None),
            fork(4, "keeping", Some(none), None),
            fork(6, "asking", None, None),
            fork(8, "blocked", Some(instant), Some("no room")),
        ];
        let expected = "\
notes  epoch 2  kept     3 files, 2.0 KiB                  changed since 2026-11-20T07:15:00.250Z, from when on lyon stands in
notes  epoch 4  keeping  3 files, 2.0 KiB                  all of it: lyon stood in with the image of no instant
notes  epoch 6  asking   lyon has not said yet since when
notes  epoch 8  blocked  no room                           changed since 2026-11-20T07:15:00.250Z, from when on lyon stands in
";
        assert_eq!(text(&all), expected);
        let entry = ForkEntry {
            path: "/srv/notes/a\nb".into(),
            kind: "file".into(),
            size: 3,
            modified: all[0].since.unwrap(),
            kept: false,
            why: Some("it cannot be read".into()),
        };
        assert_eq!(line(&entry)[2], "/srv/notes/a\u{FFFD}b  (it cannot be read)");
    }
}
