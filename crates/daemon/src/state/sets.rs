//! What is kept of each set beside the plan: its epoch and lineage, and what was made for it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_api::Failure;
use stead_model::status::Timestamp;
use stead_model::{Epoch, Position, SetName};

use super::{StateDir, files};

/// The file `set.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetState {
    /// Directories that were made for the replica, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) made: Vec<PathBuf>,
    /// For each path of the set: is it a directory?
    pub(crate) dirs: Vec<bool>,
    /// The node that sends it stands in for the other one, which has to be restored before anything is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) restore: bool,
    /// Newest first; each with where it began.
    pub(crate) lineage: Vec<Era>,
}

/// An epoch and the position at which it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Era {
    pub(crate) epoch: u64,
    pub(crate) writer: String,
    pub(crate) random: String,
    pub(crate) began: Position,
    /// Its writer stood in for another node with the image of that instant, by the other one's clock; 0: of no instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forked_at: Option<Timestamp>,
}

impl Era {
    fn new(epoch: Epoch, began: Position) -> Era {
        let writer = format!("{:032x}", u128::from_be_bytes(epoch.writer));
        Era { epoch: epoch.number, writer, random: format!("{:016x}", epoch.random), began, forked_at: None }
    }
}

impl SetState {
    /// The state of a set that begins its life.
    pub(crate) fn begin(epoch: Epoch, dirs: Vec<bool>, made: Vec<PathBuf>) -> SetState {
        let began = Position { epoch: epoch.number, incarnation: 0, sequence: 0 };
        SetState { made, dirs, restore: false, lineage: vec![Era::new(epoch, began)] }
    }

    /// Is a newer one known? Then nothing is begun under that epoch any more.
    pub(crate) fn is_past(&self, epoch: Epoch) -> bool {
        self.epoch().is_some_and(|newest| newest.number > epoch.number)
    }

    /// A newer epoch begins, or is heard of; `began`: the last position of the one before that is known here.
    pub(crate) fn enter(&mut self, epoch: Epoch, began: Position) {
        if self.epoch().is_none_or(|known| known.number < epoch.number) {
            self.lineage.insert(0, Era::new(epoch, began));
        }
    }

    /// The newest epoch.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        let era = self.lineage.first()?;
        let writer = u128::from_str_radix(&era.writer, 16).ok()?.to_be_bytes();
        Some(Epoch { number: era.epoch, writer, random: u64::from_str_radix(&era.random, 16).ok()? })
    }

    /// The newest epoch began with the image of that instant.
    pub(crate) fn fork(&mut self, at: Timestamp) {
        self.lineage.iter_mut().take(1).for_each(|era| era.forked_at = Some(at));
    }

    /// Where an epoch newer than that one began by standing in: with the image of which instant? The earliest counts.
    pub(crate) fn forked_since(&self, known: u64) -> Option<Timestamp> {
        let newer = self.lineage.iter().filter(|era| era.epoch > known);
        newer.filter_map(|era| era.forked_at).min()
    }

    pub(crate) fn load(state: &StateDir, set: &SetName) -> Result<SetState, Failure> {
        let file = state.set(set).join("set.toml");
        files::read_toml(&file)?.ok_or_else(|| {
            let remedy = format!("Give the protection up with stead unprotect {set} and protect again");
            Failure::new(format!("set {set} cannot be started"), format!("{} is missing", file.display()), remedy)
        })
    }

    /// Makes the set's directories, `role` (`source` or `target`) among them, and writes the file.
    pub(crate) fn save(&self, state: &StateDir, set: &SetName, role: &str) -> Result<PathBuf, Failure> {
        let dir = state.set(set);
        make_dir(&dir.join(role))?;
        files::write_toml(&dir.join("set.toml"), self)?;
        Ok(dir.join(role))
    }
}

/// Forgets what the data path kept of a set in a role that it has no longer here.
pub(crate) fn remove_role(state: &StateDir, set: &SetName, role: &str) -> Result<(), Failure> {
    let dir = state.set(set).join(role);
    match fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let remedy = "Remove the directory by hand";
            Err(Failure::new(format!("{} cannot be removed", dir.display()), e.to_string(), remedy))
        }
        _ => Ok(()),
    }
}

/// Forgets a set; a later one of the same name begins from nothing.
pub(crate) fn remove(state: &StateDir, set: &SetName) -> Result<(), Failure> {
    let dir = state.set(set);
    match fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let remedy = "Remove the directory by hand";
            Err(Failure::new(format!("{} cannot be removed", dir.display()), e.to_string(), remedy))
        }
        _ => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = fs::create_dir_all(dir)
        .and_then(|()| files::sync_parent(dir))
        .and_then(|()| dir.parent().map_or(Ok(()), files::sync_parent))
        .and_then(|()| dir.parent().and_then(Path::parent).map_or(Ok(()), files::sync_parent));
    made.map_err(|e| {
        Failure::new(format!("{} cannot be made", dir.display()), e.to_string(), "Check the state directory")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_under_an_older_epoch_is_over() {
        let epoch = |number| Epoch { number, writer: [1; 16], random: 0 };
        let mut state = SetState::begin(epoch(1), vec![true], vec![]);
        assert!(!state.is_past(epoch(2)) && !state.is_past(epoch(1)));
        state.enter(epoch(3), Position::default());
        assert!(state.is_past(epoch(2)) && !state.is_past(epoch(3)));
        state.enter(epoch(2), Position::default());
        assert_eq!(state.epoch(), Some(epoch(3)), "an older one is not entered");
    }

    #[test]
    fn the_epoch_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let name: SetName = "notes".parse().unwrap();
        let epoch = Epoch { number: 1, writer: [0xf7; 16], random: u64::MAX };
        SetState::begin(epoch, vec![true], vec![]).save(&state, &name, "source").unwrap();
        assert_eq!(SetState::load(&state, &name).unwrap().epoch(), Some(epoch));
        assert!(state.set(&name).join("source").is_dir());
        let mut kept = SetState::load(&state, &name).unwrap();
        for (number, forked) in [(2, Some(Timestamp(7_000_000))), (3, None), (4, Some(Timestamp(0)))] {
            kept.enter(Epoch { number, ..epoch }, Position::default());
            forked.into_iter().for_each(|at| kept.fork(at));
        }
        kept.save(&state, &name, "source").unwrap();
        let kept = SetState::load(&state, &name).unwrap();
        let forked = [1, 2, 3, 4].map(|known| kept.forked_since(known));
        assert_eq!(forked, [Some(Timestamp(0)), Some(Timestamp(0)), Some(Timestamp(0)), None]);
        assert_eq!(kept.lineage[2].forked_at, Some(Timestamp(7_000_000)));
        remove(&state, &name).unwrap();
        remove(&state, &name).unwrap();
        assert!(SetState::load(&state, &name).is_err());
    }
}
