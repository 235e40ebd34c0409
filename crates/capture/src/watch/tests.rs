use std::fs;
use std::io::Write;

use stead_model::record::records;

use super::*;

fn watch(dir: &Path) -> Arc<WatchCapture> {
    WatchCapture::start(&[dir.join("a.ini"), dir.join("b.ini")]).unwrap()
}

/// Kind and name of everything up to now.
fn seen(capture: &mut Arc<WatchCapture>) -> Vec<(Kind, FileId, FileId, Vec<u8>)> {
    let until = capture.captured();
    let mut out = Vec::new();
    assert_eq!(capture.drain(&mut out, usize::MAX).unwrap(), until);
    records(&out)
        .map(Result::unwrap)
        .map(|r| (r.kind, r.file, r.names.victim, if r.kind == Kind::Rename { r.name2 } else { r.name }.to_vec()))
        .collect()
}

fn id(capture: &WatchCapture, name: &str) -> FileId {
    look(&capture.roots[0], name.as_bytes()).unwrap().0
}

#[test]
fn only_what_happens_to_watched_names_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.ini"), "1").unwrap();
    let mut capture = watch(dir.path());
    assert_eq!(capture.roots.len(), 1);
    assert_eq!(seen(&mut capture), []);
    fs::write(dir.path().join("other"), "1").unwrap();
    assert_eq!(seen(&mut capture), []);
    let a = id(&capture, "a.ini");
    fs::write(dir.path().join("a.ini"), "2").unwrap();
    assert_eq!(seen(&mut capture), [(Kind::Lost, a, FileId::NONE, vec![])]);
    fs::write(dir.path().join("b.ini"), "2").unwrap();
    let b = id(&capture, "b.ini");
    assert_eq!(seen(&mut capture), [(Kind::Link, b, FileId::NONE, b"b.ini".to_vec())]);
    fs::remove_file(dir.path().join("a.ini")).unwrap();
    assert_eq!(seen(&mut capture), [(Kind::Unlink, a, FileId::NONE, b"a.ini".to_vec())]);
}

#[test]
fn a_replacement_by_rename_names_old_and_new() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.ini"), "1").unwrap();
    let mut capture = watch(dir.path());
    let old = id(&capture, "a.ini");
    fs::write(dir.path().join("tmp"), "2").unwrap();
    fs::rename(dir.path().join("tmp"), dir.path().join("a.ini")).unwrap();
    let new = id(&capture, "a.ini");
    assert_ne!(old, new);
    assert_eq!(seen(&mut capture), [(Kind::Rename, new, old, b"a.ini".to_vec())]);
}

#[test]
fn what_is_written_and_never_closed_is_told_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(dir.path().join("a.ini")).unwrap();
    let mut capture = watch(dir.path());
    file.write_all(b"held open").unwrap();
    let a = id(&capture, "a.ini");
    assert_eq!(seen(&mut capture), [(Kind::Lost, a, FileId::NONE, vec![])], "captured() asks");
    file.write_all(b"more").unwrap();
    assert!(capture.wait(Duration::from_secs(10)), "and by itself after a while");
}

#[test]
fn wait_ends_with_the_change_or_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut capture = watch(dir.path());
    assert!(!capture.wait(Duration::from_millis(10)));
    let path = dir.path().join("a.ini");
    let thread = std::thread::spawn(move || fs::write(path, "x").unwrap());
    assert!(capture.wait(Duration::from_secs(10)));
    thread.join().unwrap();
}
