//! `stead state backup`: what has to survive the loss of the machine, in one file.
//!
//! ```text
//!   stead-state-backup 1
//!   node NAME
//!   made SECONDS                    since 1970
//!   This file contains the private key of the node. …
//!   file PATH LENGTH                followed by LENGTH bytes and a line end; any number of them
//!   sha256 HEX                      of everything before this line
//! ```
//! Left out on purpose: invitations, and how far replicas are. A restored source numbers its stream anew, a restored
//! target says that it holds something of which it knows nothing: a difference mirror settles both.

use std::io::Write;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use stead_api::Failure;
use stead_model::SetName;

use super::{StateDir, files, node};
use crate::node::unix_seconds;
use crate::peer::to_hex;

/// First line: the version of the format.
pub(super) const HEAD: &str = "stead-state-backup 1";
const WARNING: &str =
    "This file contains the private key of the node. Whoever reads it can act as the node: keep it secret.";
/// Longest backup that is made or read.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// Files of the state directory itself that are kept.
pub(super) const FILES: [&str; 7] =
    ["version", "node.toml", "node.key", "node.crt", "rotation.toml", "peers.toml", "plan.toml"];
/// Files of a set that are kept.
pub(super) const SET_FILES: [&str; 2] = ["set.toml", "source/stream.toml"];

/// The backup of a state directory, as it is at this moment.
pub(crate) fn take(state: &StateDir) -> Result<Vec<u8>, Failure> {
    let name = node::load(state)?;
    let mut out = format!("{HEAD}\nnode {name}\nmade {}\n{WARNING}\n", unix_seconds()).into_bytes();
    for file in FILES {
        append(&mut out, state.path(), file)?;
    }
    for set in sets(state)? {
        SET_FILES.iter().try_for_each(|file| append(&mut out, state.path(), &format!("sets/{set}/{file}")))?;
    }
    if out.len() > BYTES_MAX {
        return Err(Failure::new("no backup was made", "the state is larger than a backup may be", ""));
    }
    let sum = sum(&out);
    out.extend(format!("sha256 {sum}\n").into_bytes());
    Ok(out)
}

/// The checksum that ends a backup.
pub(super) fn sum(bytes: &[u8]) -> String {
    to_hex(digest(&SHA256, bytes).as_ref())
}

fn append(out: &mut Vec<u8>, dir: &Path, name: &str) -> Result<(), Failure> {
    let path = dir.join(name);
    if !path.exists() {
        return Ok(());
    }
    let bytes = files::read(&path)?;
    let _ = writeln!(out, "file {name} {}", bytes.len());
    out.extend(bytes);
    out.push(b'\n');
    Ok(())
}

fn sets(state: &StateDir) -> Result<Vec<SetName>, Failure> {
    let dir = state.file("sets");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let unread = |e: std::io::Error| Failure::new(format!("{} cannot be read", dir.display()), e.to_string(), "");
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(unread)? {
        sets.extend(entry.map_err(unread)?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    sets.sort();
    Ok(sets)
}
