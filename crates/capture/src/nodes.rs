//! The node table: which file each id that the kernel knows stands for, and which descriptor serves it.
//!
//! The table lies in shared memory, so that a replacement of the server finds it; only pages in use take room. A node
//! id is the index of its entry, with a tag in the upper half that tells reuses of the entry apart. Files are found
//! again by their handle; a descriptor is a cache entry, except for files without a name, which would be gone.
//!
//! One descriptor serves a file for everybody: directories and regular files `O_RDONLY`, regular files that were
//! written `O_RDWR`, all others `O_PATH`. A stronger one takes the number of the weaker one (`dup3`), so that whoever
//! is using the number need not know.

mod index;

use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use stead_model::FileId;

use crate::fuse::abi;
use crate::root::Root;
use crate::sys::{self, Atomics, ProcPath, Result, Shared};
use index::Index;

/// Most files that the kernel may hold references to.
pub const NODES_MAX: usize = 16 << 20;
/// Most directories that one process serves.
pub const ROOTS_MAX: usize = 64;
/// Bytes of shared memory, mostly untouched.
pub const BYTES: usize = NODES_AT + NODES_MAX * size_of::<Node>();

const NODES_AT: usize = 4096;
const STRIPES: usize = 64;
/// Descriptors that wait for [`Nodes::close_unused`].
const UNUSED_MAX: usize = 256;

/// An entry of the table.
#[repr(C)]
pub struct Node {
    ino: AtomicU64,
    /// References that the kernel holds; 0: the entry is free.
    lookups: AtomicU64,
    /// Descriptor number + 1, its strength, the second chance, pins.
    word: AtomicU64,
    generation: AtomicU32,
    tag: AtomicU32,
    flags: AtomicU32,
    root: AtomicU32,
}

// SAFETY: atomics only.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Node {}

/// What the descriptor of a file has to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Access {
    /// Attributes, names in it.
    Any = 1,
    /// Content, or names in it.
    Read = 2,
    /// Changing content.
    Write = 3,
}

/// Bits that are known of a file.
pub mod flag {
    /// `st_mode >> 12`.
    pub const TYPE: u32 = 0xf;
    /// No name leads to it any more: keeps its descriptor, makes no records.
    pub const UNLINKED: u32 = 1 << 4;
    /// Never had a name yet (O_TMPFILE): the same, until it is linked.
    pub const NAMELESS: u32 = 1 << 5;
    /// setuid, or setgid with group execution.
    pub const SUID: u32 = 1 << 6;
    /// Whether there is a `security.capability` is known …
    pub const CAPS_KNOWN: u32 = 1 << 7;
    /// … and there is one.
    pub const CAPS: u32 = 1 << 8;
    /// Whether a directory hands inode flags down is known …
    pub const HEIRS_KNOWN: u32 = 1 << 9;
    /// … and it does.
    pub const HEIRS: u32 = 1 << 10;
    /// It was read, and its time of access not looked at since.
    pub const WAS_READ: u32 = 1 << 11;
    /// The strongest descriptor that it gives is `O_APPEND` (inode flag append).
    pub const APPEND_ONLY: u32 = 1 << 12;
}

const FD: u64 = 0xffff_ffff;
const STRENGTH_SHIFT: u32 = 32;
const CHANCE: u64 = 1 << 36;
const PIN: u64 = 1 << 48;

impl Node {
    /// Which file it is; `volume` is that of its root.
    fn file(&self, volume: u32) -> FileId {
        FileId { ino: self.ino.load(Relaxed), generation: self.generation.load(Relaxed), volume }
    }
    /// Are all of these bits set?
    pub fn has(&self, flags: u32) -> bool {
        self.flags.load(Relaxed) & flags == flags
    }
    /// Is one of these bits set?
    pub fn has_any(&self, flags: u32) -> bool {
        self.flags.load(Relaxed) & flags != 0
    }
    /// Sets and clears bits; returns what they were.
    pub fn mark(&self, set: u32, clear: u32) -> u32 {
        let before = self.flags.load(Relaxed);
        if (before | set) & !clear != before {
            self.flags.fetch_or(set, Relaxed);
            self.flags.fetch_and(!clear, Relaxed);
        }
        before
    }
    /// Does nothing about it belong into the stream?
    pub fn is_silent(&self) -> bool {
        self.has_any(flag::UNLINKED | flag::NAMELESS)
    }
    /// Type of file, as in `st_mode`.
    pub fn file_type(&self) -> u32 {
        (self.flags.load(Relaxed) & flag::TYPE) << 12
    }
    /// Is it a regular file?
    pub fn is_regular(&self) -> bool {
        self.file_type() == libc::S_IFREG
    }
    fn is_dir(&self) -> bool {
        self.file_type() == libc::S_IFDIR
    }
    /// Learns from attributes just read.
    pub fn learn(&self, mode: u32) {
        let drops = mode & libc::S_ISUID != 0 || mode & libc::S_ISGID != 0 && mode & libc::S_IFMT == libc::S_IFREG;
        if drops {
            self.mark(flag::SUID, 0)
        } else {
            self.mark(0, flag::SUID)
        };
    }
}

/// A node that is being worked with.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    /// The entry.
    pub node: &'a Node,
    /// Its index.
    pub index: u32,
    /// Which file it is.
    pub file: FileId,
}

impl std::ops::Deref for NodeRef<'_> {
    type Target = Node;
    fn deref(&self) -> &Node {
        self.node
    }
}

/// A descriptor in use: it is not closed while this lives.
pub struct Pin<'a> {
    node: &'a Node,
    /// Its number.
    pub fd: RawFd,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.node.word.fetch_sub(PIN, Release);
    }
}

/// The table, the index over it, and the cache of descriptors.
pub struct Nodes {
    memory: Shared,
    roots: Vec<Root>,
    index: Mutex<Index>,
    stripes: [Mutex<()>; STRIPES],
    /// Index of the node that a descriptor number serves, 0: none.
    owners: Vec<AtomicU32>,
    open: AtomicUsize,
    open_max: usize,
    hand: AtomicUsize,
    /// Descriptors to be closed.
    unused: Mutex<Vec<RawFd>>,
}

impl Nodes {
    /// The table in `memory`, empty or as a predecessor left it. `fds_max` bounds descriptor numbers.
    pub fn new(memory: Shared, roots: Vec<Root>, fds_max: usize) -> Nodes {
        assert!(roots.len() <= ROOTS_MAX);
        let nodes = Nodes {
            memory,
            roots,
            index: Mutex::default(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            owners: (0..fds_max).map(|_| AtomicU32::new(0)).collect(),
            open: AtomicUsize::new(0),
            open_max: fds_max.saturating_sub(512).max(64),
            hand: AtomicUsize::new(0),
            unused: Mutex::default(),
        };
        nodes.adopt();
        nodes
    }

    /// The directories served.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The node that the kernel's id means in that mount.
    ///
    /// # Errors
    /// `ESTALE` where the id is not in use.
    pub fn get(&self, root: &Root, id: u64) -> Result<NodeRef<'_>> {
        let index = if id == abi::ROOT_ID { 1 + root.index } else { id as u32 };
        if index == 0 || index as usize >= NODES_MAX {
            return Err(Errno::STALE);
        }
        let node = self.node(index);
        let tag_fits = id == abi::ROOT_ID || node.tag.load(Acquire) == (id >> 32) as u32;
        if !tag_fits || node.root.load(Relaxed) != root.index || node.lookups.load(Relaxed) == 0 {
            return Err(Errno::STALE);
        }
        Ok(NodeRef { node, index, file: node.file(root.volume) })
    }

    /// The kernel's id of a node.
    pub fn id(&self, at: &NodeRef<'_>) -> u64 {
        id_of(at.node, at.index)
    }

    /// The node of a file, if the kernel knows it.
    pub fn find(&self, root: &Root, file: FileId) -> Option<NodeRef<'_>> {
        let index = self.lock_index().find(self, root.index, file)?;
        Some(NodeRef { node: self.node(index), index, file })
    }

    /// The node of a file, new or known, with one reference more. Returns it and its id.
    ///
    /// # Errors
    /// `ENFILE` where the table is full.
    pub fn intern(&self, root: &Root, file: FileId, mode: u32) -> Result<(NodeRef<'_>, u64)> {
        let mut index = self.lock_index();
        let at = match index.find(self, root.index, file) {
            Some(at) => at,
            None => {
                let at = index.allocate().ok_or(Errno::NFILE)?;
                self.node(at).begin(root.index, file, mode);
                index.insert(self, at);
                at
            }
        };
        let node = self.node(at);
        node.lookups.fetch_add(1, Relaxed);
        drop(index);
        node.learn(mode);
        Ok((NodeRef { node, index: at, file }, id_of(node, at)))
    }

    /// Gives references back. `last` is called with the node before it is gone, if these were the last.
    pub fn forget(&self, root: &Root, id: u64, lookups: u64, last: impl FnOnce(NodeRef<'_>)) {
        if id == abi::ROOT_ID {
            return;
        }
        let Ok(node) = self.get(root, id) else { return };
        if node.lookups.load(Relaxed) == lookups && node.has(flag::WAS_READ) {
            last(node);
        }
        let mut index = self.lock_index();
        let left = node.lookups.load(Relaxed).saturating_sub(lookups);
        node.lookups.store(left, Relaxed);
        if left > 0 {
            return;
        }
        index.remove(self, node.index);
        node.tag.fetch_add(1, Release);
        let fd = loop {
            let word = node.word.load(Acquire);
            if word < PIN && node.word.compare_exchange(word, 0, AcqRel, Relaxed).is_ok() {
                break (word & FD) as i64 - 1;
            }
            std::thread::yield_now();
        };
        index.free.push(node.index);
        drop(index);
        if fd >= 0 {
            self.close_soon(fd as RawFd);
        }
    }

    /// Does this descriptor serve a file of the table?
    pub fn owns(&self, fd: RawFd) -> bool {
        self.owners.get(fd as usize).is_some_and(|owner| owner.load(Relaxed) != 0)
    }

    /// Closes what nobody needs any more. Closing the last descriptor of a deleted file frees its blocks, so it is not
    /// done while somebody waits for an answer.
    pub fn close_unused(&self) {
        let unused = std::mem::take(&mut *self.unused.lock().unwrap_or_else(PoisonError::into_inner));
        unused.into_iter().for_each(sys::close);
    }

    fn close_soon(&self, fd: RawFd) {
        self.owners[fd as usize].store(0, Release);
        self.open.fetch_sub(1, Relaxed);
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < UNUSED_MAX {
            return unused.push(fd);
        }
        drop(unused);
        sys::close(fd);
    }

    // --- descriptors

    /// A descriptor of the file that is good for `need`.
    ///
    /// # Errors
    /// Why the file cannot be opened so: `ESTALE` where it is gone, `EPERM` where its inode flags forbid writing.
    pub fn pin<'a>(&'a self, at: &NodeRef<'a>, need: Access) -> Result<Pin<'a>> {
        let node = at.node;
        loop {
            let word = node.word.load(Acquire);
            if word & FD == 0 || strength(word) < need as u64 {
                self.open_for(at, need)?;
                continue;
            }
            if node.word.compare_exchange_weak(word, (word | CHANCE) + PIN, AcqRel, Relaxed).is_ok() {
                return Ok(Pin { node, fd: (word & FD) as RawFd - 1 });
            }
        }
    }

    /// Gives a node that has none a descriptor that was just opened; closes it where there is one already.
    pub fn install(&self, at: &NodeRef<'_>, fd: RawFd, access: Access) {
        let word = (fd as u64 + 1) | (access as u64) << STRENGTH_SHIFT | CHANCE;
        if fd as usize >= self.owners.len() || at.word.compare_exchange(0, word, AcqRel, Relaxed).is_err() {
            return sys::close(fd);
        }
        self.owners[fd as usize].store(at.index, Release);
        if self.open.fetch_add(1, Relaxed) + 1 > self.open_max {
            self.evict();
        }
    }

    /// Makes a descriptor that may write one that may not: the file's inode flags changed.
    ///
    /// # Errors
    /// Where the file cannot be opened any more.
    pub fn weaken(&self, at: &NodeRef<'_>) -> Result<()> {
        at.mark(0, flag::APPEND_ONLY);
        if strength(at.word.load(Acquire)) < Access::Write as u64 {
            return Ok(());
        }
        let pin = self.pin(at, Access::Any)?;
        let _guard = self.stripe(at.index);
        if strength(at.word.load(Acquire)) == Access::Write as u64 {
            let weaker = reopen(pin.fd, libc::O_RDONLY)?;
            // In this order: who dies in between leaves a descriptor that is too strong, not one that refuses.
            set_strength(at.node, Access::Read);
            sys::replace_fd(weaker, pin.fd)?;
        }
        Ok(())
    }

    /// A lock that nobody else holds for this node; not to be held while pinning.
    pub fn stripe(&self, index: u32) -> MutexGuard<'_, ()> {
        self.stripes[index as usize % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_for(&self, at: &NodeRef<'_>, need: Access) -> Result<()> {
        let _guard = self.stripe(at.index);
        let word = at.word.load(Acquire);
        if word & FD != 0 && strength(word) >= need as u64 {
            return Ok(());
        }
        if word & FD == 0 {
            let (fd, access) = self.open(at, need)?;
            self.install(at, fd, access);
            return Ok(());
        }
        if !at.is_regular() {
            return Err(if at.is_dir() { Errno::ISDIR } else { Errno::INVAL });
        }
        // A pin keeps the number ours while it changes what it stands for.
        if at.word.compare_exchange(word, word + PIN, AcqRel, Relaxed).is_err() {
            return Ok(()); // pinned or evicted meanwhile: the caller looks again
        }
        let pin = Pin { node: at.node, fd: (word & FD) as RawFd - 1 };
        let (fd, access) = strongest(at.node, need, |flags| reopen(pin.fd, flags))?;
        sys::replace_fd(fd, pin.fd)?;
        set_strength(at.node, access);
        Ok(())
    }

    fn open(&self, at: &NodeRef<'_>, need: Access) -> Result<(RawFd, Access)> {
        let root = self.roots.get(at.root.load(Relaxed) as usize).ok_or(Errno::STALE)?;
        let handle = root.shape.handle(at.file);
        let by_handle = |flags| sys::open_handle(root.beneath, &handle, flags);
        let path = || Ok((by_handle(libc::O_PATH | libc::O_NOFOLLOW)?, Access::Any));
        let opened = match at.file_type() {
            libc::S_IFDIR => by_handle(libc::O_RDONLY | libc::O_DIRECTORY).map(|fd| (fd, Access::Read)),
            libc::S_IFREG => strongest(at.node, need.max(Access::Read), by_handle),
            _ if need == Access::Any => return path(),
            _ => return Err(Errno::INVAL),
        };
        match opened {
            Err(error) if need == Access::Any && error != Errno::STALE => path(),
            other => other,
        }
    }

    /// Closes one descriptor that was not used for a while.
    fn evict(&self) {
        for _ in 0..2 * self.owners.len() {
            let fd = self.hand.fetch_add(1, Relaxed) % self.owners.len();
            let index = self.owners[fd].load(Acquire);
            if index == 0 {
                continue;
            }
            let node = self.node(index);
            let word = node.word.load(Acquire);
            if word & FD != fd as u64 + 1 || word >= PIN || node.is_silent() {
                continue;
            }
            if word & CHANCE != 0 {
                let _ = node.word.compare_exchange(word, word & !CHANCE, AcqRel, Relaxed);
            } else if node.word.compare_exchange(word, 0, AcqRel, Relaxed).is_ok() {
                return self.close(fd as RawFd);
            }
        }
    }

    fn close(&self, fd: RawFd) {
        self.owners[fd as usize].store(0, Release);
        self.open.fetch_sub(1, Relaxed);
        sys::close(fd);
    }

    // --- the table

    fn node(&self, index: u32) -> &Node {
        self.memory.atomics(NODES_AT + index as usize * size_of::<Node>())
    }

    fn lock_index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more than the highest index ever used; in shared memory for the next server.
    fn high_water(&self) -> &AtomicU32 {
        self.memory.atomics(0)
    }

    /// Builds index and descriptor cache from the table.
    fn adopt(&self) {
        let mut index = self.lock_index();
        index.next = self.high_water().load(Acquire).max(1 + ROOTS_MAX as u32);
        index.reserve(count(&self.memory) as usize);
        for at in 1..index.next {
            let node = self.node(at);
            if node.lookups.load(Relaxed) == 0 {
                if at > ROOTS_MAX as u32 {
                    index.free.push(at);
                }
                continue;
            }
            index.insert(self, at);
            let word = node.word.load(Relaxed) & (PIN - 1); // pins of the dead
            node.word.store(word, Relaxed);
            if let Some(owner) = (word & FD).checked_sub(1).and_then(|fd| self.owners.get(fd as usize)) {
                owner.store(at, Relaxed);
                self.open.fetch_add(1, Relaxed);
            }
        }
        for root in &self.roots {
            let at = 1 + root.index;
            if self.node(at).lookups.load(Relaxed) == 0 {
                self.node(at).begin(root.index, root.id, libc::S_IFDIR);
                self.node(at).lookups.store(1, Relaxed);
                index.insert(self, at);
            }
        }
    }

    fn hash(&self, at: u32) -> u64 {
        let node = self.node(at);
        hash(node.root.load(Relaxed), node.ino.load(Relaxed), node.generation.load(Relaxed))
    }
}

impl Node {
    fn begin(&self, root: u32, file: FileId, mode: u32) {
        self.ino.store(file.ino, Relaxed);
        self.generation.store(file.generation, Relaxed);
        self.root.store(root, Relaxed);
        self.flags.store(mode >> 12 & flag::TYPE, Relaxed);
        self.word.store(0, Relaxed);
    }
}

fn strength(word: u64) -> u64 {
    word >> STRENGTH_SHIFT & 7
}

/// Only under the node's stripe, with a pin.
fn set_strength(node: &Node, access: Access) {
    let now = strength(node.word.load(Acquire));
    node.word.fetch_add(((access as u64).wrapping_sub(now)) << STRENGTH_SHIFT, AcqRel);
}

fn reopen(fd: RawFd, flags: i32) -> Result<RawFd> {
    sys::open_at(libc::AT_FDCWD, ProcPath::of(fd).as_cstr(), flags, 0)
}

/// Opens a regular file as `need` asks.
fn strongest(node: &Node, need: Access, open: impl Fn(i32) -> Result<RawFd>) -> Result<(RawFd, Access)> {
    if need < Access::Write {
        return Ok((open(libc::O_RDONLY)?, Access::Read));
    }
    match open(libc::O_RDWR) {
        Err(Errno::PERM) => {
            let fd = open(libc::O_RDWR | libc::O_APPEND)?;
            node.mark(flag::APPEND_ONLY, 0);
            Ok((fd, Access::Write))
        }
        opened => Ok((opened?, Access::Write)),
    }
}

fn hash(root: u32, ino: u64, generation: u32) -> u64 {
    let mixed = (ino ^ u64::from(generation) << 32 ^ u64::from(root) << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// How many files the kernel holds references to, by the table's own memory.
pub fn count(memory: &Shared) -> u64 {
    memory.atomics::<Counter>(8).0.load(Relaxed)
}

/// Calls `each` with the root and the id of every node in use.
pub fn each_live(memory: &Shared, mut each: impl FnMut(u32, u64)) {
    let high_water = memory.atomics::<AtomicU32>(0).load(Acquire) as usize;
    for at in 1..high_water.min(NODES_MAX) {
        let node: &Node = memory.atomics(NODES_AT + at * size_of::<Node>());
        if node.lookups.load(Relaxed) > 0 {
            each(node.root.load(Relaxed), id_of(node, at as u32));
        }
    }
}

fn id_of(node: &Node, at: u32) -> u64 {
    if at <= ROOTS_MAX as u32 { abi::ROOT_ID } else { u64::from(node.tag.load(Relaxed)) << 32 | u64::from(at) }
}

#[repr(C)]
struct Counter(AtomicU64);

// SAFETY: an atomic.
#[allow(unsafe_code, reason = "declares a layout of atomics")]
unsafe impl Atomics for Counter {}

#[cfg(test)]
mod tests;
