//! The source's part: are the paths fit to be protected, what is in them, will the target keep them.

use std::fs;
use std::path::{Path, PathBuf};

use stead_api::{Failure, FailureKind, MapArg, Protect};
use stead_disk::guard::{Hold, Holder};
use stead_model::plan::{CaptureChoice, ConnectionPlan, Mapping, Mode, Order, PathPlan, Plan, SetPlan, overlap};
use stead_model::{Epoch, Rules, RulesSpec, SetName};

use super::tree::{self, Size};
use super::{ASK_TIMEOUT, World};
use crate::api_server::Responder;
use crate::job::Kept;
use crate::peer::ask;
use crate::peer::messages::{Ask, ReplicaAsk, ReplicaTell, Tell, text_as_path};

/// Holders of files that are listed by name.
const HOLDERS_SHOWN: usize = 20;
/// What FUSE itself has no request for.
const MOUNT_REFUSES: &str = "beneath the capture mount, fallocate cannot collapse or insert ranges, files cannot be \
     cloned (FICLONE), and st_dev and the file system's type are those of the mount";
/// Names that are listed of what would be deleted.
const DELETED_SHOWN: usize = 50;

/// Checks everything, and has the target prepared. Nothing is changed here; at the target nothing that a `Release`
/// does not undo.
pub(crate) fn arrange(
    world: &World,
    name: &SetName,
    existing: Option<Existing>,
    options: &Protect,
    responder: &Responder,
) -> Result<Kept, Failure> {
    let what = format!("set {name} was not made");
    check_options(world, name, options, existing.as_ref(), &what)?;
    if let Some(existing) = existing {
        return join(world, existing, options, responder);
    }
    let rules = Rules::new(&options.rules).map_err(|e| usage(&what, e.to_string(), "Correct the glob"))?;
    let mut roots = Vec::new();
    for path in &options.paths {
        roots.push(check_path(world, path, responder)?);
    }
    let dirs: Vec<_> = roots.iter().map(|root| root.is_dir).collect();
    is_supported(options.mode, &dirs, &what)?;
    let (mut set, connection) = plan_parts(world, name, options, &roots)?;
    if let Some(origin) = relay_of(world, &roots, options, &what)? {
        (set.relay, set.rules) = (Some(origin.name.clone()), origin.rules.clone());
    }
    let rules = if set.relay.is_some() { Rules::new(&set.rules).unwrap_or(rules) } else { rules };
    refuse_overlap(&world.plan, &set, &connection, &what)?;
    let settings = connection.settings.or(&world.plan.defaults.settings);
    let told = ConnectionPlan { settings, ..connection.clone() };
    if set.relay.is_none() && dirs.contains(&true) {
        responder.notice(MOUNT_REFUSES);
    }
    let mut size = Size::default();
    for root in &roots {
        let part = tree::measure(&root.plan.path, &rules);
        let part = part.map_err(|e| unfit(&root.plan.path, e.to_string(), "Check the file system"))?;
        size = Size { bytes: size.bytes + part.bytes, files: size.files + part.files };
        name_nested(root, &roots, responder);
        if set.relay.is_none() {
            name_holders(&root.plan.path, responder);
        }
    }
    let question = ReplicaAsk {
        dirs,
        epoch: first_epoch(world)?,
        bytes: size.bytes,
        files: size.files,
        into_non_empty: options.into_non_empty || options.seeded,
        set,
        connection: told,
    };
    let kept = agree(world, question, &rules, options, responder)?;
    Ok(Kept { connection, ..kept })
}

/// A set of this node that runs.
pub(crate) struct Existing {
    pub(crate) set: SetPlan,
    pub(crate) dirs: Vec<bool>,
    pub(crate) epoch: Epoch,
}

/// Another target for a set that runs.
fn join(world: &World, existing: Existing, options: &Protect, responder: &Responder) -> Result<Kept, Failure> {
    let Existing { set, dirs, epoch } = existing;
    let what = format!("set {} got no other target", set.name);
    is_supported(options.mode, &dirs, &what)?;
    is_plain(options, set.relay.as_ref(), &what)?;
    let rules = Rules::new(&set.rules).map_err(|e| usage(&what, e.to_string(), "Correct the glob"))?;
    let paths: Vec<_> = set.paths.iter().map(|path| path.path.clone()).collect();
    let connection = connection_of(&set.name, &paths, options)?;
    world
        .plan
        .with_connection(connection.clone())
        .map_err(|e| Failure::new(&what, e.to_string(), "Name another node, or another place with --map SRC=DST"))?;
    let mut size = Size::default();
    for path in &paths {
        let part = tree::measure(path, &rules).map_err(|e| unfit(path, e.to_string(), "Check the file system"))?;
        size = Size { bytes: size.bytes + part.bytes, files: size.files + part.files };
    }
    let settings = connection.settings.or(&world.plan.defaults.settings);
    let question = ReplicaAsk {
        dirs,
        epoch,
        bytes: size.bytes,
        files: size.files,
        into_non_empty: options.into_non_empty || options.seeded,
        set,
        connection: ConnectionPlan { settings, ..connection.clone() },
    };
    let kept = agree(world, question, &rules, options, responder)?;
    Ok(Kept { connection, joins: true, ..kept })
}

struct Root {
    plan: PathPlan,
    is_dir: bool,
    /// Mount points beneath it.
    nested: Vec<PathBuf>,
    /// The set whose replica it is.
    relay: Option<SetName>,
}

fn check_options(
    world: &World,
    name: &SetName,
    options: &Protect,
    existing: Option<&Existing>,
    what: &str,
) -> Result<(), Failure> {
    if options.paths.is_empty() && existing.is_none() {
        return Err(usage(what, "no path is given", "Name the directories: stead protect PATH… --on NODE"));
    }
    if let Some(set) = world.plan.set(name).filter(|set| !existing.is_some_and(|_| is_meant(set, options))) {
        let paths: Vec<_> = set.paths.iter().map(|path| path.path.display().to_string()).collect();
        let why = format!("there is a set of that name already: {} on {}", paths.join(", "), set.source);
        let remedy = format!(
            "Choose another name with --set; to give that set another target: stead protect --set {name} --on NODE"
        );
        return Err(Failure::new(what, why, remedy));
    }
    if options.on == world.node {
        return Err(usage(what, format!("{} is this node itself", options.on), "Name another node with --on"));
    }
    if !world.dialer.knows(&options.on) {
        let why = format!("{} is not a node that this one trusts", options.on);
        let remedy = "List the nodes with stead node list; make one known with stead invite there and stead join here";
        return Err(Failure::new(what, why, remedy));
    }
    if options.capture == CaptureChoice::Probe {
        let remedy = "Use --capture auto or --capture mount";
        return Err(Failure::new(what, "capture by probe is not part of this release", remedy));
    }
    Ok(())
}

/// Are those the paths of the set, or none at all?
fn is_meant(set: &SetPlan, options: &Protect) -> bool {
    let canonical = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    options.paths.is_empty() || options.paths.iter().map(canonical).eq(set.paths.iter().map(|path| path.path.clone()))
}

/// Can a set of these paths (directories, or single files) be run in that mode?
pub(crate) fn is_supported(mode: Mode, dirs: &[bool], what: &str) -> Result<(), Failure> {
    if mode == Mode::Async || dirs.iter().all(|is_dir| *is_dir) {
        return Ok(());
    }
    let why = "a single file in it is captured when it is closed, so that no fsync can wait for it";
    Err(Failure::new(what, why, "Protect the directory that holds the file, or use --mode async"))
}

fn check_path(world: &World, given: &Path, responder: &Responder) -> Result<Root, Failure> {
    if !given.is_absolute() {
        return Err(usage(&format!("{} cannot be protected", given.display()), "the path is not absolute", ""));
    }
    let path = fs::canonicalize(given).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => unfit(given, "it does not exist", "Create it first, or correct the path"),
        _ => unfit(given, e.to_string(), ""),
    })?;
    if path.parent().is_none() {
        return Err(unfit(
            &path,
            "the root directory cannot be protected as a whole",
            "Name the directories that hold data",
        ));
    }
    if overlap(&path, &world.state) {
        let why = format!("it is, holds or lies in the state directory of Stead, {}", world.state.display());
        return Err(unfit(&path, why, "Protect other directories, or move the state directory with --state"));
    }
    if path.to_str().is_none() {
        return Err(unfit(&path, "its own path is not UTF-8 (names beneath it may be)", "Rename it"));
    }
    if path.as_path() != given {
        responder.notice(format!("{} is {}: that is what is protected", given.display(), path.display()));
    }
    if let Some((set, other)) = protected_as(&world.plan, world, &path) {
        let remedy = format!("Take it out first with stead unprotect {set}, or name another directory");
        let why = format!("it is in set {set} already, as {}", other.display());
        return Err(unfit(&path, why, &remedy));
    }
    let meta = fs::metadata(&path).map_err(|e| unfit(&path, e.to_string(), ""))?;
    if let Some(relay) = kept_as(world, &path)? {
        let plan = PathPlan { volume: volume(&path)?, path };
        return Ok(Root { plan, is_dir: meta.is_dir(), nested: Vec::new(), relay: Some(relay) });
    }
    if meta.is_dir() {
        return directory(path);
    }
    if !meta.is_file() {
        return Err(unfit(
            &path,
            "it is neither a directory nor a regular file",
            "Protect the directory that it is in",
        ));
    }
    let volume = volume(path.parent().unwrap_or(&path))?;
    Ok(Root { plan: PathPlan { volume, path }, is_dir: false, nested: Vec::new(), relay: None })
}

/// The set whose replica the path is. A part of a replica, or more than it, is no set of its own: what a daemon writes
/// there goes past every capture.
fn kept_as(world: &World, path: &Path) -> Result<Option<SetName>, Failure> {
    let kept = world.plan.connections.iter().filter(|c| c.target == world.node);
    let mut replicas = kept.flat_map(|c| c.mapping.iter().map(move |m| (&c.set, &m.to)));
    match replicas.find(|(_, to)| overlap(to, path)) {
        None => Ok(None),
        Some((set, to)) if to == path => Ok(Some(set.clone())),
        Some((set, to)) => {
            let why =
                format!("it overlaps {}, the replica of set {set}, which is written past every capture", to.display());
            Err(unfit(path, why, "Name the replica itself to hand it on, or a directory beside it"))
        }
    }
}

/// The set whose replica is handed on, where that is what is asked for.
fn relay_of<'a>(
    world: &'a World,
    roots: &[Root],
    options: &Protect,
    what: &str,
) -> Result<Option<&'a SetPlan>, Failure> {
    let relay = roots.first().and_then(|root| root.relay.clone());
    if roots.iter().any(|root| root.relay != relay) {
        let remedy = "Make a set of the replica's paths alone";
        return Err(usage(what, "some of the paths are a replica, others are not, or are that of another set", remedy));
    }
    let Some(origin) = relay.and_then(|relay| world.plan.set(&relay)) else { return Ok(None) };
    is_plain(options, Some(&origin.name), what)?;
    if roots.iter().any(|root| !root.is_dir) {
        let why = format!("the replica of set {} holds single files, and only directories are handed on", origin.name);
        let remedy = format!("On {}, give set {} this target as well", origin.source, origin.name);
        return Err(Failure::new(what, why, remedy));
    }
    if options.rules != RulesSpec::default() && options.rules != origin.rules {
        let why = format!("what is handed on of set {} are all the names that belong to it", origin.name);
        return Err(Failure::new(what, why, "Leave --include and --exclude out"));
    }
    Ok(Some(origin))
}

/// What is handed on is written elsewhere: neither an order nor an answer of its own can be asked for.
fn is_plain(options: &Protect, relay: Option<&SetName>, what: &str) -> Result<(), Failure> {
    let Some(origin) = relay else { return Ok(()) };
    let refused = |option: &str, why: &str| {
        let why = format!("it hands on the replica of set {origin}, {why}");
        Err(Failure::new(what, why, format!("Leave {option} out")))
    };
    match options {
        Protect { mode: Mode::Sync, .. } => {
            refused("--mode sync", "whose writes were answered on its source before they came here")
        }
        Protect { capture: CaptureChoice::Auto, order: Order::Strict, .. } => Ok(()),
        _ => refused("--capture and --order", "which comes in the order in which it was captured on its source"),
    }
}

/// The set that holds the path already, or part of it. Another file system mounted inside a protected directory is not
/// in it.
fn protected_as(plan: &Plan, world: &World, path: &Path) -> Option<(SetName, PathBuf)> {
    let own = plan.sets.iter().filter(|set| set.source == world.node);
    let mut roots = own.flat_map(|set| set.paths.iter().map(|root| (set.name.clone(), root)));
    let found = roots.find(|(_, root)| {
        let is_mount = |dir: &Path| stead_disk::check::is_mount_point(dir).unwrap_or(false);
        let inside = path.strip_prefix(&root.path).is_ok()
            && !path.ancestors().take_while(|dir| *dir != root.path).any(is_mount);
        let around = root.path.starts_with(path) && volume(path).is_ok_and(|volume| volume == root.volume);
        inside || around
    });
    found.map(|(set, root)| (set, root.path.clone()))
}

fn directory(path: PathBuf) -> Result<Root, Failure> {
    let checked = stead_capture::check(&path).map_err(|refusal| {
        let text = refusal.to_string();
        let (why, remedy) = text.split_once("; ").unwrap_or((&text, ""));
        unfit(&path, why, remedy)
    })?;
    Ok(Root { plan: PathPlan { volume: volume(&path)?, path }, is_dir: true, nested: checked.nested, relay: None })
}

/// The file system that a root is on: a single file is on that of its directory.
pub(crate) fn volume_of(root: &Path, is_dir: bool) -> Result<String, Failure> {
    volume(if is_dir { root } else { root.parent().unwrap_or(root) })
}

fn volume(path: &Path) -> Result<String, Failure> {
    let root = stead_disk::volume::Root::open(path, 0);
    let root = root.map_err(|e| {
        unfit(path, e.to_string(), "Use a file system with lasting file handles: ext4, xfs, btrfs, tmpfs")
    })?;
    Ok(root.volume_id().to_string())
}

fn plan_parts(
    world: &World,
    name: &SetName,
    options: &Protect,
    roots: &[Root],
) -> Result<(SetPlan, ConnectionPlan), Failure> {
    let set = SetPlan {
        name: name.clone(),
        source: world.node.clone(),
        relay: None,
        capture: options.capture,
        order: options.order,
        rules: options.rules.clone(),
        paths: roots.iter().map(|root| root.plan.clone()).collect(),
    };
    let paths: Vec<_> = roots.iter().map(|root| root.plan.path.clone()).collect();
    Ok((set, connection_of(name, &paths, options)?))
}

fn connection_of(name: &SetName, paths: &[PathBuf], options: &Protect) -> Result<ConnectionPlan, Failure> {
    let what = format!("set {name} was not made");
    let canonical = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let map: Vec<_> = options.map.iter().map(|m| MapArg { from: canonical(&m.from), to: m.to.clone() }).collect();
    if let Some(stray) = map.iter().find(|m| !paths.contains(&m.from)) {
        let why = format!("--map names {}, which is not among the paths", stray.from.display());
        return Err(usage(&what, why, "Map the paths of the set themselves"));
    }
    let goes_to =
        |path: &Path| map.iter().find(|m| m.from == path).map_or_else(|| path.to_path_buf(), |m| m.to.clone());
    let mapping = paths.iter().map(|path| Mapping { from: path.clone(), to: goes_to(path), volume: None }).collect();
    Ok(ConnectionPlan {
        set: name.clone(),
        target: options.on.clone(),
        route: options.route,
        return_route: None,
        mode: options.mode,
        without: options.without.clone(),
        paused: options.paused,
        settings: options.settings.clone(),
        mapping,
    })
}

fn refuse_overlap(plan: &Plan, set: &SetPlan, connection: &ConnectionPlan, what: &str) -> Result<(), Failure> {
    plan.with_set(set.clone(), vec![connection.clone()])
        .map(drop)
        .map_err(|e| Failure::new(what, e.to_string(), "Name other paths, or another place with --map SRC=DST"))
}

/// Mounts inside a protected directory are other file systems: left out unless they are paths of their own.
fn name_nested(root: &Root, roots: &[Root], responder: &Responder) {
    let left_out = |mount: &&PathBuf| !roots.iter().any(|root| root.plan.path == **mount);
    for mount in root.nested.iter().filter(left_out) {
        responder.notice(format!(
            "{0} is another file system inside {1}: it is left out; to protect it too, name it as a path of its own",
            mount.display(),
            root.plan.path.display()
        ));
    }
}

/// What was opened before the capture is attached goes past it.
fn name_holders(path: &Path, responder: &Responder) {
    let remedy = |holder: &Holder| match &holder.unit {
        Some(unit) => format!("what it changes that way is not captured: systemctl restart {unit}"),
        None => "what it changes that way is not captured: restart it".to_string(),
    };
    each_holder(path, |holder| responder.notice(format!("{}; {}", describe(holder), remedy(holder))));
}

/// Tells who works beneath a path, as far as they fit on a screen.
pub(crate) fn name_busy(path: &Path, responder: &Responder) {
    let what = "what it writes there goes to the directory itself and is no longer replicated";
    each_holder(path, |holder| responder.notice(format!("{}: {what}", describe(holder))));
}

fn each_holder(path: &Path, tell: impl Fn(&Holder)) {
    let mut holders = stead_disk::guard::holders(path).unwrap_or_default();
    holders.retain(|holder| !matches!(holder.what, Hold::Mount) && !is_stead(holder.pid));
    holders.truncate(HOLDERS_SHOWN);
    holders.iter().for_each(tell);
}

/// Whoever asks stands often in the directory that is meant, or has it open as the shell that called it.
fn is_stead(pid: u32) -> bool {
    let program = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    program(&pid.to_string()).is_some_and(|other| Some(other) == program("self"))
}

fn describe(holder: &Holder) -> String {
    let unit = holder.unit.as_ref().map_or(String::new(), |unit| format!(" of {unit}"));
    let how = match holder.what {
        Hold::WorkingDirectory => "works in",
        Hold::Mapping { .. } => "has mapped",
        Hold::Descriptor { .. } | Hold::Mount => "has open",
    };
    format!("{} (process {}{unit}) {how} {}", holder.command, holder.pid, holder.path.display())
}

fn first_epoch(world: &World) -> Result<Epoch, Failure> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new("no epoch was made", "the system gives no random numbers", ""))?;
    Ok(Epoch { number: 1, writer: world.fingerprint.half(), random: u64::from_le_bytes(random) })
}

/// Asks the target whether it could, shows what would be deleted, then has it prepared.
fn agree(
    world: &World,
    question: ReplicaAsk,
    rules: &Rules,
    options: &Protect,
    responder: &Responder,
) -> Result<Kept, Failure> {
    let target = &question.connection.target;
    let put = |message: Ask| ask(&world.dialer, target, &message, ASK_TIMEOUT);
    let Tell::Checked(told) = put(Ask::Check(Box::new(question.clone())))? else {
        return Err(Failure::new(format!("{target} was not understood"), "it answered something else", ""));
    };
    agree_by(&question, &told, rules, options.yes, responder)?;
    put(Ask::Keep(Box::new(question.clone())))?;
    let ReplicaAsk { set, connection, dirs, epoch, .. } = question;
    Ok(Kept { set, connection, dirs, epoch, joins: false, seeded: options.seeded })
}

/// Names what would be deleted at the replica's places; refused unless that was agreed to.
pub(crate) fn agree_to_delete(
    question: &ReplicaAsk,
    told: &ReplicaTell,
    yes: bool,
    responder: &Responder,
) -> Result<(), Failure> {
    let rules = Rules::new(&question.set.rules).unwrap_or_default();
    agree_by(question, told, &rules, yes, responder)
}

fn agree_by(
    question: &ReplicaAsk,
    told: &ReplicaTell,
    rules: &Rules,
    yes: bool,
    responder: &Responder,
) -> Result<(), Failure> {
    told.notices.iter().for_each(|notice| responder.notice(notice.clone()));
    let doomed = would_delete(question, told, rules);
    if doomed.is_empty() {
        return Ok(());
    }
    name_doomed(question.connection.target.as_str(), &doomed, told.cut, yes, responder)
}

/// The question with how much the set holds.
pub(crate) fn measured(question: ReplicaAsk) -> Result<ReplicaAsk, Failure> {
    let rules = Rules::new(&question.set.rules).unwrap_or_default();
    let mut size = Size::default();
    for path in &question.set.paths {
        let part = tree::measure(&path.path, &rules);
        let part = part.map_err(|e| unfit(&path.path, e.to_string(), "Check the file system"))?;
        size = Size { bytes: size.bytes + part.bytes, files: size.files + part.files };
    }
    Ok(ReplicaAsk { bytes: size.bytes, files: size.files, ..question })
}

fn name_doomed(target: &str, doomed: &[PathBuf], cut: bool, yes: bool, responder: &Responder) -> Result<(), Failure> {
    for path in doomed.iter().take(DELETED_SHOWN) {
        responder.notice(format!("{} on {target} is not in the source and will be deleted", path.display()));
    }
    if doomed.len() > DELETED_SHOWN || cut {
        let more = if cut { "or more" } else { "in all" };
        responder.notice(format!("{} {more} will be deleted on {target}", doomed.len()));
    }
    if yes {
        return Ok(());
    }
    let why = format!("{} entries on {target} would be deleted", doomed.len());
    let remedy = "Agree to it with --yes, or choose an empty place with --map SRC=DST";
    Err(Failure::new("nothing was changed", why, remedy).kind(FailureKind::No))
}

/// What lies at the replica's paths and has no equal here, without what lies inside of that. What the rules leave out
/// is left alone.
fn would_delete(question: &ReplicaAsk, told: &ReplicaTell, rules: &Rules) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut doomed: Vec<PathBuf> = Vec::new();
    for (root, existing) in question.set.paths.iter().zip(&told.existing) {
        let to = question.connection.replica_of(&root.path).unwrap_or(&root.path);
        let mut kept_out: Vec<PathBuf> = Vec::new();
        for path in existing.iter().map(|text| text_as_path(text)) {
            if kept_out.iter().any(|out| path.starts_with(out)) {
                continue;
            }
            let here = fs::symlink_metadata(root.path.join(&path));
            let is_dir = here.as_ref().is_ok_and(fs::Metadata::is_dir);
            let missing = here.is_err();
            if missing && rules.take(path.as_os_str().as_bytes(), is_dir) {
                doomed.push(to.join(&path));
            }
            if missing || !rules.take(path.as_os_str().as_bytes(), is_dir) {
                kept_out.push(path);
            }
        }
    }
    doomed
}

pub(super) fn whole_root() -> Failure {
    unfit(Path::new("/"), "the root directory cannot be protected as a whole", "Name the directories that hold data")
}

fn unfit(path: &Path, why: impl Into<String>, remedy: &str) -> Failure {
    Failure::new(format!("{} cannot be protected", path.display()), why, remedy)
}

fn usage(what: &str, why: impl Into<String>, remedy: &str) -> Failure {
    Failure::new(what, why, remedy).kind(FailureKind::Usage)
}
