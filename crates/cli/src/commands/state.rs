use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use stead_api::{Answer, Failure, FailureKind, Request};

use super::{DONE, Ended};
use crate::client::{ask_quietly, misunderstood};
use crate::show::say;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Save this node's identity, trust, plan and sets into a file, also while the daemon runs; it holds the private key
    Backup {
        /// The file, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make the state directory what a backup says; no daemon may run on it
    Restore {
        /// A file that stead state backup wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace what is in the state directory
        #[arg(long)]
        force: bool,
    },
}

pub fn run(state: &Path, args: Args) -> Ended {
    match args.what {
        What::Backup { file } => backup(state, &file),
        What::Restore { file, force } => restore(state, &file, force),
    }
}

fn backup(state: &Path, file: &Path) -> Ended {
    let bytes = match ask_quietly(state, &Request::StateBackup) {
        Ok(Answer::Backup(text)) => from_hex(&text).ok_or_else(|| misunderstood(&Answer::Done))?,
        Ok(other) => return Err(misunderstood(&other)),
        Err(failure) if failure.kind == FailureKind::NoDaemon => stead_daemon::take_backup(state)?,
        Err(failure) => return Err(failure),
    };
    write_new(file, &bytes).map_err(|e| {
        let remedy = "Name a file that does not exist, where there is room";
        Failure::new(format!("{} was not written", file.display()), e.to_string(), remedy)
    })?;
    say(format_args!("{} was written; it contains the private key of this node: keep it secret\n", file.display()));
    DONE
}

fn restore(state: &Path, file: &Path, force: bool) -> Ended {
    let restored = stead_daemon::restore(state, file, force)?;
    let sets = restored.sets.len();
    say(format_args!(
        "the state of node {} was restored, with {sets} sets; start its daemon, and look at stead node list: nodes that \
         were removed since the backup are trusted again\n",
        restored.node
    ));
    DONE
}

/// Writes a file that did not exist, for root alone, and syncs it.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => io::Error::new(e.kind(), "a file of that name exists already"),
        _ => e,
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
        return written;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect()).flatten()
}
