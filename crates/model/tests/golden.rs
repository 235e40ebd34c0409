//! The record's bytes are a promise between versions: they stay as the golden files have them.

use stead_model::{Attr, FileId, Kind, Record, RecordBuf, Stamp, Time};

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 7, volume: 1 }
}

fn time(sec: i64) -> Time {
    Time { sec, nsec: 5 }
}

fn attr() -> Attr {
    let mut attr = Attr::default();
    (attr.size, attr.mode, attr.uid, attr.gid) = (9, 0o100_640, 33, 34);
    (attr.nlink, attr.flags) = (2, 0x10);
    attr.set_atime(time(1));
    attr.set_mtime(time(2));
    attr.set_ctime(time(-3));
    attr
}

fn rename() -> Record<'static> {
    let mut record = Record::new(Kind::Rename, file(12));
    record.sequence = 0x0102_0304_0506_0708;
    record.parent = file(2);
    record.a = 1;
    record.c = 2;
    record.time = 99;
    record.attr = attr();
    record.names.parent2 = file(3);
    record.names.victim = file(13);
    record.names.stamp = Stamp::new(time(4), time(5));
    record.names.stamp2 = Stamp::new(time(6), time(7));
    record.name = b"a\n";
    record.name2 = b"\xff";
    record
}

fn write() -> Record<'static> {
    let mut record = Record::new(Kind::Write, file(12));
    record.a = 4096;
    record.attr = attr();
    record.data = b"bytes";
    record
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

#[test]
fn records_keep_their_bytes() {
    for (name, record) in [("rename", rename()), ("write", write())] {
        let mut buf = RecordBuf::new();
        buf.push(&record);
        let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("STEAD_GOLDEN").is_some() {
            std::fs::write(&path, hex(buf.as_bytes())).unwrap();
        }
        assert_eq!(hex(buf.as_bytes()), std::fs::read_to_string(&path).unwrap(), "{name}: STEAD_GOLDEN=1 writes anew");
    }
}
