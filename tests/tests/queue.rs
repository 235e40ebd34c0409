//! The queue beyond memory: a target that is away keeps its place in the stream, and where the disk is full it goes behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use stead_tests::command::{run, until};
use stead_tests::host::Hosts;
use stead_tests::relay::{Flow, Relay};
use stead_tests::rng::Rng;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

const SOON: Duration = Duration::from_secs(20);
/// A disk that failed is left alone for a second.
const AGAIN: Duration = Duration::from_millis(1200);

/// A protected tree behind a line that can be broken, with little memory for its queue.
struct Far {
    site: Site,
    notes: Pairing,
    relay: Relay,
}

impl Far {
    fn on(hosts: Hosts, disk: &str) -> Far {
        let site = Site::on(hosts).unwrap();
        let relay = Relay::start(&site.hosts.lyon, 7140, &site.lyon.listen()).unwrap();
        let notes = site.pairing("notes").unwrap();
        tree::plain(&notes.source, 50, 2 << 20, 1).unwrap();
        site.protect(&notes, &["--route", &relay.address()]).unwrap();
        let far = Far { site, notes, relay };
        far.limit(disk);
        far.site.settle(&far.notes).unwrap();
        far
    }

    /// Lets the queue have 8 MiB of memory, and so much disk.
    fn limit(&self, disk: &str) {
        let limits = format!("queue-limit = \"8MiB\"\nqueue-disk = \"{disk}\"");
        self.site.paris.set_in_plan(&limits).unwrap();
    }

    fn connection(&self) -> Value {
        self.site.paris.connection("notes").unwrap()
    }

    fn becomes(&self, state: &str, limit: u64) {
        let told = until(state, Duration::from_secs(limit), || Ok(self.connection()["state"] == state));
        told.unwrap_or_else(|e| panic!("{e:#}: {}\n{}", self.connection(), self.site.paris.log()));
    }

    /// Writes so many files of 1 MiB that no compression makes smaller.
    fn write(&self, files: std::ops::Range<u64>) {
        for number in files {
            let bytes = Rng::new(number).bytes(1 << 20);
            fs::write(self.notes.source.join(format!("new-{number}")), bytes).unwrap();
        }
    }

    /// Bytes of the queue's files.
    fn on_disk(&self) -> u64 {
        let dir = self.site.paris.state().join("sets/notes/source/queue");
        let files = fs::read_dir(dir).map(|dir| dir.flatten().collect::<Vec<_>>()).unwrap_or_default();
        files.iter().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// How often the source's log says that.
    fn logged(&self, what: &str) -> usize {
        let log = fs::read_to_string(self.site.paris.log_path()).unwrap();
        log.lines().filter(|line| line.contains(what)).count()
    }
}

#[test]
fn a_target_that_is_away_for_longer_than_memory_lasts_is_not_compared() {
    let far = Far::on(Hosts::new().unwrap(), "1GiB");
    let mirrored = far.logged("mirrored");
    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    far.write(0..64);
    until("the queue has it", Duration::from_secs(20), || {
        Ok(far.connection()["queue"]["bytes"].as_u64() > Some(60 << 20))
    })
    .unwrap();
    let on_disk = far.on_disk();
    println!("{} MiB of 64 on disk", on_disk >> 20);
    assert!(on_disk > 50 << 20, "{on_disk} bytes on disk: {}", far.connection());
    far.relay.flow(Flow::Through);
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
    assert_eq!(far.logged("state=behind"), 0, "{}", far.site.paris.log());
    assert_eq!(far.logged("mirrored"), mirrored, "a difference mirror ran: {}", far.site.paris.log());
    until("the disk is given back", Duration::from_secs(10), || Ok(far.on_disk() == 0)).unwrap();

    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    far.write(100..132);
    let mut far = far;
    far.site.paris.kill();
    far.site.paris.launch().unwrap();
    far.relay.flow(Flow::Through);
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
}

#[test]
fn beyond_the_disk_a_target_is_behind_and_what_changed_is_compared() {
    let far = Far::on(Hosts::new().unwrap(), "16MiB");
    let mirrored = far.logged("mirrored");
    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    far.write(0..16);
    until("the queue goes to disk", Duration::from_secs(20), || Ok(far.on_disk() > 4 << 20)).unwrap();
    far.write(16..64);
    until("the disk is given back", Duration::from_secs(20), || Ok(far.on_disk() == 0)).unwrap();
    far.relay.flow(Flow::Through);
    far.becomes("replicating", 30);
    far.site.settle(&far.notes).unwrap();
    assert_eq!(far.logged("mirrored"), mirrored + 1, "{}", far.site.paris.log());
    assert_eq!(far.logged("whole=true"), 1, "all of it was compared: {}", far.site.paris.log());
}

#[test]
fn a_full_disk_of_the_queue_puts_the_target_behind_and_says_so() {
    let far = Far::on(Hosts::new().unwrap(), "1GiB");
    let small = Small::mount(&far.site.paris.state().join("sets/notes/source/queue"));
    far.relay.rate(Some(256 << 10));
    far.write(0..40);
    far.becomes("behind", 20);
    let reason = far.connection()["reason"].as_str().unwrap_or_default().to_owned();
    println!("{reason}");
    assert!(reason.starts_with("the queue's disk is full: "), "{reason}");
    small.size("200m");
    let enlarged = Instant::now();
    far.relay.rate(None);
    far.becomes("replicating", 60);
    far.site.settle(&far.notes).unwrap();
    until("the disk is tried again", SOON, || Ok(enlarged.elapsed() > AGAIN)).unwrap();

    far.relay.flow(Flow::Cut);
    far.becomes("disconnected", 10);
    far.write(100..140);
    until("it goes to disk again", Duration::from_secs(20), || Ok(far.on_disk() > 20 << 20)).unwrap();
    far.relay.flow(Flow::Through);
    far.becomes("replicating", 60);
    far.site.settle(&far.notes).unwrap();
}

/// A file system of a few MiB.
struct Small(PathBuf);

impl Small {
    fn mount(on: &Path) -> Small {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(on)).unwrap();
        Small(on.to_owned())
    }

    fn size(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0)).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}
