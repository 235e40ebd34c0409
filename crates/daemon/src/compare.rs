//! Comparing trees of this node with their replicas on another one, entry by entry: what a restore would change there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_api::{Failure, Preview, PreviewChange};
use stead_disk::inventory::Inventory;
use stead_model::compare::{Gap, Item, SideBySide};
use stead_model::plan::Feature;
use stead_model::{NodeName, Rules, RulesSpec, SetName};

use crate::peer::messages::{Ask, Tell, path_as_text};
use crate::peer::{Dialer, ask};

/// Entries that are listed at once.
const PAGE: usize = 10_000;
/// Entries that are named.
const CHANGES_MAX: usize = 20_000;
/// How long the other node may take for a page.
const ASK_TIMEOUT: Duration = Duration::from_secs(120);

/// A set here, and its replica on another node.
pub(crate) struct Pair {
    pub(crate) set: SetName,
    pub(crate) on: NodeName,
    pub(crate) rules: RulesSpec,
    pub(crate) without: Vec<Feature>,
    /// In the order of the set's paths.
    pub(crate) roots: Vec<PairRoot>,
}

/// One path of the set.
pub(crate) struct PairRoot {
    pub(crate) here: PathBuf,
    pub(crate) there: PathBuf,
    pub(crate) is_dir: bool,
}

/// Compares a set with its replica. Nothing is changed.
pub(crate) fn preview(dialer: &Dialer, pair: &Pair) -> Result<Preview, Failure> {
    let mut preview = Preview::new(pair.set.clone(), pair.on.clone());
    let what = format!("set {} was not compared", pair.set);
    let rules = Rules::new(&pair.rules).map_err(|e| Failure::new(&what, e.to_string(), ""))?;
    for (number, root) in (0..).zip(&pair.roots) {
        let tree = Inventory { root: &root.here, is_dir: root.is_dir, rules: &rules, without: &pair.without };
        let here = Pages::new(|after| page(&tree, after, PAGE));
        let there = Pages::new(|after| remote_page(dialer, pair, number, after));
        for both in SideBySide::new(here, there) {
            note(&mut preview, &root.there, &both?);
        }
    }
    Ok(preview)
}

/// Part of a listing of this node.
pub(crate) fn page(tree: &Inventory<'_>, after: Option<&[u8]>, max: usize) -> Result<(Vec<Item>, bool), Failure> {
    tree.page(after, max.min(PAGE))
        .map_err(|e| Failure::new("a directory was not listed", e.to_string(), "Look at its file system"))
}

fn remote_page(dialer: &Dialer, pair: &Pair, root: u32, after: Option<&[u8]>) -> Result<(Vec<Item>, bool), Failure> {
    let after = after.map(|path| path_as_text(Path::new(OsStr::from_bytes(path))));
    let question = Ask::List { set: pair.set.clone(), root, after, max: PAGE as u32 };
    match ask(dialer, &pair.on, &question, ASK_TIMEOUT)? {
        Tell::List { items, more } => Ok((items, more)),
        _ => Err(Failure::new("a directory was not listed", format!("{} answered something else", pair.on), "")),
    }
}

/// Notes one entry: here, there, or both.
fn note(preview: &mut Preview, there: &Path, both: &(Option<Item>, Option<Item>)) {
    preview.compared += 1;
    let (path, what, bytes) = match both {
        (Some(here), None) => (&here.path, Gap::Missing, here.size),
        (None, Some(other)) => (&other.path, Gap::Extra, other.size),
        (Some(here), Some(other)) => match here.gap(other) {
            Some(Gap::Attributes) => (&here.path, Gap::Attributes, 0),
            Some(gap) => (&here.path, gap, here.size),
            None => return,
        },
        (None, None) => return,
    };
    let amount = match what {
        Gap::Missing => &mut preview.made,
        Gap::Extra => &mut preview.removed,
        Gap::Kind | Gap::Content => &mut preview.rewritten,
        Gap::Attributes => {
            preview.dressed += 1;
            return name(preview, there, path, what, 0);
        }
    };
    (amount.entries, amount.bytes) = (amount.entries + 1, amount.bytes.saturating_add(bytes));
    name(preview, there, path, what, bytes);
}

fn name(preview: &mut Preview, there: &Path, path: &[u8], what: Gap, bytes: u64) {
    if preview.changes.len() < CHANGES_MAX {
        let full = if path.is_empty() { there.to_path_buf() } else { there.join(OsStr::from_bytes(path)) };
        preview.changes.push(PreviewChange { path: full.to_string_lossy().into_owned(), what, bytes });
    }
}

/// A listing that comes page by page.
struct Pages<F> {
    fetch: F,
    items: std::vec::IntoIter<Item>,
    last: Option<Vec<u8>>,
    is_over: bool,
}

impl<F: FnMut(Option<&[u8]>) -> Result<(Vec<Item>, bool), Failure>> Pages<F> {
    fn new(fetch: F) -> Self {
        Pages { fetch, items: Vec::new().into_iter(), last: None, is_over: false }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let page = (self.fetch)(self.last.as_deref());
        self.is_over = page.as_ref().map_or(true, |(items, more)| !more || items.is_empty());
        self.items = page?.0.into_iter();
        Ok(())
    }
}

impl<F: FnMut(Option<&[u8]>) -> Result<(Vec<Item>, bool), Failure>> Iterator for Pages<F> {
    type Item = Result<Item, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.next() {
                self.last = Some(item.path.clone());
                return Some(Ok(item));
            }
            if self.is_over {
                return None;
            }
            if let Err(failure) = self.turn() {
                return Some(Err(failure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stead_api::Amount;
    use stead_model::Time;

    use super::*;

    fn item(path: &str, size: u64) -> Item {
        let mtime = Time { sec: 1, nsec: 0 };
        let path = path.as_bytes().to_vec();
        Item { path, mode: 0o100_644, uid: 0, gid: 0, size, mtime, rdev: 0, target: 0, xattrs: 0 }
    }

    #[test]
    fn changes_are_counted_by_what_they_are() {
        let mut preview = Preview::new("notes".parse().unwrap(), "paris".parse().unwrap());
        let owned = Item { uid: 7, ..item("d", 9) };
        let all = [
            (Some(item("a", 1)), Some(item("a", 1))),
            (Some(item("b", 10)), None),
            (None, Some(item("c", 100))),
            (Some(item("d", 9)), Some(owned)),
            (Some(item("e", 1000)), Some(item("e", 5))),
        ];
        all.iter().for_each(|both| note(&mut preview, Path::new("/srv"), both));
        let amount = |entries, bytes| Amount { entries, bytes };
        assert_eq!((preview.made, preview.removed), (amount(1, 10), amount(1, 100)));
        assert_eq!((preview.rewritten, preview.dressed, preview.compared), (amount(1, 1000), 1, 5));
        let named: Vec<_> = preview.changes.iter().map(|change| format!("{} {}", change.what, change.path)).collect();
        assert_eq!(named, ["missing /srv/b", "extra /srv/c", "attributes /srv/d", "content /srv/e"]);
        assert_eq!(preview.changed(), 4);
    }

    #[test]
    fn pages_are_turned_until_there_are_no_more() {
        let names = ["", "a", "b", "c", "d"];
        let fetch = |after: Option<&[u8]>| {
            let from = after.map_or(0, |after| names.iter().position(|name| name.as_bytes() == after).unwrap() + 1);
            let to = (from + 2).min(names.len());
            Ok((names[from..to].iter().map(|name| item(name, 0)).collect(), to < names.len()))
        };
        let all: Vec<_> = Pages::new(fetch).map(|item| item.unwrap().path).collect();
        assert_eq!(all, names.map(|name| name.as_bytes().to_vec()));
        let broken = Pages::new(|_| Err(Failure::new("it broke", "", "")));
        assert_eq!(broken.count(), 1);
    }
}
