//! Ids: names that people give, and numbers that the machine gives.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A file, for as long as it exists, whatever it is called: inode and generation on one volume of the set.
///
/// The generation tells a reused inode number from the one before it; a file system without generations is refused.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Serialize,
    Deserialize,
)]
#[repr(C)]
pub struct FileId {
    /// Inode number.
    pub ino: u64,
    /// Inode generation as the file system's file handles give it (low 32 bits).
    pub generation: u32,
    /// Index into the set's table of volumes ([`VolumeId`]).
    pub volume: u32,
}

impl FileId {
    /// Stands for "no file": no file system gives inode 0.
    pub const NONE: FileId = FileId { ino: 0, generation: 0, volume: 0 };

    /// Is this [`FileId::NONE`]?
    pub fn is_none(self) -> bool {
        self.ino == 0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.volume, self.ino, self.generation)
    }
}

/// A file system, or a subvolume of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumeId {
    /// UUID of the file system, or what stands for it where it has none (tmpfs: a random one, kept with the set).
    pub uuid: [u8; 16],
    /// Subvolume (btrfs: its root id), else 0.
    pub subvolume: u64,
}

/// Number of a record in the ordered stream of a set: 1 for the first of an incarnation.
pub type Sequence = u64;

/// Number of a start of capture; new at each, never reused in an epoch.
pub type Incarnation = u64;

/// Who may write a set: raised by every change of the active side.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Epoch {
    /// Rises by one at each change of the active side.
    pub number: u64,
    /// First half of the writer node's fingerprint.
    pub writer: [u8; 16],
    /// Tells two epochs of one number and writer apart.
    pub random: u64,
}

/// A place in the history of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Under which writer.
    pub epoch: u64,
    /// In which run of capture.
    pub incarnation: Incarnation,
    /// After which record.
    pub sequence: Sequence,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.incarnation, self.sequence)
    }
}

/// A name that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} name {name:?} is not usable: {why}; use 1 to 63 letters, digits, '-', '_' or '.', starting with a letter or digit"
)]
pub struct BadName {
    what: &'static str,
    name: String,
    why: &'static str,
}

macro_rules! name {
    ($type:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                check_name(name).map_err(|why| BadName { what: $what, name: name.into(), why })?;
                Ok($type(name.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(SetName, "set", "Name of a replication set.");
name!(NodeName, "node", "Name of a node: one machine, one daemon, one state directory.");
name!(GroupName, "group", "Name of a group: what is taken over as one.");

fn check_name(name: &str) -> Result<(), &'static str> {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.chars().next() {
        None => Err("it is empty"),
        Some(_) if name.len() > 63 => Err("it is longer than 63 characters"),
        Some(first) if !first.is_ascii_alphanumeric() => Err("it starts with something else than a letter or digit"),
        Some(_) if !name.chars().all(usable) => Err("it holds other characters"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        for good in ["notes", "a", "web-1.example", "9_x"] {
            assert!(good.parse::<SetName>().is_ok(), "{good}");
        }
        for bad in ["", "-x", ".x", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
