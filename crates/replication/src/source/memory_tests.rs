use stead_model::FileId;

use super::*;

fn file(ino: u64) -> FileId {
    FileId { ino, generation: 0x1234_5678, volume: 1 }
}

fn log(captured: u64, entries: &[Entry]) -> Vec<u8> {
    let mut log = Log::default();
    log.set_at(captured);
    entries.iter().for_each(|entry| log.push(entry));
    log.take()
}

fn every_entry() -> Vec<Entry> {
    let known = [
        Known::File(file(2)),
        Known::NoFile(file(3)),
        Known::Dir(file(4), file(2), b"name".as_slice().into()),
        Known::NoDir(file(5)),
        Known::Loose(file(6)),
        Known::NotLoose(file(7)),
        Known::NoLoose,
        Known::Dropped(file(8)),
        Known::NotDropped(file(9)),
        Known::Away(file(10), true),
        Known::Away(file(1), false),
        Known::NotAway(file(11)),
        Known::Stale(true),
        Known::Stale(false),
        Known::Root(0, file(2)),
    ];
    let scans = [Entry::Scan(3, vec!["lyon".into()]), Entry::Settled(3), Entry::ImageBegins, Entry::ImageEnds];
    let mirror = [Entry::Mirror(4, vec!["lyon".into()]), Entry::Rules(500)];
    known.into_iter().map(Entry::Known).chain(scans).chain(mirror).collect()
}

/// `STEAD_GOLDEN=write` writes the file anew: only for a new version of the format.
#[test]
fn entries_of_every_kind_have_their_golden_bytes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/memory.hex");
    let found: String = log(77, &every_entry()).iter().map(|byte| format!("{byte:02x}")).collect();
    if std::env::var_os("STEAD_GOLDEN").is_some() {
        std::fs::write(&path, found.clone() + "\n").unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), found);
}

#[test]
fn entries_read_back() {
    let bytes = log(77, &every_entry());
    let mut reader = Bytes { rest: &bytes[HEAD..], ino: 0 };
    let mut back = Vec::new();
    while !reader.rest.is_empty() {
        back.push(reader.entry().unwrap());
    }
    assert_eq!(back.remove(0), Entry::At(77));
    assert_eq!(back, every_entry());
}

#[test]
fn what_was_known_later_is_not_recalled() {
    let mut part = image(10, [Known::File(file(2))].into_iter());
    part.extend(log(20, &[Entry::Known(Known::File(file(3)))]));
    part.extend(log(30, &[Entry::Known(Known::NoFile(file(2)))]));
    let recalled = Recalled::read(std::slice::from_ref(&part), 20).unwrap();
    assert!(recalled.files.common.has(file(2)) && recalled.files.common.has(file(3)));
    assert!(Recalled::read(std::slice::from_ref(&part), 9).is_none(), "it begins later");
    let later = Recalled::read(std::slice::from_ref(&part), 30).unwrap();
    assert!(!later.files.common.has(file(2)));
}

#[test]
fn a_cut_tail_is_left_out_and_damage_is_noticed() {
    let mut part = image(10, [Known::File(file(2))].into_iter());
    let whole = part.len();
    part.extend(log(20, &[Entry::Known(Known::File(file(3)))]));
    for len in whole..part.len() {
        let recalled = Recalled::read(&[part[..len].to_vec()], 20).unwrap();
        assert!(recalled.files.common.has(file(2)) && !recalled.files.common.has(file(3)), "{len}");
    }
    for at in 4..part.len() {
        let mut damaged = part.clone();
        damaged[at] ^= 0x10;
        let read = Recalled::read(&[damaged], 20);
        assert!(read.is_none_or(|read| !read.files.common.has(file(3))), "byte {at}");
    }
}

#[test]
fn a_scan_that_is_not_settled_leaves_its_nodes_in_doubt() {
    let mut part = image(10, std::iter::empty());
    part.extend(log(20, &[Entry::Scan(1, vec!["lyon".into(), "oslo".into()])]));
    part.extend(log(21, &[Entry::Scan(2, vec!["lyon".into()]), Entry::Settled(2)]));
    let recalled = Recalled::read(&[part], 30).unwrap();
    assert!(recalled.is_unsettled(&"oslo".parse().unwrap()));
    assert!(!recalled.is_unsettled(&"lyon".parse().unwrap()));
}

/// What the source knew then was of other targets: this one got a mirror of everything later.
#[test]
fn a_mirror_that_began_later_leaves_its_nodes_in_doubt() {
    let mut part = image(10, std::iter::empty());
    part.extend(log(30, &[Entry::Mirror(2, vec!["lyon".into()]), Entry::Scan(3, vec!["rome".into()])]));
    part.extend(log(40, &[Entry::Settled(2)]));
    let recalled = Recalled::read(std::slice::from_ref(&part), 20).unwrap();
    assert!(recalled.is_unsettled(&"lyon".parse().unwrap()));
    assert!(!recalled.is_unsettled(&"rome".parse().unwrap()), "what it is about comes again");
    let later = Recalled::read(&[part], 40).unwrap();
    assert!(!later.is_unsettled(&"lyon".parse().unwrap()));
}

/// A node that is in doubt stays so until it has a scan, over any number of restarts of the source.
#[test]
fn doubt_is_handed_on() {
    let mut memory = image(10, std::iter::empty());
    let rules = crate::source::recall::rules_check(&[]);
    memory.extend(log(10, &[Entry::Mirror(7, vec!["lyon".into()]), Entry::Rules(rules)]));
    for incarnation in 2..5 {
        let recalled = Recalled::read(std::slice::from_ref(&memory), 10).unwrap();
        assert!(recalled.is_unsettled(&"lyon".parse().unwrap()), "source {incarnation}");
        let epoch = stead_model::Epoch { number: 3, writer: [7; 16], random: 5 };
        let (set, node) = ("notes".parse().unwrap(), "paris".parse().unwrap());
        let mut config = crate::source::SourceConfig::new(set, node, Vec::new(), epoch, incarnation);
        (config.capture, config.recalled) = (1, Some(recalled));
        let mut source = crate::source::Source::new(config, std::time::Instant::now());
        memory.clear();
        while let Some(output) = source.poll_output() {
            if let crate::source::SourceOutput::Remember { bytes, .. } = output {
                memory.extend(bytes);
            }
        }
    }
}

#[test]
fn what_was_known_with_other_rules_counts_for_nothing() {
    let mut part = image(10, std::iter::empty());
    assert!(!Recalled::read(std::slice::from_ref(&part), 20).unwrap().is_of(5), "nothing is said of rules");
    part.extend(log(10, &[Entry::Rules(5)]));
    assert!(Recalled::read(std::slice::from_ref(&part), 20).unwrap().is_of(5));
    part.extend(log(30, &[Entry::Rules(6)]));
    let recalled = Recalled::read(&[part], 20).unwrap();
    assert!(!recalled.is_of(5) && !recalled.is_of(6), "they changed, and not every target has what that brought about");
}

/// `--nocapture` shows bytes and time.
#[test]
fn a_million_files_are_recalled_fast_and_compactly() {
    let files = (0..1_000_000)
        .map(|n| Known::File(FileId { ino: 1_000 + n, generation: (n as u32).wrapping_mul(2_654_435_761), volume: 0 }));
    let part = image(1, files);
    let begin = std::time::Instant::now();
    let recalled = Recalled::read(std::slice::from_ref(&part), 1).unwrap();
    println!("{} bytes, {:?}", part.len(), begin.elapsed());
    assert!(recalled.files.common.has(FileId { ino: 1_000, generation: 0, volume: 0 }));
    assert!(part.len() < 10_000_000, "{}", part.len());
}
