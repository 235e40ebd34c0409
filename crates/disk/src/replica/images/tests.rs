//! The undo log: golden file, torn and damaged bytes.

use std::path::Path;

use super::*;

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 7, volume: 1 }
}

/// Kind, file, a, b, payload.
type Read = (Kind, FileId, u64, u64, Vec<u8>);

fn records() -> Vec<Read> {
    let mut name = zerocopy::IntoBytes::as_bytes(&file(9)).to_vec();
    name.extend(b"name");
    vec![
        (Kind::Name, file(2), 0, 0, name),
        (Kind::Data, file(3), 4096, 0, b"five!".to_vec()),
        (Kind::Data, file(3), 8192, 4096, Vec::new()),
        (Kind::New, file(4), 0, 0, Vec::new()),
        (Kind::Object, file(5), 0, 0, vec![0; 72]),
    ]
}

/// A log with all records, of which the first `durable` were synced, one after the other.
fn log(dir: &Path, durable: usize) -> Log {
    let point = Position { epoch: 1, incarnation: 2, sequence: 3 };
    let mut log = Log::create(dir, point, 0x1234_5678).unwrap();
    log.begin(dir).unwrap();
    for (n, (kind, file, a, b, payload)) in records().iter().enumerate() {
        log.append(&Undo { kind: *kind, file: *file, a: *a, b: *b, payload }).unwrap();
        if n < durable {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    log
}

fn read(dir: &Path) -> Result<Vec<Read>, LogError> {
    let mut found = Vec::new();
    let log = Log::open(dir, &mut |undo| {
        found.push((undo.kind, undo.file, undo.a, undo.b, undo.payload.to_vec()));
    });
    assert_eq!(log?.unwrap().point(), Position { epoch: 1, incarnation: 2, sequence: 3 });
    Ok(found)
}

#[test]
fn the_format_is_as_drawn() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 2);
    let bytes = std::fs::read(dir.path().join("undo")).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("../../../tests/golden/undo.hex").trim());
    assert_eq!(read(dir.path()).unwrap(), records());
}

#[test]
fn what_is_torn_was_never_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 5);
    let durable = std::fs::metadata(dir.path().join("undo")).unwrap().len();
    log.append(&Undo { kind: Kind::Data, file: file(6), a: 0, b: 0, payload: &[1; 300] }).unwrap();
    log.append(&Undo { kind: Kind::New, file: file(6), a: 0, b: 0, payload: &[] }).unwrap();
    log.sync().unwrap();
    let bytes = std::fs::read(dir.path().join("undo")).unwrap();
    for len in (durable as usize..bytes.len()).step_by(7) {
        std::fs::write(dir.path().join("undo"), &bytes[..len]).unwrap();
        assert!(read(dir.path()).unwrap().starts_with(&records()), "cut at {len}");
    }
    // The second one reached the disk, the first did not.
    let mut later = bytes.clone();
    later[durable as usize + 80] ^= 1;
    std::fs::write(dir.path().join("undo"), &later).unwrap();
    assert_eq!(read(dir.path()).unwrap(), records());
}

#[test]
fn damage_of_what_was_durable_is_told() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 5);
    let bytes = std::fs::read(dir.path().join("undo")).unwrap();
    // The last record is the only one that none says is durable.
    let last = bytes.len() - 72 - 56;
    let unused = 10..12;
    for at in (0..last).filter(|at| !unused.contains(at)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        std::fs::write(dir.path().join("undo"), &damaged).unwrap();
        let found = read(dir.path());
        assert!(matches!(found, Err(LogError::Damaged(_) | LogError::Version(_))), "byte {at}: {found:?}");
    }
}

#[test]
fn content_that_looks_like_a_record_is_not_one() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 5);
    let old = std::fs::read(dir.path().join("undo")).unwrap();
    let point = Position { epoch: 1, incarnation: 2, sequence: 3 };
    let mut new = Log::create(dir.path(), point, 99).unwrap();
    new.begin(dir.path()).unwrap();
    new.append(&Undo { kind: Kind::Data, file: file(6), a: 0, b: 0, payload: &old }).unwrap();
    new.sync().unwrap();
    let bytes = std::fs::read(dir.path().join("undo")).unwrap();
    std::fs::write(dir.path().join("undo"), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(read(dir.path()).unwrap(), []);
}
