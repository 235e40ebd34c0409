//! Records as text, for `STEAD_TRACE=1`.

use stead_model::record::{Kind, Record, records};

pub(super) fn show(bytes: &[u8]) -> String {
    let records = records(bytes).flatten();
    let line = |record: Record<'_>| {
        let name = String::from_utf8_lossy(record.name).into_owned();
        let kind: Kind = record.kind;
        let (sequence, file, parent, a, b, c) =
            (record.sequence, record.file, record.parent, record.a, record.b, record.c);
        let name2 = String::from_utf8_lossy(record.name2).into_owned();
        let (parent2, victim, len) = (record.names.parent2, record.names.victim, record.data.len());
        let size = record.attr.size;
        format!(
            "   {sequence} {kind:?} {file} {parent}/{name:?} a={a} b={b} c={c} {parent2}/{name2:?} victim={victim} data={len} size={size}\n"
        )
    };
    records.map(line).collect()
}
