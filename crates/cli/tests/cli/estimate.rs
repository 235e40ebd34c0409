//! `stead estimate`: known loads, counted to the byte; and that nothing is left behind.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn estimate(paths: &[&Path], options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    command.arg("estimate").args(paths).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str() && line.contains("fuse.stead"))
}

fn until(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn watching(path: &Path, options: &[&str]) -> Child {
    let child = estimate(&[path], options);
    until("the mount is there", || is_mounted(path));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn leftovers(pid: u32) -> bool {
    std::env::temp_dir().join(format!("stead-estimate-{pid}")).exists()
}

#[test]
fn a_known_load_is_counted_to_the_byte_and_ctrl_c_ends_with_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let child = watching(&path, &["--json", "--line", "1kbit", "--line", "10Gbit"]);
    let file = File::options().read(true).write(true).create_new(true).open(path.join("file")).unwrap();
    for n in 0..50_u64 {
        let block: Vec<u8> = (0..4096_u64).map(|i| ((i * i * (n + 7)) >> 5) as u8).collect();
        file.write_all_at(&block, n * 4096).unwrap();
    }
    file.write_all_at(&[9; 8192], 0).unwrap();
    drop(file);
    fs::rename(path.join("file"), path.join("other")).unwrap();
    signal(&child, Signal::INT);
    let pid = child.id();
    let report = json(&child.wait_with_output().unwrap());
    let total = &report["total"];
    assert_eq!(total["written_bytes"], 52 * 4096);
    assert_eq!(total["coalesced_bytes"], 50 * 4096);
    // Created, written 51 times, renamed.
    assert_eq!(total["changes"], 53, "{report:#}");
    assert!(total["sent_bytes"].as_u64().unwrap() > 1000);
    assert_eq!(report["lost"]["records"], 0);
    assert_eq!(report["paths"][0]["driver"], "mount");
    assert_eq!(report["notes"].as_array().unwrap().len(), 0, "{report:#}");
    let [slow, fast] = [&report["lines"][0], &report["lines"][1]];
    assert!(slow["lag_end_seconds"].as_f64().unwrap() > 10.0, "{slow}");
    assert_eq!(fast["lag_max_seconds"], 0.0);
    assert!(!is_mounted(&path) && !leftovers(pid));
    assert_eq!(fs::metadata(path.join("other")).unwrap().len(), 50 * 4096, "the directory is as it was");
}

#[test]
fn the_report_says_in_words_what_was_measured_and_when_the_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let child = watching(&path, &["--for", "2s", "--line", "2Mbit"]);
    fs::write(path.join("file"), vec![1; 100_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in
        ["by a capture mount over it", "97.7 KiB", "minute from", "the line that keeps up", "2.0 Mbit/s", "always"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!is_mounted(&path));
}

#[test]
fn a_killed_estimate_leaves_no_mount() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let mut child = watching(&path, &[]);
    fs::write(path.join("file"), "x").unwrap();
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    until("the mount is gone", || !is_mounted(&path));
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "x");
    let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("stead-estimate-{}", child.id())));
}

#[test]
fn who_has_a_file_open_goes_on_when_it_ends_and_who_had_one_before_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let mut tail = Command::new("sleep").arg("100").stdout(File::create(path.join("log")).unwrap()).spawn().unwrap();
    let child = watching(&path, &["--json"]);
    let open = File::create(path.join("open")).unwrap();
    open.write_all_at(b"before", 0).unwrap();
    signal(&child, Signal::TERM);
    let report = json(&child.wait_with_output().unwrap());
    tail.kill().unwrap();
    tail.wait().unwrap();
    let notes = report["notes"].to_string();
    assert!(notes.contains("sleep") && notes.contains("/log since before"), "{notes}");
    assert!(notes.contains("is still used"), "{notes}");
    assert_eq!(report["total"]["written_bytes"], 6);
    open.write_all_at(b" after", 6).unwrap();
    drop(open);
    assert_eq!(fs::read_to_string(path.join("open")).unwrap(), "before after");
    assert!(!is_mounted(&path));
}

#[test]
fn a_single_file_is_watched_and_only_what_differs_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("notes.ini");
    fs::write(&path, vec![1; 20_000]).unwrap();
    let child = estimate(&[&path], &["--json", "--for", "5s"]);
    // Ready once its directory is there; the watch is set right after.
    until("it watches", || leftovers(child.id()));
    std::thread::sleep(Duration::from_millis(500));
    let mut content = vec![1; 20_000];
    content[9_000] = 2;
    fs::write(&path, &content).unwrap();
    let report = json(&child.wait_with_output().unwrap());
    assert_eq!(report["paths"][0]["driver"], "watch");
    assert_eq!(report["total"]["written_bytes"], 4096, "{report:#}");
}

#[test]
fn what_cannot_be_watched_is_refused_before_anything_is_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    let refused = |paths: &[&Path], options: &[&str], code: i32, word: &str| {
        let output = estimate(paths, options).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(word), "{word}: {said}");
    };
    refused(&[&path, &path.join("sub")], &[], 2, "overlap");
    refused(&[&path.join("missing")], &[], 2, "No such file");
    refused(&[&path], &["--line", "fast"], 2, "8Mbit/s");
    refused(&[], &[], 2, "PATH");
    let child = watching(&path, &[]);
    refused(&[&path.join("sub")], &[], 1, "protected already");
    signal(&child, Signal::INT);
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(!is_mounted(&path));
}
