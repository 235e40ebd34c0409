//! The nouns of Stead: what every other crate speaks about. Values, their parsing and their byte shapes; no input or
//! output, no clock.
//!
//! Byte formats are little-endian, and records are read in place, so the crate refuses big-endian machines.

pub mod alert;
mod attr;
pub mod clock;
pub mod compare;
pub mod delivery;
mod end;
pub mod handle;
mod ids;
pub mod lease;
mod mac;
mod nearest;
pub mod ocf;
pub mod outcome;
pub mod plan;
pub mod record;
mod rules;
pub mod status;
pub mod template;

pub use attr::{Attr, AttrMask, FileType, Stamp, Time};
pub use end::End;
pub use ids::{BadName, Epoch, FileId, GroupName, Incarnation, NodeName, Position, Sequence, SetName, VolumeId};
pub use mac::Mac;
pub use nearest::nearest;
pub use record::{Kind, Record, RecordBuf, RecordError};
pub use rules::{BadRule, Rules, RulesSpec};

const _: () =
    assert!(cfg!(target_endian = "little"), "Stead's byte formats are read in place: little-endian machines only");
