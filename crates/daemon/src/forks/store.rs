//! The files of forks.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_api::{Failure, ForkEntry};
use stead_model::status::Timestamp;
use stead_model::{NodeName, SetName};

use crate::state::{StateDir, files};

const FILE: &str = "fork.toml";
const INDEX: &str = "index.jsonl";
const NEW_INDEX: &str = "index.jsonl.new";
const COPIES: &str = "files";
/// Entries that are told at once, and bytes of them.
const PAGE: usize = 1000;
const PAGE_BYTES: u64 = 1 << 20;

/// Where a fork is.
#[derive(Clone, Debug)]
pub(crate) struct ForkDir {
    pub(crate) set: SetName,
    pub(crate) epoch: u64,
    path: PathBuf,
}

/// The file `fork.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkFile {
    /// The node that stood in.
    pub(crate) by: NodeName,
    /// The last epoch under which this node wrote.
    pub(crate) known: u64,
    /// What changed since is not there; none: the other node was not asked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// None: it is still to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<Kept>,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) at: Timestamp,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) unkept: u64,
}

/// Everything that may be a fork.
pub(crate) fn dirs(state: &StateDir) -> Result<Vec<ForkDir>, Failure> {
    let top = state.file("forks");
    let mut found = Vec::new();
    for set in names(&top).map_err(|e| unusable(&top, &e))? {
        let of_set = top.join(&set);
        for epoch in names(&of_set).map_err(|e| unusable(&of_set, &e))? {
            let (Ok(set), Ok(number)) = (set.parse(), epoch.parse()) else { continue };
            found.push(ForkDir { set, epoch: number, path: of_set.join(epoch) });
        }
    }
    Ok(found)
}

impl ForkDir {
    pub(crate) fn of(state: &StateDir, set: &SetName, epoch: u64) -> ForkDir {
        let path = state.file("forks").join(set.as_str()).join(epoch.to_string());
        ForkDir { set: set.clone(), epoch, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the copies are.
    pub(crate) fn copies(&self) -> PathBuf {
        self.path.join(COPIES)
    }

    /// Where the index is written until it is whole.
    pub(super) fn new_index(&self) -> PathBuf {
        self.path.join(NEW_INDEX)
    }

    pub(crate) fn file(&self) -> Result<Option<ForkFile>, Failure> {
        files::read_toml(&self.path.join(FILE))
    }

    /// Makes the directory and writes the file, durably.
    pub(crate) fn begin(&self, file: &ForkFile) -> Result<(), Failure> {
        let made = fs::create_dir_all(&self.path).and_then(|()| {
            let mut above = self.path.ancestors().take(3);
            above.try_for_each(files::sync_parent)
        });
        made.map_err(|e| unusable(&self.path, &e))?;
        self.save(file)
    }

    pub(crate) fn save(&self, file: &ForkFile) -> Result<(), Failure> {
        files::write_toml(&self.path.join(FILE), file)
    }

    /// From now on it is nothing.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        files::remove(&self.path.join(FILE))
    }

    /// Removes whatever an earlier attempt copied.
    pub(super) fn clear(&self) -> io::Result<()> {
        for file in [INDEX, NEW_INDEX] {
            or_absent(fs::remove_file(self.path.join(file)))?;
        }
        or_absent(fs::remove_dir_all(self.copies()))
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        or_absent(fs::remove_dir_all(&self.path)).map_err(|e| unusable(&self.path, &e))?;
        // Only where it was the last of its set.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }

    /// Everything that was copied is durable; then the index is in its place.
    pub(super) fn seal(&self) -> io::Result<()> {
        stead_disk::aside::sync(&self.path)?;
        fs::rename(self.new_index(), self.path.join(INDEX))?;
        File::open(&self.path)?.sync_all()
    }

    /// Part of the index, and where it goes on.
    pub(crate) fn entries(&self, from: u64) -> Result<(Vec<ForkEntry>, Option<u64>), Failure> {
        let path = self.path.join(INDEX);
        read_entries(&path, from).map_err(|e| unusable(&path, &e))
    }
}

fn read_entries(index: &Path, from: u64) -> io::Result<(Vec<ForkEntry>, Option<u64>)> {
    let mut reader = BufReader::new(File::open(index)?);
    let mut at = reader.seek(SeekFrom::Start(from))?;
    let mut entries = Vec::new();
    let mut line = String::new();
    while entries.len() < PAGE && at - from < PAGE_BYTES {
        line.clear();
        let len = reader.read_line(&mut line)?;
        if len == 0 {
            return Ok((entries, None));
        }
        entries.push(serde_json::from_str(&line)?);
        at += len as u64;
    }
    Ok((entries, Some(at)))
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

fn or_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be used", path.display()), error.to_string(), "Check the state directory")
}
