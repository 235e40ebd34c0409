//! Which names belong to the set.

use stead_model::{Rules, RulesSpec};

use super::*;

const ROOT: FileId = FileId { ino: 2, generation: 1, volume: 0 };

fn root(exclude: &[&str]) -> RootConfig {
    let exclude = exclude.iter().map(ToString::to_string).collect();
    let rules = Rules::new(&RulesSpec { exclude, ..RulesSpec::default() }).unwrap();
    RootConfig { file: ROOT, rules, index: 0 }
}

/// While the rules took all, it was not noted where directories lie.
#[test]
fn a_directory_that_other_rules_leave_out_is_not_in_the_set() {
    let left_out = FileId { ino: 7, ..ROOT };
    let mut files = Files::new(vec![root(&[])]);
    files.announce_in(FileId::NONE, ROOT);
    files.announce_in(ROOT, left_out);
    files.note_dir(left_out, ROOT, b"x.t");
    files.set_rules(&[root(&["*.t"])]);
    assert_eq!(files.place(left_out, b"b", false), Place::Elsewhere);
}

#[test]
fn what_targets_lack_is_bounded_and_says_when_it_is_not_all() {
    let mut files = Files::new(vec![root(&[])]);
    let file = |ino: usize| FileId { ino: ino as u64, generation: 1, volume: 0 };
    (0..LOOSE_MAX).for_each(|ino| files.lack(file(ino)));
    assert!(!files.take_crowded());
    (0..9).for_each(|ino| files.lack(file(LOOSE_MAX + ino)));
    assert_eq!(files.known().count(), Files::new(vec![root(&[])]).known().count() + 2 * LOOSE_MAX);
    assert!(files.take_crowded() && !files.take_crowded());
}
