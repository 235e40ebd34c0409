//! Synchronous operation: what waits, for how long, and who lets it go.

mod common;

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Rig, kill_server, run, shell, with_order};
use stead_capture::{Capture, MountCapture, Order, SyncPolicy, SyncState, boot_ns};
use stead_model::record::records;
use stead_model::{AttrMask, Kind};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

fn python(dir: &Path, script: &str) -> Child {
    let script = format!("import os, mmap, sys\n{script}");
    Command::new("python3").arg("-c").arg(script).current_dir(dir).spawn().unwrap()
}

fn in_sync(rig: &mut Rig, policy: SyncPolicy) {
    rig.capture().set_sync(Some(policy)).unwrap();
    assert_eq!(rig.capture().sync_status().unwrap().state, SyncState::FallenBack);
    rig.capture().in_sync_again(boot_ns() + HOUR);
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn waiting(capture: &MountCapture) -> u32 {
    capture.sync_status().unwrap().waiting
}

/// Each of these returns only once everything before it is confirmed.
#[test]
fn everything_that_promises_durability_waits() {
    all_wait(Order::Strict);
}

#[test]
fn everything_that_promises_durability_waits_with_write_back() {
    all_wait(Order::Flush);
}

fn all_wait(order: Order) {
    let mut rig = Rig::with(with_order(order));
    std::fs::write(rig.ours().join("f"), vec![7; 8192]).unwrap();
    in_sync(&mut rig, SyncPolicy::Block);
    let write = "os.write(fd, b'x' * 4096)";
    let calls = [
        ("fsync", format!("fd = os.open('f', os.O_RDWR); {write}; os.fsync(fd)")),
        ("fdatasync", format!("fd = os.open('f', os.O_RDWR); {write}; os.fdatasync(fd)")),
        ("O_DSYNC", format!("fd = os.open('f', os.O_RDWR | os.O_DSYNC); {write}")),
        ("O_SYNC", format!("fd = os.open('f', os.O_RDWR | os.O_SYNC); {write}")),
        ("O_SYNC|O_APPEND", format!("fd = os.open('f', os.O_RDWR | os.O_SYNC | os.O_APPEND); {write}")),
        (
            "O_DIRECT|O_DSYNC",
            "fd = os.open('f', os.O_RDWR | os.O_DSYNC | os.O_DIRECT); os.write(fd, mmap.mmap(-1, 4096))".into(),
        ),
        ("RWF_DSYNC", "fd = os.open('f', os.O_RDWR); os.pwritev(fd, [b'x' * 512], 0, os.RWF_DSYNC)".into()),
        ("msync", "fd = os.open('f', os.O_RDWR); m = mmap.mmap(fd, 8192); m[0] = 9; m.flush()".into()),
        ("fsync of a directory", "open('new', 'w').close(); fd = os.open('.', os.O_RDONLY); os.fsync(fd)".into()),
    ];
    for (name, script) in calls {
        let mut child = python(&rig.ours(), &script);
        until(&format!("{name} waits"), || {
            assert!(child.try_wait().unwrap().is_none(), "{name} did not wait");
            waiting(rig.capture()) == 1
        });
        let bytes = rig.drain();
        // A time of access, where one was read before, may be told at any moment.
        let told = records(&bytes).map(|record| record.unwrap()).filter(|record| record.c != AttrMask::ATIME.0);
        let (kinds, lens): (Vec<Kind>, Vec<usize>) = told.map(|record| (record.kind, record.encoded_len())).unzip();
        assert_eq!(kinds.last(), Some(&Kind::Sync), "{name}: {kinds:?}");
        assert!(kinds.len() > 1, "{name}: what it made durable comes before it: {kinds:?}");
        let before = rig.capture().captured() - lens.iter().rev().take(2).sum::<usize>() as u64;
        rig.capture().confirm(before);
        std::thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "{name}: what came just before it is not confirmed");
        let number = rig.capture().captured() - *lens.last().unwrap() as u64;
        rig.capture().confirm(number);
        until(&format!("{name} ends"), || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success(), "{name}");
    }
    // The kernel asks no FUSE file system for syncfs: it returns at once, as it does without Stead on such a one.
    run("sync", &["-f", &rig.ours().join("f").display().to_string()]);
    let status = rig.capture().status().sync.unwrap();
    assert_eq!((status.held, status.waiting, status.state), (9, 0, SyncState::InSync));
    assert!(status.longest_wait_ns > 20_000_000);
}

/// SQLite commits each wait; a daemon that confirms only what is waited for lets them through one by one.
#[test]
fn sqlite_commits_one_by_one() {
    let mut rig = Rig::new();
    in_sync(&mut rig, SyncPolicy::Block);
    let dir = rig.ours();
    let sqlite = std::thread::spawn(move || {
        let rows: String = (0..50).map(|n| format!("INSERT INTO t VALUES({n});")).collect();
        shell(
            &dir,
            &format!("sqlite3 a.db 'PRAGMA synchronous=FULL; CREATE TABLE t(a); {rows} SELECT count(*) FROM t;'"),
        )
    });
    let mut out = Vec::new();
    while !sqlite.is_finished() {
        rig.capture().wait(Duration::from_millis(1));
        out.clear();
        let number = rig.capture().drain(&mut out, 1 << 20).unwrap();
        if waiting(rig.capture()) > 0 {
            rig.capture().confirm(number);
        }
    }
    assert_eq!(sqlite.join().unwrap(), "Some(0)\n50\n");
    assert!(rig.capture().sync_status().unwrap().held >= 51);
}

/// Nobody confirms, the daemon is dead: by the policy the server goes on by itself, or waits.
#[test]
fn silence_is_ended_by_the_deadline_or_by_nobody() {
    for policy in [SyncPolicy::Async, SyncPolicy::Block] {
        let mut rig = Rig::new();
        in_sync(&mut rig, policy);
        let mut child = python(&rig.ours(), "fd = os.open('f', os.O_RDWR | os.O_CREAT); os.fsync(fd)");
        until("it waits", || waiting(rig.capture()) == 1);
        let started = Instant::now();
        assert_eq!(rig.capture().extend(boot_ns() + SECOND / 2), SyncState::InSync);
        rig.capture = None;
        match policy {
            SyncPolicy::Async => {
                assert!(child.wait().unwrap().success());
                assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
            }
            SyncPolicy::Block => {
                std::thread::sleep(Duration::from_secs(1));
                assert!(child.try_wait().unwrap().is_none());
            }
        }
        rig.capture = Some(MountCapture::connect(&rig.spec.socket).unwrap());
        let (state, late) = (rig.capture().sync_status().unwrap(), rig.capture().extend(boot_ns() + HOUR));
        match policy {
            SyncPolicy::Async => {
                assert_eq!((state.state, late), (SyncState::FallenBack, SyncState::FallenBack));
                run(
                    "python3",
                    &[
                        "-c",
                        "import os,sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))",
                        &rig.ours().join("f").display().to_string(),
                    ],
                );
                rig.capture().in_sync_again(boot_ns() + HOUR);
                assert_eq!(rig.capture().sync_status().unwrap().state, SyncState::InSync);
            }
            SyncPolicy::Block => {
                assert_eq!((state.state, late, state.waiting), (SyncState::InSync, SyncState::InSync, 1));
                rig.capture().fall_back();
                assert!(child.wait().unwrap().success());
            }
        }
    }
}

/// Who waits for the target can still be killed.
#[test]
fn a_killed_process_does_not_wait() {
    let mut rig = Rig::new();
    in_sync(&mut rig, SyncPolicy::Block);
    let mut child = python(&rig.ours(), "fd = os.open('f', os.O_RDWR | os.O_CREAT); os.fsync(fd)");
    until("it waits", || waiting(rig.capture()) == 1);
    child.kill().unwrap();
    until("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(waiting(rig.capture()), 0);
}

/// The server dies with many calls waiting, several times: each is answered once, when it is due and not before.
#[test]
fn a_killed_server_loses_no_waiting_call() {
    const CALLS: u32 = 100;
    let mut rig = Rig::new();
    in_sync(&mut rig, SyncPolicy::Block);
    let script = format!(
        "import threading\n\
         def call(n):\n\
         \x20   fd = os.open(f'f{{n}}', os.O_RDWR | os.O_CREAT); os.write(fd, b'x'); os.fsync(fd)\n\
         threads = [threading.Thread(target=call, args=[n]) for n in range({CALLS})]\n\
         [t.start() for t in threads]; [t.join() for t in threads]"
    );
    let mut child = python(&rig.ours(), &script);
    until("all wait", || waiting(rig.capture()) == CALLS);
    for round in 1..=3 {
        kill_server(&mut rig);
        until("all wait again", || rig.capture().status().restarts == round && waiting(rig.capture()) == CALLS);
        assert!(child.try_wait().unwrap().is_none());
        std::fs::write(rig.ours().join("other"), "others are served").unwrap();
    }
    let number = rig.capture().captured();
    rig.capture().confirm(number);
    assert!(child.wait().unwrap().success());
    assert_eq!(waiting(rig.capture()), 0);
}

/// The cost of a call whose confirmation is already there when it is looked for, and of one that is confirmed at once
/// by a thread that drains the stream.
#[test]
fn what_waiting_costs() {
    let mut rig = Rig::new();
    let file = std::fs::File::create(rig.ours().join("f")).unwrap();
    let measure = || {
        let mut times: Vec<Duration> = (0..200)
            .map(|n| {
                let started = Instant::now();
                std::os::unix::fs::FileExt::write_all_at(&file, &[n as u8; 512], 0).unwrap();
                file.sync_data().unwrap();
                started.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[100]
    };
    let off = measure();
    let mut other = MountCapture::connect(&rig.spec.socket).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    in_sync(&mut rig, SyncPolicy::Block);
    let on = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                other.wait(Duration::from_millis(20));
                out.clear();
                let number = other.drain(&mut out, 1 << 20).unwrap();
                other.confirm(number);
                other.release(number, 0);
            }
        });
        let on = measure();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        on
    });
    eprintln!("write and fdatasync: {off:?} asynchronous, {on:?} confirmed at once");
    assert!(on < off + Duration::from_millis(20));
}
