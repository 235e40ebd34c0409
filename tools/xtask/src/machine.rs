//! What this machine is, and what it lacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use stead_tests::command::run;

/// The machine in one line, without its name.
pub fn described() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (model, kernel) = (model.trim_start_matches([':', ' ', '\t']), kernel.trim());
    format!("{cores} × {model}, {} GiB, Linux {kernel}", kib.div_ceil(1 << 20))
}

/// Kernel features that the tests use and this machine lacks, a line each: what, and what is then not tested.
pub fn shortcomings() -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, what: &str, then: &str| {
        if !there {
            missing.push(format!("{what}: {then}"));
        }
    };
    let root = rustix::process::geteuid().is_root();
    need(root, "not root", "no system test can run");
    need(Path::new("/dev/fuse").exists(), "/dev/fuse is missing", "nothing that protects a directory can run");
    let netns = format!("stead-probe-{}", std::process::id());
    let made = run(Command::new("ip").args(["netns", "add", &netns])).is_ok();
    let _ = run(Command::new("ip").args(["netns", "del", &netns]));
    need(made, "network namespaces are refused", "test hosts share the loopback");
    need(Path::new("/dev/loop-control").exists(), "no loop devices", "test hosts have no file system of their own");
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for kind in ["ext4", "xfs", "btrfs"] {
        let there =
            kinds.split_whitespace().any(|word| word == kind) || run(Command::new("modprobe").arg(kind)).is_ok();
        need(there, &format!("no {kind}"), "its file handles are not tested");
    }
    let uring = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or("2".into());
    need(uring.trim() == "0", "io_uring is off", "its case of the operation matrix ends in ENOSYS or EPERM");
    missing
}
