//! Ids of sixteen bytes, as they stand in heartbeats.

use std::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! id {
    ($type:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone,
            Copy,
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
        pub struct $type(pub [u8; 16]);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}

id!(ClusterId, "A trust circle.");
id!(NodeId, "A node: the first half of its fingerprint, as in an [`Epoch`](stead_model::Epoch)'s writer.");
id!(GroupId, "A group: what is taken over as one.");

impl GroupId {
    /// The id of the group of that name.
    pub fn of(name: &str) -> GroupId {
        let hash = blake3::derive_key("stead 2026 group id", name.as_bytes());
        GroupId(hash[..16].try_into().expect("a hash is longer"))
    }
}
