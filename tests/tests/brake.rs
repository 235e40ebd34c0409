//! What must not spread to the replica: a source that was emptied, unmounted, exchanged, or is being destroyed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stead_tests::command::{run, text, until};
use stead_tests::compare::same;
use stead_tests::rng::Rng;
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

fn count(root: &Path) -> usize {
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

/// Files that may be rewritten within a minute, of four times as many.
const REWRITES: usize = 1_000;

/// A set whose brake looks at rewrites, and its files.
fn rewritable(rewrites: usize) -> (Site, Pairing, Vec<PathBuf>) {
    let site = Site::new().unwrap();
    let notes = site.pairing("notes").unwrap();
    tree::even(&notes.source, 4 * REWRITES as u64, 2_000, 1).unwrap();
    site.protect(&notes, &[]).unwrap();
    site.paris.set_in_plan(&format!("brake.rewrites = {rewrites}")).unwrap();
    let dirs = fs::read_dir(&notes.source).unwrap().flatten();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).unwrap().flatten()).map(|entry| entry.path()).collect();
    (site, notes, files)
}

/// Writes other bytes over a file, in place.
fn encrypt(file: &Path) {
    let key = Rng::new(7).bytes(2_000);
    let plain = fs::read(file).unwrap();
    let bytes: Vec<u8> = plain.iter().zip(key).map(|(byte, key)| byte ^ key).collect();
    File::options().write(true).open(file).unwrap().write_all_at(&bytes, 0).unwrap();
}

/// Files of the replica that are not as they are in that copy.
fn rewritten(before: &Path, notes: &Pairing, files: &[PathBuf]) -> usize {
    let differs = |file: &&PathBuf| {
        let inside = file.strip_prefix(&notes.source).unwrap();
        fs::read(before.join(inside)).unwrap() != fs::read(notes.replica.join(inside)).unwrap()
    };
    files.iter().filter(differs).count()
}

/// Rewrites all files; the connection halts, and says of what.
fn rewrites_halt(cipher: impl Fn(&Path)) -> (Site, Pairing, Vec<PathBuf>) {
    let (site, notes, files) = rewritable(REWRITES);
    let before = site.hosts.lyon.store().join("before");
    run(Command::new("cp").arg("-a").arg(&notes.replica).arg(&before)).unwrap();
    files.iter().for_each(|file| cipher(file));
    let reason = halted(&site);
    let (brake, applied) =
        (site.paris.connection("notes").unwrap()["brake"].clone(), rewritten(&before, &notes, &files));
    println!("{reason}; {applied} were applied; {brake}");
    assert!(reason.contains("rewrit"), "{reason}");
    assert!((1..=REWRITES).contains(&applied), "{applied} of {} were applied", files.len());
    assert!(brake["rewrites"].as_u64() > Some(REWRITES as u64) && brake["deletions"] == 0, "{brake}");
    let told = || Ok(site.paris.cli(["alerts"])?.contains("brake"));
    until("an alert is told", Duration::from_secs(10), told).unwrap();
    (site, notes, files)
}

#[test]
fn mass_rewriting_halts_and_goes_on_when_it_was_meant() {
    let (site, notes, _) = rewrites_halt(encrypt);
    site.paris.cli(["resume", "notes", "--accept-deletions"]).unwrap();
    site.replicates("notes").unwrap();
    site.settle(&notes).unwrap();
}

/// By a program that cuts each file to nothing first. What was written over is not kept, so it cannot be taken back.
#[test]
fn mass_rewriting_is_not_said_to_be_undone_where_it_is_not() {
    let (site, notes, files) = rewrites_halt(|file| fs::write(file, Rng::new(9).bytes(1_900)).unwrap());
    let undo = site.paris.output(["resume", "notes", "--undo"]).unwrap();
    let told = text(&undo.stderr);
    println!("{told}");
    assert!(!undo.status.success() && told.contains("written over"), "{told}{}", text(&undo.stdout));
    assert!(halted(&site).contains("could not all be taken back"), "nothing more goes");
    // The plain text comes back from elsewhere, and then it is a change like any other.
    files.iter().for_each(|file| fs::write(file, Rng::new(1).bytes(2_000)).unwrap());
    site.paris.cli(["resume", "notes"]).unwrap();
    site.replicates("notes").unwrap();
    site.settle(&notes).unwrap();
}

#[test]
fn files_that_are_new_or_written_over_again_and_again_are_no_mass_change() {
    let (site, notes, files) = rewritable(5);
    for round in 0..20 {
        let new = notes.source.join(format!("new-{round}"));
        File::create(&new).unwrap();
        encrypt(&files[0]);
        site.paris.wait("notes").unwrap();
        fs::write(&new, "written after it was made").unwrap();
        encrypt(&files[1]);
        site.paris.wait("notes").unwrap();
    }
    let connection = site.paris.connection("notes").unwrap();
    assert_eq!(connection["state"], "replicating", "{connection}");
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
