//! What becomes of a captured record: it goes to the targets as it is, is left out, or is replaced.

use stead_model::record::flags;
use stead_model::{AttrMask, FileId, Kind, Record, RecordBuf, Stamp};

use super::files::{Files, Place};

/// Flag of renameat2 that swaps two names.
const RENAME_EXCHANGE: u32 = 2;

/// What to do with a captured record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Pass,
    Drop,
    /// Do these instead, in this place of the stream.
    Replace(Vec<Action>),
}

/// One thing to do in place of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Send(RecordBuf),
    /// Read the node of a file that comes into the set, or has to be looked at, under that name. `news`: no record tells
    /// the name besides, so that every target needs the node.
    MoveIn {
        file: FileId,
        parent: FileId,
        name: Vec<u8>,
        news: bool,
    },
    Lost(Option<(FileId, bool)>),
    Rescan(FileId),
}

/// Decides, and brings `files` up to date. `unlisted`: a scan has not come to its end, so that what is elsewhere may just
/// not have been listed yet; targets hold it.
pub(super) fn plan(files: &mut Files, record: &Record<'_>, unlisted: bool) -> Plan {
    let plan = match record.kind {
        Kind::Create => create(files, record),
        Kind::Link => link(files, record),
        Kind::Unlink => unlink(files, record, unlisted),
        Kind::Rename if record.c & RENAME_EXCHANGE != 0 => exchange(files, record, unlisted),
        Kind::Rename => rename(files, record, unlisted),
        Kind::Lost => lost(files, record),
        Kind::Sync if record.file.is_none() => Plan::Pass,
        kind if kind.is_change() && files.holds(record.file) => Plan::Pass,
        _ => Plan::Drop,
    };
    if plan == Plan::Pass {
        files.follow(record);
    }
    plan
}

/// Tells the times of a directory after a change in it that is not told itself.
pub(super) fn stamp(files: &mut Files, actions: &mut Vec<Action>, dir: FileId, stamp: Stamp, time: u64) {
    if !files.holds(dir) {
        return;
    }
    files.follow_stamp(dir, stamp);
    let mut record = Record::new(Kind::SetAttr, dir);
    record.c = AttrMask::MTIME.0;
    record.time = time;
    record.attr.mode = 0o040_000;
    record.attr.set_mtime(stamp.mtime());
    record.attr.set_ctime(stamp.ctime());
    send(actions, &record);
}

/// The targets are told, too: until the scan has ended, changes prove nothing about what they change.
fn lost(files: &Files, record: &Record<'_>) -> Plan {
    if !record.file.is_none() && !files.holds(record.file) {
        return Plan::Drop;
    }
    let scope = (!record.file.is_none()).then_some((record.file, record.flags & flags::SUBTREE != 0));
    let mut actions = Vec::new();
    send(&mut actions, record);
    actions.push(Action::Lost(scope));
    Plan::Replace(actions)
}

fn create(files: &mut Files, record: &Record<'_>) -> Plan {
    match files.place(record.parent, record.name, record.attr.is_dir()) {
        Place::Taken => {
            files.announce_in(record.parent, record.file);
            note_name(files, record.file, record.attr.is_dir(), record.parent, record.name);
            Plan::Pass
        }
        Place::LeftOut => only_stamps(files, record),
        Place::Elsewhere => Plan::Drop,
    }
}

fn link(files: &mut Files, record: &Record<'_>) -> Plan {
    let place = files.place(record.parent, record.name, false);
    let held = files.holds(record.file);
    let doubtful = place == Place::Taken && files.lacks_somewhere(record.file);
    match place {
        Place::Taken if files.is_done(record.file) && !doubtful => {
            note_name(files, record.file, false, record.parent, record.name);
            Plan::Pass
        }
        Place::Taken => {
            let mut actions = Vec::new();
            if held && !doubtful {
                files.follow(record);
                send(&mut actions, record);
            }
            move_in(&mut actions, record.file, record.parent, record.name, !held || doubtful);
            stamps(files, &mut actions, record);
            Plan::Replace(actions)
        }
        Place::LeftOut => only_stamps(files, record),
        Place::Elsewhere => Plan::Drop,
    }
}

fn unlink(files: &mut Files, record: &Record<'_>, unlisted: bool) -> Plan {
    let place = files.place(record.parent, record.name, record.attr.is_dir());
    let held = files.holds(record.file);
    if held && record.attr.nlink == 0 {
        files.forget(record.file);
    } else if held {
        files.loosen(record.file);
    }
    match place {
        Place::Taken if held => Plan::Pass,
        Place::Elsewhere if held && unlisted => Plan::Pass,
        Place::Elsewhere => Plan::Drop,
        _ => only_stamps(files, record),
    }
}

fn rename(files: &mut Files, record: &Record<'_>, unlisted: bool) -> Plan {
    let names = record.names;
    let is_dir = record.attr.is_dir();
    let from = files.place(record.parent, record.name, is_dir);
    let to = files.place(names.parent2, record.name2, is_dir);
    let held = files.holds(record.file);
    let victim_held = !names.victim.is_none() && files.holds(names.victim);
    if victim_held && record.a == 0 {
        files.forget(names.victim);
    } else if victim_held {
        files.loosen(names.victim);
    }
    let lacking = to == Place::Taken && files.lacks(record.file, from, record.parent);
    let doubtful = lacking || (from == Place::Elsewhere && !unlisted);
    let plan = match to {
        Place::Taken if held && !doubtful => arrive(files, record),
        Place::Taken => {
            let mut actions = Vec::new();
            if victim_held {
                send(&mut actions, &victim_leaves(record));
            }
            if held && from == Place::Taken {
                // Who has it keeps it.
                send(&mut actions, &moved(record));
            }
            move_in(&mut actions, record.file, names.parent2, record.name2, true);
            stamps(files, &mut actions, record);
            Plan::Replace(actions)
        }
        Place::Elsewhere if held && unlisted => {
            files.held_away(record.file, is_dir);
            let mut actions = Vec::new();
            if from == Place::Taken {
                send(&mut actions, &departure(record, record.file, (record.parent, record.name)));
            }
            stamps(files, &mut actions, record);
            Plan::Replace(actions)
        }
        _ if held && from == Place::Taken => leave(files, record),
        _ => only_stamps(files, record),
    };
    if to == Place::Taken && held && !doubtful {
        note_name(files, record.file, is_dir, names.parent2, record.name2);
    }
    plan
}

/// An announced file takes a name of the set.
fn arrive(files: &mut Files, record: &Record<'_>) -> Plan {
    let names = record.names;
    let done = files.is_done(record.file);
    let rescan = record.attr.is_dir() && files.sees_differently(record.parent, names.parent2);
    if done && !rescan {
        return Plan::Pass;
    }
    let mut actions = Vec::new();
    files.follow(record);
    send(&mut actions, record);
    if !done {
        move_in(&mut actions, record.file, names.parent2, record.name2, false);
        stamps(files, &mut actions, record);
    }
    if rescan {
        actions.push(Action::Rescan(record.file));
    }
    Plan::Replace(actions)
}

/// An announced file goes out of the set by this name.
fn leave(files: &mut Files, record: &Record<'_>) -> Plan {
    let mut actions = Vec::new();
    let is_dir = record.attr.is_dir();
    let mut gone = Record::new(Kind::Unlink, record.file);
    gone.flags = if is_dir { flags::SUBTREE } else { 0 };
    (gone.parent, gone.name) = (record.parent, record.name);
    (gone.attr, gone.time, gone.names.stamp) = (record.attr, record.time, record.names.stamp);
    files.follow(&gone);
    send(&mut actions, &gone);
    stamp(files, &mut actions, record.names.parent2, record.names.stamp2, record.time);
    files.leave(record.file, is_dir, record.attr.nlink <= 1);
    Plan::Replace(actions)
}

fn exchange(files: &mut Files, record: &Record<'_>, unlisted: bool) -> Plan {
    let names = record.names;
    let (file, victim) = (record.file, names.victim);
    let (here, there) = ((record.parent, record.name), (names.parent2, record.name2));
    let places = |files: &Files, is_dir| (files.place(here.0, here.1, is_dir), files.place(there.0, there.1, is_dir));
    let victim_is_dir = files.is_known_dir(victim);
    let (from, to) = places(files, record.attr.is_dir());
    let (victim_to, victim_from) = places(files, victim_is_dir);
    let all_taken = [from, to, victim_to, victim_from].iter().all(|place| *place == Place::Taken);
    let dropped = files.may_be_lacking(file, here.0) || files.may_be_lacking(victim, there.0);
    if all_taken && !dropped && files.holds(file) && files.holds(victim) {
        let differently = files.sees_differently(here.0, there.0);
        return swap(files, record, differently);
    }
    let mut actions = Vec::new();
    let held = files.holds(file);
    let lacking = to == Place::Taken && files.lacks(file, from, here.0);
    if victim_to == Place::Taken && files.lacks(victim, victim_from, there.0) && victim_from == Place::Taken {
        send(&mut actions, &departure(record, victim, there));
    }
    let mut file_told = false;
    if held && from == Place::Taken {
        if to == Place::Taken {
            let moved = moved(record);
            files.follow(&moved);
            send(&mut actions, &moved);
            file_told = !lacking;
            note_name(files, file, record.attr.is_dir(), there.0, there.1);
        } else if to == Place::Elsewhere && unlisted {
            send(&mut actions, &departure(record, file, here));
            files.held_away(file, record.attr.is_dir());
        } else {
            depart(&mut actions, record, file, here, record.attr.is_dir());
            files.leave(file, record.attr.is_dir(), false);
        }
    }
    if files.holds(victim) && victim_from == Place::Taken && victim_to != Place::Taken {
        if victim_to == Place::Elsewhere && unlisted {
            send(&mut actions, &departure(record, victim, there));
            files.held_away(victim, victim_is_dir);
        } else {
            depart(&mut actions, record, victim, there, victim_is_dir);
            files.leave(victim, victim_is_dir, false);
        }
    }
    move_in(&mut actions, victim, here.0, here.1, true);
    if victim_from == Place::Taken && victim_to == Place::Taken {
        // The node that takes its place may not come: the file may be gone.
        send(&mut actions, &departure(record, victim, there));
    }
    move_in(&mut actions, file, there.0, there.1, !file_told);
    stamps(files, &mut actions, record);
    Plan::Replace(actions)
}

fn swap(files: &mut Files, record: &Record<'_>, differently: bool) -> Plan {
    let names = record.names;
    let ends = [(record.file, names.parent2, record.name2), (names.victim, record.parent, record.name)];
    let is_dir = |files: &Files, file: FileId| file == record.file && record.attr.is_dir() || files.is_known_dir(file);
    for (file, parent, name) in ends {
        let is_dir = is_dir(files, file);
        note_name(files, file, is_dir, parent, name);
    }
    let undone: Vec<_> = ends.iter().filter(|(file, ..)| !files.is_done(*file)).collect();
    if undone.is_empty() && !differently {
        return Plan::Pass;
    }
    let mut actions = Vec::new();
    files.follow(record);
    send(&mut actions, record);
    for (file, parent, name) in undone {
        move_in(&mut actions, *file, *parent, name, false);
    }
    stamps(files, &mut actions, record);
    if differently {
        let dirs = ends.iter().map(|(file, ..)| *file).filter(|file| is_dir(files, *file));
        actions.extend(dirs.map(Action::Rescan));
    }
    Plan::Replace(actions)
}

/// One end of an exchange goes out of the set.
fn depart(actions: &mut Vec<Action>, record: &Record<'_>, file: FileId, name: (FileId, &[u8]), is_dir: bool) {
    let mut gone = departure(record, file, name);
    gone.flags = if is_dir { flags::SUBTREE } else { 0 };
    send(actions, &gone);
}

fn departure<'a>(record: &Record<'_>, file: FileId, (parent, name): (FileId, &'a [u8])) -> Record<'a> {
    let mut gone = Record::new(Kind::Unlink, file);
    (gone.parent, gone.name, gone.time) = (parent, name, record.time);
    gone.attr.nlink = 1;
    gone.names.stamp = if parent == record.parent { record.names.stamp } else { record.names.stamp2 };
    gone
}

/// The file alone, without what becomes of who had its name.
fn moved<'a>(record: &Record<'a>) -> Record<'a> {
    let mut moved = Record { a: 0, c: 0, ..*record };
    moved.names.victim = FileId::NONE;
    moved
}

fn victim_leaves<'a>(record: &Record<'a>) -> Record<'a> {
    let mut gone = Record::new(Kind::Unlink, record.names.victim);
    (gone.parent, gone.name) = (record.names.parent2, record.name2);
    gone.names.stamp = record.names.stamp2;
    gone.attr.nlink = record.a as u32;
    gone.time = record.time;
    gone
}

fn note_name(files: &mut Files, file: FileId, is_dir: bool, parent: FileId, name: &[u8]) {
    files.came_back(file);
    if parent.is_none() {
        if let Some(root) = files.root_called(name) {
            files.set_root(root, file);
        }
    } else if is_dir {
        files.note_dir(file, parent, name);
    }
}

fn only_stamps(files: &mut Files, record: &Record<'_>) -> Plan {
    let mut actions = Vec::new();
    stamps(files, &mut actions, record);
    if actions.is_empty() { Plan::Drop } else { Plan::Replace(actions) }
}

fn stamps(files: &mut Files, actions: &mut Vec<Action>, record: &Record<'_>) {
    stamp(files, actions, record.parent, record.names.stamp, record.time);
    if record.kind == Kind::Rename && record.names.parent2 != record.parent {
        stamp(files, actions, record.names.parent2, record.names.stamp2, record.time);
    }
}

fn move_in(actions: &mut Vec<Action>, file: FileId, parent: FileId, name: &[u8], news: bool) {
    actions.push(Action::MoveIn { file, parent, name: name.to_vec(), news });
}

fn send(actions: &mut Vec<Action>, record: &Record<'_>) {
    if let Some(Action::Send(records)) = actions.last_mut() {
        return records.push(record);
    }
    let mut records = RecordBuf::new();
    records.push(record);
    actions.push(Action::Send(records));
}
