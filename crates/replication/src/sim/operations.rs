//! Random operations of the application.

use super::rng::Rng;
use super::tree::{Body, Tree};

/// Does one of them; some are refused by the tree and change nothing.
pub(super) fn operate(tree: &mut Tree, rng: &mut Rng) {
    let dirs = tree.dirs();
    let files = tree.files();
    let dir = *rng.pick(&dirs).expect("there is a root");
    let dir2 = if rng.one_in(2) { dir } else { *rng.pick(&dirs).expect("there is a root") };
    let name = name(rng);
    let present = {
        let entries = tree.entries(dir);
        rng.pick(&entries).map(|(name, _)| name.clone())
    };
    let file = rng.pick(&files).copied();
    match (rng.below(22), file, present) {
        (0..=2, ..) => tree.create(dir, &name, Body::File(Vec::new())),
        (3, ..) => tree.create(dir, &name, Body::Dir(Default::default())),
        (4, ..) => tree.create(dir, &name, Body::Symlink(rng.bytes(5))),
        (5..=9, Some(file), _) => {
            let (offset, len) = (rng.below(60), rng.below(40) + 1);
            let data = if rng.one_in(5) { vec![0; len as usize] } else { rng.bytes(len) };
            tree.write(file, offset, &data);
        }
        (10, Some(file), _) => tree.truncate(file, rng.below(70)),
        (11, Some(file), _) => tree.set_attr(file, rng.below(0o1000) as u32, rng.below(3) as u32),
        (12, ..) => tree.set_attr(dir, rng.below(0o1000) as u32, rng.below(3) as u32),
        (13, Some(file), _) => tree.set_xattr(file, b"user.a", &rng.bytes(4)),
        (14, Some(file), _) => tree.remove_xattr(file, b"user.a"),
        (15, Some(file), _) => tree.link(file, dir, &name),
        (16..=17, _, Some(present)) => tree.unlink(dir, &present),
        (18..=19, _, Some(present)) => tree.rename(dir, &present, dir2, &name, false),
        (20, _, Some(present)) => tree.rename(dir, &present, dir2, &name, true),
        (21, _, Some(present)) => {
            // Write, then rename over: how careful applications replace a file.
            tree.create(dir, b"new", Body::File(Vec::new()));
            let new = tree.entries(dir).into_iter().find(|(name, _)| name == b"new").map(|(_, file)| file);
            if let Some(new) = new.filter(|new| tree.files().contains(new)) {
                tree.write(new, 0, &rng.bytes(20));
                tree.rename(dir, b"new", dir, &present, false);
            }
        }
        _ => {}
    }
}

fn name(rng: &mut Rng) -> Vec<u8> {
    const NAMES: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"x.t", b"y.t", b"sub", b"\xff\n", b"e"];
    rng.pick(&NAMES).expect("there are names").to_vec()
}
