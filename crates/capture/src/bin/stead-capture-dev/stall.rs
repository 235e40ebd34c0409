//! How long an application stands still when the server is killed.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stead_capture::{Capture, MountCapture};

/// Time that the server has to come back and settle before it is killed again.
const BETWEEN: Duration = Duration::from_millis(120);

/// Writes 4 KiB pieces into a new file of the captured `dir`, kills the server `kills` times meanwhile, and prints one
/// line: `kills N errors N median_us N p90_us N max_us N`, where a stall is the longest write of the time after a kill.
pub fn run(socket: &Path, dir: &Path, kills: usize) -> Result<(), Box<dyn Error>> {
    let capture = MountCapture::connect(socket)?;
    let path = dir.join(".stead-stall");
    let (done, written, file) = (AtomicBool::new(false), AtomicU64::new(0), std::fs::File::create(&path)?);
    let (killed, writes, errors) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut writes, mut errors, mut number) = (Vec::new(), 0, 0_u64);
            while !done.load(Relaxed) {
                let begun = Instant::now();
                errors += u64::from(file.write_all_at(&[number as u8; 4096], number % 256 * 4096).is_err());
                number += 1;
                written.store(number, Relaxed);
                writes.push((begun, begun.elapsed()));
            }
            (writes, errors)
        });
        let mut killed = Vec::new();
        for n in 0..kills {
            std::thread::sleep(BETWEEN + Duration::from_micros(n as u64 * 7919 % 5000));
            if let Some(server) = Pid::from_raw(capture.status().server_pid as i32) {
                killed.push(Instant::now());
                let _ = kill_process(server, Signal::KILL);
            }
            let so_far = written.load(Relaxed);
            while written.load(Relaxed) < so_far + 20 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::thread::sleep(BETWEEN);
        done.store(true, Relaxed);
        let (writes, errors) = writer.join().expect("the writer counts its errors");
        (killed, writes, errors)
    });
    std::fs::remove_file(&path)?;
    let after = |at: &Instant| {
        let during = writes.iter().filter(|(begun, took)| *begun + *took >= *at && *begun < *at + BETWEEN / 2);
        during.map(|(_, took)| *took).max().unwrap_or_default()
    };
    let mut stalls: Vec<Duration> = killed.iter().map(after).collect();
    stalls.sort_unstable();
    let at = |part: usize| stalls.get((stalls.len() * part / 100).min(stalls.len().saturating_sub(1)));
    let us = |part| at(part).map_or(0, Duration::as_micros);
    println!("kills {} errors {errors} median_us {} p90_us {} max_us {}", stalls.len(), us(50), us(90), us(100));
    Ok(())
}
