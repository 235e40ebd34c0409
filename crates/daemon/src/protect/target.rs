//! The target's part: is there a fit place with enough room, and making it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use stead_api::Failure;
use stead_disk::check::{abilities, free};
use stead_model::plan::{ConnectionPlan, Feature, Plan, overlap};

use super::{World, tree};
use crate::peer::messages::{ReplicaAsk, ReplicaTell, path_as_text};
use crate::state::files;

/// Entries that are told of what lies at the replica's place already.
const EXISTING_MAX: usize = 50_000;

/// Could this node keep that replica? Changes nothing.
pub(crate) fn examine(world: &World, ask: &ReplicaAsk) -> Result<ReplicaTell, Failure> {
    let what = format!("{} cannot keep set {}", world.node, ask.set.name);
    fits_plan(world, ask, &what)?;
    let mut told = ReplicaTell::default();
    let mut rooms = BTreeMap::new();
    for (path, is_dir) in ask.set.paths.iter().zip(&ask.dirs) {
        let to = ask.connection.replica_of(&path.path).unwrap_or(&path.path);
        let place = Place { world, connection: &ask.connection, to, is_dir: *is_dir };
        let ground = place.ground()?;
        place.is_able(&ground)?;
        let (existing, cut) = place.existing(ask.into_non_empty)?;
        told.cut |= cut;
        told.existing.push(existing.iter().map(|path| path_as_text(path)).collect());
        let device = fs::metadata(&ground).map_err(|e| place.unfit(e.to_string(), ""))?.dev();
        rooms.entry(device).or_insert(ground);
    }
    has_room(&what, ask, &rooms, told.existing.iter().all(Vec::is_empty))?;
    Ok(told)
}

/// Makes the directories; returns those that were not there before, outermost first.
pub(crate) fn make(world: &World, ask: &ReplicaAsk) -> Result<Vec<PathBuf>, Failure> {
    examine(world, ask)?;
    let mut made = Vec::new();
    for (path, is_dir) in ask.set.paths.iter().zip(&ask.dirs) {
        let to = ask.connection.replica_of(&path.path).unwrap_or(&path.path);
        let dir = if *is_dir { to } else { to.parent().unwrap_or(to) };
        if let Err(e) = make_dirs(dir, &mut made) {
            unmake(&made);
            return Err(Failure::new(format!("{} cannot be made on {}", dir.display(), world.node), e.to_string(), ""));
        }
    }
    Ok(made)
}

/// Removes directories that were made, where they are still empty.
pub(crate) fn unmake(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        let _ = fs::remove_dir(dir);
        let _ = files::sync_parent(dir);
    }
}

struct Place<'a> {
    world: &'a World,
    connection: &'a ConnectionPlan,
    to: &'a Path,
    is_dir: bool,
}

impl Place<'_> {
    fn unfit(&self, why: impl Into<String>, remedy: &str) -> Failure {
        Failure::new(format!("{} on {} cannot hold the replica", self.to.display(), self.world.node), why, remedy)
    }

    /// The nearest directory that exists, on the way to the replica's path, which leads over no symlink.
    fn ground(&self) -> Result<PathBuf, Failure> {
        if overlap(self.to, &self.world.state) {
            let why = format!("it is, holds or lies in the state directory of Stead, {}", self.world.state.display());
            return Err(self.unfit(why, "Choose another place with --map SRC=DST"));
        }
        let mut ground = if self.is_dir { self.to } else { self.to.parent().unwrap_or(self.to) };
        while fs::symlink_metadata(ground).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            ground = ground.parent().unwrap_or(Path::new("/"));
        }
        let real = fs::canonicalize(ground).map_err(|e| self.unfit(e.to_string(), ""))?;
        if real != ground {
            let why = format!("{} is a symlink, to {}", ground.display(), real.display());
            return Err(self.unfit(why, "Map the path to the real place with --map SRC=DST"));
        }
        if !real.is_dir() {
            let why = format!("{} is not a directory", real.display());
            return Err(self.unfit(why, "Choose another place with --map SRC=DST"));
        }
        Ok(real)
    }

    fn is_able(&self, ground: &Path) -> Result<(), Failure> {
        let able =
            abilities(ground).map_err(|e| self.unfit(e.to_string(), "Choose another place with --map SRC=DST"))?;
        let without = |feature| self.connection.without.contains(&feature);
        if !able.handles {
            let remedy = "Use a file system with lasting file handles: ext4, xfs, btrfs";
            return Err(self.unfit("its file system has no file handles with generations", remedy));
        }
        let holds_xattrs = able.user_xattrs && able.trusted_xattrs;
        if !holds_xattrs && !without(Feature::Xattrs) {
            let remedy = "Use another file system, or agree to go without them: --without xattrs";
            return Err(self.unfit("its file system cannot hold extended attributes", remedy));
        }
        if !able.acls && !without(Feature::Acls) {
            let remedy = "Use another file system, or agree to go without them: --without acls";
            return Err(self.unfit("its file system cannot hold access control lists", remedy));
        }
        Ok(())
    }

    /// What lies there already; refused unless that was agreed to.
    fn existing(&self, agreed: bool) -> Result<(Vec<PathBuf>, bool), Failure> {
        let meta = match fs::symlink_metadata(self.to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
            meta => meta.map_err(|e| self.unfit(e.to_string(), ""))?,
        };
        if meta.is_dir() != self.is_dir {
            let why =
                if self.is_dir { "there is something there that is no directory" } else { "there is a directory" };
            return Err(self.unfit(why, "Choose another place with --map SRC=DST"));
        }
        let (found, cut) = if self.is_dir {
            tree::list(self.to, if agreed { EXISTING_MAX } else { 1 }).map_err(|e| self.unfit(e.to_string(), ""))?
        } else {
            (Vec::new(), false)
        };
        if agreed || (self.is_dir && found.is_empty()) {
            return Ok((found, cut));
        }
        let why = if self.is_dir { "the directory is not empty" } else { "the file exists" };
        let remedy = "Choose another place with --map SRC=DST, or overwrite what is there: --into-non-empty \
                      (what would be deleted is listed first)";
        Err(self.unfit(why, remedy))
    }
}

fn fits_plan(world: &World, ask: &ReplicaAsk, what: &str) -> Result<(), Failure> {
    let remedy = "Choose another name with --set, or another place with --map SRC=DST";
    let refused = |why: String| Failure::new(what, why, remedy);
    let mut plan: Plan = world.plan.clone();
    match plan.set(&ask.set.name) {
        Some(set) if set.source != ask.set.source => {
            return Err(refused(format!("it knows a set of that name already, from {}", set.source)));
        }
        Some(_) => plan = plan.without_set(&ask.set.name).map_err(|e| refused(e.to_string()))?,
        None => {}
    }
    let own = plan.sets.iter().filter(|set| set.source == world.node);
    for (set, root) in own.flat_map(|set| set.paths.iter().map(move |root| (set, &root.path))) {
        if let Some(m) = ask.connection.mapping.iter().find(|m| overlap(&m.to, root)) {
            let why =
                format!("{} overlaps {}, which is protected there as set {}", m.to.display(), root.display(), set.name);
            return Err(refused(why));
        }
    }
    plan.with_set(ask.set.clone(), vec![ask.connection.clone()]).map(drop).map_err(|e| refused(e.to_string()))
}

/// A first mirror into an empty place must fit whole; into a place that holds something, what is there counts as room.
fn has_room(what: &str, ask: &ReplicaAsk, rooms: &BTreeMap<u64, PathBuf>, empty: bool) -> Result<(), Failure> {
    if !empty {
        return Ok(());
    }
    let (mut bytes, mut inodes) = (0u64, 0u64);
    for ground in rooms.values() {
        let room = free(ground).map_err(|e| Failure::new(what, e.to_string(), ""))?;
        (bytes, inodes) = (bytes.saturating_add(room.bytes), inodes.saturating_add(room.inodes));
    }
    let remedy = "Make room there, or choose another place with --map SRC=DST";
    if bytes < ask.bytes {
        let why = format!("the set holds {}, and there is room for {}", size(ask.bytes), size(bytes));
        return Err(Failure::new(what, why, remedy));
    }
    if inodes < ask.files {
        let why = format!("the set holds {} files, and there is room for {inodes}", ask.files);
        return Err(Failure::new(what, why, remedy));
    }
    Ok(())
}

fn make_dirs(dir: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dirs(parent, made)?;
    }
    fs::DirBuilder::new().mode(0o755).create(dir)?;
    made.push(dir.to_path_buf());
    files::sync_parent(dir)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}
