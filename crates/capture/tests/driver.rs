//! The driver as a process: starting, stopping, outliving its daemon, and what it does where something is in the way.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Rig, kill_server, run, shell};
use stead_capture::{Capture, CaptureError, MountCapture, MountSpec, Unconfirmed, check, spawn};
use stead_model::record::records;
use stead_model::{FileId, Kind};

fn kinds(bytes: &[u8]) -> Vec<Kind> {
    records(bytes).map(|record| record.unwrap().kind).collect()
}

fn is_mounted(path: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&format!(" {} fuse.stead", path.display()))
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_there_before_is_served_and_stop_uncovers_it() {
    let mut rig = Rig::prepared(
        |dir| {
            shell(dir, "mkdir -p a/b; echo old > a/b/f; ln a/b/f hard");
        },
        |_| {},
    );
    assert!(is_mounted(&rig.ours()));
    assert_eq!(shell(&rig.ours(), "cat a/b/f; echo new > a/b/f; cat hard"), "Some(0)\nold\nnew\n");
    let root = &rig.capture().roots()[0];
    assert_eq!(root.id.ino, rustix::fs::fstat(&root.fd).unwrap().st_ino);
    assert_eq!((root.volume, root.path.clone()), (0, rig.ours()));
    let socket = rig.spec.socket.clone();
    rig.capture().stop(false).unwrap();
    assert!(!is_mounted(&rig.ours()));
    assert_eq!(std::fs::read_to_string(rig.ours().join("hard")).unwrap(), "new\n");
    let bytes = rig_drain_rest(&mut rig);
    assert_eq!(kinds(&bytes), [Kind::Truncate, Kind::Write], "the ring outlives the process");
    eventually("the socket is removed", || !socket.exists());
    eventually("the process ends", || !rig.capture().status().alive);
}

fn rig_drain_rest(rig: &mut Rig) -> Vec<u8> {
    let mut out = Vec::new();
    while rig.capture().wait(Duration::ZERO) {
        rig.capture().drain(&mut out, 1 << 20).unwrap();
    }
    out
}

#[test]
fn a_mount_in_use_is_not_taken_away() {
    let mut rig = Rig::new();
    let held = std::fs::File::create(rig.ours().join("held")).unwrap();
    assert!(matches!(rig.capture().stop(false), Err(CaptureError::Busy { .. })));
    std::fs::write(rig.ours().join("still"), "works").unwrap();
    rig.capture().stop(true).unwrap();
    assert!(!is_mounted(&rig.ours()));
    std::io::Write::write_all(&mut &held, b"late").unwrap();
    held.sync_all().unwrap();
    drop(held);
    assert_eq!(std::fs::read(rig.ours().join("held")).unwrap(), b"late");
    assert!(kinds(&rig_drain_rest(&mut rig)).contains(&Kind::Write));
}

#[test]
fn capture_outlives_the_daemon() {
    let mut rig = Rig::new();
    let incarnation = rig.capture().incarnation();
    std::fs::write(rig.ours().join("a"), "1").unwrap();
    rig.capture = None; // the daemon dies
    std::fs::write(rig.ours().join("b"), "2").unwrap();
    rig.capture = Some(MountCapture::connect(&rig.spec.socket).unwrap());
    assert_eq!(rig.capture().incarnation(), incarnation);
    assert_eq!(rig.assert_replica("after the daemon came back"), 4);
}

#[test]
fn several_directories_make_one_stream() {
    let mut rig = Rig::with(|spec| {
        let second = spec.roots[0].parent().unwrap().join("second");
        std::fs::create_dir(&second).unwrap();
        spec.roots.push(second);
    });
    let (first, second) = (rig.ours(), rig.spec.roots[1].clone());
    for n in 0..50 {
        std::fs::write(if n % 2 == 0 { &first } else { &second }.join(n.to_string()), "").unwrap();
    }
    let roots: Vec<FileId> = rig.capture().roots().iter().map(|root| root.id).collect();
    assert_eq!(roots[0].volume, roots[1].volume, "both are on one file system");
    let bytes = rig.drain();
    for (n, record) in records(&bytes).map(Result::unwrap).enumerate() {
        assert_eq!((record.name, record.parent), (n.to_string().as_bytes(), roots[n % 2]), "order across mounts");
    }
    rig.capture().stop(false).unwrap();
    assert!(!is_mounted(&first) && !is_mounted(&second));
}

#[test]
fn other_mounts_within_stay_visible_and_are_left_out() {
    let mut rig = Rig::prepared(
        |dir| {
            std::fs::create_dir(dir.join("nested")).unwrap();
            run("mount", &["-t", "tmpfs", "none", dir.join("nested").to_str().unwrap()]);
            std::fs::write(dir.join("nested/seen"), "yes").unwrap();
        },
        |_| {},
    );
    let nested = rig.ours().join("nested");
    let found = check(&rig.ours());
    assert!(found.is_err(), "it is captured now: {found:?}");
    assert_eq!(std::fs::read_to_string(nested.join("seen")).unwrap(), "yes");
    std::fs::write(nested.join("seen"), "other").unwrap();
    std::fs::write(rig.ours().join("own"), "").unwrap();
    let bytes = rig.drain();
    assert_eq!(kinds(&bytes), [Kind::Create], "only what is on the captured file system");
    rig.capture().stop(false).unwrap();
    assert_eq!(std::fs::read_to_string(nested.join("seen")).unwrap(), "other", "visible after the end too");
    run("umount", &["-l", nested.to_str().unwrap()]);
    let _ = Command::new("umount").arg("-l").arg(&nested).stderr(Stdio::null()).status();
}

#[test]
fn what_cannot_be_captured_is_refused_and_nothing_stays_behind() {
    let rig = Rig::new();
    let exe = Path::new(env!("CARGO_BIN_EXE_stead-capture-dev"));
    let start = |roots: Vec<std::path::PathBuf>| {
        let spec = MountSpec::new("x", roots, rig.base().join("other.sock"));
        spawn(&spec, exe).unwrap_err().to_string()
    };
    assert!(start(vec![rig.base().join("none")]).contains("does not exist"));
    assert!(start(vec![rig.ours()]).contains("protected already"));
    assert!(start(vec![rig.ours().join("..").join("bare"), "/proc/sys".into()]).contains("handles"));
    assert!(!is_mounted(&rig.bare()));
    let gone = MountCapture::connect(&rig.base().join("none.sock")).unwrap_err();
    assert!(matches!(gone, CaptureError::Unreachable { .. }), "{gone}");
}

#[test]
fn without_a_reader_it_serves_on_and_names_what_it_lost() {
    let mut rig = Rig::with(|spec| spec.ring_bytes = 1 << 20);
    let data = vec![1; 4096];
    for n in 0..600 {
        std::fs::write(rig.ours().join(format!("f{}", n % 20)), &data).unwrap();
    }
    std::fs::remove_file(rig.ours().join("f0")).unwrap();
    let ino = std::fs::metadata(rig.ours().join("f1")).unwrap().ino();
    let status = rig.capture().status();
    assert!(status.dropped_records > 0 && status.dirty_files > 20, "{status:?}");
    let bytes = rig.drain();
    let all: Vec<_> = records(&bytes).map(Result::unwrap).collect();
    let first_lost = all.iter().position(|record| record.kind == Kind::Lost).unwrap();
    assert!(all[first_lost..].iter().all(|record| record.kind == Kind::Lost), "nothing overtakes what was lost");
    let lost: Vec<u64> = all[first_lost..].iter().map(|record| record.file.ino).collect();
    assert!(lost.contains(&ino) && lost.contains(&rig.capture().roots()[0].id.ino));
    std::fs::write(rig.ours().join("after"), "").unwrap();
    let bytes = rig.drain();
    assert_eq!(kinds(&bytes), [Kind::Create], "the stream goes on");
}

#[test]
fn files_are_found_again_when_the_kernel_forgot_them() {
    let mut rig = Rig::new();
    let dir = rig.ours();
    shell(
        &dir,
        "mkdir -p d/e; seq 1 200 | (cd d/e; xargs touch); echo text > d/e/7; exec 7<> d/e/8; rm d/e/8; echo kept >&7",
    );
    let before = rig.capture().status().nodes;
    assert!(before > 200);
    let held = std::fs::File::open(dir.join("d/e/9")).unwrap();
    std::fs::remove_file(dir.join("d/e/9")).unwrap();
    std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    eventually("the kernel forgets", || {
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "2");
        rig.capture().status().nodes < 100
    });
    assert_eq!(std::fs::read_to_string(dir.join("d/e/7")).unwrap(), "text\n");
    assert_eq!(held.metadata().unwrap().nlink(), 0);
    assert_eq!(std::fs::read_dir(dir.join("d/e")).unwrap().count(), 198);
    shell(&dir, "echo more >> d/e/7; mv d x");
    rig.assert_replica("after forgetting");
}

#[test]
fn changes_beneath_are_seen_once_the_kernel_is_told() {
    let mut rig = Rig::new();
    let file = rig.ours().join("a");
    std::fs::write(&file, "one").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    let beneath = rig.capture().roots()[0].fd.try_clone().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&beneath));
    std::fs::write(Path::new(&path).join("a"), "three").unwrap();
    std::fs::write(Path::new(&path).join("b"), "").unwrap();
    rig.capture().invalidate().unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");
    assert_eq!(std::fs::read_dir(rig.ours()).unwrap().count(), 2);
}

/// A server that is killed is replaced; what runs meanwhile sees no error.
#[test]
fn a_killed_server_is_replaced_and_nobody_notices() {
    let mut rig = Rig::new();
    let dir = rig.ours();
    let held = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("held")).unwrap();
    std::fs::remove_file(dir.join("held")).unwrap();
    let worker = std::thread::spawn(move || {
        for n in 0..4000 {
            let path = dir.join(format!("f{}", n % 50));
            let data = vec![n as u8; 5000];
            let file =
                std::fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &data, 0).unwrap();
            let mut back = vec![0; 5000];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut back, 0).unwrap();
            assert_eq!(back, data);
        }
    });
    let mut kills = 0;
    while !worker.is_finished() {
        kills += u32::from(kill_server(&mut rig));
        std::thread::sleep(Duration::from_millis(15));
    }
    worker.join().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&held, b"without a name", 0).unwrap();
    assert_eq!(held.metadata().unwrap().len(), 14);
    assert!(kills > 3 && rig.capture().status().restarts > 3, "{kills} kills, {:?}", rig.capture().status());
    let bytes = rig.drain();
    assert!(records(&bytes).all(|record| record.is_ok()));
}

#[test]
fn a_dead_process_leaves_the_directory_closed_and_the_next_start_opens_it() {
    let mut rig = Rig::new();
    std::fs::write(rig.ours().join("a"), "kept").unwrap();
    let first = rig.capture().incarnation();
    let pid = rustix::process::Pid::from_raw(rig.capture().status().pid as i32).unwrap();
    // The kernel keeps what it is told of the root.
    assert!(std::fs::metadata(rig.ours()).unwrap().is_dir());
    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
    eventually("nothing is served", || std::fs::read(rig.ours().join("a")).is_err());
    assert!(std::fs::write(rig.ours().join("unseen"), "").is_err(), "rather closed than unprotected");
    assert!(matches!(check(&rig.ours()), Err(stead_capture::Refusal::Dead { .. })));
    rig.capture = None;
    let exe = Path::new(env!("CARGO_BIN_EXE_stead-capture-dev"));
    rig.capture = Some(spawn(&rig.spec, exe).unwrap());
    assert_eq!(std::fs::read_to_string(rig.ours().join("a")).unwrap(), "kept");
    assert_ne!(rig.capture().incarnation(), first);
}

#[test]
fn a_read_that_moves_the_time_of_access_is_told() {
    let mut rig = Rig::prepared(
        |dir| {
            shell(dir, "echo text > a; touch -d 2001-01-01 a; echo other > b");
        },
        |_| {},
    );
    std::fs::read(rig.ours().join("a")).unwrap();
    let mut bytes = Vec::new();
    eventually("a record of the time of access", || {
        bytes.extend(rig.drain());
        !bytes.is_empty()
    });
    let record = records(&bytes).next().unwrap().unwrap();
    assert_eq!((record.kind, record.c), (Kind::SetAttr, stead_model::AttrMask::ATIME.0));
    assert!(record.attr.atime().sec > 1_700_000_000);
}

/// Many threads wait for a disk at once, and others are still served.
#[test]
fn waiting_for_the_disk_holds_up_nobody_else() {
    let rig = Rig::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    let dir = rig.ours();
    std::thread::scope(|scope| {
        for id in 0..12 {
            let (dir, done) = (&dir, &done);
            scope.spawn(move || {
                let file = std::fs::File::create(dir.join(format!("f{id}"))).unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::io::Write::write_all(&mut &file, b"line\n").unwrap();
                    file.sync_all().unwrap();
                }
            });
        }
        let start = Instant::now();
        for n in 0..300 {
            std::fs::write(dir.join("other"), n.to_string()).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} for 300 small writes", start.elapsed());
    });
}

/// The supervisor is killed, several times: its heir goes on with everything that is open, and the daemon finds it.
#[test]
fn a_killed_supervisor_is_inherited_and_nobody_notices() {
    let mut rig = Rig::new();
    let (dir, done) = (rig.ours(), std::sync::atomic::AtomicBool::new(false));
    let incarnation = rig.capture().incarnation();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let held = std::fs::File::create_new(dir.join("held")).unwrap();
            let mut number = 0_u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::os::unix::fs::FileExt::write_all_at(&held, &number.to_le_bytes(), number * 8).unwrap();
                let path = dir.join(format!("f{}", number % 20));
                std::fs::File::create_new(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                number += 1;
            }
            number
        });
        for round in 1..=5 {
            let pid = rig.capture().status().pid;
            let raw = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
            eventually("another supervisor answers", || {
                let status = rig.capture().status();
                status.alive && status.pid != pid && status.restarts == round
            });
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_server(&mut rig);
        eventually("the new supervisor watches its server", || rig.capture().status().restarts == 6);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(worker.join().unwrap() > 0);
    });
    assert_eq!(rig.capture().incarnation(), incarnation);
    rig.assert_replica("after five supervisors");
    rig.capture().stop(false).unwrap();
    assert!(!is_mounted(&rig.ours()));
    eventually("the process ends", || !rig.capture().status().alive);
}

/// Signals to the daemon's terminal or process group do not reach capture, and a stray one does no harm.
#[test]
fn signals_to_the_daemon_do_not_reach_it() {
    use std::os::unix::process::CommandExt;
    let mut rig = Rig::new();
    rig.capture().stop(true).unwrap();
    eventually("the process ends", || !rig.capture().status().alive);
    let exe = env!("CARGO_BIN_EXE_stead-capture-dev");
    let mut daemon = Command::new("bash");
    daemon.args(["-c", "\"$@\" & wait", "daemon", exe, "capture"]).args(rig.spec.to_args()).process_group(0);
    let mut daemon = daemon.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.take().unwrap()), &mut String::new())
        .unwrap();
    let group = rustix::process::Pid::from_child(&daemon);
    for signal in [rustix::process::Signal::HUP, rustix::process::Signal::TERM] {
        let _ = rustix::process::kill_process_group(group, signal);
    }
    daemon.wait().unwrap();
    rig.capture = Some(MountCapture::connect(&rig.spec.socket).unwrap());
    let pid = rustix::process::Pid::from_raw(rig.capture().status().pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    std::fs::write(rig.ours().join("served"), "still").unwrap();
    assert!(rig.capture().status().alive);
}

/// A daemon that dies with what it took leaves it to the next one, also where the ring could not hold it.
#[test]
fn what_a_dead_daemon_had_taken_is_there_for_the_next() {
    let mut rig = Rig::with(|spec| spec.ring_bytes = 4 << 20);
    std::fs::write(rig.ours().join("early"), "x").unwrap();
    let ino = std::fs::metadata(rig.ours().join("early")).unwrap().ino();
    let mut out = Vec::new();
    let taken = rig.capture().drain(&mut out, 1 << 20).unwrap();
    rig.capture = Some(MountCapture::connect(&rig.spec.socket).unwrap());
    let resumed = rig.capture().resume();
    assert_eq!((resumed.tail, resumed.unconfirmed), (0, Unconfirmed::Files(vec![])));
    let mut again = Vec::new();
    assert_eq!(rig.capture().drain(&mut again, 1 << 20).unwrap(), taken);
    assert_eq!(out, again);
    rig.capture = None;
    let data = vec![1; 1 << 16];
    for n in 0..200 {
        std::fs::write(rig.ours().join(format!("f{n}")), &data).unwrap();
    }
    rig.capture = Some(MountCapture::connect(&rig.spec.socket).unwrap());
    let resumed = rig.capture().resume();
    let Unconfirmed::Files(files) = resumed.unconfirmed else { panic!("a few files fit") };
    assert!(files.iter().any(|file| file.ino == ino), "{files:?}");
    assert!(rig.capture().status().unconfirmed_files > 0);
    let bytes = rig.drain();
    let lost = |record: &stead_model::Record<'_>| record.kind == Kind::Lost;
    assert!(
        records(&bytes).map(Result::unwrap).any(|record| lost(&record)),
        "what came later was dropped, and is told"
    );
    assert_eq!(rig.capture().resume().unconfirmed, Unconfirmed::Files(vec![]), "confirmed beyond");
}
