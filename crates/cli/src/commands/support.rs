use std::path::{Path, PathBuf};

use stead_api::{Answer, Failure, FailureKind, Request};
use stead_model::status::Timestamp;

use super::state::write_new;
use super::{DONE, Ended};
use crate::bundle::{Bundle, shown};
use crate::client::ask_quietly;
use crate::show::{say, status_text};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, which must not exist [default: stead-support-TIME.tar in this directory]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Files of the machine that say what Stead stands on.
const MACHINE: [&str; 9] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/mounts",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/fanotify/max_user_marks",
    "/proc/self/limits",
];
/// Files of the state directory without anything secret.
const STATE: [&str; 3] = ["version", "node.toml", "plan.toml"];
/// Of each log file, its end.
const LOG_BYTES_MAX: u64 = 256 << 10;

pub fn run(state: &Path, args: Args) -> Ended {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp(now.as_nanos() as u64).to_string();
    let file = args.file.unwrap_or_else(|| format!("stead-support-{}.tar", time.replace(':', "")).into());
    let mut bundle = Bundle::new(now.as_secs());
    bundle.add("README", &format!("Written by stead {} at {time}. It holds no keys.\n", env!("CARGO_PKG_VERSION")));
    from_daemon(state, &mut bundle);
    from_files(state, &mut bundle);
    write_new(&file, &bundle.end()).map_err(|e| {
        let remedy = "Name a file that does not exist, where there is room";
        Failure::new(format!("{} was not written", file.display()), e.to_string(), remedy).kind(FailureKind::Failed)
    })?;
    say(format_args!("{} was written; it holds names of nodes, addresses and paths, but no keys\n", file.display()));
    DONE
}

/// What only a running daemon knows; without one, why not.
fn from_daemon(state: &Path, bundle: &mut Bundle) {
    for (name, request) in [
        ("status", Request::Status { watch: false, local: false }),
        ("nodes.json", Request::Nodes),
        ("plan-check", Request::PlanCheck),
        ("daemon.log", Request::Log),
    ] {
        let text = match ask_quietly(state, &request) {
            Ok(Answer::Status(status)) => {
                bundle.add("status.json", &format!("{:#}\n", serde_json::json!(status)));
                status_text(&status, false)
            }
            Ok(Answer::Nodes(nodes)) => format!("{:#}\n", serde_json::json!(nodes)),
            Ok(Answer::Checked(findings)) => findings.into_iter().map(|finding| finding.text + "\n").collect(),
            Ok(Answer::Log(lines)) => lines.join("\n") + "\n",
            Ok(other) => format!("{other:?}\n"),
            Err(failure) => format!("{failure}\n"),
        };
        bundle.add(name, &text);
    }
}

/// What lies in files, also where no daemon runs.
fn from_files(state: &Path, bundle: &mut Bundle) {
    for file in MACHINE {
        bundle.add(&format!("machine{file}"), &shown(Path::new(file), LOG_BYTES_MAX));
    }
    for file in STATE {
        bundle.add(&format!("state/{file}"), &shown(&state.join(file), LOG_BYTES_MAX));
    }
    let mut listing = String::new();
    walk(state, state, &mut |path, name| {
        let meta = std::fs::symlink_metadata(path);
        let told = meta.map_or_else(|e| e.to_string(), |meta| format!("{} bytes", meta.len()));
        listing += &format!("{name}  {told}\n");
        if name.ends_with("set.toml") || name.ends_with("stream.toml") || name.ends_with(".log") {
            bundle.add(&format!("state/{name}"), &shown(path, LOG_BYTES_MAX));
        }
    });
    bundle.add("state/listing", &listing);
}

/// Everything beneath the state directory, by its relative name.
fn walk(top: &Path, dir: &Path, visit: &mut impl FnMut(&Path, &str)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        visit(&path, &name);
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            walk(top, &path, visit);
        }
    }
}
