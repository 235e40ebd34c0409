//! The server is killed at random, again and again, under a load that checks every answer: each operation takes effect
//! exactly once, and the stream tells it once. `SEED` repeats a run, as far as the machine lets it; `KILLS` says how
//! often (50).

mod common;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::{Rig, kill_server, with_order};
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};
use stead_capture::{Capture, Order};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One round of everything whose repetition would answer something else. Any error is the test's.
fn round(dir: &Path, n: u64) {
    let (a, b, c) = (dir.join("a"), dir.join(format!("b{n}")), dir.join("c"));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&a).expect("create");
    for part in 0..3 {
        file.write_all(format!("{n} {part}\n").as_bytes()).expect("append");
    }
    assert_eq!(file.metadata().unwrap().len(), 3 * format!("{n} 0\n").len() as u64, "appended once each");
    std::fs::hard_link(&a, &b).expect("link");
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    std::fs::create_dir(&c).expect("mkdir");
    renameat_with(CWD, &a, CWD, &c, RenameFlags::EXCHANGE).expect("exchange");
    assert!(a.is_dir() && c.is_file());
    rustix::fs::setxattr(&c, "user.x", b"1", XattrFlags::CREATE).expect("setxattr");
    rustix::fs::removexattr(&c, "user.x").expect("removexattr");
    renameat_with(CWD, &c, CWD, a.join("inner"), RenameFlags::NOREPLACE).expect("rename without replacing");
    std::os::unix::fs::symlink("target", &c).expect("symlink");
    std::fs::rename(&b, a.join("inner")).expect("rename of a file onto its other name");
    std::fs::remove_file(&b).expect("the other name stays then");
    File::create_new(&b).expect("create again").write_all_at(&[n as u8; 5000], 3).expect("write");
    std::fs::rename(&b, a.join("inner")).expect("rename over a file");
    assert_eq!(file.metadata().unwrap().nlink(), 0, "replaced");
    assert_eq!(std::fs::read(a.join("inner")).expect("read").len(), 5003);
    std::fs::remove_file(a.join("inner")).expect("unlink");
    std::fs::remove_dir(&a).expect("rmdir");
    std::fs::remove_file(&c).expect("unlink of a symlink");
    let kept = OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("open");
    (&kept).write_all(&n.to_le_bytes()).expect("append to a log");
}

fn run(order: Order) {
    let seed = number("SEED").unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    let kills = number("KILLS").unwrap_or(50);
    eprintln!("SEED={seed}");
    let mut rig = Rig::with(with_order(order));
    let done = AtomicBool::new(false);
    let dirs: Vec<_> = (0..3).map(|n| rig.ours().join(n.to_string())).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = dirs
            .iter()
            .map(|dir| {
                let done = &done;
                scope.spawn(move || {
                    std::fs::create_dir(dir).unwrap();
                    let mut rounds = 0;
                    while !done.load(Relaxed) {
                        round(dir, rounds);
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let (mut rolls, mut killed) = (seed, 0);
        while killed < kills && !workers.iter().any(|worker| worker.is_finished()) {
            rolls = rolls.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            std::thread::sleep(Duration::from_micros(500 + (rolls >> 33) % 12_000));
            killed += u64::from(kill_server(&mut rig));
        }
        done.store(true, Relaxed);
        for (worker, dir) in workers.into_iter().zip(&dirs) {
            let rounds = worker.join().unwrap_or_else(|_| panic!("SEED={seed}: an application saw an error"));
            let log: Vec<u64> = std::fs::read(dir.join("log"))
                .unwrap()
                .chunks(8)
                .map(|number| u64::from_le_bytes(number.try_into().unwrap()))
                .collect();
            assert!(log.iter().copied().eq(0..rounds), "SEED={seed}: each line once");
        }
        assert_eq!(killed, kills);
    });
    let status = rig.capture().status();
    assert!(status.restarts as u64 > kills / 2, "{status:?}");
    assert_eq!((status.dropped_records, status.bypassed), (0, 0), "{status:?}");
    rig.assert_replica(&format!("SEED={seed}"));
}

#[test]
fn killed_at_random_the_server_does_everything_once() {
    run(Order::Strict);
}

#[test]
fn killed_at_random_the_server_does_everything_once_with_write_back() {
    run(Order::Flush);
}

/// First letter of a process's state; none where it has ended.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| *state != 'Z')
}

/// The server, and every process of the capture.
fn processes(rig: &mut Rig) -> (i32, Vec<i32>) {
    let server = rig.capture().status().server_pid as i32;
    let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let supervisor: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    (server, std::iter::once(supervisor).chain(children).collect())
}

fn signal(pid: i32, what: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), what);
}

fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match is_so() {
            false if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            so => return so,
        }
    }
}

#[test]
fn killed_all_at_once_within_a_write_back_they_are_gone() {
    let mut rig = Rig::with(with_order(Order::Flush));
    // Whoever is left goes with the mount. Begun before the file is open: to start a program would have to wait as well.
    let mut rescue = Command::new("sh");
    rescue.args(["-c", "sleep 40; umount -f \"$0\""]).arg(rig.ours()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut rescue = rescue.spawn().unwrap();
    let file = File::create(rig.ours().join("written")).unwrap();
    let (server, all) = processes(&mut rig);
    let waits = within(Duration::from_secs(20), || {
        file.write_all_at(&vec![2; 32 << 20], 0).unwrap();
        let writes_back = || all.iter().any(|pid| *pid != server && state(*pid) == Some('D'));
        within(Duration::from_millis(100), writes_back);
        signal(server, Signal::STOP);
        let is_stopped = within(Duration::from_secs(1), || state(server) == Some('T'));
        let waits = is_stopped && writes_back();
        if !waits {
            signal(server, Signal::CONT);
        }
        waits
    });
    all.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let are_gone = within(Duration::from_secs(5), || all.iter().all(|pid| state(*pid).is_none()));
    if are_gone {
        let _ = rescue.kill();
    }
    let _ = rescue.wait();
    assert!(waits, "nobody waited for the server");
    assert!(are_gone, "{all:?} wait for a server that will never be");
    assert!(file.sync_all().is_err(), "nothing is there that could have synced it");
}
