//! `stead state restore`: a state directory from a backup, while no daemon runs on it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use stead_api::{Failure, FailureKind};
use stead_model::plan::Plan;
use stead_model::{NodeName, SetName};

use super::backup::{BYTES_MAX, FILES, HEAD, SET_FILES, sum};
use super::{RESTORING, StateDir, files};

/// How far the number of a stream jumps: further than daemons are ever started.
const JUMP: u64 = 1 << 32;
/// Drawn on top, so that two restores of one backup do not meet.
const RANDOM_BITS: u32 = 31;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The node that the backup is of.
    pub node: NodeName,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// The sets that it takes part in.
    pub sets: Vec<SetName>,
}

/// Makes the state directory what the backup says.
///
/// # Errors
/// Where the backup is damaged, a daemon runs, a set is being captured, or the directory is not empty and `force` is not
/// given. Nothing was changed then, unless the failure says so.
pub fn restore(dir: &Path, backup: &Path, force: bool) -> Result<Restored, Failure> {
    let text = files::read(backup)?;
    let parsed = Backup::parse(&text).map_err(|why| {
        let what = format!("{} was not restored", backup.display());
        Failure::new(what, why, "Use a file that stead state backup wrote")
    })?;
    let state = StateDir::lock(dir)?;
    may_be_replaced(&state, force)?;
    parsed.write(&state)?;
    Ok(Restored { node: parsed.node, made: parsed.made, sets: parsed.sets })
}

struct Backup<'a> {
    node: NodeName,
    made: u64,
    plan: Plan,
    sets: Vec<SetName>,
    files: Vec<(String, &'a [u8])>,
}

impl<'a> Backup<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Backup<'a>, String> {
        if bytes.len() > BYTES_MAX + 128 {
            return Err("it is too long for a backup".into());
        }
        if !bytes.starts_with(HEAD.as_bytes()) {
            return Err(if bytes.starts_with(b"stead-state-backup ") {
                "it is of another version than this build reads".into()
            } else {
                "it is not a backup of the state of a node".into()
            });
        }
        let (body, told) = split_sum(bytes).ok_or("it is cut off: its checksum is missing")?;
        if sum(body) != told {
            return Err("it is damaged: its checksum does not fit".into());
        }
        Backup::read(body).ok_or_else(|| "its parts cannot be read".into())
    }

    fn read(body: &'a [u8]) -> Option<Backup<'a>> {
        let mut rest = body;
        let _head = line(&mut rest)?;
        let node = line(&mut rest)?.strip_prefix("node ")?.parse().ok()?;
        let made = line(&mut rest)?.strip_prefix("made ")?.parse().ok()?;
        let _warning = line(&mut rest)?;
        let (mut files, mut sets) = (Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (name, length) = line(&mut rest)?.strip_prefix("file ")?.rsplit_once(' ')?;
            let length: usize = length.parse().ok()?;
            let content = rest.get(..length)?;
            rest = rest.get(length..)?.strip_prefix(b"\n")?;
            sets.extend(known_set(name)?);
            files.push((name.to_string(), content));
        }
        sets.sort();
        sets.dedup();
        let plan = files.iter().find(|(name, _)| name == "plan.toml");
        let plan = plan.map_or(Some(Plan::default()), |(_, text)| Plan::parse(std::str::from_utf8(text).ok()?).ok())?;
        Some(Backup { node, made, plan, sets, files })
    }

    fn write(&self, state: &StateDir) -> Result<(), Failure> {
        let failed = |e: io::Error| {
            let what = format!("the state directory {} is half restored", state.path().display());
            Failure::new(what, e.to_string(), "Remove the cause and restore again")
        };
        files::write(&state.file(RESTORING), b"", 0o600)?;
        empty(state.path()).map_err(failed)?;
        for (name, content) in &self.files {
            let path = state.file(name);
            fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
            let mode = if name == "node.crt" { 0o644 } else { 0o600 };
            match name.ends_with("/stream.toml") {
                true => files::write(&path, &jumped(content)?, mode)?,
                false => files::write(&path, content, mode)?,
            }
        }
        self.sets.iter().try_for_each(|set| self.prepare(state, set).map_err(failed))?;
        sync_tree(&state.file("sets")).map_err(failed)?;
        files::remove(&state.file(RESTORING))
    }

    /// What the set needs besides: a source a number for its stream, a target the word that its replica holds something.
    fn prepare(&self, state: &StateDir, set: &SetName) -> io::Result<()> {
        let is_source = self.plan.set(set).is_none_or(|planned| planned.source == self.node);
        let dir = state.set(set).join(if is_source { "source" } else { "target" });
        fs::create_dir_all(&dir)?;
        let (file, text) = if is_source {
            (dir.join("stream.toml"), jumped(b"incarnation = 0").map_err(io::Error::other)?)
        } else {
            (dir.join("target.toml"), b"begun = true\n".to_vec())
        };
        if file.exists() { Ok(()) } else { files::write(&file, &text, 0o600).map_err(io::Error::other) }
    }
}

/// What comes before the last line, and the checksum in it.
fn split_sum(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let end = bytes.strip_suffix(b"\n")?;
    let at = end.iter().rposition(|byte| *byte == b'\n')? + 1;
    Some((&bytes[..at], std::str::from_utf8(&end[at..]).ok()?.strip_prefix("sha256 ")?))
}

/// The set that a file belongs to; none: the file is not one that a backup holds.
fn known_set(name: &str) -> Option<Option<SetName>> {
    if FILES.contains(&name) {
        return Some(None);
    }
    let (set, file) = name.strip_prefix("sets/")?.split_once('/')?;
    let set = set.parse().ok()?;
    SET_FILES.contains(&file).then_some(Some(set))
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    *rest = &rest[end + 1..];
    Some(text)
}

/// The stream's file with a number that was never used, whatever happened since the backup. How the stream of the backup
/// ended says nothing about the ones since: the next one begins as after a power cut.
fn jumped(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let unread = |why: String| Failure::new("the number of a stream cannot be read", why, "Use another backup");
    let text = std::str::from_utf8(content).map_err(|e| unread(e.to_string()))?;
    let table: toml::Table = toml::from_str(text).map_err(|e| unread(e.to_string()))?;
    let last = table.get("incarnation").and_then(toml::Value::as_integer).unwrap_or(0);
    let next = u64::try_from(last).unwrap_or(0).saturating_add(JUMP).saturating_add(random()?);
    Ok(format!("incarnation = {next}\nboot = \"restored\"\nended = false\n").into_bytes())
}

fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::new("no random number could be drawn", "the kernel gives none", ""))?;
    Ok(u64::from_le_bytes(bytes) >> (64 - RANDOM_BITS))
}

fn may_be_replaced(state: &StateDir, force: bool) -> Result<(), Failure> {
    let what = format!("the state directory {} was left as it is", state.path().display());
    if let Some(set) = captured(&state.file("sets")) {
        let remedy = format!("End it first: start the daemon and stead unprotect {set}, or restart the machine");
        return Err(Failure::new(what, format!("set {set} is being captured right now"), remedy));
    }
    let unread = |e: io::Error| Failure::new(&what, e.to_string(), "");
    let mut entries = fs::read_dir(state.path()).map_err(unread)?.filter_map(|entry| entry.ok());
    let used = entries.any(|entry| entry.file_name() != "lock");
    if used && !force && !state.file(RESTORING).exists() {
        let remedy = "Restore into another directory with --state, or replace what is there with --force";
        return Err(Failure::new(what, "it is not empty", remedy).kind(FailureKind::No));
    }
    Ok(())
}

/// A set whose capture answers.
fn captured(sets: &Path) -> Option<String> {
    let entries = fs::read_dir(sets).ok()?.filter_map(|entry| entry.ok());
    // Whatever kind of socket it is: only where nobody listens, a connection is refused as such.
    let nobody = |e: &io::Error| {
        matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory)
    };
    let answers = |dir: &PathBuf| match UnixStream::connect(dir.join("source/capture.sock")) {
        Ok(_) => true,
        Err(e) => !nobody(&e),
    };
    let found = entries.map(|entry| entry.path()).find(answers)?;
    Some(found.file_name()?.to_string_lossy().into_owned())
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == "lock" || entry.file_name() == RESTORING {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    fs::File::open(dir)?.sync_all()
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        sync_tree(&entry?.path())?;
    }
    fs::File::open(dir)?.sync_all()?;
    files::sync_parent(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::backup;

    const PLAN: &str = r#"version = 1

[[set]]
name = "notes"
source = "paris"
path = [{ path = "/srv/notes", volume = "5f0e8a1c-3d5b-4ab6-8f0c-1f2e3d4c5b6a" }]

[[connection]]
set = "notes"
target = "lyon"
mapping = [{ from = "/srv/notes", to = "/srv/notes" }]
"#;

    /// The state of node `name` after its third start.
    fn backed_up(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        super::super::node::name(&state, Some(name.parse().unwrap())).unwrap();
        crate::peer::Identity::load_or_make(state.path()).unwrap();
        files::write(&state.file("plan.toml"), PLAN.as_bytes(), 0o600).unwrap();
        files::write(&state.file("invites.toml"), b"", 0o600).unwrap();
        let role = if name == "paris" { "source" } else { "target" };
        fs::create_dir_all(state.file("sets/notes").join(role)).unwrap();
        files::write(&state.file("sets/notes/set.toml"), b"dirs = [true]\nlineage = []\n", 0o600).unwrap();
        if name == "paris" {
            files::write(
                &state.file("sets/notes/source/stream.toml"),
                b"incarnation = 3\nboot = \"x\"\nended = true\n",
                0o600,
            )
            .unwrap();
        }
        let file = dir.path().join("backup");
        fs::write(&file, backup::take(&state).unwrap()).unwrap();
        (dir, file)
    }

    fn incarnation(state: &Path) -> u64 {
        let text = fs::read_to_string(state.join("sets/notes/source/stream.toml")).unwrap();
        assert!(text.ends_with("\nboot = \"restored\"\nended = false\n"), "{text}");
        text.lines().next().unwrap().strip_prefix("incarnation = ").unwrap().parse().unwrap()
    }

    #[test]
    fn a_restored_source_never_uses_a_number_of_its_stream_again() {
        let (dir, file) = backed_up("paris");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let restored = restore(&one, &file, false).unwrap();
        assert_eq!((restored.node.as_str(), restored.sets), ("paris", vec!["notes".parse().unwrap()]));
        restore(&two, &file, false).unwrap();
        assert!(incarnation(&one) >= 3 + JUMP && incarnation(&two) >= 3 + JUMP);
        assert_ne!(incarnation(&one), incarnation(&two), "two restores of one backup");
        for name in ["version", "node.toml", "node.key", "node.crt", "plan.toml", "sets/notes/set.toml"] {
            assert_eq!(fs::read(one.join(name)).unwrap(), fs::read(dir.path().join("state").join(name)).unwrap());
        }
        assert!(!one.join("invites.toml").exists() && !one.join(RESTORING).exists());
        assert!(StateDir::open(&one).is_ok());
    }

    #[test]
    fn a_restored_target_says_that_it_holds_something_unknown() {
        let (dir, file) = backed_up("lyon");
        let state = dir.path().join("new");
        restore(&state, &file, false).unwrap();
        assert_eq!(fs::read_to_string(state.join("sets/notes/target/target.toml")).unwrap(), "begun = true\n");
    }

    #[test]
    fn what_is_there_is_replaced_only_by_force_and_never_under_a_daemon() {
        let (dir, file) = backed_up("paris");
        let state = dir.path().join("state");
        assert_eq!(restore(&state, &file, false).unwrap_err().kind, FailureKind::No);
        assert!(state.join("invites.toml").exists());
        let running = StateDir::open(&state).unwrap();
        assert!(restore(&state, &file, true).unwrap_err().why.contains("a daemon is running"));
        drop(running);
        let socket = state.join("sets/notes/source/capture.sock");
        let capture = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(restore(&state, &file, true).unwrap_err().why.contains("being captured"));
        drop(capture);
        restore(&state, &file, true).unwrap();
        assert!(!state.join("invites.toml").exists());
    }

    #[test]
    fn a_restore_that_was_cut_off_is_noticed_and_can_be_repeated() {
        let (dir, file) = backed_up("paris");
        let state = dir.path().join("new");
        restore(&state, &file, false).unwrap();
        fs::write(state.join(RESTORING), "").unwrap();
        assert!(StateDir::open(&state).err().unwrap().why.contains("did not come to its end"));
        restore(&state, &file, false).unwrap();
        assert!(StateDir::open(&state).is_ok());
    }

    #[test]
    fn damage_anywhere_is_found_before_anything_is_changed() {
        let (dir, file) = backed_up("paris");
        let good = fs::read(&file).unwrap();
        let state = dir.path().join("new");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Backup::parse(&bad).is_err(), "byte {at}");
            assert!(Backup::parse(&good[..at]).is_err(), "cut at {at}");
        }
        fs::write(&file, &good[..good.len() / 2]).unwrap();
        assert!(restore(&state, &file, false).is_err());
        assert!(!state.exists());
    }

    #[test]
    fn no_well_summed_nonsense_leaves_the_directory() {
        for name in ["../evil", "sets/../evil/set.toml", "sets/a/../../set.toml", "/etc/passwd", "invites.toml"] {
            let mut bytes = format!("{HEAD}\nnode paris\nmade 1\nwarning\nfile {name} 1\nx\n").into_bytes();
            bytes.extend(format!("sha256 {}\n", sum(&bytes)).into_bytes());
            assert!(Backup::parse(&bytes).is_err(), "{name}");
        }
    }
}
