use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::Path;

use stead_model::handle::HandleShape;

use super::*;
use crate::sys::shared_memory;

/// A table over a directory with some files, by name.
struct Rig {
    nodes: Nodes,
    memory: std::os::fd::OwnedFd,
    dir: tempfile::TempDir,
    _beneath: std::fs::File,
}

fn rig(fds_max: usize) -> Rig {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let memory = shared_memory(c"test", BYTES).unwrap();
    let beneath = std::fs::File::open(dir.path()).unwrap();
    let nodes = Nodes::new(map(&memory), vec![root(&beneath)], fds_max);
    Rig { nodes, memory, dir, _beneath: beneath }
}

fn map(memory: &std::os::fd::OwnedFd) -> Shared {
    Shared::map(memory.as_raw_fd(), 0, BYTES).unwrap()
}

fn root(beneath: &std::fs::File) -> Root {
    let handle = sys::handle_at(beneath.as_raw_fd(), c"").unwrap();
    let bytes = &handle.bytes[..handle.len];
    let shape = HandleShape::of(handle.kind, bytes).unwrap();
    let id = shape.file(handle.kind, bytes, 0).unwrap();
    Root { index: 0, device: -1, beneath: beneath.as_raw_fd(), volume: 0, id, shape }
}

impl Rig {
    fn root(&self) -> &Root {
        &self.nodes.roots()[0]
    }
    fn file(&self, name: &str) -> FileId {
        let path = self.dir.path().join(name);
        if !path.exists() {
            std::fs::write(&path, name).unwrap();
        }
        self.id_of(&path)
    }
    fn id_of(&self, path: &Path) -> FileId {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let handle = sys::handle_at(libc::AT_FDCWD, &path).unwrap();
        self.root().shape.file(handle.kind, &handle.bytes[..handle.len], 0).unwrap()
    }
    fn read(&self, id: u64) -> Result<String> {
        let node = self.nodes.get(self.root(), id)?;
        let pin = self.nodes.pin(&node, Access::Read)?;
        let mut buf = [0; 32];
        let len = rustix::io::pread(sys::fd(pin.fd), &mut buf, 0)?;
        Ok(String::from_utf8_lossy(&buf[..len]).into())
    }
}

#[test]
fn an_id_serves_its_file_until_the_last_reference_is_gone() {
    let rig = rig(1024);
    let file = rig.file("a");
    let (_, id) = rig.nodes.intern(rig.root(), file, libc::S_IFREG).unwrap();
    assert_eq!(rig.nodes.intern(rig.root(), file, libc::S_IFREG).unwrap().1, id);
    assert_eq!(rig.read(id), Ok("a".into()));
    rig.nodes.forget(rig.root(), id, 1, |_| {});
    assert_eq!(rig.read(id), Ok("a".into()));
    rig.nodes.forget(rig.root(), id, 1, |_| {});
    assert_eq!(rig.read(id), Err(Errno::STALE));
    let (_, reused) = rig.nodes.intern(rig.root(), rig.file("b"), libc::S_IFREG).unwrap();
    assert_eq!((reused as u32, reused == id), (id as u32, false), "the same entry under another id");
    assert_eq!(rig.read(id), Err(Errno::STALE), "the old id does not mean the new file");
}

#[test]
fn the_root_needs_no_reference_and_keeps_its_id() {
    let rig = rig(1024);
    let node = rig.nodes.get(rig.root(), abi::ROOT_ID).unwrap();
    assert_eq!(node.file, rig.root().id);
    rig.nodes.forget(rig.root(), abi::ROOT_ID, 99, |_| {});
    assert_eq!(rig.nodes.intern(rig.root(), rig.root().id, libc::S_IFDIR).unwrap().1, abi::ROOT_ID);
}

#[test]
fn a_stronger_descriptor_takes_the_number_of_the_weaker() {
    let rig = rig(1024);
    let (node, _) = rig.nodes.intern(rig.root(), rig.file("a"), libc::S_IFREG).unwrap();
    let reading = rig.nodes.pin(&node, Access::Read).unwrap();
    assert!(rustix::io::pwrite(sys::fd(reading.fd), b"x", 0).is_err());
    let writing = rig.nodes.pin(&node, Access::Write).unwrap();
    assert_eq!(writing.fd, reading.fd);
    rustix::io::pwrite(sys::fd(reading.fd), b"x", 0).unwrap();
    drop((reading, writing));
    rig.nodes.weaken(&node).unwrap();
    let reading = rig.nodes.pin(&node, Access::Read).unwrap();
    assert!(rustix::io::pwrite(sys::fd(reading.fd), b"x", 0).is_err());
    drop(reading);
    rustix::io::pwrite(sys::fd(rig.nodes.pin(&node, Access::Write).unwrap().fd), b"y", 0).unwrap();
    assert_eq!(std::fs::read(rig.dir.path().join("a")).unwrap(), b"y");
}

#[test]
fn descriptors_are_bounded_and_files_without_a_name_keep_theirs() {
    let rig = rig(512 + 64); // room for 64
    let (gone, gone_id) = rig.nodes.intern(rig.root(), rig.file("gone"), libc::S_IFREG).unwrap();
    drop(rig.nodes.pin(&gone, Access::Any).unwrap());
    std::fs::remove_file(rig.dir.path().join("gone")).unwrap();
    gone.mark(flag::UNLINKED, 0);
    let ids: Vec<_> = (0..300)
        .map(|n| {
            let (node, id) = rig.nodes.intern(rig.root(), rig.file(&n.to_string()), libc::S_IFREG).unwrap();
            drop(rig.nodes.pin(&node, Access::Read).unwrap());
            id
        })
        .collect();
    assert!(rig.nodes.open.load(Relaxed) <= 65, "{} descriptors", rig.nodes.open.load(Relaxed));
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(rig.read(*id), Ok(n.to_string()));
    }
    assert_eq!(rig.read(gone_id), Ok("gone".into()));
}

#[test]
fn the_next_server_finds_everything_in_the_table() {
    let rig = rig(1024);
    let mut ids = HashMap::new();
    for n in 0..3000 {
        let name = n.to_string();
        let (node, id) = rig.nodes.intern(rig.root(), rig.file(&name), libc::S_IFREG).unwrap();
        if n % 3 == 0 {
            rig.nodes.forget(rig.root(), id, 1, |_| {});
        } else {
            if n % 30 == 1 {
                std::mem::forget(rig.nodes.pin(&node, Access::Write).unwrap()); // died with it
            }
            ids.insert(name, id);
        }
    }
    let next = Nodes::new(map(&rig.memory), rig.nodes.roots().to_vec(), 1024);
    assert_eq!(count(&next.memory), rig.nodes.lock_index().count as u64);
    for (name, id) in &ids {
        let file = rig.file(name);
        assert_eq!(next.find(rig.root(), file).unwrap().file, file);
        assert_eq!(next.get(rig.root(), *id).unwrap().file, file);
        assert_eq!(next.intern(rig.root(), file, libc::S_IFREG).unwrap().1, *id);
        next.forget(rig.root(), *id, 2, |_| {});
        assert!(next.find(rig.root(), file).is_none());
    }
    let live = std::cell::Cell::new(0);
    each_live(&next.memory, |_, _| live.set(live.get() + 1));
    assert_eq!(live.get(), 1, "the root alone is left");
}

/// Threads that pin, evict, forget and look up at once: a pinned descriptor always leads to its own file.
#[test]
fn threads_never_get_another_files_descriptor() {
    let rig = rig(512 + 64);
    let files: Vec<_> = (0..200).map(|n| rig.file(&n.to_string())).collect();
    std::thread::scope(|scope| {
        for id in 0..4_usize {
            let (rig, files) = (&rig, &files);
            scope.spawn(move || {
                for round in 0..6000_usize {
                    let file = files[(round * 7919 + id * 31) % files.len()];
                    let (node, nodeid) = rig.nodes.intern(rig.root(), file, libc::S_IFREG).unwrap();
                    let need = if round % 5 == 0 { Access::Write } else { Access::Read };
                    let pin = rig.nodes.pin(&node, need).unwrap();
                    assert_eq!(rustix::fs::fstat(sys::fd(pin.fd)).unwrap().st_ino, file.ino);
                    drop(pin);
                    rig.nodes.forget(rig.root(), nodeid, 1, |_| {});
                }
            });
        }
    });
    assert_eq!(rig.nodes.lock_index().count, 1);
    assert_eq!(rig.nodes.open.load(Relaxed), 0);
}
