//! What must not spread to the replica: a source that was emptied, unmounted, exchanged, or is being destroyed.

use std::fs;
use std::time::Duration;

use stead_tests::command::{text, until};
use stead_tests::compare::same;
use stead_tests::site::{Pairing, Site};
use stead_tests::tree;

/// Files of the set; more of them go at once than the default limit lets through.
const FILES: u64 = 26_000;

fn protected(files: u64) -> (Site, Pairing) {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::plain(&notes.source, files, files * 60, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    (site, notes)
}

fn halted(site: &Site) -> String {
    let connection = || site.paris.connection("notes").unwrap();
    let halted = until("it halts", Duration::from_secs(20), || Ok(connection()["state"] == "halted"));
    halted.unwrap_or_else(|e| panic!("{e}: {}", connection()));
    connection()["reason"].as_str().unwrap_or_default().to_string()
}

fn count(root: &std::path::Path) -> usize {
    let entries = fs::read_dir(root).unwrap().flatten().filter(|entry| entry.file_name() != ".stead-holding");
    entries.map(|entry| 1 + if entry.path().is_dir() { count(&entry.path()) } else { 0 }).sum()
}

fn destroy(notes: &Pairing) {
    for entry in fs::read_dir(&notes.source).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).unwrap();
    }
}

#[test]
fn a_directory_of_five_thousand_files_may_be_deleted() {
    let (site, notes) = protected(5_000);
    tree::plain(&notes.source.join("stays"), 7_000, 100_000, 2).unwrap();
    site.paris.wait("notes").unwrap();
    for dir in 0..50 {
        fs::remove_dir_all(notes.source.join(format!("d{dir:04}"))).unwrap();
    }
    site.replicates("notes").unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn mass_deletion_halts_and_is_undone_on_request() {
    let (site, notes) = protected(FILES);
    let before = count(&notes.replica);
    destroy(&notes);
    let reason = halted(&site);
    println!("{reason}; {} of {before} are left", count(&notes.replica));
    assert!(reason.contains("delet"), "{reason}");
    assert!(count(&notes.replica) > before / 4, "{} of {before} are left", count(&notes.replica));
    let waited = site.paris.output(["wait", "notes", "--timeout", "5s"]).unwrap();
    assert!(!waited.status.success() && !waited.stderr.is_empty(), "a wait in vain ends with a reason");
    site.paris.cli(["resume", "notes", "--undo"]).unwrap();
    until("it is undone", Duration::from_secs(20), || Ok(count(&notes.replica) == before))
        .unwrap_or_else(|e| panic!("{e}: {} of {before}", count(&notes.replica)));
}

#[test]
fn mass_deletion_goes_on_when_it_was_meant() {
    let (site, notes) = protected(FILES);
    destroy(&notes);
    halted(&site);
    site.paris.cli(["resume", "notes", "--accept-deletions"]).unwrap();
    site.replicates("notes").unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn a_source_that_was_emptied_while_nobody_watched_is_not_taken_for_the_truth() {
    let (mut site, notes) = protected(300);
    let before = count(&notes.replica);
    site.paris.kill_host();
    until("the mount goes", Duration::from_secs(10), || {
        stead_tests::run::unmount_beneath(&notes.source);
        Ok(stead_tests::run::mounts_beneath(&notes.source).is_empty())
    })
    .unwrap();
    destroy(&notes);
    site.paris.launch().unwrap();
    let reason = halted(&site);
    println!("{reason}");
    let plain = site.paris.output(["resume", "notes"]).unwrap();
    assert_eq!(halted(&site), reason, "{}{}", text(&plain.stdout), text(&plain.stderr));
    // What the source does not have any more waits in the holding directory until somebody decides.
    site.paris.cli(["resume", "notes", "--undo"]).unwrap();
    until("it is undone", Duration::from_secs(20), || Ok(count(&notes.replica) == before))
        .unwrap_or_else(|e| panic!("{e}: {} of {before}", count(&notes.replica)));
}

#[test]
fn another_file_system_under_the_same_path_is_not_the_set() {
    let (mut site, notes) = protected(300);
    let before = count(&notes.replica);
    site.paris.kill_host();
    stead_tests::run::unmount_beneath(&notes.source);
    let other = site.hosts.paris.command("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&notes.source).status().unwrap();
    assert!(other.success());
    fs::write(notes.source.join("other"), "not the set").unwrap();
    // The daemon may come up and refuse the set, or not replicate it; in no case is the other file system the set.
    site.paris.launch().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let status = site.paris.status().unwrap().to_string();
    println!("{status}");
    assert!(!status.contains("\"state\":\"replicating\""), "{status}");
    assert_eq!(count(&notes.replica), before);
    assert!(!notes.replica.join("other").exists());
    site.paris.kill_host();
    stead_tests::run::unmount_beneath(&notes.source);
    site.paris.launch().unwrap();
    site.replicates("notes").unwrap();
    site.paris.wait("notes").unwrap();
    same(&notes.beneath, &notes.replica).unwrap();
}
