//! Two trees side by side: what one of them lacks, and what both have in another way.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Time;

/// An entry of a tree, as far as trees are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its path beneath the root, of any bytes; empty: the root itself.
    #[serde(with = "bytes_as_text")]
    pub path: Vec<u8>,
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the content; 0 of what is no regular file.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Device number of a device file, else 0.
    pub rdev: u64,
    /// A hash of the symlink's target; 0 of what is no symlink.
    pub target: u64,
    /// A hash of the xattrs that are compared.
    pub xattrs: u64,
}

/// In what an entry of two trees differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// Only the first tree has it.
    Missing,
    /// Only the second tree has it.
    Extra,
    /// It is a file in one of them and a directory, say, in the other.
    Kind,
    /// Its size, its time of the last write, or where a symlink leads.
    Content,
    /// Owner, permissions, xattrs or device; of a directory, its time as well.
    Attributes,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gap::Missing => "missing",
            Gap::Extra => "extra",
            Gap::Kind => "kind",
            Gap::Content => "content",
            Gap::Attributes => "attributes",
        })
    }
}

impl Item {
    const TYPE: u32 = 0o170_000;

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.mode & Self::TYPE == 0o040_000
    }

    /// In what the same entry of another tree differs, the gravest first.
    pub fn gap(&self, other: &Item) -> Option<Gap> {
        let content = |item: &Item| (item.size, item.target, (!item.is_dir()).then_some(item.mtime));
        let attributes = |item: &Item| (item.mode, item.uid, item.gid, item.rdev, item.xattrs, item.mtime);
        match () {
            () if self.mode & Self::TYPE != other.mode & Self::TYPE => Some(Gap::Kind),
            () if content(self) != content(other) => Some(Gap::Content),
            () if attributes(self) != attributes(other) => Some(Gap::Attributes),
            () => None,
        }
    }
}

/// The order of a tree: parents first, names by their bytes.
pub fn order(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    match (one.is_empty(), other.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => parts(one).cmp(&parts(other)),
    }
}

/// Two listings in the order of [`order`], entry by entry: what is at the same path comes together.
pub struct SideBySide<A: Iterator, B: Iterator> {
    first: std::iter::Peekable<A>,
    second: std::iter::Peekable<B>,
}

impl<E, A, B> SideBySide<A, B>
where
    A: Iterator<Item = Result<Item, E>>,
    B: Iterator<Item = Result<Item, E>>,
{
    /// The entries of both.
    pub fn new(first: A, second: B) -> Self {
        SideBySide { first: first.peekable(), second: second.peekable() }
    }

    fn next_is(&mut self) -> Ordering {
        match (self.first.peek(), self.second.peek()) {
            (Some(Ok(one)), Some(Ok(other))) => order(&one.path, &other.path),
            (Some(_), None) | (Some(Err(_)), _) => Ordering::Less,
            (None, _) | (_, Some(Err(_))) => Ordering::Greater,
        }
    }
}

impl<E, A, B> Iterator for SideBySide<A, B>
where
    A: Iterator<Item = Result<Item, E>>,
    B: Iterator<Item = Result<Item, E>>,
{
    type Item = Result<(Option<Item>, Option<Item>), E>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_is() {
            Ordering::Less => Some(self.first.next()?.map(|item| (Some(item), None))),
            Ordering::Greater => Some(self.second.next()?.map(|item| (None, Some(item)))),
            Ordering::Equal => match (self.first.next()?, self.second.next()?) {
                (Ok(one), Ok(other)) => Some(Ok((Some(one), Some(other)))),
                (Err(e), _) | (_, Err(e)) => Some(Err(e)),
            },
        }
    }
}

/// Each byte as one character, U+0000 to U+00FF.
mod bytes_as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        bytes.iter().map(|byte| char::from(*byte)).collect::<String>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = text.chars().map(|c| u8::try_from(c).map_err(serde::de::Error::custom));
        bytes.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(path: &str) -> Item {
        Item {
            path: path.into(),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            size: 7,
            mtime: Time { sec: 1, nsec: 2 },
            rdev: 0,
            target: 0,
            xattrs: 0,
        }
    }

    fn side_by_side(first: &[Item], second: &[Item]) -> Vec<(Option<String>, Option<String>)> {
        let all = |items: &[Item]| items.iter().cloned().map(Ok::<_, ()>).collect::<Vec<_>>().into_iter();
        let name = |item: Item| String::from_utf8(item.path).unwrap();
        let pairs = SideBySide::new(all(first), all(second)).map(Result::unwrap);
        pairs.map(|(one, other)| (one.map(name), other.map(name))).collect()
    }

    #[test]
    fn the_gravest_difference_is_named() {
        let file = item("a");
        let with = |change: &dyn Fn(&mut Item)| {
            let mut other = file.clone();
            change(&mut other);
            file.gap(&other)
        };
        assert_eq!(with(&|_| {}), None);
        assert_eq!(with(&|item| item.mode = 0o040_755), Some(Gap::Kind));
        assert_eq!(with(&|item| (item.size, item.uid) = (8, 1)), Some(Gap::Content));
        assert_eq!(with(&|item| item.mtime.nsec = 3), Some(Gap::Content));
        assert_eq!(with(&|item| item.mode = 0o100_600), Some(Gap::Attributes));
        assert_eq!(with(&|item| item.xattrs = 1), Some(Gap::Attributes));
        let dir = Item { mode: 0o040_755, size: 0, ..item("d") };
        let later = Item { mtime: Time { sec: 9, nsec: 0 }, ..dir.clone() };
        assert_eq!(dir.gap(&later), Some(Gap::Attributes), "the time of a directory is no content");
    }

    #[test]
    fn what_is_at_the_same_path_comes_together() {
        let first = ["", "a", "a/x", "a.b", "c"].map(item);
        let second = ["", "a", "a/y", "b"].map(item);
        let both = |path: &str| (Some(path.to_string()), Some(path.to_string()));
        let (one, other) = (|path: &str| (Some(path.to_string()), None), |path: &str| (None, Some(path.to_string())));
        let expected = [both(""), both("a"), one("a/x"), other("a/y"), one("a.b"), other("b"), one("c")];
        assert_eq!(side_by_side(&first, &second), expected);
    }

    #[test]
    fn a_listing_that_breaks_off_says_so_once() {
        let first = [Ok(item("a")), Err("gone")].into_iter();
        let second = [Ok(item("b"))].into_iter();
        let all: Vec<_> = SideBySide::new(first, second).map(|pair| pair.map(drop)).collect();
        assert_eq!(all, [Ok(()), Err("gone"), Ok(())]);
    }

    proptest! {
        #[test]
        fn paths_of_any_bytes_read_back(path in prop::collection::vec(1u8..=255, 0..50)) {
            let item = Item { path, ..item("") };
            let text = serde_json::to_string(&item).unwrap();
            prop_assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), item);
        }
    }
}
