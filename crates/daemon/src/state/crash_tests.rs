//! Power cuts in the middle of every change of the state directory, and files of any content.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use stead_api::Failure;
use stead_model::plan::Plan;
use stead_model::{Epoch, SetName};

use super::files::{self, Step, steps};
use super::invites::Invites;
use super::peers::{Peer, Peers};
use super::rotation::Rotation;
use super::sets::SetState;
use super::{StateDir, node};
use crate::peer::{Fingerprint, Identity};

thread_local! {
    static WRITES: RefCell<Option<Vec<Write>>> = const { RefCell::new(None) };
}

/// A file that was replaced.
#[derive(Clone)]
struct Write {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

/// Called for each file that is replaced.
pub(super) fn note(path: &Path, bytes: &[u8], mode: u32) {
    WRITES.with_borrow_mut(|writes| {
        if let Some(writes) = writes {
            writes.push(Write { path: path.into(), bytes: bytes.into(), mode });
        }
    });
}

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

/// Reads everything, as a daemon does at its start.
fn recover(dir: &Path) -> Result<(), Failure> {
    let state = StateDir::open(dir)?;
    node::name(&state, Some("paris".parse().unwrap()))?;
    match Rotation::load(&state)? {
        Some(_) => {}
        None => drop(Identity::load_or_make(dir)?),
    }
    let (_peers, _invites) = (Peers::load(&state)?, Invites::load(&state)?);
    let file = state.file("plan.toml");
    let text =
        if file.exists() { String::from_utf8_lossy(&files::read(&file)?).into_owned() } else { "version = 1".into() };
    let plan = Plan::parse(&text).map_err(|e| Failure::new("the plan", e.to_string(), ""))?;
    plan.sets.iter().try_for_each(|set| SetState::load(&state, &set.name).map(|kept| kept.epoch()).map(|_| ()))
}

fn peer(name: &str, byte: u8) -> Peer {
    Peer::new(name.parse().unwrap(), Fingerprint([byte; 32]), vec!["10.0.0.2:7130".parse().unwrap()], 7)
}

fn set_state(number: u64) -> SetState {
    SetState::begin(Epoch { number, writer: [7; 16], random: u64::MAX }, vec![true], vec!["/srv/notes".into()])
}

type Change = fn(&StateDir);

/// The changes that a node makes, one after the other.
fn changes() -> Vec<(&'static str, Change)> {
    fn notes() -> SetName {
        "notes".parse().unwrap()
    }
    vec![
        ("first start", |state| {
            node::name(state, Some("paris".parse().unwrap())).unwrap();
            Identity::load_or_make(state.path()).unwrap();
        }),
        ("invite", |state| {
            let mut invites = Invites::default();
            invites.make("10.0.0.1:7130".parse().unwrap(), Fingerprint([9; 32]), 1_000).unwrap();
            invites.save(state).unwrap();
        }),
        ("join", |state| {
            let (peers, _) = Peers::load(state).unwrap().with(peer("lyon", 1), &"paris".parse().unwrap()).unwrap();
            Invites::default().save(state).unwrap();
            peers.save(state).unwrap();
        }),
        ("protect", |state| {
            set_state(1).save(state, &notes(), "source").unwrap();
            files::write(&state.file("plan.toml"), PLAN.as_bytes(), 0o600).unwrap();
        }),
        ("raise the epoch", |state| {
            set_state(2).save(state, &notes(), "source").unwrap();
        }),
        ("change the key", |state| {
            let (older, newer) = (Identity::load_or_make(state.path()).unwrap(), Identity::make().unwrap());
            let untold = BTreeSet::from(["lyon".parse().unwrap()]);
            Rotation::begin(&older, &newer, untold, 1_000).save(state).unwrap();
            newer.save(state.path()).unwrap();
        }),
        ("remove a node", |state| {
            Peers::load(state).unwrap().without(&"lyon".parse().unwrap()).save(state).unwrap();
        }),
        ("end the protection", |state| {
            files::write(&state.file("plan.toml"), b"version = 1\n", 0o600).unwrap();
        }),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { assert!(fs::copy(&path, &to).is_ok()) }
    }
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// What a power cut during one write leaves, apart from nothing and all of it.
fn cuts(write: &Write, image: &Path, at: &Path, mut check: impl FnMut(String)) {
    let path = image.join(write.path.strip_prefix(at).unwrap());
    let whole = steps(&path, &write.bytes, write.mode);
    for (number, step) in whole.iter().enumerate() {
        if let Step::Fill(new, bytes, _) = step {
            // What was not synced may be there in part, or as zeros.
            for length in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                fs::write(new, &bytes[..length]).unwrap();
                check(format!("{} cut at byte {length}", path.display()));
                fs::write(new, vec![0; length]).unwrap();
                check(format!("{} with {length} zeros", path.display()));
                fs::remove_file(new).unwrap();
            }
        }
        step.take().unwrap();
        check(format!("{} after step {number}", path.display()));
    }
}

#[test]
fn every_power_cut_leaves_the_old_or_the_new() {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    fs::create_dir(&live).unwrap();
    let mut images = 0;
    for (what, change) in changes() {
        let before = home.path().join("before");
        copy(&live, &before);
        let old = contents(&before);
        WRITES.set(Some(Vec::new()));
        change(&StateDir::open(&live).unwrap());
        let writes = WRITES.take().unwrap();
        assert!(!writes.is_empty(), "{what} writes nothing");
        let image = home.path().join("image");
        for (done, write) in writes.iter().enumerate() {
            let build = || {
                let _ = fs::remove_dir_all(&image);
                copy(&before, &image);
                for write in &writes[..done] {
                    let path = image.join(write.path.strip_prefix(&live).unwrap());
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    steps(&path, &write.bytes, write.mode).iter().for_each(|step| step.take().unwrap());
                }
                fs::create_dir_all(image.join(write.path.strip_prefix(&live).unwrap()).parent().unwrap()).unwrap();
            };
            build();
            cuts(write, &image, &live, |cut| {
                let seen = home.path().join("seen");
                let _ = fs::remove_dir_all(&seen);
                copy(&image, &seen);
                if let Err(failure) = recover(&seen) {
                    panic!("{what}: {cut}: {failure}");
                }
                let file = write.path.strip_prefix(&live).unwrap();
                let is = fs::read(seen.join(file)).ok();
                let was = old.get(&before.join(file)).cloned();
                // A key that nobody has seen may be made anew.
                let remade = what == "first start" || what == "change the key";
                assert!(remade || is == was || is.as_ref() == Some(&write.bytes), "{what}: {cut}: neither old nor new");
                images += 1;
            });
        }
        let _ = fs::remove_dir_all(&before);
    }
    assert!(images > 100, "{images} images");
    recover(&live).unwrap();
}

#[test]
fn no_content_of_any_file_makes_the_start_panic() {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    fs::create_dir(&live).unwrap();
    for (_, change) in changes().into_iter().take(6) {
        change(&StateDir::open(&live).unwrap());
    }
    let mut seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for (path, good) in contents(&live) {
        let mut bad =
            vec![Vec::new(), vec![0xff; 40], vec![0; 4096], b"[[set]]\n".to_vec(), "é".repeat(64).into_bytes()];
        for _ in 0..40 {
            let mut bytes = good.clone();
            if !bytes.is_empty() {
                bytes.truncate(1 + random() % good.len());
                let at = random() % bytes.len();
                bytes[at] ^= 1 << (random() % 8);
            }
            bad.push(bytes);
        }
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            let _ = recover(&live);
        }
        fs::write(&path, &good).unwrap();
        let _ = fs::remove_file(path.with_extension("new"));
    }
    recover(&live).unwrap();
}
